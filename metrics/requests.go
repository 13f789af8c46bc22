// Package metrics counts what requests come to, from their events, for Prometheus and for the
// digest that `millrace stats` prints. Nothing is counted while a request is under way.
//
// What a row is labelled with is what the configuration names: gateways, services, models, targets.
// Anything else, which is what a client may choose, is "other", and what a configuration does not
// name any more loses its rows. So the number of rows is bounded by the configuration.
package metrics

import (
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// Requests counts requests and their attempts. It is a prometheus.Collector. Its methods may be
// called at the same time.
type Requests struct {
	config func() *config.Config

	mu    sync.RWMutex // held for writing while rows are removed
	known *known       // of the configuration that was seen last; nil: none was

	vectors // all of the vectors below

	requests, retries, attempts, tokens, cost, received, sent *prometheus.CounterVec
	duration, firstByte, sidecar                              *prometheus.HistogramVec
	attemptDuration, attemptFirst                             *prometheus.HistogramVec
	quota                                                     *prometheus.GaugeVec
	operation, usage, firstToken, perToken                    *prometheus.HistogramVec
}

// vector is what all kinds of them have in common.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

type vectors []vector

// Labels, in the order of a vector's rows. Those of a target are the same in what Envoy counts
// (envoy.go).
const (
	labelGateway  = "gateway"
	labelService  = "service"
	labelUpstream = "upstream"
	labelTarget   = "target"
	labelModel    = "model"

	// Of OpenTelemetry, as Prometheus writes them
	// (https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-
	// metrics.md).
	labelOperation    = "gen_ai_operation_name"
	labelProvider     = "gen_ai_provider_name"
	labelRequestModel = "gen_ai_request_model"
	labelTokenType    = "gen_ai_token_type"
	labelErrorType    = "error_type"
)

// Buckets, in seconds. The second to the fifth are those that OpenTelemetry wants.
var (
	ofRequests  = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600}
	ofOperation = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	ofTokens    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	ofFirst     = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	perOutput   = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
	ofSidecar   = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5}
)

// NewRequests makes metrics that have counted nothing. now is the configuration at any time; nil
// while there is none.
func NewRequests(now func() *config.Config) *Requests {
	r := &Requests{config: now}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.vectors = append(r.vectors, v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		r.vectors = append(r.vectors, v)
		return v
	}
	r.requests = counter("millrace_requests_total", "Requests that have ended, by the class of the status that the client got; none: it left before there was one.",
		labelGateway, labelService, "schema", labelModel, "class")
	r.retries = counter("millrace_retries_total", "Attempts after the first of a request, by what retry.on calls the failure of the one before.",
		labelGateway, labelService, "reason")
	r.attempts = counter("millrace_attempts_total", "Attempts at targets, by the class of their status and by what retry.on calls the failure.",
		labelGateway, labelUpstream, labelTarget, "provider", "class", "reason")
	r.tokens = counter("millrace_tokens_total", "Tokens of the answers that clients got. cache_read and cache_write are parts of input, reasoning is one of output.",
		labelGateway, labelService, labelModel, "provider", "type")
	r.cost = counter("millrace_cost_usd_total", "What answers and failed attempts have cost, in US dollars, as far as their models have a price.",
		labelGateway, labelService, labelModel)
	r.received = counter("millrace_request_bytes_total", "Bytes of the bodies of requests.", labelGateway)
	r.sent = counter("millrace_response_bytes_total", "Bytes of the bodies of answers.", labelGateway)
	r.duration = histogram("millrace_request_duration_seconds", "From a request's first byte to the last byte of its answer.", ofRequests,
		labelGateway, labelService, "stream")
	r.firstByte = histogram("millrace_first_byte_seconds", "From a request's first byte to the first byte of its answer.", ofRequests,
		labelGateway, labelService, "stream")
	r.attemptDuration = histogram("millrace_attempt_duration_seconds", "From the beginning of an attempt to its end.", ofRequests,
		labelGateway, labelUpstream, labelTarget)
	r.attemptFirst = histogram("millrace_attempt_first_token_seconds", "From the beginning of an attempt that has streamed an answer to its first token.", ofRequests,
		labelGateway, labelUpstream, labelTarget)
	r.sidecar = histogram("millrace_sidecar_seconds", "What the sidecar itself took of a request: read and decide, and for each attempt encode the request and decode the answer. Policies that read requests are not in it.",
		ofSidecar, "phase")
	r.quota = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_target_quota_remaining", Help: "What the target has said last is left of its limits, of requests and of tokens."},
		[]string{labelGateway, labelUpstream, labelTarget, "of"})
	r.vectors = append(r.vectors, r.quota)
	genAI := []string{labelOperation, labelProvider, labelRequestModel}
	r.operation = histogram("gen_ai_client_operation_duration_seconds", "How long operations took, all attempts included.", ofOperation, append(genAI, labelErrorType)...)
	r.usage = histogram("gen_ai_client_token_usage", "Input and output tokens of operations.", ofTokens, append(genAI, labelTokenType)...)
	r.firstToken = histogram("gen_ai_server_time_to_first_token_seconds", "From the beginning of an attempt that has streamed an answer to its first token.", ofFirst, genAI...)
	r.perToken = histogram("gen_ai_server_time_per_output_token_seconds", "Time per output token after the first, of answers that were streamed.", perOutput, genAI...)
	return r
}

