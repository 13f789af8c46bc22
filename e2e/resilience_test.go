package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// TestCircuitBreaker: a target that fails for half of the requests, never in a row, is taken out by
// its share of failures (C20, E23, E24) and is asked again after the reset.
func TestCircuitBreaker(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("health_checks: {passive: false}\ncircuit_breaker: {failure_percentage: 40, request_volume: 10, reset: 1s}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=200")
	good := 0
	g.eventually("the target is left alone", func() error {
		a.Script(fakellm.Fail(500, "no"), fakellm.Usual())
		for range 10 {
			if got := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-attempts"); got != "b=200" {
				good = 0
				return fmt.Errorf("attempts %s", got)
			}
		}
		if good++; good < 2 {
			return fmt.Errorf("%d rounds", good)
		}
		return nil
	})
	a.Reset()
	g.answeredBy("a")
}

// TestRetryBudget: when everything fails over at once, only so many further attempts are made
// (E24's reason: no storms).
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	gate := make(chan struct{})
	held := fakellm.Usual()
	held.Head = fakellm.Pace{Gate: gate}
	a.Always(fakellm.Fail(503, "down"))
	b.Always(held)
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {budget_percent: 10}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	const always = 3
	var wg sync.WaitGroup
	for i := range always {
		wg.Go(func() {
			g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=503;b=200")
		})
		g.eventually("the attempt is under way", func() error {
			if n := len(b.Requests()); n != i+1 {
				return fmt.Errorf("%d attempts at b", n)
			}
			return nil
		})
	}
	for range 5 {
		g.post("/v1/chat/completions", chatHello).want(503).header("x-millrace-attempts", "a=503")
	}
	close(gate)
	wg.Wait()
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestBackOff: attempts are apart by a random wait that grows; a target that is alone and says when
// to come back is asked then and not before; and with another target to ask nothing is waited for.
func TestBackOff(t *testing.T) {
	t.Parallel()
	t.Run("retry-after of the only target", func(t *testing.T) {
		a := openAI("a")
		a.Script(fakellm.RateLimited(time.Second))
		g := start(t, "", pool("retry: {max_retry_after: 5s}", to("a", a, provider(t, a))))
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=429;a=200")
		if waited := apart(a.Requests()); waited < time.Second {
			t.Errorf("asked again after %s", waited)
		}
	})
	t.Run("retry-after beyond the bound", func(t *testing.T) {
		a := openAI("a")
		a.Script(fakellm.RateLimited(time.Hour))
		g := start(t, "", pool("retry: {max_retry_after: 1s}", to("a", a, provider(t, a))))
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=429;a=200")
	})
	t.Run("another target", func(t *testing.T) {
		a, b := openAI("a"), openAI("b")
		a.Script(fakellm.RateLimited(time.Hour))
		g := start(t, "", pool("retry: {max_retry_after: 3600s}", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=429;b=200")
	})
	t.Run("growing", func(t *testing.T) {
		a := openAI("a")
		a.Always(fakellm.Fail(http.StatusServiceUnavailable, "down"))
		g := start(t, "", pool("health_checks: {passive: false}\nretry: {attempts: 6, backoff: 0.2s, max_interval: 0.4s}", to("a", a, provider(t, a))))
		g.post("/v1/chat/completions", chatHello).want(503).header("x-millrace-attempts", "a=503"+strings.Repeat(";a=503", 5))
		requests := a.Requests()
		if took := requests[5].At.Sub(requests[0].At); took < 50*time.Millisecond {
			t.Errorf("five waits took %s together", took) // each is random between 0 and its bound
		}
	})
	t.Run("per-try timeout", func(t *testing.T) {
		a, b := openAI("a"), openAI("b")
		a.Always(fakellm.Reply{NoHead: true, End: fakellm.Hang})
		g := start(t, "", pool("retry: {per_try_timeout: 1s}", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
	})
}

// apart is the time between a target's first two requests.
func apart(requests []fakellm.Request) time.Duration {
	return requests[1].At.Sub(requests[0].At)
}
