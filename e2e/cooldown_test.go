package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// TestCooldown: a target that answers 429 and says when to come back gets no request until then,
// however it is chosen, and then its share again; its health says so (C06). Where no other can
// serve it is asked all the same.
func TestCooldown(t *testing.T) {
	t.Parallel()
	const rest = 3 * time.Second
	for _, algorithm := range []string{"algorithm: round-robin", "algorithm: least-connections", "algorithm: random",
		"algorithm: header-hash\nhash_header: x-user"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), openAI("b")
			g, admin := withAdmin(t, "", pool(algorithm+"\nhealth_checks: {passive: true, threshold: 1000}\nretry: {attempts: 1}",
				to("a", a, provider(t, a)), to("b", b, provider(t, b))))
			ask := func(i int) *answer {
				return g.post("/v1/chat/completions", chatHello, fmt.Sprintf("x-user: %d", i))
			}
			a.Script(fakellm.RateLimited(rest))
			limited := time.Now()
			for i := 0; len(a.Requests()) == 0; i++ {
				limited = time.Now()
				ask(i)
			}
			g.eventually("health says so", func() error {
				row := healthOf(t, admin, "a")
				if until, err := time.Parse(time.RFC3339, fmt.Sprint(row["cooling_until"])); err != nil || until.Before(limited.Add(rest-time.Second)) {
					return fmt.Errorf("%v", row)
				}
				return nil
			})
			last := healthOf(t, admin, "a")["recent"].([]any)[0].(map[string]any)
			if last["status"] != 429.0 || last["error"] == "" {
				t.Errorf("the latest outcome is %v", last)
			}
			for i := 0; time.Since(limited) < rest/2; i++ {
				ask(i).want(200).header("x-millrace-target", "b")
			}
			b.Script(fakellm.RateLimited(time.Hour)) // now both rest
			for i := 1000; ; i++ {
				if ask(i).Status == http.StatusTooManyRequests {
					break
				}
			}
			g.eventually("b rests too", func() error {
				if healthOf(t, admin, "b")["cooling_until"] == nil {
					return errors.New("not yet")
				}
				return nil
			})
			for i := range 20 {
				ask(i).want(200)
			}
			g.eventually("a is asked again, and alone", func() error {
				if healthOf(t, admin, "a")["cooling_until"] != nil {
					return errors.New("still resting")
				}
				return nil
			})
			for n := 0; n < 20; n++ {
				if got := ask(n).want(200).Header.Get("x-millrace-target"); got != "a" {
					if time.Since(limited) > patience {
						t.Fatalf("%s answers", got)
					}
					n = 0 // Envoy has not heard of it yet
				}
			}
		})
	}
}

// healthOf is a target's row in its upstream's health.
func healthOf(t *testing.T, admin, target string) map[string]any {
	t.Helper()
	for _, row := range must(t, "GET", admin+"/api/v1/gateways/default/upstreams/chat/health", nil)["targets"].([]any) {
		if row := row.(map[string]any); row["target"] == target {
			return row
		}
	}
	t.Fatalf("no target %q", target)
	return nil
}
