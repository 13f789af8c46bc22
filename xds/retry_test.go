package xds

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"millrace/config"
)

// TestFailedStatus: what another target is asked after, and what counts against one, is 429 and each 5xx but 508.
func TestFailedStatus(t *testing.T) {
	re := regexp.MustCompile("^(?:" + failedStatus.GetSafeRegex().Regex + ")$")
	for status := 100; status < 1000; status++ {
		want := status == 429 || status >= 500 && status < 600 && status != 508
		if got := re.MatchString(strconv.Itoa(status)); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}

func TestRetryAfterIsForTargetsThatAreAlone(t *testing.T) {
	upstream := func(targets int, retryAfter time.Duration) *config.Upstream {
		return &config.Upstream{
			Targets: make([]*config.Target, targets),
			Retry:   config.Retry{Backoff: time.Second, MaxInterval: time.Minute, MaxRetryAfter: retryAfter},
		}
	}
	for _, c := range []struct {
		name   string
		shares []config.Share
		waits  bool
	}{
		{"one target", []config.Share{{Upstream: upstream(1, time.Hour)}}, true},
		{"one target, no bound given", []config.Share{{Upstream: upstream(1, 0)}}, false},
		{"two targets", []config.Share{{Upstream: upstream(2, time.Hour)}}, false},
		{"an A/B test with one target on each side", []config.Share{{Upstream: upstream(1, time.Hour)}, {Upstream: upstream(1, 0)}}, true},
		{"an A/B test with more on one side", []config.Share{{Upstream: upstream(1, time.Hour)}, {Upstream: upstream(2, 0)}}, false},
	} {
		back, limited := backOff(c.shares)
		if got := limited != nil; got != c.waits {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.waits)
		}
		if back.BaseInterval.AsDuration() != time.Second || back.MaxInterval.AsDuration() != time.Minute {
			t.Errorf("%s: back-off %v", c.name, back)
		}
	}
}
