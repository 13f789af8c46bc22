package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"millrace/internal/fakellm"
)

// TestPassiveHealth: threshold failures in a row take a target out: 5xx, 429, 529, an error inside
// a stream; and when its time is up it is asked again (B18-B20, B32, D19).
func TestPassiveHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reply fakellm.Reply
		body  string
	}{
		"500":               {fakellm.Fail(500, "no"), chatHello},
		"503":               {fakellm.Fail(503, "no"), chatHello},
		"429":               {fakellm.Fail(429, "no"), chatHello},
		"529":               {fakellm.Fail(529, "no"), chatHello},
		"error in a stream": {fakellm.FailInStream(529, "overloaded"), chatStream},
		"connection reset":  {fakellm.RefuseTCP(), chatHello},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := anthropicAI("a"), openAI("b")
			const threshold = 3
			g := start(t, "", pool(fmt.Sprintf("health_checks: {passive: true, threshold: %d, interval: 2}", threshold),
				to("a", a, provider(t, a), "priority: 1", "default_model: m"), to("b", b, provider(t, b), "priority: 2")))
			a.Always(c.reply)
			g.eventually("the target is left alone", func() error {
				if got := g.post("/v1/chat/completions", c.body).want(200).header("x-millrace-target", "b").Header.Get("x-millrace-attempts"); got != "b=200" {
					return errors.New(got)
				}
				return nil
			})
			if n := len(a.Requests()); n < threshold {
				t.Errorf("the target was asked %d times, want %d", n, threshold)
			}
			a.Reset()
			g.answeredBy("a")
		})
	}
}

// TestClientsFaults: what is the client's fault is not tried elsewhere, and never takes a target
// out.
func TestClientsFaults(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("health_checks: {passive: true, threshold: 1, interval: 60}\ncircuit_breaker: {failure_percentage: 1, request_volume: 1}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	for _, status := range []int{400, 404, 409, 413, 422} {
		a.Always(fakellm.Fail(status, http.StatusText(status)))
		for _, body := range []string{chatHello, chatStream} {
			for range 3 {
				g.post("/v1/chat/completions", body).want(status).header("x-millrace-attempts", fmt.Sprintf("a=%d", status))
			}
		}
	}
	a.Reset()
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=200")
	if n := len(b.Requests()); n != 0 {
		t.Errorf("%d requests at the next target", n)
	}
}
