package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"millrace/internal/fakellm"
)

// stream asks for a stream and returns the answer when its head is there.
func (g *gateway) stream(path, body string) *http.Response {
	g.t.Helper()
	response, err := http.DefaultClient.Do(g.request("POST", path, strings.NewReader(body)))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { response.Body.Close() })
	return response
}

// line reads up to the next line that begins so.
func line(t *testing.T, lines *bufio.Scanner, prefix string) {
	t.Helper()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return
		}
	}
	t.Fatalf("the stream ended before %q: %v", prefix, lines.Err())
}

// TestCommitAtHeaders: the client has the head while the model still thinks; what fails after that
// it is told, and no other target is asked. First-token silence is bounded all the same (E10).
func TestCommitAtHeaders(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	gate := make(chan struct{})
	thinking := fakellm.Usual()
	thinking.Each = fakellm.Pace{Gate: gate}
	a.Always(thinking)
	g := start(t, "streaming: {commit: headers}\ntimeouts: {first_byte_timeout: 2s}", pool("health_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))

	response := g.stream("/v1/chat/completions", chatStream) // returns before the gate opens
	close(gate)
	g.read(response).want(200, "data: [DONE]").header("x-millrace-target", "a")

	a.Always(fakellm.FailInStream(529, "overloaded"))
	g.post("/v1/chat/completions", chatStream).want(200, `data: {"error":`).header("x-millrace-target", "a").header("x-millrace-attempts", "a=200")

	a.Always(fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Steps: fakellm.Chunks(": hello\n\n"), End: fakellm.Hang})
	answer := linesOf(g.stream("/v1/chat/completions", chatStream))
	if !strings.Contains(answer, "silent for 2s before its first token") {
		t.Errorf("the client of a silent target reads %q", answer)
	}
	if n := len(b.Requests()); n != 0 {
		t.Errorf("%d requests at the other target", n)
	}
	nothingIsLeft(t, []*fakellm.Provider{a})
}

// linesOf reads what comes, also of a stream that is cut.
func linesOf(r *http.Response) string {
	var b strings.Builder
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		b.WriteString(lines.Text() + "\n")
	}
	return b.String()
}

// TestKeepAlive: a silent stream is kept open by comments, before and behind its first token, of
// both schemas; they change nothing of what an app reads, and do not pass for life: the limit on
// silence holds (A27).
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	for _, p := range []*fakellm.Provider{openAI("a"), anthropicAI("a")} {
		t.Run(p.Schema, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			slow := fakellm.Usual()
			slow.Each = fakellm.Pace{Gate: gate}
			p.Script(slow)
			g := start(t, "streaming: {commit: headers, keep_alive: 1s, inter_chunk_timeout: 4s}", pool("", to("a", p, provider(t, p), "default_model: m")))
			response := g.stream("/v1/chat/completions", chatStream)
			lines := bufio.NewScanner(response.Body)
			gate <- struct{}{} // an event without content
			line(t, lines, ": keep-alive")
			line(t, lines, ": keep-alive")
			for range 3 { // far enough for the first token, in either schema
				gate <- struct{}{}
			}
			line(t, lines, "data: ")
			line(t, lines, ": keep-alive")
			close(gate)
			line(t, lines, "data: [DONE]")

			p.Script(fakellm.Reply{Answer: &fakellm.Answer{}, StopAfter: 4, End: fakellm.Hang})
			answer := linesOf(g.stream("/v1/chat/completions", chatStream))
			if n := strings.Count(answer, ": keep-alive\n"); n < 2 || n > 4 || !strings.Contains(answer, "silent for 4s") {
				t.Errorf("%s: %d comments in a stream that stays silent: %s", p.Schema, n, answer)
			}
		})
	}
}

// TestKeepAliveSDKs: official SDKs read streams with comments in them.
func TestKeepAliveSDKs(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	slow := fakellm.Say("one")
	slow.Each = fakellm.Pace{Delay: 1200 * time.Millisecond}
	a.Always(slow)
	g := start(t, "streaming: {commit: headers, keep_alive: 1s}", pool("", to("a", a, provider(t, a), "default_model: m")))
	t.Run("openai", func(t *testing.T) {
		t.Parallel()
		client := openai.NewClient(option.WithBaseURL(g.URL+"/v1"), option.WithAPIKey("k"), option.WithMaxRetries(0))
		m := openAIMessage(t, client, openai.ChatCompletionNewParams{
			Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
		}, true)
		if m.Content != "one" {
			t.Errorf("reads %q", m.Content)
		}
	})
	t.Run("anthropic", func(t *testing.T) {
		t.Parallel()
		client := anthropic.NewClient(anthropicoption.WithBaseURL(g.URL), anthropicoption.WithAPIKey("k"), anthropicoption.WithMaxRetries(0))
		m := anthropicMessage(t, client, anthropic.MessageNewParams{
			Model: "m", MaxTokens: 10, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
		}, true)
		if len(m.Content) != 1 || m.Content[0].Text != "one" {
			t.Errorf("reads %+v", m)
		}
	})
}

