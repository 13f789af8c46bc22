package e2e

import (
	"fmt"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestPreferredModel: when nothing is said of it, a model that one of three targets of different
// providers lists is asked of that one, streamed or not, whatever its priority; when it fails, the
// others answer within the request; and a model that nobody lists is shared by weight.
func TestPreferredModel(t *testing.T) {
	t.Parallel()
	a, b, c := openAI("a"), anthropicAI("b"), openAI("c")
	g, admin := withAdmin(t, "", pool("",
		to("a", a, provider(t, a), "models: [gpt-4o]"),
		to("b", b, provider(t, b), "models: [claude-x]"),
		to("c", c, provider(t, c), "models: [small], priority: 1")))
	for model, target := range map[string]string{"gpt-4o": "a", "claude-x": "b", "small": "c"} {
		for i := range 6 {
			body := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"Hello!"}]}`, model, i%2 == 1)
			g.post("/v1/chat/completions", body).want(200).header("x-millrace-target", target)
		}
	}
	shares := map[string]int{}
	for range 20 {
		shares[g.post("/v1/chat/completions", `{"model":"nobody's","messages":[{"role":"user","content":"Hello!"}]}`).want(200).Header.Get("x-millrace-target")]++
	}
	if shares["a"] != 10 || shares["b"] != 10 {
		t.Errorf("a model that nobody lists: %v", shares)
	}

	c.Always(fakellm.Fail(503, "down"))
	small := `{"model":"small","messages":[{"role":"user","content":"Hello!"}]}`
	if got := g.post("/v1/chat/completions", small).want(200).Header.Get("x-millrace-attempts"); !strings.HasPrefix(got, "c=503;") || !strings.HasSuffix(got, "=200") {
		t.Errorf("attempts %q", got)
	}
	g.eventually("c is taken out and the others serve its model", func() error {
		if got := g.post("/v1/chat/completions", small).want(200).Header.Get("x-millrace-attempts"); strings.Contains(got, "c=") {
			return fmt.Errorf("attempts %q", got)
		}
		return nil
	})
	health := fmt.Sprint(must(t, "GET", admin+"/api/v1/gateways/default/upstreams/chat/health", nil)["targets"])
	if strings.Count(health, "target:") != 3 || strings.Count(health, "ejected:true") != 1 {
		t.Errorf("health: %s", health)
	}
}
