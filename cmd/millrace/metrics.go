package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/admin"
	"millrace/config"
	"millrace/control"
	"millrace/extproc"
)

// troubles is a metric with a row for each target that an operator has to see to.
type troubles struct{ data *extproc.Server }

var troubleDesc = prometheus.NewDesc("millrace_target_trouble",
	"1 for each target that has refused its key, or the like, since its last good answer.", []string{"target", "trouble"}, nil)

// Describe implements prometheus.Collector.
func (t troubles) Describe(out chan<- *prometheus.Desc) { out <- troubleDesc }

// Collect implements prometheus.Collector. A target that was changed may be there twice for a
// moment, under one name.
func (t troubles) Collect(out chan<- prometheus.Metric) {
	named := map[string]string{}
	for identity, trouble := range t.data.Troubles() {
		named[config.NameOf(identity)] = trouble
	}
	for name, trouble := range named {
		out <- prometheus.MustNewConstMetric(troubleDesc, prometheus.GaugeValue, 1, name, trouble)
	}
}

// metrics serves what the sidecar itself knows; Envoy's own are at its admin socket
// (/stats/prometheus). Everything is read when it is asked for: nothing is counted twice, and
// requests pay nothing.
func (s *sidecar) metrics(api *admin.Server) http.Handler {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "millrace", Name: name, Help: help}, value))
	}
	status := func(holds func(control.Status) bool) func() float64 {
		return func() float64 {
			if holds(s.plane.Status()) {
				return 1
			}
			return 0
		}
	}
	gauge("config_applied", "1 while Envoy has acknowledged every resource of the present configuration.",
		status(func(st control.Status) bool { return st.State == control.Applied }))
	gauge("config_file_ok", "0 while the configuration file's content cannot be used; the one before it is then.",
		status(func(st control.Status) bool { return st.File.Error == "" }))
	gauge("store_ok", "0 while the store cannot be read, or the last write to it or to the data directory has failed.",
		status(func(st control.Status) bool { return st.Store == "" }))
	gauge("envoy_connected", "1 while Envoy takes its configuration from this sidecar.",
		status(func(st control.Status) bool { return st.Envoy.Connected }))
	gauge("ready", "1 while /health/ready says so.", status(func(st control.Status) bool { return st.Ready }))
	gauge("events_ok", "0 while events cannot be written; they wait.", status(func(st control.Status) bool { return st.Events == "" }))
	gauge("events_waiting", "Events that are not written yet.", func() float64 { return float64(s.recorder.Waiting()) })
	gauge("audit_ok", "0 while an audit log cannot be written; with on_error: block requests are refused then.", s.audit.ok)
	counter := func(name, help string, value func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "millrace", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	counter("events_dropped_total", "Events that are lost: what waited was too much, could not be written until the end, or could not be encoded.", s.recorder.Dropped)
	counter("admin_wrong_tokens_total", "Wrong tokens that were sent to the REST API or to /metrics.", api.WrongTokens)
	r.MustRegister(troubles{s.data}, s.policies, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}
