package xds

import (
	"regexp"
	"strconv"
	"testing"
)

// TestFailedStatus: what another target is asked after, and what counts against one, is 429 and
// each 5xx but 508.
func TestFailedStatus(t *testing.T) {
	re := regexp.MustCompile("^(?:" + failedStatus.GetSafeRegex().Regex + ")$")
	for status := 100; status < 1000; status++ {
		want := status == 429 || status >= 500 && status < 600 && status != 508
		if got := re.MatchString(strconv.Itoa(status)); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}
