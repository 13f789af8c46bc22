package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestForwardHeaders: a target gets the client's headers that it names, and no other target does;
// what carries a credential goes only by its whole name, and the key that let the request in
// nowhere. A header that the target is configured with wins.
func TestForwardHeaders(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	a.Always(fakellm.Fail(503, "down"))
	g := start(t, "", pool("",
		to("a", a, provider(t, a), "priority: 1, forward_headers: [X-Team, x-trace-*, x-org-key, x-api-key, x-set], headers: {x-set: ours}"),
		to("b", b, provider(t, b), "priority: 2, forward_headers: [x-only-b]"))+
		"keys: [{name: k, hash: "+hashOf("client-key")+"}]\n")
	g.post("/v1/chat/completions", chatHello, "X-Api-Key: client-key", "X-Team: blue", "X-Team: red", "X-Trace-Id: 7", "X-Trace-Token: secret",
		"X-Org-Key: org", "X-Only-B: yes", "X-Set: theirs", "X-Else: no", "Cookie: c=1").want(200).header("x-millrace-target", "b")
	for _, c := range []struct {
		p    *fakellm.Provider
		want map[string]string
	}{
		{a, map[string]string{"X-Team": "blue, red", "X-Trace-Id": "7", "X-Trace-Token": "", "X-Org-Key": "org", "X-Only-B": "", "X-Set": "ours", "X-Else": "", "Cookie": ""}},
		{b, map[string]string{"X-Team": "", "X-Trace-Id": "", "X-Trace-Token": "", "X-Org-Key": "", "X-Only-B": "yes", "X-Set": "", "X-Else": "", "Cookie": ""}},
	} {
		r := c.p.Requests()[0]
		for name, want := range c.want {
			if got := strings.Join(r.Header.Values(name), ", "); got != want {
				t.Errorf("target %s got %s: %q, want %q", c.p.Name, name, got, want)
			}
		}
		if strings.Contains(fmt.Sprint(r.Header), "client-key") {
			t.Errorf("target %s got the client's key: %v", c.p.Name, r.Header)
		}
	}
}

// TestResponseHeaders: answers of every kind carry the headers that the gateway sets, as they are
// written.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, `response_headers: {x-gateway: "100% house %REQ(x-secret)%", cache-control: no-store}`,
		pool("", to("a", a, provider(t, a))))
	for name, answer := range map[string]func() *answer{
		"a whole answer": func() *answer { return g.post("/v1/chat/completions", chatHello).want(200) },
		"a refusal":      func() *answer { return g.post("/v1/chat/completions", "{").want(400) },
		"the models":     func() *answer { return g.get("/v1/models").want(200) },
		"a stream":       func() *answer { return g.post("/v1/chat/completions", chatStream) },
	} {
		got := answer()
		if got.Header.Get("X-Gateway") != "100% house %REQ(x-secret)%" || strings.Join(got.Header.Values("Cache-Control"), "|") != "no-store" {
			t.Errorf("%s: %v", name, got.Header)
		}
	}
}

// TestOneModel: GET …/models/NAME answers in both schemas for what a target lists, also for a name
// with a slash, and is 404 in the client's schema for any other.
func TestOneModel(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("", to("a", a, provider(t, a), "models: [gpt-4o, org/small]"), to("b", b, provider(t, b), "model_map: {smart: claude-x}")))
	g.get("/v1/models/gpt-4o").want(200, `"id":"gpt-4o"`, `"object":"model"`, `"owned_by":"openai"`, `"type":"model"`, `"display_name":"gpt-4o"`)
	g.get("/v1/models/smart", "anthropic-version: 2023-06-01").want(200, `"id":"smart"`, `"owned_by":"anthropic"`)
	for _, path := range []string{"/v1/models/org/small", "/v1/models/org%2Fsmall"} {
		g.get(path).want(200, `"id":"org/small"`)
	}
	g.get("/v1/models/gpt-5").want(404, "model_not_found").openAIError("not_found_error")
	g.get("/v1/models/gpt-5", "anthropic-version: 2023-06-01").want(404).anthropicError("not_found_error")
	g.post("/v1/models/gpt-4o", "{}").want(405)
	r, err := http.DefaultClient.Do(g.request("HEAD", "/v1/models/gpt-4o", nil))
	if err != nil {
		t.Fatal(err)
	}
	g.read(r).want(200)
}

// TestPromptHashOfClaudeCode: a conversation of Claude Code's stays on one target, though the first
// line of its system prompt is new in every request (case prompt-hash-claude-code); a target of
// another schema is not sent that line.
func TestPromptHashOfClaudeCode(t *testing.T) {
	t.Parallel()
	var fakes []*fakellm.Provider
	var targets []string
	for i := range 4 {
		p := anthropicAI(fmt.Sprint("t", i))
		fakes = append(fakes, p)
		targets = append(targets, to(p.Name, p, provider(t, p), "default_model: claude-sonnet-4-5"))
	}
	g := start(t, "", pool("algorithm: prompt-hash", targets...))
	turn := func(n int) string {
		turns := ""
		for i := range n {
			turns += fmt.Sprintf(`,{"role":"assistant","content":"step %d"},{"role":"user","content":"go on %d"}`, i, i)
		}
		return fmt.Sprintf(`{"model":"m","max_tokens":256,"messages":[{"role":"user","content":"Fix the bug in main.go"}%s],"system":[`+
			`{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=%05x;"},`+
			`{"type":"text","text":"You are Claude Code, Anthropic's official CLI for Claude.","cache_control":{"type":"ephemeral"}}]}`, turns, 77+n*7919)
	}
	first := g.post("/v1/messages?beta=true", turn(0), "anthropic-version: 2023-06-01").want(200).Header.Get("x-millrace-target")
	for n := 1; n < 10; n++ {
		g.post("/v1/messages?beta=true", turn(n), "anthropic-version: 2023-06-01").want(200).header("x-millrace-target", first)
	}
	for _, p := range fakes {
		for _, r := range p.Requests() {
			if !strings.Contains(string(r.Body), "x-anthropic-billing-header") {
				t.Errorf("Anthropic's own target did not get the client's bytes: %s", r.Body)
			}
		}
	}
	o := openAI("o")
	other := start(t, "", pool("", to("o", o, provider(t, o))))
	other.post("/v1/messages", turn(1), "anthropic-version: 2023-06-01").want(200)
	if body := string(o.Requests()[0].Body); strings.Contains(body, "billing") || !strings.Contains(body, "You are Claude Code") {
		t.Errorf("the other schema's target got %s", body)
	}
}
