// Package dashboard is what people look at while the gateway runs: the page on the admin port and
// `millrace top`. Both show one frame, made of what is counted anyhow, of the last requests, and of
// where the configuration stands. A frame is made when somebody looks, once a second at most,
// however many look; while nobody does, requests are counted and nothing else is done.
//
// There is nothing of what was said in a frame, and no secret: what a provider or a client has put
// into an error is left out, too.
package dashboard

import (
	"cmp"
	"slices"
	"time"
	"unicode"

	"millrace/control"
	"millrace/metrics"
	millracev1 "millrace/proto/millrace/v1"
)

// Frame is all that is shown at one moment.
type Frame struct {
	Time     time.Time     `json:"time"`
	Status   Status        `json:"status"`
	Totals   Totals        `json:"totals"`
	Series   Series        `json:"series"`
	Targets  []Target      `json:"targets"`
	Hidden   int           `json:"hidden"` // targets beyond maxTargets: up, and with the fewest attempts
	Policies []PolicyCount `json:"policies"`
	Versions []Version     `json:"versions"`
}

// Status is where the gateway stands.
type Status struct {
	Release  string   `json:"release"`
	State    string   `json:"state"`
	Reason   string   `json:"reason,omitempty"`
	Version  string   `json:"version"`
	Revision uint64   `json:"revision"`
	Ready    bool     `json:"ready"`
	Envoy    string   `json:"envoy"`    // its version; "" while it is not connected
	Troubles []string `json:"troubles"` // what an operator has to see to
	Warnings int      `json:"warnings"`
}

// Totals are of the last Seconds.
type Totals struct {
	Seconds    float64 `json:"seconds"`
	Requests   uint64  `json:"requests"`
	Errors     uint64  `json:"errors"`
	Input      uint64  `json:"input"`
	Output     uint64  `json:"output"`
	USD        float64 `json:"usd"`
	Latency    *Times  `json:"latency,omitempty"`
	FirstToken *Times  `json:"first_token,omitempty"`
	Active     uint32  `json:"active"` // attempts that are under way
}

// Series are the same over time, the oldest step first; the last one is under way. Of times it is
// the median, 0 where nothing was measured.
type Series struct {
	StepSeconds float64   `json:"step_seconds"`
	Requests    []uint64  `json:"requests"`
	Errors      []uint64  `json:"errors"`
	Input       []uint64  `json:"input"`
	Output      []uint64  `json:"output"`
	USD         []float64 `json:"usd"`
	Latency     []float64 `json:"latency"`
	FirstToken  []float64 `json:"first_token"`
}

// Times are in milliseconds.
type Times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Target is a target with what was asked of it in the last minutes.
type Target struct {
	Gateway    string  `json:"gateway"`
	Upstream   string  `json:"upstream"`
	Target     string  `json:"target"`
	Provider   string  `json:"provider"`
	State      string  `json:"state"` // in one word
	Priority   uint32  `json:"priority"`
	Weight     uint32  `json:"weight"`
	Active     uint32  `json:"active"`
	Share      float64 `json:"share"` // of its upstream's attempts, 0 to 1
	Attempts   uint64  `json:"attempts"`
	Errors     uint64  `json:"errors"`
	Latency    *Times  `json:"latency,omitempty"`
	FirstToken *Times  `json:"first_token,omitempty"`
	Input      uint64  `json:"input"`
	Output     uint64  `json:"output"`
	USD        float64 `json:"usd"`
}

// PolicyCount is how often a policy has said what.
type PolicyCount struct {
	Gateway  string `json:"gateway"`
	Policy   string `json:"policy"`
	Kind     string `json:"kind"`
	Phase    string `json:"phase"`
	Pass     uint64 `json:"pass"`
	Flag     uint64 `json:"flag"`
	Redact   uint64 `json:"redact"`
	Block    uint64 `json:"block"`
	Error    uint64 `json:"error"`
	Observed uint64 `json:"observed"` // of the verdicts but pass: nothing came of them
}

func (p *PolicyCount) count(v *millracev1.PolicyVerdict) {
	switch v.Verdict {
	case "pass":
		p.Pass++
		return
	case "flag":
		p.Flag++
	case "redact":
		p.Redact++
	case "block":
		p.Block++
	case "error":
		p.Error++
	}
	if v.Observed {
		p.Observed++
	}
}

