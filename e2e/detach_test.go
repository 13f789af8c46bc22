package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// TestDetach: with inspect: first-token a stream of the client's own schema is read until its first
// token and goes on without the sidecar, byte for byte; its event says how it has ended and what it
// has used. Failures before that token are retried, however long it takes. What is not the client's
// as it comes is read to its end.
func TestDetach(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", strings.Replace(pool("", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")),
		"upstream: chat}", "upstream: chat, inspect: first-token}", 1))
	counted := strings.Replace(chatStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	const words = 2000
	long := fakellm.Reply{Answer: &fakellm.Answer{Text: strings.Repeat("word ", words)}}
	rest := make(chan struct{})
	paced := pacedStream(t, a, words, rest)
	whole := func(t *testing.T, body string) {
		t.Helper()
		if n := strings.Count(body, "word "); n != words || strings.Count(body, "[DONE]") != 1 {
			t.Errorf("%d words of %d in %d bytes", n, words, len(body))
		}
	}
	event := func(r *answer) *millracev1.Event {
		t.Helper()
		return g.event("the request", func(e *millracev1.Event) bool { return e.Id == r.Header.Get("x-millrace-request-id") })
	}
	usage := func(e *millracev1.Event) {
		t.Helper()
		if e.Usage.GetInput() == 0 || e.Usage.GetOutput() == 0 {
			t.Errorf("usage %v", e.Usage)
		}
		if last := e.Attempts[len(e.Attempts)-1]; !proto.Equal(last.Usage, e.Usage) {
			t.Errorf("usage %v, and of its attempt %v", e.Usage, last.Usage)
		}
	}

	before := g.traffic()
	a.Script(paced)
	response, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(counted)))
	if err != nil {
		t.Fatal(err)
	}
	close(rest) // the client has the head, so the sidecar is not there any more
	r := g.read(response)
	whole(t, r.want(200).Body)
	if now := g.traffic(); now.streams-before.streams != 2 || now.toSidecar-before.toSidecar > 6 { // two of the request; its headers, the head, two pieces
		t.Errorf("a stream of %d words: %+v after %+v", words, now, before)
	}
	e := event(r)
	usage(e)
	if e.Target != "a" || len(e.Attempts) != 1 || e.Attempts[0].Status != 200 || e.Attempts[0].Error != "" || e.Error != "" {
		t.Errorf("event %v", e)
	}

	a.Script(long)
	whole(t, g.post("/v1/chat/completions", chatStream).want(200).Body)
	if asked := a.Requests()[len(a.Requests())-1].Body; strings.Contains(string(asked), "stream_options") {
		t.Errorf("usage is asked for in the client's name: %s", asked)
	}

	a.Script(fakellm.FailInStream(500, "overloaded"))
	r = g.post("/v1/chat/completions", counted)
	r.want(200, "[DONE]")
	r.header("x-millrace-attempts", "a=500;b=200")
	usage(event(r))

	a.Script(fakellm.Fail(503, "down"))
	g.post("/v1/chat/completions", counted).want(200, "[DONE]").header("x-millrace-attempts", "a=503;b=200")

	a.Script(fakellm.Fail(400, "no such thing"))
	g.post("/v1/chat/completions", counted).want(400, "no such thing").header("x-millrace-attempts", "a=400")

	a.Script(fakellm.Reply{Body: gzipped(t, capture(t, a, true)), Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"text/event-stream"}}})
	r = g.post("/v1/chat/completions", counted)
	r.want(200, "[DONE]").header("content-encoding", "")
	usage(event(r))

	a.Script(fakellm.Reply{Body: capture(t, a, false)})
	r = g.post("/v1/chat/completions", counted)
	r.want(200, "[DONE]")
	usage(event(r))

	r = g.post("/v1/messages", claudeStream, "Anthropic-Version: 2023-06-01")
	r.want(200, "message_stop")
	usage(event(r))

	r = g.post("/v1/chat/completions", chatHello)
	r.want(200)
	usage(event(r))

	a.Script(fakellm.Reply{Answer: long.Answer, Each: fakellm.Pace{Delay: 2 * time.Millisecond}, StopAfter: 100, End: fakellm.Cut})
	cut, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(counted)))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(cut.Body); err == nil || strings.Contains(string(body), "[DONE]") {
		t.Errorf("a stream that was cut looks complete: %d bytes, %v", len(body), err)
	}
	e = g.event("the cut one", func(e *millracev1.Event) bool { return e.Id == cut.Header.Get("x-millrace-request-id") })
	if e.Error != "the stream was cut" || e.Target != "a" || e.Status != 200 {
		t.Errorf("event of a stream that was cut: %v", e)
	}
}

// pacedStream is an answer whose first word comes at once, and so many more when rest is closed.
func pacedStream(t *testing.T, p *fakellm.Provider, words int, rest <-chan struct{}) fakellm.Reply {
	t.Helper()
	events := strings.SplitAfter(capture(t, p, true), "\n\n") // a role, three words, the end
	word := strings.Replace(events[1], "hello ", "word ", 1)
	return fakellm.Reply{
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Steps: []fakellm.Step{
			{Bytes: events[0]}, {Bytes: word},
			{Pace: fakellm.Pace{Gate: rest}, Bytes: strings.Repeat(word, words-1) + strings.Join(events[4:], "")},
		},
	}
}

// TestDetachedSilence: the head and the first pieces are held for longer than the sidecar has for
// an answer of its own.
func TestDetachedSilence(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", strings.Replace(pool("", to("a", a, provider(t, a))), "upstream: chat}", "upstream: chat, inspect: first-token}", 1))
	events := strings.SplitAfter(capture(t, a, true), "\n\n")
	think := make(chan struct{})
	var steps []fakellm.Step
	for i, event := range events {
		step := fakellm.Step{Bytes: event}
		if i == 1 { // behind the role
			step.Gate = think
		}
		steps = append(steps, step)
	}
	a.Script(fakellm.Reply{Steps: steps, Header: http.Header{"Content-Type": {"text/event-stream"}}})
	time.AfterFunc(11*time.Second, func() { close(think) })
	g.post("/v1/chat/completions", chatStream).want(200, "[DONE]").header("x-millrace-attempts", "a=200")
}
