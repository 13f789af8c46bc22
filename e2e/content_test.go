package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

func gzipped(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// everyPair runs f for each client schema at a provider of each schema.
func everyPair(t *testing.T, f func(t *testing.T, g *gateway, p *fakellm.Provider, c sdk)) {
	for _, make := range []func(string) *fakellm.Provider{openAI, anthropicAI} {
		p := make("p")
		g := start(t, "", pool("health_checks: {passive: false}", to("p", p, provider(t, p))))
		for _, c := range sdks {
			t.Run(p.Schema+" for "+c.name, func(t *testing.T) {
				g.t = t
				f(t, g, p, c)
				p.Reset()
			})
		}
		g.t = t
	}
}

// sdk is how clients of a schema ask, and how their streams end.
type sdk struct{ name, path, whole, stream, end string }

var sdks = []sdk{
	{"OpenAI", "/v1/chat/completions", chatHello, chatStream, "data: [DONE]\n\n"},
	{"Anthropic", "/v1/messages", claudeHello, claudeStream, "data: {\"type\":\"message_stop\"}\n\n"},
}

// TestContentTypes: a stream is one whatever its content-type says, at the first attempt; a whole
// answer to a request for a stream becomes one, and the other way round. (cases:
// stream-with-another-content-type)
func TestContentTypes(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, g *gateway, p *fakellm.Provider, c sdk) {
		hello := &fakellm.Answer{Text: "hello to you"}
		for _, label := range []http.Header{
			{"Content-Type": {"application/json"}}, {"Content-Type": {"text/plain; charset=utf-8"}}, {"Content-Type": {}},
			{"Content-Type": {"application/json, text/event-stream; charset=utf-8"}}, {"Content-Type": {"text/event-stream;charset=UTF-8"}},
			{"Content-Type": {"text/event-stream"}, "Content-Encoding": {"identity"}},
		} {
			p.Script(fakellm.Reply{Answer: hello, Header: label})
			before := len(p.Requests())
			r := g.post(c.path, c.stream).want(200, "hello ", "you", c.end)
			if got := r.Header.Get("content-type"); !strings.HasPrefix(got, "text/event-stream") || strings.Contains(got, "json") {
				t.Errorf("%v: content-type %q", label, got)
			}
			if n := len(p.Requests()) - before; n != 1 {
				t.Errorf("%v: %d attempts", label, n)
			}
		}
		whole := capture(t, p, false)
		p.Script(fakellm.Reply{Body: whole})
		g.post(c.path, c.stream).want(200, "hello to you", c.end).header("content-type", "text/event-stream")
		p.Script(fakellm.Reply{Body: gzipped(t, capture(t, p, true)), Header: http.Header{"Content-Encoding": {"gzip"}}})
		g.post(c.path, c.whole).want(200, "hello to you").header("content-type", "application/json")
		p.Script(fakellm.Reply{Status: 400, Body: gzipped(t, `{"detail":"no such thing"}`), Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"text/html"}}})
		g.post(c.path, c.stream).want(400, `"message":"no such thing"`).header("content-type", "application/json")
		for _, r := range p.Requests() {
			if got := r.Header.Get("accept-encoding"); got != "identity" {
				t.Errorf("asked for %q", got)
			}
		}
	})
}

// capture is how the provider itself says "hello to you", whole or as a stream.
func capture(t *testing.T, p *fakellm.Provider, stream bool) string {
	t.Helper()
	copied := &fakellm.Provider{Name: p.Name, Schema: p.Schema, Key: p.Key}
	copied.Always(fakellm.Say("hello to you"))
	s := provider(t, copied)
	c, auth := sdks[0], "Authorization"
	key := "Bearer " + p.Key
	if p.Schema == fakellm.AnthropicMessages {
		c, auth, key = sdks[1], "X-Api-Key", p.Key
	}
	body := c.whole
	if stream {
		body = strings.Replace(c.stream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
		if p.Schema == fakellm.AnthropicMessages {
			body = c.stream
		}
	}
	r, err := http.NewRequest("POST", s.URL()+c.path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(auth, key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%s %v: %s", response.Status, err, said)
	}
	return string(said)
}

// TestFinishWithoutDone: the client has the end of its message when the provider has said why it
// stopped, whatever the provider does with the connection then: heartbeats without [DONE], or
// [DONE] and silence. (cases: finish-without-done)
func TestFinishWithoutDone(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, g *gateway, p *fakellm.Provider, c sdk) {
		events := strings.SplitAfter(capture(t, p, true), "\n\n")
		events = events[:len(events)-1] // behind the last blank line is nothing
		silence := make(chan struct{})
		heartbeats := make([]fakellm.Step, 600)
		for i := range heartbeats {
			heartbeats[i] = fakellm.Step{Bytes: ": heartbeat\n\n", Pace: fakellm.Pace{Delay: 100 * time.Millisecond}}
		}
		for _, reply := range []fakellm.Reply{
			{Steps: append(fakellm.Chunks(events[:len(events)-1]...), heartbeats...), End: fakellm.Hang},
			{Steps: append(fakellm.Chunks(events...), fakellm.Step{Pace: fakellm.Pace{Gate: silence}})},
		} {
			reply.Header = http.Header{"Content-Type": {"text/event-stream"}}
			p.Script(reply)
			r, err := http.DefaultClient.Do(g.request("POST", c.path, strings.NewReader(c.stream)))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for piece := make([]byte, 4<<10); !strings.Contains(got.String(), c.end); {
				n, err := r.Body.Read(piece)
				got.Write(piece[:n])
				if err != nil {
					t.Fatalf("%v after %s", err, got.String())
				}
			}
			last := p.Requests()[len(p.Requests())-1]
			if last.Outcome != fakellm.Open {
				t.Errorf("the provider has ended: %s", last.Outcome)
			}
			if !strings.Contains(got.String(), "hello ") {
				t.Errorf("got %s", got.String())
			}
			if reply.End == fakellm.Hang { // the client leaves, as SDKs do
				r.Body.Close()
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if end, err := p.WaitEnded(ctx, last.N); err != nil || end.Outcome != fakellm.Cancelled {
					t.Errorf("the provider's connection: %q, %v", end.Outcome, err)
				}
				cancel()
			} else { // or waits for the end, which comes with the provider's
				close(silence)
				if rest, err := io.ReadAll(r.Body); err != nil || len(bytes.TrimSpace(rest)) > 0 {
					t.Errorf("%q, %v", rest, err)
				}
				r.Body.Close()
			}
			e := g.byID(r.Header.Get("x-millrace-request-id"))
			if e.Error != "" || e.Usage.GetOutput() == 0 {
				t.Errorf("event %v", e)
			}
		}
	})
}

