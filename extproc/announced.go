package extproc

import (
	"math"
	"strconv"
	"time"
)

// announced is how long the client waits for an answer, as the SDKs of OpenAI and Anthropic say in
// seconds: x-stainless-timeout, and Python's x-stainless-read-timeout. It is a little less than
// they say, so that the client hears of the end. 0: the client does not say, or nothing that makes
// sense ("0" is how some say "for ever").
func announced(h headers) time.Duration {
	const longest, before = 24 * time.Hour, time.Second
	shortest := time.Duration(0)
	for _, name := range []string{"x-stainless-timeout", "x-stainless-read-timeout"} {
		s, err := strconv.ParseFloat(h.get(name), 64)
		if err != nil || math.IsNaN(s) || s <= 0 || s >= longest.Seconds() {
			continue
		}
		d := time.Duration(s * float64(time.Second))
		d -= min(before, d/10)
		if shortest == 0 || d < shortest {
			shortest = d
		}
	}
	return shortest
}
