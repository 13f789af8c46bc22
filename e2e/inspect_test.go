package e2e

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"millrace/internal/fakellm"
)

// inspectHeaders is a document with services of which no body is read, below /chat and /claude.
func inspectHeaders(t *testing.T, fakes ...*fakellm.Provider) string {
	t.Helper()
	doc := openAndClosed(t, map[string][]*fakellm.Provider{"chat": fakes[:2], "claude": fakes[2:]})
	return strings.ReplaceAll(doc, "failure: open", "inspect: headers")
}

// TestInspectHeaders: where no body is read Envoy asks the targets by itself, after the key is
// checked where one is needed, with what the sidecar would have sent; the event says who answered.
// Whatever else comes is read as ever.
func TestInspectHeaders(t *testing.T) {
	t.Parallel()
	for name, gatewayFields := range map[string]string{"without keys": "", "with keys": "auth: required"} {
		t.Run(name, func(t *testing.T) {
			a, b, c := openAI("a"), openAI("b"), anthropicAI("c")
			b.Key = a.Key
			keyed := gatewayFields != ""
			doc := inspectHeaders(t, a, b, c)
			headers := private
			bare, read := traffic{}, traffic{1, 4, 4}
			if keyed {
				doc += "keys: [{name: app, hash: " + hashOf("client-secret") + "}]\n"
				bare = traffic{1, 1, 1}
			}
			g := start(t, gatewayFields, doc)
			large := strings.Replace(chatHello, `"hello"`, `"`+strings.Repeat("x", 100_000)+`"`, 1)
			seen := map[string]bool{} // ids of requests
			streams := 0
			serve := func(name string, want traffic, path, body string, more ...string) {
				t.Helper()
				g.costs(name, want, func() {
					r := g.post(path, body, append(more, headers...)...)
					r.want(200)
					id := r.Header.Get("x-millrace-request-id")
					if id == "" || r.Header.Get("x-millrace-target") == "" || r.Header.Get("x-selected-provider") == "" {
						t.Errorf("%s: headers of the answer: %v", name, r.Header)
					}
					if alone := r.Header.Get("x-millrace-attempts") == ""; alone != (want != read) {
						t.Errorf("%s: served by Envoy alone: %v", name, alone)
					}
					seen[id] = true
				})
			}
			for range 2 { // one each
				serve("whole", bare, "/chat/v1/chat/completions", chatHello)
			}
			counted := strings.Replace(chatStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
			serve("stream", bare, "/chat/v1/chat/completions", counted)
			serve("Anthropic's stream", bare, "/claude/v1/messages", claudeStream)
			serve("Anthropic", bare, "/claude/v1/messages?beta=true", claudeHello)
			for p, n := range map[*fakellm.Provider]int{a: 0, b: 0, c: 0} {
				if len(p.Requests()) == n {
					t.Errorf("%s was not asked", p.Name)
				}
				for _, r := range p.Requests() {
					checkServedOpen(t, p, r)
				}
			}
			a.Script(fakellm.Fail(503, "down"))
			b.Script(fakellm.Fail(503, "down"))
			serve("retried", bare, "/chat/v1/chat/completions", chatHello)
			a.Reset()
			b.Reset()
			serve("translated", read, "/chat/v1/messages", claudeHello, "Anthropic-Version: 2023-06-01")
			serve("a query", read, "/chat/v1/chat/completions?x=y", chatHello)
			if keyed {
				serve("large", traffic{2, 2, 2}, "/chat/v1/chat/completions", large)
				g.costs("a wrong key", traffic{1, 1, 1}, func() {
					g.post("/chat/v1/chat/completions", chatHello, "Authorization: Bearer wrong").want(401).openAIError("authentication_error")
				})
			} else {
				serve("large", bare, "/chat/v1/chat/completions", large)
			}
			a.Always(fakellm.Fail(401, "Incorrect API key provided: "+a.Key))
			b.Always(fakellm.Fail(401, "Incorrect API key provided: "+a.Key))
			g.post("/chat/v1/chat/completions", chatHello, headers...).want(502, "the provider does not accept the gateway")

			g.eventually("events", func() error {
				for _, e := range g.readEvents() {
					if !seen[e.Id] {
						continue
					}
					delete(seen, e.Id)
					last := len(e.Attempts) - 1
					if e.Gateway != "default" || e.Schema == "" || e.Target == "" || e.Provider == "" || last < 0 || e.Attempts[last].Target != e.Target {
						t.Errorf("event %v", e)
					}
					if e.Usage.GetInput() > 0 && e.Usage.GetOutput() > 0 && e.Attempts[last].Status == 200 && proto.Equal(e.Attempts[last].Usage, e.Usage) {
						streams++
					}
					if want := map[bool]string{true: "app"}[keyed]; e.Key != want {
						t.Errorf("event of key %q, want %q", e.Key, want)
					}
					if !strings.HasPrefix(e.Path, "/chat/") && !strings.HasPrefix(e.Path, "/claude/") {
						t.Errorf("event of path %q", e.Path)
					}
				}
				if len(seen) > 0 {
					return fmt.Errorf("%d requests without an event", len(seen))
				}
				if want := 4; streams != want { // both streams, and what was read
					t.Errorf("%d requests have a usage, want %d", streams, want)
				}
				return nil
			})
		})
	}
}
