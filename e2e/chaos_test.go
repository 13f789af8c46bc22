package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// fault is what a provider does to a request, and what comes of it. Cells read "what the client gets | attempts | the event's
// error"; the event's status and attempts are the client's own, or the test fails.
type fault struct {
	name   string
	does   string                    // for readers of the document
	target func(t *testing.T) string // the base URL of a target that cannot be talked to; nil: there is one, which replies
	reply  func(s scene) fakellm.Reply
	plain  cells
	stream cells
}

// cells are the three situations: the target is alone, a good one of the other schema is next, the next has the same fault.
type cells struct{ alone, next, down string }

// scene is what a reply may depend on.
type scene struct {
	schema string
	stream bool
	seen   <-chan struct{} // closed once the client has the first token
}

var faults = []fault{
	{
		name: "connect refused", does: "nothing listens on the port", target: refused,
	},
	{
		name: "TLS failure", does: "the certificate is of an unknown authority", target: untrusted,
	},
	{
		name: "DNS failure", does: "the host name does not exist", target: nameless,
	},
	{
		name: "reset before headers", does: "the connection is reset before the status line",
		reply: func(scene) fakellm.Reply { return fakellm.RefuseTCP() },
	},
	{
		name: "reset after headers", does: "the connection is reset behind a 200 and its headers",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.ResetTCP) },
	},
	{
		name: "reset mid-stream", does: "the connection is reset in the middle of the answer; of a stream once a token is at the client",
		reply: func(s scene) fakellm.Reply { return s.begun(fakellm.ResetTCP) },
	},
	{
		name: "500", does: "an error in the provider's schema",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(500, "boom") },
	},
	{
		name: "503", does: "an error in the provider's schema",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(503, "down") },
	},
	{
		name: "429", does: "an error in the provider's schema, without retry-after",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(429, "slow down") },
	},
	{
		name: "429, retry-after", does: "the same, with `retry-after: 7`",
		reply: func(scene) fakellm.Reply { return fakellm.RateLimited(7 * time.Second) },
	},
	{
		name: "529", does: "Anthropic's status for overload",
		reply: func(scene) fakellm.Reply { return fakellm.Overloaded() },
	},
	{
		name: "slow headers", does: "no status line within the timeout",
		reply: func(scene) fakellm.Reply { return fakellm.Silent() },
	},
	{
		name: "slow first token", does: "headers, of a stream also its preamble, then nothing within the timeout",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Hang, s.preamble()) },
	},
	{
		name: "silence mid-stream", does: "half an answer, of a stream one token, then nothing more",
		reply: func(s scene) fakellm.Reply { return s.begun(fakellm.Hang) },
	},
	{
		name: "malformed", does: "200 with a body, or a stream whose first event, is broken JSON",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Finish, s.either(`{oops`, "data: {oops\n\n")) },
	},
	{
		name: "malformed mid-stream", does: "the same behind a token",
		reply: func(s scene) fakellm.Reply {
			return s.ok(fakellm.Finish, s.either(`{"choices":[{"message":{oops`, s.preamble()), s.either("", s.token()), s.either("", "data: {oops\n\n"))
		},
	},
	{
		name: "error in 200", does: "200 with an error in the provider's schema, of a stream as its first event",
		reply: func(s scene) fakellm.Reply {
			if s.stream {
				return fakellm.FailInStream(529, "Overloaded")
			}
			r := fakellm.Overloaded()
			r.Status = 200
			return r
		},
	},
	{
		name: "error mid-stream", does: "an error event behind a token; of a whole answer the same as above",
		reply: func(s scene) fakellm.Reply {
			if !s.stream {
				r := fakellm.Overloaded()
				r.Status = 200
				return r
			}
			r := s.ok(fakellm.Finish, s.preamble(), s.token())
			r.ErrorEvent = &fakellm.Failure{Status: 529, Message: "Overloaded"}
			return r
		},
	},
	{
		name: "empty stream", does: "200 and nothing",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Finish) },
	},
	{
		name: "early end", does: "the answer ends properly, as HTTP sees it, after half of it; of a stream after one token",
		reply: func(s scene) fakellm.Reply {
			return s.ok(fakellm.Finish, s.either(half, s.preamble()), s.either("", s.token()))
		},
	},
	{
		name: "wrong content type", does: "200 with a page of HTML",
		reply: func(scene) fakellm.Reply { return fakellm.HTML(200, "<html>sorry</html>") },
	},
	{
		name: "giant event", does: "an answer of 9 MiB where 4 are allowed; of a stream one event of that size, more than the 8 that are read",
		reply: func(scene) fakellm.Reply { return fakellm.Say(giant) },
	},
}

