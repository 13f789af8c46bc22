// Package trace tells a collector of OpenTelemetry's of requests: a span for each request and one
// for each attempt, made of the request's event when it is over. So it costs a request nothing, and
// a collector that is away holds up nobody: what waits for it is bounded, and what is more is
// counted as lost. There is no prompt and no answer in a span.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// waiting bounds the spans that wait for the collector.
	waiting = 8192
	// batch is how many are sent at once, batchEvery how often at least.
	batch      = 512
	batchEvery = time.Second
	// patience is how long one export may take, with what is tried again.
	patience = 30 * time.Second
)

// Options say where spans go.
type Options struct {
	Endpoint string // the whole URL
	Headers  map[string]string
	Sample   float64 // of the requests whose client has no trace
	Version  string  // of this process
	Instance string
	Log      *slog.Logger
}

// Exporter sends spans. Its methods may be called at the same time.
type Exporter struct {
	sample   float64
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sending  *sending
}

// New returns an exporter that has not connected yet.
func New(o Options, counts *Counts) (*Exporter, error) {
	client, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(o.Endpoint),
		otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(patience),
	)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	s := &sending{SpanExporter: client, counts: counts, log: o.Log, endpoint: o.Endpoint}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(s, sdktrace.WithMaxQueueSize(2*waiting), sdktrace.WithMaxExportBatchSize(batch), sdktrace.WithBatchTimeout(batchEvery), sdktrace.WithExportTimeout(patience)),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // what is not to be recorded does not get so far
		sdktrace.WithIDGenerator(given{}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "millrace"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		)),
	)
	return &Exporter{sample: o.Sample, provider: provider, tracer: provider.Tracer("millrace"), sending: s}, nil
}

// Close sends what waits, until ctx ends.
func (x *Exporter) Close(ctx context.Context) error { return x.provider.Shutdown(ctx) }

// Record queues the spans of a request and does not wait. Events must not be changed.
func (x *Exporter) Record(e *millracev1.Event) {
	span := event.SpanOf(e.Id, e.Traceparent, x.sample)
	if !span.Sampled || e.Time == nil {
		return
	}
	n := int64(1 + len(e.Attempts))
	if x.sending.waiting.Add(n) > waiting {
		x.sending.waiting.Add(-n)
		x.sending.counts.lost.Add(n)
		return
	}
	x.tell(span, e)
}

// Counts count spans, for all exporters of a process.
type Counts struct{ exported, lost atomic.Int64 }

// Exported counts the spans that the collector has taken.
func (c *Counts) Exported() int64 { return c.exported.Load() }

// Lost counts those that it has not: too many waited for it, or it could not be told of them.
func (c *Counts) Lost() int64 { return c.lost.Load() }

// sending counts what becomes of spans. One goroutine calls it at a time.
type sending struct {
	sdktrace.SpanExporter
	waiting  atomic.Int64
	counts   *Counts
	log      *slog.Logger
	endpoint string
	failed   bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (s *sending) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	n := int64(len(spans))
	s.waiting.Add(-n)
	if err != nil {
		s.counts.lost.Add(n)
		if !s.failed { // a collector that is away is said once
			s.log.Error("traces cannot be sent: spans are lost", "to", s.endpoint, "error", err)
		}
	} else {
		s.counts.exported.Add(n)
		if s.failed {
			s.log.Info("traces are sent again", "to", s.endpoint)
		}
	}
	s.failed = err != nil
	return nil // it has been told of
}

// ids are those that a span is to have.
type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

type idsKey struct{}

func withIDs(ctx context.Context, traceID [16]byte, span [8]byte) context.Context {
	return context.WithValue(ctx, idsKey{}, ids{traceID, span})
}

// given gives spans the ids that their context has.
type given struct{}

// NewIDs implements sdktrace.IDGenerator.
func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.trace, i.span
}

// NewSpanID implements sdktrace.IDGenerator.
func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.span
}
