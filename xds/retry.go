package xds

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"millrace/config"
	"millrace/envoy"
)

// retryOn are the failures that Envoy itself sees and that another target is asked after. A reset
// includes the end of Envoy's own clocks; Envoy knows no difference.
func retryOn(a config.Attempts) string {
	switch {
	case a.RetriedOn(config.OnNoAnswer):
		return "reset,connect-failure,refused-stream"
	case a.RetriedOn(config.OnConnectFailure):
		return "connect-failure,refused-stream"
	}
	return "refused-stream" // nothing was asked yet
}

// retriable are the answers to attempts that another target is asked after.
func retriable(a config.Attempts) []*routev3.HeaderMatcher {
	on := []*routev3.HeaderMatcher{headerIs(envoy.HeaderRetry, exactly("1"))}
	if a.RetriedOn(config.OnNoAnswer) {
		on = append(on, lostAnswer)
	}
	return on
}

// bareRetry is for pools without the sidecar: the targets' own statuses are all there is to go by.
func bareRetry(p *routev3.RetryPolicy, a config.Attempts) {
	p.RetryOn, p.RetriableHeaders = retryOn(a)+",retriable-status-codes", nil
	for _, c := range []struct {
		condition string
		statuses  []uint32
	}{
		{config.OnRateLimit, []uint32{429, 498}},
		{config.OnServerError, []uint32{425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}},
		{config.OnNoAnswer, []uint32{408}},
		{config.OnCredential, []uint32{401, 402, 403}},
	} {
		if a.RetriedOn(c.condition) {
			p.RetriableStatusCodes = append(p.RetriableStatusCodes, c.statuses...)
		}
	}
}

// backOff is the wait between attempts: Envoy makes it random and doubles it each time.
func backOff(a config.Attempts) (*routev3.RetryPolicy_RetryBackOff, *routev3.RetryPolicy_RateLimitedRetryBackOff) {
	back := &routev3.RetryPolicy_RetryBackOff{BaseInterval: seconds(a.Backoff), MaxInterval: seconds(a.MaxInterval)}
	if a.RetryAfter == 0 {
		return back, nil
	}
	return back, &routev3.RetryPolicy_RateLimitedRetryBackOff{
		ResetHeaders: []*routev3.RetryPolicy_ResetHeader{{Name: "retry-after", Format: routev3.RetryPolicy_SECONDS}},
		MaxInterval:  seconds(a.RetryAfter),
	}
}
