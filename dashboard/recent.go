package dashboard

import (
	"math"
	"strconv"
	"sync"
	"time"

	"millrace/metrics"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// stepLength and stepCount are those of what is shown over time: five minutes.
	stepLength = 5 * time.Second
	stepCount  = 60
	// minuteCount is how many minutes targets and policies are counted for, the present one
	// included.
	minuteCount = 5
	// lastRequests bounds the requests that are shown one by one.
	lastRequests = 50
)

// Recent is what the requests of the last minutes came to. Its methods may be called at the same
// time. What it holds is bounded: by time, by the number of requests that are shown, and by the
// names that the configuration has.
type Recent struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	steps    [stepCount]step
	minutes  [minuteCount]minute
	requests [lastRequests]*millracev1.Event
	recorded uint64 // how many requests there were; the last one is at recorded-1, modulo their bound
}

// NewRecent returns one that knows of no request.
func NewRecent() *Recent { return &Recent{now: time.Now} }

// step is one piece of the time line.
type step struct {
	number            int64 // of the step, since 1970
	requests, errors  uint64
	input, output     uint64 // tokens
	usd               float64
	total, firstToken histogram
}

// minute has what is counted by names.
type minute struct {
	number   int64 // of the minute, since 1970
	targets  map[metrics.Target]*targetCount
	policies map[policyKey]*PolicyCount
}

type targetCount struct {
	attempts, errors  uint64
	input, output     uint64 // tokens
	usd               float64
	total, firstToken histogram
}

type policyKey struct{ gateway, policy, kind, phase string }

// Record counts a request by its event, which must not change any more.
func (r *Recent) Record(e *millracev1.Event) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[r.recorded%lastRequests] = e
	r.recorded++
	r.step(now).count(e)
	m := r.minute(now)
	for _, a := range e.Attempts {
		if a.Target != "" { // else there was no connection, and nobody says to which target
			m.target(metrics.Target{Gateway: e.Gateway, Upstream: a.Upstream, Target: a.Target}).count(e, a)
		}
	}
	for _, v := range e.Policies {
		m.policy(policyKey{e.Gateway, v.Policy, v.Kind, v.Phase}).count(v)
	}
}

func (r *Recent) step(now time.Time) *step {
	number := now.UnixNano() / int64(stepLength)
	s := &r.steps[number%stepCount]
	if s.number != number {
		*s = step{number: number}
	}
	return s
}

func (r *Recent) minute(now time.Time) *minute {
	number := now.Unix() / 60
	m := &r.minutes[number%minuteCount]
	if m.number != number {
		*m = minute{number: number, targets: map[metrics.Target]*targetCount{}, policies: map[policyKey]*PolicyCount{}}
	}
	return m
}

func (m *minute) target(of metrics.Target) *targetCount {
	t := m.targets[of]
	if t == nil {
		t = &targetCount{}
		m.targets[of] = t
	}
	return t
}

func (m *minute) policy(of policyKey) *PolicyCount {
	p := m.policies[of]
	if p == nil {
		p = &PolicyCount{Gateway: of.gateway, Policy: of.policy, Kind: of.kind, Phase: of.phase}
		m.policies[of] = p
	}
	return p
}

func (s *step) count(e *millracev1.Event) {
	s.requests++
	if e.Status >= 500 {
		s.errors++
	}
	s.input += uint64(e.GetUsage().GetInput())
	s.output += uint64(e.GetUsage().GetOutput())
	s.usd += usd(e.Cost)
	s.total.add(e.DurationMs)
	if last := metrics.Decisive(e); last != nil {
		if first := metrics.FirstTokenMs(e, last); first > 0 {
			s.firstToken.add(last.BeganMs + first)
		}
	}
}

func (t *targetCount) count(e *millracev1.Event, a *millracev1.Attempt) {
	t.attempts++
	if a.Condition != "" {
		t.errors++
	}
	t.input += uint64(a.GetUsage().GetInput())
	t.output += uint64(a.GetUsage().GetOutput())
	t.usd += usd(a.Cost)
	t.total.add(a.DurationMs)
	if a == metrics.Decisive(e) {
		if first := metrics.FirstTokenMs(e, a); first > 0 {
			t.firstToken.add(min(first, a.DurationMs)) // the first byte is timed elsewhere, where it stands in
		}
	}
}

func (t *targetCount) add(o *targetCount) {
	t.attempts, t.errors = t.attempts+o.attempts, t.errors+o.errors
	t.input, t.output, t.usd = t.input+o.input, t.output+o.output, t.usd+o.usd
	t.total.merge(&o.total)
	t.firstToken.merge(&o.firstToken)
}

// usd is 0 where nothing has a price.
func usd(c *millracev1.Cost) float64 {
	if c.GetUsd() == "" { // an error of ParseFloat would be allocated
		return 0
	}
	v, err := strconv.ParseFloat(c.Usd, 64)
	if err != nil {
		return 0
	}
	return v
}

// histogram counts times. A bucket's bound is growth times that of the one before, which is how
// exact a quantile is; the last one begins after 19 minutes.
type histogram [buckets]uint32

const (
	buckets = 64
	growth  = 1.25
)

func (h *histogram) add(ms float64) {
	i := 0
	if ms > 1 {
		i = min(int(math.Ceil(math.Log(ms)/math.Log(growth))), buckets-1)
	}
	h[i]++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// times are nil where nothing was measured.
func (h *histogram) times() *Times {
	if h.count() == 0 {
		return nil
	}
	return &Times{P50: h.quantile(.5), P99: h.quantile(.99)}
}

func (h *histogram) count() (n uint64) {
	for _, in := range h {
		n += uint64(in)
	}
	return n
}

// quantile is in milliseconds; what is in a bucket is taken to be spread evenly. It is 0 where
// nothing was measured.
func (h *histogram) quantile(q float64) float64 {
	rank, seen := q*float64(h.count()), 0.0
	for i, n := range h {
		if n > 0 && seen+float64(n) >= rank {
			return round(math.Pow(growth, float64(i)-1+(rank-seen)/float64(n)))
		}
		seen += float64(n)
	}
	return 0
}

// round keeps what people read of a number.
func round(ms float64) float64 { return math.Round(ms*10) / 10 }
