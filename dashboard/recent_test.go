package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	millracev1 "millrace/proto/millrace/v1"
)

// at is a Recent at a time that the test moves on.
func at(now *time.Time) *Recent {
	r := NewRecent()
	r.now = func() time.Time { return *now }
	return r
}

// TestRecentForgets: what is older than the window is not counted, also where a long time without
// requests has passed.
func TestRecentForgets(t *testing.T) {
	now := time.Unix(1795000000, 0)
	r := at(&now)
	e := &millracev1.Event{Gateway: "g", Status: 503, DurationMs: 100, Attempts: []*millracev1.Attempt{{Target: "a", Upstream: "u", Condition: "server-error", DurationMs: 100}},
		Policies: []*millracev1.PolicyVerdict{{Policy: "p", Verdict: "block"}}}
	frame := func() Frame {
		f := Frame{Targets: []Target{{Gateway: "g", Upstream: "u", Target: "a"}}}
		r.fill(&f)
		return f
	}
	for range 3 {
		r.Record(e)
		now = now.Add(time.Minute)
	}
	if f := frame(); f.Totals.Requests != 3 || f.Totals.Errors != 3 || f.Targets[0].Errors != 3 || f.Policies[0].Block != 3 || len(f.Series.Requests) != stepCount {
		t.Errorf("three: %+v", f)
	}
	now = now.Add(2*time.Minute - 2*stepLength) // the first one is in the last step
	if f := frame(); f.Totals.Requests != 3 {
		t.Errorf("at the end of the window: %+v", f.Totals)
	}
	now = now.Add(3 * stepLength)
	if f := frame(); f.Totals.Requests != 2 {
		t.Errorf("behind it: %+v", f.Totals)
	}
	for _, later := range []time.Duration{time.Hour, 48 * time.Hour} {
		now = now.Add(later)
		if f := frame(); f.Totals.Requests != 0 || f.Targets[0].Attempts != 0 || len(f.Policies) != 0 || slices.Max(f.Series.Requests) != 0 {
			t.Errorf("%s later: %+v", later, f)
		}
	}
}

// TestRecentCounts: shares are of an upstream's attempts; times and tokens are each target's own;
// the time to the first token is the client's in the totals, the target's for the target.
func TestRecentCounts(t *testing.T) {
	now := time.Unix(1795000000, 0)
	r := at(&now)
	for range 3 {
		r.Record(&millracev1.Event{
			Gateway: "g", Status: 200, Stream: true, Target: "b", DurationMs: 1000, Usage: &millracev1.Usage{Input: 10, Output: 5}, Cost: &millracev1.Cost{Usd: "0.25"},
			Attempts: []*millracev1.Attempt{
				{Target: "a", Upstream: "u", Status: 503, Condition: "server-error", DurationMs: 100},
				{Target: "b", Upstream: "u", Status: 200, BeganMs: 200, FirstTokenMs: 300, DurationMs: 800, Usage: &millracev1.Usage{Input: 10, Output: 5}, Cost: &millracev1.Cost{Usd: "0.25"}},
			},
		})
	}
	r.Record(&millracev1.Event{Gateway: "g", Status: 200, Target: "b", DurationMs: 1000, Attempts: []*millracev1.Attempt{{Target: "b", Upstream: "u", Status: 200, DurationMs: 800}}})
	f := Frame{Targets: []Target{{Gateway: "g", Upstream: "u", Target: "a"}, {Gateway: "g", Upstream: "u", Target: "b"}, {Gateway: "g", Upstream: "v", Target: "b"}}}
	r.fill(&f)
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= (growth-1)*math.Max(a, b) }) // as exact as a bucket is
	want := []Target{
		{Gateway: "g", Upstream: "u", Target: "a", Share: 3. / 7, Attempts: 3, Errors: 3, Latency: &Times{100, 100}},
		{Gateway: "g", Upstream: "u", Target: "b", Share: 4. / 7, Attempts: 4, Latency: &Times{800, 800}, FirstToken: &Times{300, 300}, Input: 30, Output: 15, USD: .75},
		{Gateway: "g", Upstream: "v", Target: "b"},
	}
	if diff := cmp.Diff(want, f.Targets, near); diff != "" {
		t.Error(diff)
	}
	f.Totals.Seconds = 0
	if diff := cmp.Diff(Totals{Requests: 4, Input: 30, Output: 15, USD: .75, Latency: &Times{1000, 1000}, FirstToken: &Times{500, 500}}, f.Totals, near); diff != "" {
		t.Error(diff)
	}
}

// TestRequestSaysNothingOfTheText: of an event with everything in it, what was said, errors in
// others' words, paths and addresses are left out, and what clients choose is short and harmless.
func TestRequestSaysNothingOfTheText(t *testing.T) {
	e := &millracev1.Event{
		Id: "id", Model: "gpt\x1b[2J" + strings.Repeat("ü", 500), Path: "/v1/x?key=" + secret, Error: prompt, Details: "d", ClientAddress: "192.0.2.7",
		Attempts: []*millracev1.Attempt{{Target: "a", Error: prompt}}, Policies: []*millracev1.PolicyVerdict{{Policy: "p", Verdict: "block", Observed: true, Reason: prompt}},
	}
	r := NewRequest(1, e)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{prompt, secret, "192.0.2.7", "\x1b", `\u001b`} {
		if strings.Contains(string(data), never) {
			t.Errorf("%q is in %s", never, data)
		}
	}
	if n := len([]rune(r.Model)); n > longest {
		t.Errorf("the model has %d characters", n)
	}
	if want := []string{"would block by p"}; !slices.Equal(r.Verdicts, want) {
		t.Errorf("got %q, want %q", r.Verdicts, want)
	}
}

// TestManyTargets: a frame shows those that are not up and those with the most attempts.
func TestManyTargets(t *testing.T) {
	f := Frame{}
	for i := range 500 {
		f.Targets = append(f.Targets, Target{Target: fmt.Sprint(i), State: "up", Attempts: uint64(i)})
	}
	f.Targets[7].State = "ejected"
	f.bound()
	if len(f.Targets) != maxTargets || f.Hidden != 300 || f.Targets[0].Target != "7" || f.Targets[1].Target != "499" {
		t.Errorf("%d and %d hidden, first %+v", len(f.Targets), f.Hidden, f.Targets[:2])
	}
}
