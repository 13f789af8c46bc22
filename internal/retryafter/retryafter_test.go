package retryafter

import (
	"net/http"
	"testing"
	"time"
)

func TestAsked(t *testing.T) {
	now := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		after, ms string
		want      time.Duration
		asked     bool
	}{
		"nothing":         {"", "", 0, false},
		"seconds":         {" 7 ", "", 7 * time.Second, true},
		"a fraction":      {"0.25", "", 250 * time.Millisecond, true},
		"at once":         {"0", "", 0, true},
		"milliseconds":    {"7", "250", 250 * time.Millisecond, true},
		"none of them":    {"7", "0", 7 * time.Second, true},
		"a date":          {now.Add(time.Minute).Format(http.TimeFormat), "", time.Minute, true},
		"a date gone by":  {now.Add(-time.Minute).Format(http.TimeFormat), "", 0, true},
		"a date far away": {now.Add(2 * Max).Format(http.TimeFormat), "", 0, true},
		"negative":        {"-1", "-1", 0, false},
		"not a number":    {"NaN", "NaN", 0, false},
		"endless":         {"1e300", "Inf", 0, false},
		"words":           {"soon", "", 0, false},
	} {
		h := http.Header{"Retry-After": {c.after}, "Retry-After-Ms": {c.ms}}
		if got, asked := Asked(h, now); got != c.want || asked != c.asked {
			t.Errorf("%s: %v, %v", name, got, asked)
		}
	}
	if Seconds("13") != 13*time.Second || Seconds("x") != 0 {
		t.Error("seconds")
	}
}
