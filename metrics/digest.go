package metrics

import (
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Digest is what has become of requests, and how the targets are, on one page. All counts are since
// the process began.
type Digest struct {
	// Envoy is false where Envoy did not say how the targets are: then nobody knows their health.
	Envoy     bool            `json:"envoy"`
	Gateways  []GatewayCount  `json:"gateways"`
	Upstreams []UpstreamCount `json:"upstreams"`
	Targets   []TargetCount   `json:"targets"`
}

// GatewayCount counts requests.
type GatewayCount struct {
	Gateway string `json:"gateway"`
	Counts
	Retries       float64            `json:"retries"`
	Tokens        map[string]float64 `json:"tokens"`
	FirstByte     Times              `json:"first_byte"`
	RequestBytes  float64            `json:"request_bytes"`
	ResponseBytes float64            `json:"response_bytes"`
}

// UpstreamCount counts the attempts at all targets of an upstream.
type UpstreamCount struct {
	Gateway   string `json:"gateway"`
	Upstream  string `json:"upstream"`
	Algorithm string `json:"algorithm"`
	Counts
	FirstToken     Times              `json:"first_token"`
	Reasons        map[string]float64 `json:"reasons"`
	Targets        int                `json:"targets"`
	Healthy        int                `json:"healthy"`
	ActiveRequests uint32             `json:"active_requests"`
	Connections    uint32             `json:"connections"`
}

// TargetCount counts the attempts at a target.
type TargetCount struct {
	Gateway  string `json:"gateway"`
	Upstream string `json:"upstream"`
	Target   string `json:"target"`
	Provider string `json:"provider"`
	Counts
	FirstToken Times              `json:"first_token"`
	Reasons    map[string]float64 `json:"reasons"` // of failures, as retry.on has them
	State      State              `json:"state"`
	Priority   uint32             `json:"priority"`
}

// State is how a target is now. Without Envoy it is the zero value.
type State struct {
	Known          bool   `json:"known"`
	Healthy        bool   `json:"healthy"`
	Drained        bool   `json:"drained"` // its weight is 0
	Ejected        bool   `json:"ejected"`
	Cooling        bool   `json:"cooling"`
	Trouble        string `json:"trouble,omitempty"`
	Weight         uint32 `json:"weight"`
	ActiveRequests uint32 `json:"active_requests"`
	Connections    uint32 `json:"connections"`
}

// Word says the state in one word, the worst first.
func (s State) Word() string {
	switch {
	case !s.Known:
		return "unknown"
	case s.Drained:
		return "drained"
	case s.Ejected:
		return "ejected"
	case !s.Healthy:
		return "down"
	case s.Trouble != "":
		return s.Trouble
	case s.Cooling:
		return "cooling"
	}
	return "up"
}

// Counts are of requests or of attempts.
type Counts struct {
	Total   float64            `json:"total"`
	Errors  float64            `json:"errors"`   // of a request: 5xx. Of an attempt: what counts as its target's failure
	ByClass map[string]float64 `json:"by_class"` // of the status; none: the client left, or no answer came
	Latency Times              `json:"latency"`
}

// Times are in seconds; a quantile is as exact as the buckets are fine.
type Times struct {
	Count float64 `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// Digest makes it of what r has counted. states are what is known of the targets, by their names
// (config.Target.Name); nil: Envoy has not said.
func (r *Requests) Digest(states map[string]State) (*Digest, error) {
	families, err := gather(r)
	if err != nil {
		return nil, err
	}
	d := &Digest{Envoy: states != nil, Gateways: []GatewayCount{}, Upstreams: []UpstreamCount{}, Targets: []TargetCount{}}
	c := r.config()
	if c == nil {
		return d, nil
	}
	for _, g := range c.Gateways {
		d.Gateways = append(d.Gateways, families.gateway(g.Name))
		for _, u := range g.Upstreams {
			if u.For != nil { // the same targets in another order
				continue
			}
			id := strings.TrimPrefix(u.Name, g.Name+"/")
			in := labels{labelGateway: g.Name, labelUpstream: id}
			upstream := UpstreamCount{
				Gateway: g.Name, Upstream: id, Algorithm: string(u.Algorithm), Targets: len(u.Targets), Counts: families.attempts(in),
				FirstToken: families.times("millrace_attempt_first_token_seconds", in), Reasons: families.reasons(in),
			}
			for _, t := range u.Targets {
				of := labels{labelGateway: g.Name, labelUpstream: id, labelTarget: t.ID}
				state := states[t.Name]
				d.Targets = append(d.Targets, TargetCount{
					Gateway: g.Name, Upstream: id, Target: t.ID, Provider: t.Provider, Counts: families.attempts(of),
					FirstToken: families.times("millrace_attempt_first_token_seconds", of), Reasons: families.reasons(of),
					State: state, Priority: t.Priority,
				})
				upstream.ActiveRequests += state.ActiveRequests
				upstream.Connections += state.Connections
				if state.Healthy {
					upstream.Healthy++
				}
			}
			d.Upstreams = append(d.Upstreams, upstream)
		}
	}
	return d, nil
}

// families are what was counted, by name.
type families map[string]*dto.MetricFamily

func gather(r *Requests) (families, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(r); err != nil {
		return nil, err
	}
	list, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	all := families{}
	for _, f := range list {
		all[f.GetName()] = f
	}
	return all, nil
}

// labels are some of those that a row must have.
type labels map[string]string

func (want labels) of(m *dto.Metric) bool {
	found := 0
	for _, l := range m.Label {
		if value, ok := want[l.GetName()]; ok {
			if value != l.GetValue() {
				return false
			}
			found++
		}
	}
	return found == len(want)
}

func labelOf(m *dto.Metric, name string) string {
	i := slices.IndexFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
	if i < 0 {
		return ""
	}
	return m.Label[i].GetValue()
}

// by adds up the rows with these labels, by the value of another one.
func (fs families) by(name string, want labels, by string) map[string]float64 {
	sums := map[string]float64{}
	for _, m := range fs[name].GetMetric() {
		if want.of(m) {
			sums[labelOf(m, by)] += m.GetCounter().GetValue()
		}
	}
	return sums
}

func (fs families) sum(name string, want labels) float64 { return total(fs.by(name, want, "")) }

func total(sums map[string]float64) (all float64) {
	for _, v := range sums {
		all += v
	}
	return all
}

func (fs families) gateway(name string) GatewayCount {
	in := labels{labelGateway: name}
	classes := fs.by("millrace_requests_total", in, "class")
	return GatewayCount{
		Gateway: name,
		Counts: Counts{
			Total: total(classes), Errors: classes["5xx"], ByClass: classes,
			Latency: fs.times("millrace_request_duration_seconds", in),
		},
		Retries: fs.sum("millrace_retries_total", in), Tokens: fs.by("millrace_tokens_total", in, "type"),
		FirstByte:    fs.times("millrace_first_byte_seconds", in),
		RequestBytes: fs.sum("millrace_request_bytes_total", in), ResponseBytes: fs.sum("millrace_response_bytes_total", in),
	}
}

func (fs families) attempts(of labels) Counts {
	classes := fs.by("millrace_attempts_total", of, "class")
	return Counts{
		Total: total(classes), Errors: total(fs.reasons(of)), ByClass: classes,
		Latency: fs.times("millrace_attempt_duration_seconds", of),
	}
}

// reasons are those of failed attempts.
func (fs families) reasons(of labels) map[string]float64 {
	reasons := fs.by("millrace_attempts_total", of, "reason")
	delete(reasons, "")
	return reasons
}

// times adds up histograms, which all have the same buckets.
func (fs families) times(name string, want labels) Times {
	var sum, count float64
	var bounds, cumulative []float64
	for _, m := range fs[name].GetMetric() {
		if !want.of(m) {
			continue
		}
		h := m.GetHistogram()
		sum, count = sum+h.GetSampleSum(), count+float64(h.GetSampleCount())
		if bounds == nil {
			bounds, cumulative = make([]float64, len(h.Bucket)), make([]float64, len(h.Bucket))
		}
		for i, b := range h.Bucket {
			bounds[i] = b.GetUpperBound()
			cumulative[i] += float64(b.GetCumulativeCount())
		}
	}
	if count == 0 {
		return Times{}
	}
	return Times{Count: count, Mean: sum / count, P50: quantile(.5, count, bounds, cumulative), P99: quantile(.99, count, bounds, cumulative)}
}

// quantile takes what is in a bucket to be spread evenly, as histogram_quantile of Prometheus does.
// Beyond the last bucket it is that one's bound.
func quantile(q, count float64, bounds, cumulative []float64) float64 {
	rank := q * count
	i := slices.IndexFunc(cumulative, func(n float64) bool { return n >= rank })
	if i < 0 {
		return bounds[len(bounds)-1]
	}
	from, before := 0.0, 0.0
	if i > 0 {
		from, before = bounds[i-1], cumulative[i-1]
	}
	value := from + (bounds[i]-from)*(rank-before)/(cumulative[i]-before)
	if math.IsNaN(value) {
		return from
	}
	return value
}
