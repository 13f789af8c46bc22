package xds

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"millrace/config"
)

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
