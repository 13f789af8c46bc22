package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/admin"
	"millrace/config"
	"millrace/control"
	"millrace/metrics"
)

// targetRows are metrics with a row for each target: what Envoy and the sidecar know of it now.
type targetRows struct {
	health   func(context.Context) ([]admin.TargetHealth, error)
	troubles func() map[string]string // by identity
	config   func() *config.Config
}

// targetRow is one of them.
type targetRow struct {
	desc  *prometheus.Desc
	value func(admin.TargetHealth) float64
}

var (
	troubleDesc = targetDesc("trouble", "1 for each target that has refused its key, or the like, since its last good answer.", "trouble")
	rowsOfOne   = []targetRow{
		{targetDesc("healthy", "1 for each target that is asked: it passes its checks, and is neither drained nor taken out."), func(t admin.TargetHealth) float64 { return number(t.Healthy) }},
		{targetDesc("ejected", "1 for each target that is taken out because it failed requests."), func(t admin.TargetHealth) float64 { return number(!t.EjectedUntil.IsZero()) }},
		{targetDesc("cooling", "1 for each target that is left alone for as long as it has said."), func(t admin.TargetHealth) float64 { return number(!t.CoolingUntil.IsZero()) }},
		{targetDesc("active_requests", "Attempts at the target that are under way."), func(t admin.TargetHealth) float64 { return float64(t.ActiveRequests) }},
		{targetDesc("connections", "Open connections to the target."), func(t admin.TargetHealth) float64 { return float64(t.Connections) }},
		{targetDesc("weight", "The target's present weight among those of its priority."), func(t admin.TargetHealth) float64 { return float64(t.Weight) }},
	}
)

func targetDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("millrace_target_"+name, help, append([]string{"gateway", "upstream", "target"}, more...), nil)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (t targetRows) Describe(out chan<- *prometheus.Desc) {
	out <- troubleDesc
	for _, row := range rowsOfOne {
		out <- row.desc
	}
}

// Collect implements prometheus.Collector. Without Envoy there are troubles alone. A target that
// was changed may be there twice for a moment, under one name.
func (t targetRows) Collect(out chan<- prometheus.Metric) {
	names := metrics.TargetsOf(t.config())
	troubles := map[string]string{}
	for identity, trouble := range t.troubles() {
		troubles[config.NameOf(identity)] = trouble
	}
	for name, trouble := range troubles {
		if of, ok := names[name]; ok {
			out <- prometheus.MustNewConstMetric(troubleDesc, prometheus.GaugeValue, 1, of.Gateway, of.Upstream, of.Target, trouble)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), envoyPatience)
	defer cancel()
	targets, err := t.health(ctx)
	if err != nil {
		return
	}
	for _, h := range targets {
		of, ok := names[h.Name]
		delete(names, h.Name)
		if !ok {
			continue
		}
		for _, row := range rowsOfOne {
			out <- prometheus.MustNewConstMetric(row.desc, prometheus.GaugeValue, row.value(h), of.Gateway, of.Upstream, of.Target)
		}
	}
}

// envoyPatience is how long metrics wait for what Envoy knows.
const envoyPatience = 2 * time.Second

// metrics serves what the sidecar knows and, in the same scrape, what Envoy counts; ?envoy=0 leaves
// that out.
func (s *sidecar) metrics(own prometheus.Gatherer, envoys prometheus.Gatherer) http.Handler {
	alone := promhttp.HandlerFor(own, promhttp.HandlerOpts{})
	both := promhttp.HandlerFor(prometheus.Gatherers{own, envoys}, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("envoy") == "0" {
			alone.ServeHTTP(w, r)
			return
		}
		both.ServeHTTP(w, r)
	})
}

// registry has all that the sidecar itself knows. What is no count of requests is read when it is
// asked for.
func (s *sidecar) registry(api *admin.Server, health admin.Clusters) *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "millrace", Name: name, Help: help}, value))
	}
	status := func(holds func(control.Status) bool) func() float64 {
		return func() float64 {
			return number(holds(s.plane.Status()))
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
	gauge("events_waiting", "Events in memory that are not written yet, or not on disk yet for the sinks that wait there.", func() float64 { return float64(s.recorder.Waiting()) })
	gauge("audit_ok", "0 while an audit log cannot be written; with on_error: block requests are refused then.", s.audit.ok)
	counter := func(name, help string, value func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "millrace", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	counter("events_dropped_total", "Events that are lost: what waited was too much, could not be written until the end, or could not be encoded.", s.recorder.Dropped)
	counter("spans_exported_total", "Spans that the collector has taken (telemetry.otlp).", s.traces.counts.Exported)
	counter("spans_lost_total", "Spans that the collector has not taken: too many waited for it, or it refused them or was away.", s.traces.counts.Lost)
	counter("admin_wrong_tokens_total", "Wrong tokens that were sent to the REST API or to /metrics.", api.WrongTokens)
	r.MustRegister(targetRows{health.Clusters, s.data.Troubles, s.present}, eventSinks{s.events}, s.requests, s.policies, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
