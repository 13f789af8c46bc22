package metrics

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"google.golang.org/protobuf/proto"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

const document = `
gateway: {name: house}
upstreams:
- name: chat
  targets:
  - {id: eu.1, provider: {type: openai, base_url: "https://eu.example/v1"}, models: [gpt-4o], model_map: {fast: gpt-4o-mini}}
  - {id: claude, provider: {type: anthropic, base_url: "https://claude.example/v1"}, models: [sonnet]}
  - {id: fr, provider: mistral, models: [large]}
services: [{name: talk, upstream: chat}]
rules: [{path: /v1, service: talk}]
`

func resolved(t testing.TB, document string) *config.Config {
	t.Helper()
	doc, err := config.Load("test.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rows are the lines that a scrape gets, but for comments. That a parser of Prometheus's own takes
// them is checked on the way.
func rows(t testing.TB, g prometheus.Gatherer) []string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text.String())); err != nil {
		t.Fatalf("Prometheus's parser: %v", err)
	}
	var lines []string
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func gathered(c prometheus.Collector) prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	return r
}

// failedOver is a stream that one target has refused and the other has answered.
func failedOver() *millracev1.Event {
	return &millracev1.Event{
		Id: "1", Gateway: "house", Service: "talk", Schema: "openai.chat", Model: "gpt-4o", Stream: true,
		Path: "/v1/chat/completions", Status: 200, Target: "claude", Provider: "anthropic",
		DurationMs: 1500, FirstByteMs: 700, RequestBytes: 100, ResponseBytes: 2000, ReadMs: 0.2,
		Cost:  &millracev1.Cost{Usd: "0.0125"},
		Usage: &millracev1.Usage{Input: 10, Output: 5, CacheRead: 4, Reasoning: 2},
		Attempts: []*millracev1.Attempt{
			{Target: "eu.1", Upstream: "chat", Provider: "openai", Model: "gpt-4o", Status: 429, Condition: "rate-limit", DurationMs: 100, EncodeMs: 0.1},
			{Target: "claude", Upstream: "chat", Provider: "anthropic", Model: "sonnet", Status: 200, BeganMs: 200, RemainingTokens: proto.Uint64(900), DurationMs: 1300, EncodeMs: 0.1, DecodeMs: 3},
		},
	}
}