func (p *PolicyCount) add(o *PolicyCount) {
	p.Pass, p.Flag, p.Redact = p.Pass+o.Pass, p.Flag+o.Flag, p.Redact+o.Redact
	p.Block, p.Error, p.Observed = p.Block+o.Block, p.Error+o.Error, p.Observed+o.Observed
}

// Version is a version of the configuration that can be gone back to.
type Version struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	Cause    string    `json:"cause"`
	State    string    `json:"state"` // of the present one; rejected of one that Envoy has refused; else ""
}

// Request is one request as it is shown.
type Request struct {
	Number     uint64    `json:"number"` // from 1 on, since the process began
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Gateway    string    `json:"gateway"`
	Key        string    `json:"key,omitempty"`
	Model      string    `json:"model"`
	Target     string    `json:"target"`
	Attempts   []Attempt `json:"attempts"`
	Status     uint32    `json:"status"`
	Stream     bool      `json:"stream"`
	DurationMs float64   `json:"duration_ms"`
	FirstMs    float64   `json:"first_token_ms,omitempty"` // from the request's begin
	Input      uint32    `json:"input"`
	Output     uint32    `json:"output"`
	USD        float64   `json:"usd"`
	Verdicts   []string  `json:"verdicts,omitempty"` // of policies, but pass: "block by NAME"
}

// Attempt is one try of a request.
type Attempt struct {
	Target string `json:"target"`
	Status uint32 `json:"status"`
	Reason string `json:"reason,omitempty"` // as retry.on has it
}

// NewRequest is the request of an event.
func NewRequest(number uint64, e *millracev1.Event) Request {
	r := Request{
		Number: number, ID: printable(e.Id), Time: e.Time.AsTime(), Gateway: e.Gateway, Key: e.Key, Model: printable(e.Model), Target: e.Target,
		Status: e.Status, Stream: e.Stream, DurationMs: round(e.DurationMs), Input: e.GetUsage().GetInput(), Output: e.GetUsage().GetOutput(), USD: usd(e.Cost),
	}
	for _, a := range e.Attempts {
		r.Attempts = append(r.Attempts, Attempt{cmp.Or(a.Target, "no connection"), a.Status, a.Condition})
	}
	if last := metrics.Decisive(e); last != nil {
		if first := metrics.FirstTokenMs(e, last); first > 0 {
			r.FirstMs = round(last.BeganMs + first)
		}
	}
	for _, v := range e.Policies {
		if v.Verdict != "pass" {
			said := v.Verdict
			if v.Observed {
				said = "would " + said
			}
			r.Verdicts = append(r.Verdicts, said+" by "+v.Policy)
		}
	}
	return r
}

// longest bounds what clients choose, in characters.
const longest = 80

// printable is a client's text, such that a terminal takes it for nothing else.
func printable(s string) string {
	runes := []rune(s[:min(len(s), 4*longest)])
	if len(runes) > longest {
		runes = append(runes[:longest-1], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = '\ufffd'
		}
	}
	return string(runes)
}

// since returns the requests after one, the oldest first; no more than are kept.
func (r *Recent) since(number uint64) (list []Request, last uint64) {
	r.mu.Lock()
	last = r.recorded
	first := max(number, last-min(last, lastRequests))
	var events []*millracev1.Event
	for i := first; i < last; i++ {
		events = append(events, r.requests[i%lastRequests])
	}
	r.mu.Unlock()
	list = []Request{}
	for i, e := range events {
		list = append(list, NewRequest(first+uint64(i)+1, e))
	}
	return list, last
}

// fill puts into a frame what is known of the last minutes. The frame has its targets.
func (r *Recent) fill(f *Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	f.Time = now
	r.fillSeries(f, now)
	r.fillNames(f, now)
}