var giant = strings.Repeat("x", 9<<20)

const half = `{"id":"x","object":"chat.completion","choices":[{"index":0,"mess`

// ok is a 200 with these pieces as its body.
func (s scene) ok(end fakellm.End, pieces ...string) fakellm.Reply {
	return fakellm.Reply{
		Header: http.Header{"Content-Type": {s.either("application/json", "text/event-stream")}},
		Steps:  fakellm.Chunks(pieces...),
		End:    end,
	}
}

// begun is an answer that ends in its middle. A stream's token is at the client by then.
func (s scene) begun(end fakellm.End) fakellm.Reply {
	if !s.stream {
		return s.ok(end, half)
	}
	r := s.ok(end, s.preamble(), s.token())
	if end != fakellm.Hang {
		r.Steps = append(r.Steps, fakellm.Step{Pace: fakellm.Pace{Gate: s.seen}})
	}
	return r
}

func (s scene) either(plain, stream string) string {
	if s.stream {
		return stream
	}
	return plain
}

// preamble is what a stream says before its first token; of a whole answer, nothing.
func (s scene) preamble() string {
	switch {
	case !s.stream:
		return ""
	case s.schema == fakellm.OpenAIChat:
		return `data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	default:
		return "event: message_start\n" +
			`data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}` + "\n\n" +
			"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n"
	}
}

func (s scene) token() string {
	if s.schema == fakellm.OpenAIChat {
		return `data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"one"}}]}` + "\n\n"
	}
	return "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}` + "\n\n"
}

// refused is a port that is taken, so that nobody else gets it, and does not listen.
func refused(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", address.(*syscall.SockaddrInet4).Port)
}

// untrusted is a TLS server whose certificate no authority of this machine has signed.
func untrusted(t *testing.T) string {
	t.Helper()
	_, conf := certificate(t)
	s, err := fakellm.StartTLS(openAI("untrusted"), "", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.URL()
}

// nameless is a host that does not exist: RFC 2606 keeps the name for that.
func nameless(*testing.T) string { return "http://nowhere.invalid:80" }

// cell is one row of the matrix in one situation, for one kind of request.
type cell struct {
	fault     *fault
	situation string
	stream    bool
	want      string

	name string        // of the upstream, and the rule's path
	seen chan struct{} // closed once the client has the first bytes

	// What the run gave.
	client   string
	header   http.Header
	status   int
	attempts string
	err      string
}

var situations = []struct{ name, title string }{
	{"alone", "The target is alone"},
	{"next", "A healthy target is next"},
	{"down", "All targets have the fault"},
}

func matrix() []*cell {
	var all []*cell
	for i := range faults {
		f := &faults[i]
		for j, stream := range []bool{false, true} {
			want := []cells{f.plain, f.stream}[j]
			for k, w := range []string{want.alone, want.next, want.down} {
				all = append(all, &cell{
					fault: f, situation: situations[k].name, stream: stream, want: w,
					name: fmt.Sprintf("c%d", len(all)), seen: make(chan struct{}),
				})
			}
		}
	}
	return all
}

func (c *cell) String() string { return fmt.Sprintf("%s, %s, %s", c.fault.name, c.kind(), c.situation) }

func (c *cell) kind() string {
	if c.stream {
		return "stream"
	}
	return "plain"
}

func (c *cell) got() string { return c.client + " | " + c.attempts + " | " + c.err }

// TestFaultMatrix tries every fault on every kind of request in every situation, and keeps docs/failure-modes.md. Each cell
// has targets of its own and nothing is ejected, so that none influences another.
func TestFaultMatrix(t *testing.T) {
	all := matrix()
	var providers []*fakellm.Provider
	var document strings.Builder
	document.WriteString("upstreams:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- name: %s\n  health_checks: {passive: false}\n  targets:\n", c.name)
		target := func(p *fakellm.Provider, priority int, faulty bool) {
			var url string
			if faulty && c.fault.target != nil {
				url = c.fault.target(t)
			} else {
				if faulty {
					p.Always(c.fault.reply(scene{p.Schema, c.stream, c.seen}))
				}
				providers = append(providers, p)
				url = provider(t, p).URL()
			}
			kind, _, _ := strings.Cut(p.Schema, ".")
			fmt.Fprintf(&document, "  - {id: %s, provider: {type: %s, base_url: %q, secret_key_ref: %s}, priority: %d, default_model: m}\n",
				p.Name, kind, url+"/v1", p.Key, priority)
		}
		target(openAI("a"), 1, true)
		if c.situation != "alone" {
			target(anthropicAI("b"), 2, c.situation == "down")
		}
	}
	document.WriteString("services:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- {name: %[1]s, upstream: %[1]s}\n", c.name)
	}
	document.WriteString("rules:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- {path: /%[1]s, service: %[1]s, strip_path: true}\n", c.name)
	}
	g := start(t, "max_request_bytes: 4MiB\n"+
		"timeouts: {request_timeout: 1s, connect_timeout: 1s, first_byte_timeout: 1s}\n"+
		"streaming: {inter_chunk_timeout: 1s}\n", document.String())

	parallel(16, len(all), func(i int) { all[i].ask(g) })
	events := g.allEvents(len(all))
	for _, c := range all {
		c.read(t, events)
		if got := c.got(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c, got, c.want)
		}
	}
	nothingIsLeft(t, providers)
	keepDocument(t, "../docs/failure-modes.md", failureModes(all))
}

