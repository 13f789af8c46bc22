package control

import (
	"fmt"
	"testing"
	"time"

	"millrace/config"
)

// pair is an upstream with two targets, a and b.
func pair(passive *config.Passive, breaker *config.Breaker) *config.Upstream {
	return &config.Upstream{Passive: passive, Breaker: breaker, Targets: []*config.Target{{Identity: "a", Weight: 1}, {Identity: "b", Weight: 1}}}
}

// step is one report about target a: r is the request, bad why it failed, and out the seconds for
// which the target is then out.
type step struct {
	at  int // seconds
	r   string
	bad bool
	out int
}

// TestEjection: requests are counted, not attempts; the time out grows with each time, is bounded,
// and shrinks with good time; who is alone stays.
func TestEjection(t *testing.T) {
	passive := &config.Passive{Failures: 3, Out: 60 * time.Second}
	alone := pair(passive, nil)
	alone.Targets[1].Weight = 0
	for name, c := range map[string]struct {
		upstream *config.Upstream
		steps    []step
	}{
		"three requests": {pair(passive, nil), []step{{r: "1", bad: true}, {r: "2", bad: true}, {r: "3", bad: true, out: 60}}},
		"one request, three attempts": {pair(passive, nil), []step{
			{r: "1", bad: true}, {r: "1", bad: true}, {r: "1", bad: true}, {r: "2", bad: true}, {r: "2", bad: true}, {r: "3", bad: true, out: 60},
		}},
		"a good one between": {pair(passive, nil), []step{
			{r: "1", bad: true}, {r: "2", bad: true}, {r: "3"}, {r: "4", bad: true}, {r: "5", bad: true}, {r: "6", bad: true, out: 60},
		}},
		"what fails meanwhile adds nothing": {pair(passive, nil), []step{
			{r: "1", bad: true}, {r: "2", bad: true}, {r: "3", bad: true, out: 60}, {at: 1, r: "4", bad: true}, {at: 59, r: "5", bad: true},
			{at: 60, r: "6", bad: true}, {at: 60, r: "7", bad: true}, {at: 60, r: "8", bad: true, out: 120},
		}},
		"alone": {alone, []step{{r: "1", bad: true}, {r: "2", bad: true}, {r: "3", bad: true}, {r: "4", bad: true}}},
		"again and again, then good time": {pair(&config.Passive{Failures: 1, Out: 100 * time.Second}, nil), []step{
			{r: "1", bad: true, out: 100},
			{at: 150, r: "2", bad: true, out: 200},
			{at: 400, r: "3", bad: true, out: 300},
			{at: 750, r: "4", bad: true, out: 300},   // five minutes at most
			{at: 1350, r: "5", bad: true, out: 200},  // 300 s of good time make up for three
			{at: 99999, r: "6", bad: true, out: 100}, // and enough of it for all
		}},
		"an interval above the bound": {pair(&config.Passive{Failures: 1, Out: 600 * time.Second}, nil), []step{
			{r: "1", bad: true, out: 600}, {at: 700, r: "2", bad: true, out: 600},
		}},
		"a share": {pair(nil, &config.Breaker{FailurePercentage: 50, RequestVolume: 4, Reset: 30 * time.Second}), []step{
			{r: "1", bad: true}, {r: "2"}, {r: "3"}, {r: "4", bad: true, out: 30},
		}},
		"a share of one request's attempts": {pair(nil, &config.Breaker{FailurePercentage: 50, RequestVolume: 3, Reset: 30 * time.Second}), []step{
			{r: "1", bad: true}, {r: "1", bad: true}, {r: "1", bad: true}, {r: "2", bad: true}, {r: "3", bad: true, out: 30},
		}},
		"a share of what was long ago": {pair(nil, &config.Breaker{FailurePercentage: 50, RequestVolume: 3, Reset: 30 * time.Second}), []step{
			{r: "1", bad: true}, {r: "2", bad: true}, {at: 10, r: "3", bad: true}, {at: 11, r: "4", bad: true}, {at: 12, r: "5", bad: true, out: 30},
		}},
		"neither": {pair(nil, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			e := &ejection{accounts: map[string]*account{}}
			for i, s := range c.steps {
				failure := ""
				if s.bad {
					failure = "500 no"
				}
				now := begin.Add(time.Duration(s.at) * time.Second)
				if got := e.judge(c.upstream, "a", s.r, failure, now); got != time.Duration(s.out)*time.Second {
					t.Fatalf("step %d: out for %s, want %ds", i, got, s.out)
				}
				if s.out == 0 {
					continue
				}
				out := map[string]bool{}
				if next, _ := e.present(out, now); !out["a"] || !next.Equal(now.Add(time.Duration(s.out)*time.Second)) {
					t.Errorf("step %d: %v are out until %s", i, out, next.Sub(now))
				}
				out = map[string]bool{}
				if _, back := e.present(out, now.Add(time.Duration(s.out)*time.Second)); len(out) > 0 || fmt.Sprint(back) != "[a]" {
					t.Errorf("step %d: %v are out when the time is over, and %v are back", i, out, back)
				}
			}
		})
	}
}

// TestEjectionForgets: what a change takes out of the configuration is not remembered, nor who
// stays alone.
func TestEjectionForgets(t *testing.T) {
	passive := &config.Passive{Failures: 1, Out: time.Minute}
	alone := pair(passive, nil)
	alone.Targets[1].Weight = 0
	for name, upstreams := range map[string]map[string]*config.Upstream{
		"gone": {}, "no passive checks": {"a": pair(nil, nil)}, "alone": {"a": alone},
	} {
		t.Run(name, func(t *testing.T) {
			e := &ejection{accounts: map[string]*account{}}
			e.judge(pair(passive, nil), "a", "1", "500 no", time.Now())
			e.keep(map[string]*config.Upstream{"a": pair(passive, nil)})
			out := map[string]bool{}
			if e.present(out, time.Now()); !out["a"] {
				t.Fatal("forgotten too early")
			}
			e.keep(upstreams)
			clear(out)
			if e.present(out, time.Now()); out["a"] {
				t.Error("still out")
			}
		})
	}
}
