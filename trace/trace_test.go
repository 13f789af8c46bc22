package trace

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

// collector takes traces as one of OpenTelemetry's does
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracev1.Span
	wrong []string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		spans, err := read(r)
		if err != nil {
			c.wrong = append(c.wrong, err.Error())
			w.WriteHeader(400)
			return
		}
		c.spans = append(c.spans, spans...)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func read(r *http.Request) ([]*tracev1.Span, error) {
	if r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("%s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	if got := r.Header.Get("X-Token"); got != "secret" {
		return nil, fmt.Errorf("token %q", got)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unpacked
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var request collectorv1.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &request); err != nil {
		return nil, err
	}
	var spans []*tracev1.Span
	for _, resource := range request.ResourceSpans {
		if !strings.Contains(resource.Resource.String(), "millrace") {
			return nil, fmt.Errorf("resource %v", resource.Resource)
		}
		for _, scope := range resource.ScopeSpans {
			spans = append(spans, scope.Spans...)
		}
	}
	return spans, nil
}

func exporter(t *testing.T, endpoint string, sample float64) (*Exporter, *Counts) {
	t.Helper()
	counts := &Counts{}
	x, err := New(Options{Endpoint: endpoint, Headers: map[string]string{"X-Token": "secret"}, Sample: sample, Log: slog.New(slog.DiscardHandler)}, counts)
	if err != nil {
		t.Fatal(err)
	}
	return x, counts
}

func failedOver(id, traceparent string) *millracev1.Event {
	return &millracev1.Event{
		Id: id, Traceparent: traceparent, Time: timestamppb.New(time.Unix(1_800_000_000, 0)), DurationMs: 1500, FirstByteMs: 700,
		Gateway: "house", Service: "talk", Schema: "openai.chat", Model: "gpt-4o", Stream: true, Method: "POST", Path: "/v1/chat/completions",
		Status: 200, Target: "claude", Provider: "anthropic", Usage: &millracev1.Usage{Input: 10, Output: 5, CacheRead: 4},
		Policies: []*millracev1.PolicyVerdict{{Policy: "dlp", Kind: "dlp", Phase: "input", Verdict: "redact"}},
		Attempts: []*millracev1.Attempt{
			{Target: "eu", Upstream: "chat", Provider: "openai", Model: "gpt-4o", Status: 429, Condition: "rate-limit", Error: "slow down", DurationMs: 100},
			{Target: "claude", Upstream: "chat", Provider: "anthropic", Model: "sonnet", Status: 200, BeganMs: 200, DurationMs: 1300, Usage: &millracev1.Usage{Input: 10, Output: 5}},
		},
	}
}