// ask sends the request and words what the client saw.
func (c *cell) ask(g *gateway) {
	body := chatHello
	if c.stream {
		body = chatStream
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", g.URL+"/"+c.name+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		c.client = err.Error()
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.client = "no answer: " + err.Error()
		return
	}
	defer response.Body.Close()
	c.status, c.header = response.StatusCode, response.Header
	data, err := io.ReadAll(&noticing{Reader: response.Body, notice: sync.OnceFunc(func() { close(c.seen) })})
	c.client = fmt.Sprintf("%d %s", response.StatusCode, c.ending(string(data), err))
	if after := response.Header.Get("retry-after"); after != "" {
		c.client += ", retry-after " + after
	}
}

// noticing tells of the first bytes.
type noticing struct {
	io.Reader
	notice func()
}

func (n *noticing) Read(p []byte) (int, error) {
	count, err := n.Reader.Read(p)
	if count > 0 {
		n.notice()
	}
	return count, err
}

// ending words how the answer ended. What is not one of the known endings is shown as it is, which no cell expects.
func (c *cell) ending(body string, err error) string {
	streamed := strings.HasPrefix(c.header.Get("content-type"), "text/event-stream")
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "hang"
	case err != nil && streamed:
		return "begun, then cut"
	case err != nil:
		return "cut"
	case c.status == 200 && streamed:
		return streamEnding(body)
	case c.status == 200:
		var whole struct {
			Choices []struct {
				Message      struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
		}
		if json.Unmarshal([]byte(body), &whole) == nil && !c.stream && len(whole.Choices) == 1 && whole.Choices[0].FinishReason != "" {
			return "answer"
		}
	default:
		if kind := errorType(body); kind != "" {
			return kind
		}
	}
	return fmt.Sprintf("%q", body)
}

// streamEnding: a stream is complete with a finish reason and [DONE], broken with an error as its last event, and never both.
func streamEnding(body string) string {
	rest, terminated := strings.CutSuffix(body, "\n\n")
	events := strings.Split(rest, "\n\n")
	last, data := strings.CutPrefix(events[len(events)-1], "data: ")
	finished := strings.Contains(body, `"finish_reason":"stop"`)
	failed := strings.Contains(body, `data: {"error":`)
	switch {
	case !terminated || !data:
	case last == "[DONE]" && finished && !failed:
		return "answer"
	case failed && !finished && !strings.Contains(body, "[DONE]") && errorType(last) != "":
		return "begun, then error event " + errorType(last)
	}
	return fmt.Sprintf("%q", body)
}

// errorType reads an OpenAI error; "" when it is none.
func errorType(body string) string {
	var e struct {
		Error struct{ Message, Type string }
	}
	if json.Unmarshal([]byte(body), &e) != nil || e.Error.Message == "" {
		return ""
	}
	return e.Error.Type
}

// allEvents waits until there are as many as there were requests.
func (g *gateway) allEvents(n int) map[string]*millracev1.Event {
	g.t.Helper()
	byID := map[string]*millracev1.Event{}
	g.eventually("an event for each request", func() error {
		events := g.readEvents()
		if len(events) < n {
			return fmt.Errorf("%d of %d", len(events), n)
		}
		clear(byID)
		for _, e := range events {
			byID[e.Id] = e
		}
		if len(events) != n || len(byID) != n {
			g.t.Fatalf("%d events with %d ids for %d requests", len(events), len(byID), n)
		}
		return nil
	})
	return byID
}

