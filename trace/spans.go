package trace

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0" // the last with gen_ai
	"go.opentelemetry.io/otel/trace"

	"millrace/event"
	"millrace/metrics"
	millracev1 "millrace/proto/millrace/v1"
)

// tell makes the spans of a request.
func (x *Exporter) tell(span event.Span, e *millracev1.Event) {
	ctx := withIDs(context.Background(), span.Trace, span.ID)
	if span.Parent != ([8]byte{}) {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: span.Trace, SpanID: span.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	began := e.Time.AsTime()
	ended := began.Add(since(e.DurationMs))
	ctx, request := x.tracer.Start(ctx, named(e, e.Model), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began), trace.WithAttributes(ofRequest(e)...))
	for i, a := range e.Attempts {
		x.tellAttempt(withIDs(ctx, span.Trace, span.Attempt(i+1)), i+1, e, a)
	}
	for _, v := range e.Policies {
		at := began
		if v.Phase == "output" {
			at = ended
		}
		request.AddEvent("policy", trace.WithTimestamp(at), trace.WithAttributes(
			attribute.String("millrace.policy.name", v.Policy), attribute.String("millrace.policy.kind", v.Kind),
			attribute.String("millrace.policy.phase", v.Phase), attribute.String("millrace.policy.verdict", v.Verdict),
			attribute.Bool("millrace.policy.observed", v.Observed), attribute.Float64("millrace.policy.duration_ms", v.DurationMs),
		))
	}
	if e.Status == 0 || e.Status >= 500 || e.Status < 400 && e.Error != "" {
		request.SetStatus(codes.Error, e.Error)
	}
	request.End(trace.WithTimestamp(ended))
}

// tellAttempt makes the span of an attempt.
func (x *Exporter) tellAttempt(ctx context.Context, number int, e *millracev1.Event, a *millracev1.Attempt) {
	began := e.Time.AsTime().Add(since(a.BeganMs))
	attributes := make([]attribute.KeyValue, 0, 16)
	attributes = append(attributes,
		semconv.GenAIOperationNameKey.String(metrics.Operation(e)),
		semconv.GenAIProviderNameKey.String(metrics.ProviderName(a.Provider)),
		semconv.GenAIRequestModel(a.Model),
		semconv.GenAIRequestStream(e.Stream),
		attribute.String("millrace.upstream", a.Upstream), attribute.String("millrace.target", a.Target),
		attribute.Int("millrace.attempt", number),
	)
	attributes = append(attributes, used(a.Usage)...)
	if a.Status != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(int(a.Status)))
	}
	if a.Condition != "" {
		attributes = append(attributes, attribute.String("millrace.retry.condition", a.Condition))
	}
	first := 0.0
	if a == metrics.Decisive(e) {
		first = metrics.FirstTokenMs(e, a)
	}
	if first > 0 {
		attributes = append(attributes, semconv.GenAIResponseTimeToFirstChunk(first/1000))
	}
	failed := a.Error != "" || a.Status == 0 || a.Status >= 400
	if failed {
		attributes = append(attributes, semconv.ErrorTypeKey.String(errorType(a)))
	}
	_, s := x.tracer.Start(ctx, named(e, a.Model), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	if first > 0 {
		s.AddEvent("first token", trace.WithTimestamp(began.Add(since(first))))
	}
	if failed {
		s.SetStatus(codes.Error, a.Error)
	}
	s.End(trace.WithTimestamp(began.Add(since(a.DurationMs))))
}

// named is the name of a span: what is asked for and, where it says so, of which model.
func named(e *millracev1.Event, model string) string {
	switch {
	case e.Schema == "":
		return e.Method
	case model == "":
		return metrics.Operation(e)
	}
	return metrics.Operation(e) + " " + model
}

func ofRequest(e *millracev1.Event) []attribute.KeyValue {
	all := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(e.Method), semconv.URLPath(e.Path), semconv.ClientAddress(e.ClientAddress),
		semconv.GenAIOperationNameKey.String(metrics.Operation(e)),
		attribute.String("millrace.request.id", e.Id), attribute.String("millrace.gateway", e.Gateway),
		semconv.GenAIRequestStream(e.Stream),
	}
	for key, value := range map[attribute.Key]string{
		semconv.GenAIRequestModelKey: e.Model, semconv.GenAIProviderNameKey: metrics.ProviderName(e.Provider), semconv.ErrorTypeKey: metrics.ErrorType(e),
		"millrace.service": e.Service, "millrace.key": e.Key, "millrace.schema": e.Schema, "millrace.target": e.Target, "millrace.envoy.details": e.Details,
	} {
		if value != "" {
			all = append(all, key.String(value))
		}
	}
	if e.Status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(int(e.Status)))
	}
	return append(all, used(e.Usage)...)
}

// used is usage as attributes.
func used(u *millracev1.Usage) []attribute.KeyValue {
	if u == nil {
		return nil
	}
	all := []attribute.KeyValue{semconv.GenAIUsageInputTokens(int(u.Input)), semconv.GenAIUsageOutputTokens(int(u.Output))}
	for key, n := range map[attribute.Key]uint32{
		semconv.GenAIUsageCacheReadInputTokensKey: u.CacheRead, semconv.GenAIUsageCacheCreationInputTokensKey: u.CacheWrite,
		semconv.GenAIUsageReasoningOutputTokensKey: u.Reasoning,
	} {
		if n > 0 {
			all = append(all, key.Int(int(n)))
		}
	}
	return all
}

// errorType is a status, else what retry.on calls the failure.
func errorType(a *millracev1.Attempt) string {
	switch {
	case a.Status >= 400:
		return fmt.Sprint(a.Status)
	case a.Condition != "":
		return a.Condition
	case a.Status != 0:
		return "broken_off"
	}
	return "ended"
}

func since(ms float64) time.Duration { return time.Duration(max(0, ms) * float64(time.Millisecond)) }