// TestTargetTimeouts: a target has its own limits for an attempt, shorter and longer than the
// gateway's (E18).
func TestTargetTimeouts(t *testing.T) {
	t.Parallel()
	fast, slow := openAI("fast"), openAI("slow")
	const wait = 3 * time.Second
	late := fakellm.Usual()
	late.Head = fakellm.Pace{Delay: wait}
	g := start(t, "timeouts: {request_timeout: 2s, first_byte_timeout: 2s}", pool("health_checks: {passive: false}",
		to("fast", fast, provider(t, fast), "priority: 1", "timeouts: {request_timeout: 0.5s, first_byte_timeout: 0.5s}"),
		to("slow", slow, provider(t, slow), "priority: 2", "timeouts: {request_timeout: 20s, first_byte_timeout: 20s}")))
	slow.Always(late)
	silent := fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Steps: fakellm.Chunks(": hello\n\n"), End: fakellm.Hang}
	fast.Always(silent)
	g.post("/v1/chat/completions", chatStream).want(200).header("x-millrace-attempts", "fast=504;slow=200")
	fast.Always(fakellm.Reply{Header: http.Header{"Content-Type": {"application/json"}}, Steps: fakellm.Chunks("{"), End: fakellm.Hang})
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "fast=504;slow=200")
	nothingIsLeft(t, []*fakellm.Provider{fast, slow})
}

// TestLateTargetAlone: where no other target is left to ask, the client is told what was too slow,
// in its schema.
func TestLateTargetAlone(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("retry: {attempts: 1}\nhealth_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1", "timeouts: {request_timeout: 0.5s, first_byte_timeout: 0.5s}"),
		to("b", b, provider(t, b), "priority: 2")))
	headless := fakellm.Reply{NoHead: true, End: fakellm.Hang}
	begun := fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Steps: fakellm.Chunks(": hello\n\n"), End: fakellm.Hang}
	for _, c := range []struct {
		body  string
		reply fakellm.Reply
		says  string
	}{
		{chatHello, headless, "no answer within 500ms"}, {chatStream, headless, "no answer within 500ms"},
		{chatHello, begun, "no answer within 500ms"}, {chatStream, begun, "silent for 500ms before its first token"},
	} {
		a.Always(c.reply)
		got := g.post("/v1/chat/completions", c.body).want(504, `target \"a\": `+c.says).header("x-millrace-target", "a")
		if e := g.byID(got.Header.Get("x-millrace-request-id")); e.Status != 504 || e.Target != "a" || !strings.Contains(e.Error, c.says) {
			t.Errorf("event %v", e)
		}
	}
	nothingIsLeft(t, []*fakellm.Provider{a})
}

// TestErrorBeforeTheTargetEnds: a target that reports an error and then neither ends nor stops
// talking is cut off, whether another one is asked or not.
func TestErrorBeforeTheTargetEnds(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {attempts: 2}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	for _, c := range []struct {
		a, b   int // the errors' statuses; 0: none
		status int
	}{{503, 0, 200}, {400, 0, 400}, {503, 503, 500}} {
		for target, status := range map[*fakellm.Provider]int{a: c.a, b: c.b} {
			reply := fakellm.FailInStream(status, "no")
			reply.End = fakellm.Hang
			if status == 0 {
				reply = fakellm.Usual()
			}
			target.Always(reply)
		}
		g.post("/v1/chat/completions", chatStream).want(c.status)
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})
}

