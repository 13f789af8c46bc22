package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// TestKeys: a gateway with keys takes none but them, from any header an SDK uses, and says so in
// the client's schema (D07, D10, A34). The client's key goes nowhere.
func TestKeys(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a)))+fmt.Sprintf(`keys:
- {name: good, hash: %s, expires_at: "2099-01-01T00:00:00Z"}
- {name: old, hash: %s, expires_at: "2020-01-01T00:00:00Z"}
`, hashOf("kt_gk_test"), hashOf("expired")))
	for _, h := range []string{"Authorization: Bearer kt_gk_test", "X-Api-Key: kt_gk_test", "Api-Key: kt_gk_test", "X-Goog-Api-Key: kt_gk_test"} {
		r := g.post("/v1/chat/completions", chatHello, h).want(200)
		if e := g.byID(r.Header.Get("x-millrace-request-id")); e.Key != "good" {
			t.Errorf("event: %v", e)
		}
	}
	for name, h := range map[string]string{"missing": "X-Nothing: 1", "wrong": "X-Api-Key: guess", "expired": "Authorization: Bearer expired", "not a bearer": "Authorization: Basic kt_gk_test"} {
		t.Run(name, func(t *testing.T) {
			g.post("/v1/chat/completions", chatHello, h).want(401).openAIError("authentication_error")
			g.post("/v1/messages", claudeHello, h).want(401).anthropicError("authentication_error")
			g.get("/v1/models", h).want(401)
		})
	}
	if n := len(a.Requests()); n != 4 {
		t.Errorf("%d requests went upstream", n)
	}
	g.get("/health").want(200)
}

// TestKeysAndRollback: neither revoking the last key nor going back to a version without keys opens
// a gateway.
func TestKeysAndRollback(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g, admin := withAdmin(t, "", pool("", to("a", a, provider(t, a))))
	base := admin + "/api/v1/gateways/default"
	newPool(t, base, "extra", "/extra", map[string]any{"id": "x", "provider": "openai"})
	g.post("/v1/chat/completions", chatHello).want(200)
	key := must(t, "POST", base+"/keys", map[string]any{"name": "only"})["key"].(string)
	g.post("/v1/chat/completions", chatHello).want(401)
	must(t, "POST", admin+"/api/v1/versions/1/rollback", nil)
	g.post("/v1/chat/completions", chatHello).want(401)
	g.post("/v1/chat/completions", chatHello, "Authorization: Bearer "+key).want(200)
	if status, _, problem, err := api("DELETE", base+"/keys/only", nil); err != nil || status != 204 {
		t.Errorf("the last key: %d %v %v", status, problem, err)
	}
	g.post("/v1/chat/completions", chatHello, "Authorization: Bearer "+key).want(401)
	g.post("/v1/chat/completions", chatHello).want(401)
	g.said("gateways without a key are closed")
	must(t, "POST", admin+"/api/v1/versions/1/rollback", nil)
	g.post("/v1/chat/completions", chatHello).want(401)
	g.edit(func(s string) string { return strings.Replace(s, "gateway:\n", "gateway:\n  auth: none\n", 1) })
	g.answers("a") // somebody has said so
}

// TestRules: the longest path wins, among equal paths the rule with more conditions; methods,
// headers, query, model and strip_path count; weighted services share (B22, C26).
func TestRules(t *testing.T) {
	t.Parallel()
	names := []string{"plain", "header", "query", "model", "longer", "ai", "left", "right"}
	var document strings.Builder
	document.WriteString("upstreams:\n")
	for _, name := range names {
		p := openAI(name)
		fmt.Fprintf(&document, "- {name: %s, targets: [%s]}\n", name, to(name, p, provider(t, p)))
	}
	document.WriteString("services:\n")
	for _, name := range names {
		fmt.Fprintf(&document, "- {name: %s, upstream: %s}\n", name, name)
	}
	document.WriteString(`rules:
- {path: /v1, service: plain}
- {path: /v1, service: header, headers: {X-Tier: gold}}
- {path: /v1, service: query, query: {tier: gold}}
- {path: /v1, service: model, models: [o-special, "o.1+"]}
- {path: /v1/longer, service: longer}
- {path: /ai, service: ai, methods: [POST], strip_path: true}
- {path: /off, service: ai, active: false}
- {path: /only-model, service: model, models: [o-special], strip_path: true}
- path: /ab
  strip_path: true
  services: [{service: left, weight: 3}, {service: right, weight: 1}]
`)
	g := start(t, "", document.String())
	special := strings.Replace(chatHello, "gpt-4o", "o-special", 1)
	for name, c := range map[string]struct{ path, body, header, want string }{
		"path":               {"/v1/chat/completions", chatHello, "", "plain"},
		"header":             {"/v1/chat/completions", chatHello, "X-Tier: gold", "header"},
		"another header":     {"/v1/chat/completions", chatHello, "X-Tier: tin", "plain"},
		"query":              {"/v1/chat/completions?tier=gold", chatHello, "", "query"},
		"model":              {"/v1/chat/completions", special, "", "model"},
		"model in a stream":  {"/v1/chat/completions", strings.Replace(chatStream, "gpt-4o", "o.1+", 1), "", "model"},
		"model is no regexp": {"/v1/chat/completions", strings.Replace(chatHello, "gpt-4o", "oX11", 1), "", "plain"},
		"a client's header":  {"/v1/chat/completions", chatHello, "X-Millrace-Model: o-special", "plain"},
		"longer":             {"/v1/longer/chat/completions", chatHello, "", "longer"},
		"stripped":           {"/ai/v1/chat/completions", chatHello, "", "ai"},
		"stripped, no v1":    {"/ai/chat/completions", chatHello, "", "ai"},
		"the path alone":     {"/ai", chatHello, "", "ai"},
		"only by model":      {"/only-model/v1/chat/completions", special, "", "model"},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if c.header != "" {
				headers = append(headers, c.header)
			}
			g.post(c.path, c.body, headers...).want(200).header("x-millrace-target", c.want)
		})
	}
	g.post("/off/v1/chat/completions", chatHello).want(404)
	g.post("/only-model/v1/chat/completions", chatHello).want(404).openAIError("not_found_error")
	g.get("/ai/v1/models").want(405)

	left := 0
	for range 400 {
		if g.post("/ab/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-target") == "left" {
			left++
		}
	}
	if left < 260 || left > 340 {
		t.Errorf("left got %d of 400, want about 300", left)
	}
}