func (r *Recent) fillSeries(f *Frame, now time.Time) {
	var total, first histogram
	end := now.UnixNano() / int64(stepLength)
	f.Totals.Seconds = ((stepCount-1)*stepLength + now.Sub(time.Unix(0, end*int64(stepLength)))).Seconds()
	f.Series.StepSeconds = stepLength.Seconds()
	for number := end - stepCount + 1; number <= end; number++ {
		s := r.steps[number%stepCount]
		if s.number != number {
			s = step{}
		}
		f.Totals.Requests, f.Totals.Errors = f.Totals.Requests+s.requests, f.Totals.Errors+s.errors
		f.Totals.Input, f.Totals.Output, f.Totals.USD = f.Totals.Input+s.input, f.Totals.Output+s.output, f.Totals.USD+s.usd
		total.merge(&s.total)
		first.merge(&s.firstToken)
		out := &f.Series
		out.Requests, out.Errors = append(out.Requests, s.requests), append(out.Errors, s.errors)
		out.Input, out.Output, out.USD = append(out.Input, s.input), append(out.Output, s.output), append(out.USD, s.usd)
		out.Latency, out.FirstToken = append(out.Latency, s.total.quantile(.5)), append(out.FirstToken, s.firstToken.quantile(.5))
	}
	f.Totals.Latency, f.Totals.FirstToken = total.times(), first.times()
}

func (r *Recent) fillNames(f *Frame, now time.Time) {
	targets, policies := map[metrics.Target]*targetCount{}, map[policyKey]*PolicyCount{}
	var sums minute
	sums.targets, sums.policies = targets, policies
	for i := range r.minutes {
		if m := &r.minutes[i]; m.number > now.Unix()/60-minuteCount {
			for of, t := range m.targets {
				sums.target(of).add(t)
			}
			for of, p := range m.policies {
				sums.policy(of).add(p)
			}
		}
	}
	pools := map[metrics.Target]uint64{}
	for of, t := range targets {
		of.Target = ""
		pools[of] += t.attempts
	}
	for i := range f.Targets {
		t := &f.Targets[i]
		of := metrics.Target{Gateway: t.Gateway, Upstream: t.Upstream, Target: t.Target}
		c := targets[of]
		if c == nil {
			continue
		}
		t.Attempts, t.Errors, t.Input, t.Output, t.USD = c.attempts, c.errors, c.input, c.output, c.usd
		t.Latency, t.FirstToken = c.total.times(), c.firstToken.times()
		of.Target = ""
		t.Share = float64(c.attempts) / float64(pools[of])
	}
	f.Policies = []PolicyCount{}
	for _, p := range policies {
		f.Policies = append(f.Policies, *p)
	}
	slices.SortFunc(f.Policies, func(a, b PolicyCount) int {
		return cmp.Or(cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Kind, b.Kind))
	})
}

// maxTargets bounds the targets of a frame.
const maxTargets = 200

// bound leaves out what is least of interest where there is too much.
func (f *Frame) bound() {
	if f.Hidden = len(f.Targets) - maxTargets; f.Hidden <= 0 {
		f.Hidden = 0
		return
	}
	slices.SortStableFunc(f.Targets, func(a, b Target) int {
		aUp, bUp := a.State == "up", b.State == "up"
		switch {
		case aUp != bUp && bUp:
			return -1
		case aUp != bUp:
			return 1
		}
		return cmp.Compare(b.Attempts, a.Attempts)
	})
	f.Targets = f.Targets[:maxTargets]
}

// statusOf words what control knows.
func statusOf(release string, s control.Status) Status {
	shown := Status{
		Release: release, State: string(s.State), Reason: s.Reason, Version: s.Version, Revision: s.Revision, Ready: s.Ready, Warnings: len(s.Doubtful),
		Troubles: []string{},
	}
	trouble := func(what, reason string) {
		if reason != "" {
			shown.Troubles = append(shown.Troubles, what+": "+reason)
		}
	}
	trouble("configuration file", s.File.Error)
	trouble("store", s.Store)
	trouble("events", s.Events)
	if s.Envoy.Connected {
		shown.Envoy = cmp.Or(s.Envoy.Version, "connected")
	}
	return shown
}

// targetsOf are the targets of a digest, with how they are now.
func targetsOf(d *metrics.Digest) (list []Target, active uint32) {
	list = []Target{}
	for _, t := range d.Targets {
		list = append(list, Target{
			Gateway: t.Gateway, Upstream: t.Upstream, Target: t.Target, Provider: t.Provider, State: t.State.Word(),
			Priority: t.Priority, Weight: t.State.Weight, Active: t.State.ActiveRequests,
		})
		active += t.State.ActiveRequests
	}
	return list, active
}
