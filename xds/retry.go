package xds

import (
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"millrace/config"
)

// retryOn are the failures that Envoy itself sees and that another target is asked after. A reset
// includes the end of Envoy's own clocks; Envoy knows no difference.
func retryOn(shares []config.Share) string {
	on := func(condition string) bool {
		return slices.ContainsFunc(shares, func(s config.Share) bool { return s.Upstream.RetriedOn(condition) })
	}
	switch {
	case on(config.OnNoAnswer):
		return "reset,connect-failure,refused-stream"
	case on(config.OnConnectFailure):
		return "connect-failure,refused-stream"
	}
	return "refused-stream" // nothing was asked yet
}

// openRetry is for pools without the sidecar: the targets' own statuses are all there is to go by.
func openRetry(p *routev3.RetryPolicy, shares []config.Share) {
	p.RetryOn, p.RetriableHeaders = retryOn(shares)+",retriable-status-codes", nil
	for _, c := range []struct {
		condition string
		statuses  []uint32
	}{
		{config.OnRateLimit, []uint32{429, 498}},
		{config.OnServerError, []uint32{425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}},
		{config.OnNoAnswer, []uint32{408}},
		{config.OnCredential, []uint32{401, 402, 403}},
	} {
		if slices.ContainsFunc(shares, func(s config.Share) bool { return s.Upstream.RetriedOn(c.condition) }) {
			p.RetriableStatusCodes = append(p.RetriableStatusCodes, c.statuses...)
		}
	}
}

// backOff is the wait between attempts: Envoy makes it random and doubles it each time. A target's retry-after is waited for only
// where every attempt goes to one target; with another one to ask, waiting would be all that failover is there to save.
func backOff(shares []config.Share) (*routev3.RetryPolicy_RetryBackOff, *routev3.RetryPolicy_RateLimitedRetryBackOff) {
	var base, longest, retryAfter time.Duration
	alone := true
	for _, s := range shares {
		r := s.Upstream.Retry
		base, longest, retryAfter = max(base, r.Backoff), max(longest, r.MaxInterval), max(retryAfter, r.MaxRetryAfter)
		alone = alone && len(s.Upstream.Targets) == 1
	}
	back := &routev3.RetryPolicy_RetryBackOff{BaseInterval: seconds(base), MaxInterval: seconds(longest)}
	if !alone || retryAfter == 0 {
		return back, nil
	}
	return back, &routev3.RetryPolicy_RateLimitedRetryBackOff{
		ResetHeaders: []*routev3.RetryPolicy_ResetHeader{{Name: "retry-after", Format: routev3.RetryPolicy_SECONDS}},
		MaxInterval:  seconds(retryAfter),
	}
}
