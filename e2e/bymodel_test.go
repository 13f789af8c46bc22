package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// byModel writes a document with a rule for each model, and one for any other, all of one path. A
// rule's upstream has the targets a and b, a first; the retry settings are its own.
func byModel(a, b string, retry map[string]string) string {
	var upstreams, services, rules strings.Builder
	for _, model := range []string{"m1", "m2", "any"} {
		if retry[model] == "" {
			continue
		}
		fmt.Fprintf(&upstreams, "- name: %s\n  health_checks: {passive: false}\n  retry: %s\n  targets: [%s, %s]\n", model, retry[model], a, b)
		fmt.Fprintf(&services, "- {name: %s, upstream: %s}\n", model, model)
		if model == "any" {
			rules.WriteString("- {path: /v1, service: any}\n")
		} else {
			fmt.Fprintf(&rules, "- {path: /v1, service: %s, models: [%s]}\n", model, model)
		}
	}
	return "upstreams:\n" + upstreams.String() + "services:\n" + services.String() + "rules:\n" + rules.String()
}

// TestRulesByModel: where the model chooses the rule, an attempt lives by the rule that was chosen,
// and not by what the others of its path want. So it is on a retry, and for streams, too.
func TestRulesByModel(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	ta, tb := to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")
	asks := func(model string) (whole, stream string) {
		return strings.Replace(chatHello, "gpt-4o", model, 1), strings.Replace(chatStream, "gpt-4o", model, 1)
	}
	for name, retry := range map[string]map[string]string{
		"each rule has a model":                {"m1": "{hedge: 0.5s}", "m2": "{attempts: 3}"},
		"one is for any other":                 {"any": "{hedge: 0.5s}", "m2": "{attempts: 3}"},
		"only the one for any other is hedged": {"m1": "{attempts: 3}", "m2": "{attempts: 3}", "any": "{hedge: 0.5s}"},
	} {
		t.Run("failover "+name, func(t *testing.T) {
			g := start(t, "", byModel(ta, tb, retry))
			whole, stream := asks("m2")
			for _, body := range []string{whole, stream} {
				a.Script(fakellm.Fail(http.StatusServiceUnavailable, "down"))
				g.post("/v1/chat/completions", body).want(200).header("x-millrace-attempts", "a=503;b=200")
			}
			a.Script(fakellm.Fail(http.StatusServiceUnavailable, "down"))
			b.Script(fakellm.Fail(http.StatusServiceUnavailable, "down")) // the third attempt goes by the rule, too
			g.post("/v1/chat/completions", whole).want(200)

			hang := fakellm.FailInStream(http.StatusServiceUnavailable, "no")
			hang.End = fakellm.Hang
			a.Script(hang)
			g.post("/v1/chat/completions", stream).want(200).header("x-millrace-target", "b")
			nothingIsLeft(t, []*fakellm.Provider{a, b})
		})
	}

	t.Run("hedging", func(t *testing.T) { // though the rule that has no model does not
		g := start(t, "", byModel(ta, tb, map[string]string{"m1": "{hedge: 0.5s}", "any": "{attempts: 1}"}))
		whole, stream := asks("m1")
		for _, body := range []string{whole, stream} {
			a.Script(fakellm.Fail(http.StatusServiceUnavailable, "down")) // kept back until b has answered
			g.post("/v1/chat/completions", body).want(200).header("x-millrace-target", "b")
		}
		nothingIsLeft(t, []*fakellm.Provider{a, b})
	})

	t.Run("the last attempt", func(t *testing.T) {
		g := start(t, "", byModel(ta, tb, map[string]string{"m1": "{attempts: 1}", "m2": "{attempts: 3}"}))
		_, stream := asks("m1")
		hang := fakellm.FailInStream(http.StatusServiceUnavailable, "no")
		hang.End = fakellm.Hang
		for range 5 {
			a.Script(hang)
			got := g.post("/v1/chat/completions", stream).want(500, `"message":"no"`).header("x-millrace-target", "a")
			if e := g.byID(got.Header.Get("x-millrace-request-id")); len(e.Attempts) != 1 || e.Status != 500 || e.Error != "no" {
				t.Errorf("event %v", e)
			}
		}
		nothingIsLeft(t, []*fakellm.Provider{a, b})
	})
}
