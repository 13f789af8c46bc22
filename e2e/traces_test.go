package e2e

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"millrace/event"
	"millrace/internal/fakellm"
)

// TestTraces (D22): a request that is over is told of to a collector of OpenTelemetry's, in the
// trace of its client, with a span for each attempt, in valid OTLP. The provider is told which span
// is its own where the operator wants that. A collector that refuses is in the metrics, and holds
// up nobody.
func TestTraces(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var spans []*tracev1.Span
	refuses := false
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		data, err := io.ReadAll(body)
		var request collectorv1.ExportTraceServiceRequest
		if err := errors.Join(err, proto.Unmarshal(data, &request)); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Api-Key") != "collector-key" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		if refuses {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				spans = append(spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(collector.Close)
	a, b := openAI("a"), anthropicAI("b")
	admin := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	g := start(t, fmt.Sprintf("admin: {listen: %q}", strings.TrimPrefix(admin, "http://")),
		fmt.Sprintf("telemetry: {otlp: {endpoint: %q, headers: {x-api-key: collector-key}, sample: 0}, propagate: true}\n", collector.URL)+
			pool("model_choice: any", to("a", a, provider(t, a), "priority: 1", "default_model: gpt-4o"), to("b", b, provider(t, b), "priority: 2", "default_model: sonnet")))
	a.Always(fakellm.Reply{Failure: &fakellm.Failure{Status: 503, Message: "full"}})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	g.post("/v1/chat/completions", chatStream).want(200) // without a trace, and none is sampled
	r := g.post("/v1/chat/completions", chatStream, "traceparent: 00-"+trace+"-b7ad6b7169203331-01", "tracestate: vendor=1").want(200)
	of := event.SpanOf(r.Header.Get("x-millrace-request-id"), "", 1)
	var got map[string]*tracev1.Span
	g.eventually("the collector has the spans", func() error {
		mu.Lock()
		defer mu.Unlock()
		got = map[string]*tracev1.Span{}
		for _, s := range spans {
			got[fmt.Sprintf("%x", s.SpanId)] = s
		}
		if len(spans) < 3 {
			return fmt.Errorf("%d spans", len(spans))
		}
		return nil
	})
	for id, parent := range map[[8]byte]string{of.ID: "b7ad6b7169203331", of.Attempt(1): fmt.Sprintf("%x", of.ID), of.Attempt(2): fmt.Sprintf("%x", of.ID)} {
		s := got[fmt.Sprintf("%x", id)]
		if s == nil || fmt.Sprintf("%x", s.TraceId) != trace || fmt.Sprintf("%x", s.ParentSpanId) != parent || s.EndTimeUnixNano <= s.StartTimeUnixNano || len(got) != 3 {
			t.Errorf("span %x, of %d: %v", id, len(got), s)
		}
	}
	for number, p := range []*fakellm.Provider{a, b} {
		asked := p.Requests()
		last := asked[len(asked)-1].Header
		if want := fmt.Sprintf("00-%s-%x-01", trace, of.Attempt(number+1)); last.Get("traceparent") != want || last.Get("tracestate") != "vendor=1" {
			t.Errorf("attempt %d is told %q and %q, not %s", number+1, last.Get("traceparent"), last.Get("tracestate"), want)
		}
	}
	mu.Lock()
	refuses = true
	mu.Unlock()
	g.post("/v1/chat/completions", chatStream, "traceparent: 00-"+trace+"-b7ad6b7169203331-01").want(200)
	g.eventually("what is lost is counted", func() error {
		rows := scraped(t, metricsOf(t, admin))
		if rows["millrace_spans_exported_total"] != 3 || rows["millrace_spans_lost_total"] < 2 {
			return fmt.Errorf("%v sent, %v lost", rows["millrace_spans_exported_total"], rows["millrace_spans_lost_total"])
		}
		return nil
	})
}