// TestRequests (C32, D22): what one event adds to each metric.
func TestRequests(t *testing.T) {
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	r.Record(failedOver())
	r.Record(&millracev1.Event{Id: "2", Path: "/nowhere", Status: 404, DurationMs: 1}) // no gateway had it
	got := rows(t, gathered(r))
	for _, want := range []string{
		`millrace_requests_total{class="2xx",gateway="house",model="gpt-4o",schema="openai.chat",service="talk"} 1`,
		`millrace_requests_total{class="4xx",gateway="",model="",schema="",service=""} 1`,
		`millrace_retries_total{gateway="house",reason="rate-limit",service="talk"} 1`,
		`millrace_attempts_total{class="4xx",gateway="house",provider="openai",reason="rate-limit",target="eu.1",upstream="chat"} 1`,
		`millrace_attempts_total{class="2xx",gateway="house",provider="anthropic",reason="",target="claude",upstream="chat"} 1`,
		`millrace_attempt_duration_seconds_sum{gateway="house",target="claude",upstream="chat"} 1.3`,
		`millrace_target_quota_remaining{gateway="house",of="tokens",target="claude",upstream="chat"} 900`,
		`millrace_attempt_first_token_seconds_sum{gateway="house",target="claude",upstream="chat"} 0.5`,
		`millrace_tokens_total{gateway="house",model="gpt-4o",provider="anthropic",service="talk",type="input"} 10`,
		`millrace_tokens_total{gateway="house",model="gpt-4o",provider="anthropic",service="talk",type="output"} 5`,
		`millrace_tokens_total{gateway="house",model="gpt-4o",provider="anthropic",service="talk",type="cache_read"} 4`,
		`millrace_tokens_total{gateway="house",model="gpt-4o",provider="anthropic",service="talk",type="reasoning"} 2`,
		`millrace_cost_usd_total{gateway="house",model="gpt-4o",service="talk"} 0.0125`,
		`millrace_request_bytes_total{gateway="house"} 100`,
		`millrace_response_bytes_total{gateway="house"} 2000`,
		`millrace_request_duration_seconds_sum{gateway="house",service="talk",stream="true"} 1.5`,
		`millrace_first_byte_seconds_sum{gateway="house",service="talk",stream="true"} 0.7`,
		`gen_ai_client_operation_duration_seconds_sum{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 1.5`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet",gen_ai_token_type="input"} 10`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet",gen_ai_token_type="output"} 5`,
		`gen_ai_server_time_to_first_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 0.5`,
		`gen_ai_server_time_per_output_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 0.2`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("there is no row %s", want)
		}
	}
	if t.Failed() {
		t.Logf("the rows:\n%s", strings.Join(got, "\n"))
	}
}

// TestPhases (E32): the sidecar's own time is counted phase by phase.
func TestPhases(t *testing.T) {
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	r.Record(failedOver())
	got := rows(t, gathered(r))
	for phase, want := range map[string]string{"read": "1", "encode": "2", "decode": "1"} {
		if row := fmt.Sprintf(`millrace_sidecar_seconds_count{phase=%q} %s`, phase, want); !slices.Contains(got, row) {
			t.Errorf("there is no row %s", row)
		}
	}
}

// TestEndsOfRequests (D20): errors of providers and clients are told apart.
func TestEndsOfRequests(t *testing.T) {
	c := resolved(t, document)
	for name, tt := range map[string]struct {
		change func(*millracev1.Event)
		want   string
	}{
		"the client has left before an answer": {
			func(e *millracev1.Event) { e.Status, e.Target, e.Provider = 0, "", "" },
			`millrace_requests_total{class="none",gateway="house",model="gpt-4o",schema="openai.chat",service="talk"} 1`,
		},
		"the provider has failed": {
			func(e *millracev1.Event) { e.Status, e.Error = 503, "full"; e.Attempts[1].Status = 503 },
			`gen_ai_client_operation_duration_seconds_count{error_type="503",gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 1`,
		},
		"a status of the provider's own": {
			func(e *millracev1.Event) { e.Status, e.Error = 418, "teapot"; e.Attempts[1].Status = 418 },
			`gen_ai_client_operation_duration_seconds_count{error_type="4xx",gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 1`,
		},
		"a stream that broke off": {
			func(e *millracev1.Event) { e.Error = "the stream was cut" },
			`gen_ai_client_operation_duration_seconds_count{error_type="broken_off",gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 1`,
		},
		"no connection, to whom is not known": {
			func(e *millracev1.Event) {
				e.Attempts[0] = &millracev1.Attempt{Error: "no connection", Condition: "connect-failure"}
			},
			`millrace_attempts_total{class="none",gateway="house",provider="",reason="connect-failure",target="",upstream=""} 1`,
		},
		"a provider that OpenTelemetry calls otherwise": {
			func(e *millracev1.Event) { e.Target, e.Provider, e.Attempts[1].Target = "fr", "mistral", "fr" },
			`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="mistral_ai",gen_ai_request_model="other"} 1`,
		},
		"an attempt that says when its first token came": {
			func(e *millracev1.Event) { e.Attempts[1].FirstTokenMs = 250 },
			`gen_ai_server_time_to_first_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 0.25`,
		},
		"a count of tokens": {
			func(e *millracev1.Event) { e.Path, e.Stream, e.Usage = "/v1/messages/count_tokens", false, nil },
			`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="count_tokens",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"} 1`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRequests(func() *config.Config { return c })
			e := failedOver()
			tt.change(e)
			r.Record(e)
			if got := rows(t, gathered(r)); !slices.Contains(got, tt.want) {
				t.Errorf("there is no row %s in\n%s", tt.want, strings.Join(got, "\n"))
			}
		})
	}
}