// TestProviderThatNeverEnds: a client that waits for the end of a complete answer gets it within a
// second, and the provider is let go (B20).
func TestProviderThatNeverEnds(t *testing.T) {
	t.Parallel()
	p := openAI("p")
	g := start(t, "", pool("", to("p", p, provider(t, p))))
	for _, c := range sdks {
		p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "hello"}, End: fakellm.Hang})
		r, err := http.DefaultClient.Do(g.request("POST", c.path, strings.NewReader(c.stream)))
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.Contains(string(said), c.end) {
			t.Errorf("%v after %s", err, said)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if _, err := p.WaitEnded(ctx, len(p.Requests())); err != nil {
			t.Error(err)
		}
		cancel()
		if e := g.byID(r.Header.Get("x-millrace-request-id")); e.Error != "" {
			t.Errorf("event %v", e)
		}
	}
}

// TestTaken: what clients send that means something all the same.
func TestTaken(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, g *gateway, p *fakellm.Provider, c sdk) {
		null := strings.Replace(c.whole, "{", `{"stream":null,`, 1)
		for name, r := range map[string]*answer{
			"stream: null":             g.post(c.path, null),
			"a slash at the end":       g.post(c.path+"/", c.whole),
			"a slash and a query":      g.post(c.path+"/?beta=true", c.whole),
			"a byte order mark":        g.post(c.path, "\xef\xbb\xbf"+c.whole),
			"all of them":              g.post(c.path+"/", "\xef\xbb\xbf"+null),
			"a slash at a list's path": g.get("/v1/models/"),
		} {
			if r.Status != 200 {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
		}
		if last := p.Requests()[len(p.Requests())-1]; bytes.HasPrefix(last.Body, []byte("\xef")) {
			t.Errorf("the provider got %q", last.Body)
		}
		for _, path := range []string{"/v1/models", "/v1/models/"} {
			head := g.answerTo(g.request("HEAD", path, nil)).want(200).header("content-type", "application/json")
			if want := fmt.Sprint(len(g.get(path).Body)); head.Body != "" || head.Header.Get("content-length") != want {
				t.Errorf("HEAD %s: %q, content-length %s, want %s", path, head.Body, head.Header.Get("content-length"), want)
			}
		}
	})
}

// TestOpenContentEncoding: while the sidecar is dead nobody unpacks an answer, so the client is
// told that it is packed.
func TestOpenContentEncoding(t *testing.T) {
	t.Parallel()
	p := openAI("p")
	g := prepare(t, "", openAndClosed(t, map[string][]*fakellm.Provider{"v1": {p}}))
	twoProcesses(t, g)
	p.Always(fakellm.Reply{Body: gzipped(t, capture(t, p, false)), Header: http.Header{"Content-Encoding": {"gzip"}}})
	if r := g.post("/v1/chat/completions", chatHello, "Accept-Encoding: gzip").want(200, "hello to you"); r.Header.Get("content-encoding") != "" {
		t.Errorf("headers %v", r.Header)
	}
	g.kill()
	r := g.post("/v1/chat/completions", chatHello, "Accept-Encoding: gzip").want(200).header("content-encoding", "gzip")
	unpacked, err := gzip.NewReader(strings.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(unpacked); err != nil || !strings.Contains(string(body), "hello to you") {
		t.Errorf("%v, %s", err, body)
	}
}