// TestErrorThatIsNotRetried: where Envoy could ask another target and does not, the retry budget
// being spent, a target that goes on behind its error is cut off too.
func TestErrorThatIsNotRetried(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	gate := make(chan struct{})
	held := fakellm.Usual()
	held.Head = fakellm.Pace{Gate: gate}
	hang := fakellm.FailInStream(503, "no")
	hang.End = fakellm.Hang
	a.Script(fakellm.Fail(503, "down"), fakellm.Fail(503, "down"), fakellm.Fail(503, "down"))
	a.Always(hang)
	b.Always(held)
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {budget_percent: 1}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	const always = 3
	var wg sync.WaitGroup
	for i := range always {
		wg.Go(func() { g.post("/v1/chat/completions", chatStream).want(200) })
		g.eventually("the attempt is under way", func() error {
			if n := len(b.Requests()); n != i+1 {
				return fmt.Errorf("%d attempts at b", n)
			}
			return nil
		})
	}
	for range 3 {
		g.post("/v1/chat/completions", chatStream).want(500, `"message":"no"`).header("x-millrace-target", "a")
	}
	close(gate)
	wg.Wait()
	nothingIsLeft(t, []*fakellm.Provider{a, b})
	a.Reset()
	g.post("/v1/chat/completions", chatStream).want(200).header("x-millrace-target", "a")
}

// TestHedge: a target that is late gets a rival; whoever speaks first wins, and the other is given
// up.
func TestHedge(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	gate := make(chan struct{})
	held := fakellm.Usual()
	held.Head = fakellm.Pace{Gate: gate}
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {hedge: 0.5s, attempts: 2}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	both := func(body string) <-chan *answer { // sends a request, and returns when both targets have it
		before, done := len(b.Requests()), make(chan *answer)
		go func() { done <- g.post("/v1/chat/completions", body) }()
		g.eventually("both are asked", func() error {
			if len(b.Requests()) == before {
				return errors.New("only one is")
			}
			return nil
		})
		return done
	}
	for _, body := range []string{chatHello, chatStream} {
		g.post("/v1/chat/completions", body).want(200).header("x-millrace-attempts", "a=200") // in time: nobody else is asked

		a.Script(fakellm.Reply{NoHead: true, End: fakellm.Hang})
		got := g.post("/v1/chat/completions", body).want(200).header("x-millrace-target", "b").header("x-millrace-attempts", "a=none;b=200")
		e := g.byID(got.Header.Get("x-millrace-request-id"))
		if e.Target != "b" || e.Error != "" || len(e.Attempts) != 2 {
			t.Errorf("event %v", e)
		}
		if lost, won := e.Attempts[0], e.Attempts[1]; !e.Hedged || lost.Hedged || !won.Hedged || lost.RetriedOn != "" || // E06: the loser was asked, too
			!lost.Usage.GetEstimated() || lost.Usage.GetInput() == 0 || lost.Usage.GetOutput() != 0 || won.Usage.GetEstimated() {
			t.Errorf("event %v", e)
		}

		a.Script(held)
		b.Script(fakellm.Reply{NoHead: true, End: fakellm.Hang})
		done := both(body)
		gate <- struct{}{}
		got = (<-done).want(200).header("x-millrace-target", "a")
		e = g.byID(got.Header.Get("x-millrace-request-id"))
		if e.Target != "a" || e.Error != "" || e.Attempts[0].Status != 200 {
			t.Errorf("event %v", e)
		}
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})

	// One fails while the other is under way: whoever is left answers.
	failing := fakellm.Fail(http.StatusServiceUnavailable, "down")
	failing.Head = fakellm.Pace{Gate: gate}
	for _, c := range []struct {
		first, second fakellm.Reply
		answers, log  string
	}{{failing, held, "b", "a=503;b=200"}, {held, failing, "a", "a=200;b=503"}} {
		for _, body := range []string{chatHello, chatStream} {
			first, second := c.first, c.second
			inTurn := make(chan struct{}) // closed: the one that fails goes first
			if c.answers == "a" {
				first.Head = fakellm.Pace{Gate: inTurn}
			} else {
				second.Head = fakellm.Pace{Gate: inTurn}
			}
			a.Script(first)
			b.Script(second)
			done := both(body)
			gate <- struct{}{}
			time.Sleep(200 * time.Millisecond) // the failure is known
			close(inTurn)
			got := (<-done).want(200).header("x-millrace-target", c.answers)
			e := g.byID(got.Header.Get("x-millrace-request-id"))
			if log := fmt.Sprintf("a=%d;b=%d", e.Attempts[0].Status, e.Attempts[1].Status); log != c.log || e.Target != c.answers || e.Error != "" {
				t.Errorf("event %v", e)
			}
		}
	}
}

// TestHedgedFailure: what fails before it is late is not waited for: the next target is asked at
// once.
func TestHedgedFailure(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	a.Always(fakellm.Fail(http.StatusServiceUnavailable, "down"))
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {hedge: 3600s}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	for _, body := range []string{chatHello, chatStream} {
		g.post("/v1/chat/completions", body).want(200).header("x-millrace-attempts", "a=503;b=200")
	}
}