// Describe implements prometheus.Collector.
func (r *Requests) Describe(out chan<- *prometheus.Desc) {
	for _, v := range r.vectors {
		v.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (r *Requests) Collect(out chan<- prometheus.Metric) {
	defer r.present().RUnlock()
	for _, v := range r.vectors {
		v.Collect(out)
	}
}

// Record counts a request by its event.
func (r *Requests) Record(e *millracev1.Event) {
	lock := r.present()
	defer lock.RUnlock()
	g := r.known.gateway(e.Gateway)
	gateway, service, model := g.name, g.service(e.Service), g.model(e.Model)
	r.requests.WithLabelValues(gateway, service, schemaName(e.Schema), model, class(e.Status)).Inc()
	r.received.WithLabelValues(gateway).Add(float64(e.RequestBytes))
	r.sent.WithLabelValues(gateway).Add(float64(e.ResponseBytes))
	stream := strconv.FormatBool(e.Stream)
	r.duration.WithLabelValues(gateway, service, stream).Observe(seconds(e.DurationMs))
	if e.FirstByteMs > 0 {
		r.firstByte.WithLabelValues(gateway, service, stream).Observe(seconds(e.FirstByteMs))
	}
	if e.ReadMs > 0 {
		r.sidecar.WithLabelValues("read").Observe(seconds(e.ReadMs))
	}
	for i, a := range e.Attempts {
		r.attempt(g, a)
		if i > 0 {
			r.retries.WithLabelValues(gateway, service, condition(e.Attempts[i-1])).Inc()
		}
	}
	if usd := e.GetCost().GetUsd(); usd != "" {
		if amount, err := strconv.ParseFloat(usd, 64); err == nil {
			r.cost.WithLabelValues(gateway, service, model).Add(amount)
		}
	}
	for _, t := range tokensOf(e.Usage) {
		if t.count > 0 {
			r.tokens.WithLabelValues(gateway, service, model, r.known.provider(e.Provider), t.kind).Add(t.count)
		}
	}
	r.genAI(g, e)
}

func (r *Requests) attempt(g *gateway, a *millracev1.Attempt) {
	t := g.target(a)
	r.attempts.WithLabelValues(g.name, t.upstream, t.name, t.provider, class(a.Status), condition(a)).Inc()
	if a.Target == "" { // there was no connection
		return
	}
	r.attemptDuration.WithLabelValues(g.name, t.upstream, t.name).Observe(seconds(a.DurationMs))
	if a.RemainingRequests != nil {
		r.quota.WithLabelValues(g.name, t.upstream, t.name, "requests").Set(float64(*a.RemainingRequests))
	}
	if a.RemainingTokens != nil {
		r.quota.WithLabelValues(g.name, t.upstream, t.name, "tokens").Set(float64(*a.RemainingTokens))
	}
	if a.EncodeMs > 0 {
		r.sidecar.WithLabelValues("encode").Observe(seconds(a.EncodeMs))
	}
	if a.DecodeMs > 0 {
		r.sidecar.WithLabelValues("decode").Observe(seconds(a.DecodeMs))
	}
}

// genAI counts an operation at a provider in OpenTelemetry's terms. What was refused before a
// provider was asked is none.
func (r *Requests) genAI(g *gateway, e *millracev1.Event) {
	last := Decisive(e)
	if last == nil || last.Target == "" {
		return
	}
	t := g.target(last)
	operation, provider, model := Operation(e), ProviderName(t.provider), t.model(last.Model)
	r.operation.WithLabelValues(operation, provider, model, ErrorType(e)).Observe(seconds(e.DurationMs))
	if e.Usage != nil {
		r.usage.WithLabelValues(operation, provider, model, "input").Observe(float64(e.Usage.Input))
		r.usage.WithLabelValues(operation, provider, model, "output").Observe(float64(e.Usage.Output))
	}
	first := FirstTokenMs(e, last)
	if first <= 0 {
		return
	}
	r.attemptFirst.WithLabelValues(g.name, t.upstream, t.name).Observe(seconds(first))
	r.firstToken.WithLabelValues(operation, provider, model).Observe(seconds(first))
	if output := e.Usage.GetOutput(); output > 1 {
		r.perToken.WithLabelValues(operation, provider, model).Observe(seconds(last.DurationMs-first) / float64(output-1))
	}
}

// seconds are those of milliseconds that clocks have told: never less than none.
func seconds(ms float64) float64 { return max(0, ms) / 1000 }

// class is that of a status.
func class(status uint32) string {
	switch c := status / 100; {
	case status == 0:
		return "none"
	case c >= 1 && c <= 5:
		return strconv.Itoa(int(c)) + "xx"
	}
	return other
}

// condition is what retry.on calls an attempt's failure; "" for none.
func condition(a *millracev1.Attempt) string {
	switch a.Condition {
	case "", config.OnConnectFailure, config.OnNoAnswer, config.OnRateLimit, config.OnServerError, config.OnCredential, config.OnModel:
		return a.Condition
	}
	return other
}

// tokensOf is usage by type of token.
func tokensOf(u *millracev1.Usage) [5]struct {
	kind  string
	count float64
} {
	return [5]struct {
		kind  string
		count float64
	}{
		{"input", float64(u.GetInput())}, {"output", float64(u.GetOutput())},
		{"cache_read", float64(u.GetCacheRead())}, {"cache_write", float64(u.GetCacheWrite())}, {"reasoning", float64(u.GetReasoning())},
	}
}

// isCount tells whether the request asks for a count of tokens, and not for an answer.
func isCount(e *millracev1.Event) bool { return strings.HasSuffix(e.Path, "/count_tokens") }