// read completes the cell by its event, which must not contradict what the client saw.
func (c *cell) read(t *testing.T, events map[string]*millracev1.Event) {
	t.Helper()
	e := events[c.header.Get("x-millrace-request-id")]
	if e == nil {
		t.Errorf("%s: %s: no event", c, c.client)
		return
	}
	var attempts []string
	for _, a := range e.Attempts {
		outcome := fmt.Sprint(a.Status)
		if a.Status == 0 {
			outcome = "none"
		}
		name := a.Target
		if name == "" {
			name = "unreached"
		}
		attempts = append(attempts, name+"="+outcome)
	}
	c.attempts, c.err = strings.Join(attempts, ";"), e.Error
	if e.Target != "" {
		c.client += " from " + e.Target
	}
	if int(e.Status) != c.status || e.Stream != c.stream {
		t.Errorf("%s: the client saw %s, the event says %v", c, c.client, e)
	}
	if said := c.header.Get("x-millrace-attempts"); said != "" && said != c.attempts {
		t.Errorf("%s: the client was told of attempts %s, the event says %s", c, said, c.attempts)
	}
	if answered := c.header.Get("x-millrace-target"); answered != e.Target {
		t.Errorf("%s: the client was told of target %q, the event says %q", c, answered, e.Target)
	}
	if (c.err == "") != strings.Contains(c.client, "200 answer") {
		t.Errorf("%s: the client saw %s, the event's error is %q", c, c.client, c.err)
	}
}

// nothingIsLeft: no provider goes on working for a request that is over.
func nothingIsLeft(t *testing.T, providers []*fakellm.Provider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, p := range providers {
		for _, r := range p.Requests() {
			if _, err := p.WaitEnded(ctx, r.N); err != nil {
				t.Errorf("a request is still open at a provider: %s %s", r.Path, r.Body)
			}
		}
	}
}

const failureModesHead = `# What a failing provider looks like

What a client of OpenAI's schema sees, and what the event says, for everything a provider can do wrong. This page is written by a
run against a real Envoy and scripted providers ([e2e/chaos_test.go](../e2e/chaos_test.go), ` + "`make chaos`" + `), and a test fails when it is
not what a run gives.

Target ` + "`a`" + ` speaks the client's schema, ` + "`b`" + `, the next one, Anthropic's. There are up to three attempts, the default; ejection is off
and all timeouts are one second. The columns:

- **client**: the status, and either *answer* (complete), or the type of the error in the body, or, of a stream that had *begun*, how it
  ended: with an error event of the client's schema, or *cut*, the connection closed in the middle. *from* is ` + "`x-millrace-target`" + `;
  without it Envoy answered.
- **attempts**: ` + "`x-millrace-attempts`" + ` and the event's attempts. *none* gave no status before it was given up.
- **error**: the event's. Its status is the client's.
`

// failureModes writes the document.
func failureModes(all []*cell) string {
	var b strings.Builder
	b.WriteString(failureModesHead)
	for _, s := range situations {
		fmt.Fprintf(&b, "\n## %s\n\n| fault | request | client | attempts | error |\n|---|---|---|---|---|\n", s.title)
		var rows []*cell
		for _, c := range all {
			if c.situation == s.name {
				rows = append(rows, c)
			}
		}
		for i := 0; i < len(rows); i++ {
			c, kind := rows[i], rows[i].kind()
			if !c.stream && rows[i+1].got() == c.got() {
				kind = "both"
				i++
			}
			row := strings.Join([]string{c.fault.name, kind, c.client, c.attempts, c.err}, " | ")
			fmt.Fprintf(&b, "| %s |\n", strings.ReplaceAll(row, " |  ", " | "))
		}
	}
	b.WriteString("\n## The faults\n\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "- **%s**: %s\n", f.name, f.does)
	}
	return b.String()
}

// keepDocument prints a document that a run wrote, and checks that the file is it. MILLRACE_WRITE_DOCS=1 rewrites the file.
func keepDocument(t *testing.T, file, text string) {
	t.Helper()
	if testing.Verbose() {
		fmt.Println(text)
	}
	if os.Getenv("MILLRACE_WRITE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != text {
		t.Errorf("%s is not what this run gives: read what changed, then MILLRACE_WRITE_DOCS=1 make chaos", file)
	}
}
