package policy

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what policies say, in all configurations since the process began. nil counts
// nothing. It is a prometheus.Collector.
type Metrics struct {
	verdicts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	held     prometheus.Histogram
}

// NewMetrics makes metrics that have counted nothing. Their rows are policies, kinds, phases and
// verdicts: clients choose none of these.
func NewMetrics() *Metrics {
	return &Metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millrace", Name: "policy_verdicts_total",
			Help: "What policies have said of requests and answers; observed: nothing came of it.",
		}, []string{"policy", "kind", "phase", "verdict", "observed"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "millrace", Name: "policy_duration_seconds",
			Help:    "How long all policies of a request took, by phase.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 2.5, 10},
		}, []string{"phase"}),
		held: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millrace", Name: "policy_stream_held_seconds",
			Help:    "How long events of streams were kept back at most, by answer.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	m.verdicts.Describe(out)
	m.seconds.Describe(out)
	m.held.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.verdicts.Collect(out)
	m.seconds.Collect(out)
	m.held.Collect(out)
}

// add counts a verdict.
func (m *Metrics) add(p Phase, t *tally) {
	if m == nil {
		return
	}
	observed := "false"
	if t.Observe {
		observed = "true"
	}
	m.verdicts.WithLabelValues(t.Name, t.Kind, string(p), string(t.verdict), observed).Inc()
}

// took counts how long a phase has taken.
func (m *Metrics) took(p Phase, seconds float64) {
	if m != nil {
		m.seconds.WithLabelValues(string(p)).Observe(seconds)
	}
}

// kept counts how long an answer's events were kept back.
func (m *Metrics) kept(seconds float64) {
	if m != nil {
		m.held.Observe(seconds)
	}
}