// TestSpans: a request is a span in its client's trace, each attempt is one below it, and they
// say in OpenTelemetry's terms what was asked, of whom, and what it used.
func TestSpans(t *testing.T) {
	c := newCollector(t)
	x, counts := exporter(t, c.URL+"/v1/traces", 1)
	x.Record(failedOver("one", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.wrong) > 0 || len(c.spans) != 3 || counts.Exported() != 3 || counts.Lost() != 0 {
		t.Fatalf("wrong %q, %d spans, %d exported, %d lost", c.wrong, len(c.spans), counts.Exported(), counts.Lost())
	}
	byID := map[string]*tracev1.Span{}
	for _, s := range c.spans {
		byID[fmt.Sprintf("%x", s.SpanId)] = s
		if fmt.Sprintf("%x", s.TraceId) != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("trace %x", s.TraceId)
		}
	}
	where := event.SpanOf("one", "", 1)
	request, first, second := byID[fmt.Sprintf("%x", where.ID)], byID[fmt.Sprintf("%x", where.Attempt(1))], byID[fmt.Sprintf("%x", where.Attempt(2))]
	if request == nil || first == nil || second == nil {
		t.Fatalf("spans %v", byID)
	}
	const began = uint64(1_800_000_000 * 1e9)
	for _, tt := range []struct {
		span       *tracev1.Span
		parent     string
		name       string
		kind       tracev1.Span_SpanKind
		from, to   uint64 // in milliseconds
		status     tracev1.Status_StatusCode
		attributes []string
		events     []string
	}{
		{
			request, "b7ad6b7169203331", "chat gpt-4o", tracev1.Span_SPAN_KIND_SERVER, 0, 1500, tracev1.Status_STATUS_CODE_UNSET,
			[]string{
				"gen_ai.operation.name=chat", "gen_ai.request.model=gpt-4o", "gen_ai.provider.name=anthropic", "gen_ai.usage.input_tokens=10",
				"gen_ai.usage.output_tokens=5", "gen_ai.usage.cache_read.input_tokens=4", "http.response.status_code=200", "millrace.gateway=house",
				"millrace.request.id=one", "millrace.service=talk", "url.path=/v1/chat/completions",
			},
			[]string{"policy 0"},
		},
		{
			first, fmt.Sprintf("%x", where.ID), "chat gpt-4o", tracev1.Span_SPAN_KIND_CLIENT, 0, 100, tracev1.Status_STATUS_CODE_ERROR,
			[]string{"gen_ai.provider.name=openai", "http.response.status_code=429", "error.type=429", "millrace.retry.condition=rate-limit", "millrace.target=eu", "millrace.attempt=1"},
			nil,
		},
		{
			second, fmt.Sprintf("%x", where.ID), "chat sonnet", tracev1.Span_SPAN_KIND_CLIENT, 200, 1500, tracev1.Status_STATUS_CODE_UNSET,
			[]string{"gen_ai.provider.name=anthropic", "gen_ai.request.model=sonnet", "gen_ai.response.time_to_first_chunk=0.5", "millrace.attempt=2"},
			[]string{"first token 700"},
		},
	} {
		s := tt.span
		if got := fmt.Sprintf("%x", s.ParentSpanId); got != tt.parent || s.Name != tt.name || s.Kind != tt.kind || s.Status.GetCode() != tt.status {
			t.Errorf("%s: parent %s, kind %s, status %s", s.Name, got, s.Kind, s.Status)
		}
		if from, to := (s.StartTimeUnixNano-began)/1e6, (s.EndTimeUnixNano-began)/1e6; from != tt.from || to != tt.to {
			t.Errorf("%s: from %d to %d ms", s.Name, from, to)
		}
		has := map[string]bool{}
		for _, kv := range s.Attributes {
			v := kv.Value
			has[kv.Key+"="+v.GetStringValue()] = true
			has[fmt.Sprintf("%s=%d", kv.Key, v.GetIntValue())] = true
			has[fmt.Sprintf("%s=%v", kv.Key, v.GetDoubleValue())] = true
		}
		for _, want := range tt.attributes {
			if !has[want] {
				t.Errorf("%s lacks %s: %v", s.Name, want, s.Attributes)
			}
		}
		var events []string
		for _, e := range s.Events {
			events = append(events, fmt.Sprintf("%s %d", e.Name, (e.TimeUnixNano-began)/1e6))
		}
		if !slices.Equal(events, tt.events) {
			t.Errorf("%s: events %q", s.Name, events)
		}
	}
}

// TestNotSampled: what is not to be recorded is not sent.
func TestNotSampled(t *testing.T) {
	c := newCollector(t)
	x, _ := exporter(t, c.URL+"/v1/traces", 0)
	x.Record(failedOver("one", ""))
	x.Record(failedOver("two", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
	x.Record(failedOver("three", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.spans) != 3 || len(c.wrong) > 0 {
		t.Errorf("%d spans of one request, wrong %q", len(c.spans), c.wrong)
	}
}

// TestCollectorIsAway: nobody waits for a collector that does not answer, what waits for it is
// bounded, and what is lost is counted.
func TestCollectorIsAway(t *testing.T) {
	arrived, over := make(chan struct{}, 100), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-over:
		case <-r.Context().Done():
		}
		w.WriteHeader(400)
	}))
	t.Cleanup(s.Close)
	x, counts := exporter(t, s.URL+"/v1/traces", 1)
	const requests = 2 * waiting / 3
	for i := range requests {
		x.Record(failedOver(fmt.Sprint(i), "")) // three spans each
		if i == waiting/3 {
			<-arrived
		}
	}
	if n := x.sending.waiting.Load(); n > waiting {
		t.Errorf("%d spans wait", n)
	}
	if counts.Lost() < waiting/2 {
		t.Errorf("%d spans are lost, where twice as many came as may wait", counts.Lost())
	}
	close(over)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if counts.Lost() != 3*requests || counts.Exported() != 0 {
		t.Errorf("%d of %d spans are counted as lost, %d as sent", counts.Lost(), 3*requests, counts.Exported())
	}
}

// BenchmarkRecord is what the spans of an event cost, of one that is sent and of one that is not.
func BenchmarkRecord(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/x-protobuf") }))
	defer s.Close()
	for name, sample := range map[string]float64{"sent": 1, "not sampled": 0} {
		b.Run(name, func(b *testing.B) {
			x, err := New(Options{Endpoint: s.URL, Sample: sample, Log: slog.New(slog.DiscardHandler)}, &Counts{})
			if err != nil {
				b.Fatal(err)
			}
			e := failedOver("one", "")
			b.ReportAllocs()
			for b.Loop() {
				x.sending.waiting.Store(0) // all are made, however many are waiting
				x.Record(e)
			}
			if err := x.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