// TestClientsMakeNoRows (C32): whatever is in events that a client has a say in, or a provider, no
// label gets a value that the configuration or this package does not name, and the rows come to an
// end.
func TestClientsMakeNoRows(t *testing.T) {
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	registry := gathered(r)
	word := func() string { return fmt.Sprintf("made-up-%d", rand.Uint64()) }
	wild := func() *millracev1.Event {
		e := failedOver()
		for _, field := range []*string{
			&e.Gateway, &e.Service, &e.Schema, &e.Model, &e.Path, &e.Method, &e.Target, &e.Provider, &e.Key, &e.Error, &e.Details, &e.Traceparent,
		} {
			if rand.IntN(2) == 0 {
				*field = word()
			}
		}
		for _, a := range e.Attempts {
			for _, field := range []*string{&a.Target, &a.Upstream, &a.Provider, &a.Model, &a.Condition, &a.Error} {
				if rand.IntN(3) == 0 {
					*field = word()
				}
			}
			a.Status = rand.Uint32N(1000)
		}
		e.Status, e.Stream = rand.Uint32N(1000), rand.IntN(2) == 0
		return e
	}
	for range 5_000 {
		r.Record(wild())
	}
	before := len(rows(t, registry))
	for range 5_000 {
		r.Record(wild())
	}
	after := rows(t, registry)
	for _, row := range after {
		if strings.Contains(row, "made-up") {
			t.Fatalf("a client has made a row: %s", row)
		}
	}
	// What is rare may be new in the second half, but it is bounded by the configuration, which
	// names
	// 1 gateway, 1 service, 4 models, 2 targets.
	if len(after) > before+before/5 {
		t.Errorf("%d rows, and later %d: they go on growing", before, len(after))
	}
}

// TestRowsGoWithTheConfiguration: what is not configured any more has no rows, so that rows do not
// pile up while targets and services come and go.
func TestRowsGoWithTheConfiguration(t *testing.T) {
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	registry := gathered(r)
	for i := range 50 {
		c = resolved(t, strings.NewReplacer("eu.1", fmt.Sprint("eu.", i), "talk", fmt.Sprint("talk", i), "sonnet", fmt.Sprint("sonnet", i)).Replace(document))
		e := failedOver()
		e.Service, e.Attempts[0].Target, e.Attempts[1].Model = fmt.Sprint("talk", i), fmt.Sprint("eu.", i), fmt.Sprint("sonnet", i)
		r.Record(e)
	}
	got := strings.Join(rows(t, registry), "\n")
	for _, gone := range []string{`"talk48"`, `"eu.48"`, `"sonnet48"`} {
		if strings.Contains(got, gone) {
			t.Errorf("there are rows of %s", gone)
		}
	}
	for _, present := range []string{`"talk49"`, `"eu.49"`, `"sonnet49"`} {
		if !strings.Contains(got, present) {
			t.Errorf("there is no row of %s", present)
		}
	}
	c = nil
	if got := strings.Join(rows(t, registry), "\n"); strings.Contains(got, "house") {
		t.Errorf("the gateway is gone, its rows are not:\n%s", got)
	}
}

// BenchmarkRecord is what counting costs for each event: it is not on the path of a request.
func BenchmarkRecord(b *testing.B) {
	c := resolved(b, document)
	r := NewRequests(func() *config.Config { return c })
	e := failedOver()
	b.ReportAllocs()
	for b.Loop() {
		r.Record(e)
	}
}

// TestRecordAllocates: counting an event makes no garbage to speak of.
func TestRecordAllocates(t *testing.T) {
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	e := failedOver()
	if n := testing.AllocsPerRun(100, func() { r.Record(e) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}
