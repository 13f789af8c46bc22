// Package retryafter reads how long a provider asks to wait.
package retryafter

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Max is where a wait stops being one: longer ones are taken for nonsense.
const Max = 30 * 24 * time.Hour

// Asked is the wait that the headers name: milliseconds (retry-after-ms, OpenAI's and Azure's),
// else seconds or a date (RFC 9110, section 10.2.3). It fails where they name none.
func Asked(h http.Header, now time.Time) (time.Duration, bool) {
	if ms, ok := number(h.Get("Retry-After-Ms"), time.Millisecond); ok && ms > 0 {
		return ms, true
	}
	after := h.Get("Retry-After")
	if d, ok := number(after, time.Second); ok {
		return d, true
	}
	if at, err := http.ParseTime(after); err == nil {
		return Until(now, at), true
	}
	return 0, false
}

// Seconds reads a number of seconds, 0 for what is none.
func Seconds(value string) time.Duration {
	d, _ := number(value, time.Second)
	return d
}

func number(value string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(n >= 0 && n <= float64(Max/unit)) { // NaN is neither
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}

// Until is the time until then, 0 for what is over.
func Until(now, at time.Time) time.Duration {
	if d := at.Sub(now).Round(time.Millisecond); d > 0 && d <= Max {
		return d
	}
	return 0
}
