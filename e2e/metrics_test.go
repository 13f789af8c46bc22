package e2e

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"millrace/internal/fakellm"
	"millrace/metrics"
)

// TestMetrics (A19, A24, C32, D20, D22, E32): one scrape has what became of requests, attempts and
// tokens, how the targets are, what is left of a provider's limits, the sidecar's own time phase by
// phase, and what Envoy counts, with the same labels. Prometheus's own parser takes it. A client
// makes no rows. The digest says the same, as JSON, in HAProxy's columns and to people.
func TestMetrics(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	admin := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	g := start(t, fmt.Sprintf("admin: {listen: %q}", strings.TrimPrefix(admin, "http://")),
		pool("model_choice: any", to("a.1", a, provider(t, a), "priority: 1", "default_model: gpt-4o"), to("b", b, provider(t, b), "priority: 2", "default_model: sonnet")))
	left := http.Header{"X-Ratelimit-Remaining-Tokens": {"149984"}}
	a.Always(fakellm.Reply{Failure: &fakellm.Failure{Status: 429, Message: "slow down"}, Header: left})
	b.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: "all is well", Usage: &fakellm.Usage{Input: 11, Output: 7}}})
	const answers = 6
	for i := range answers {
		g.post("/v1/chat/completions", strings.Replace(chatStream, "gpt-4o", fmt.Sprintf("made-up-%d", i), 1)).want(200)
	}
	g.get(fmt.Sprintf("/made-up/%d", answers)).want(404)

	var families map[string]float64
	g.eventually("everything is counted", func() error {
		families = scraped(t, metricsOf(t, admin))
		return rowsAre(families, map[string]float64{
			`millrace_requests_total{class="2xx",gateway="default",model="other",schema="openai.chat",service="chat"}`:                                                  answers,
			`millrace_requests_total{class="4xx",gateway="",model="",schema="openai.chat",service=""}`:                                                                  1,
			`millrace_attempts_total{class="2xx",gateway="default",provider="anthropic",reason="",target="b",upstream="chat"}`:                                          answers,
			`millrace_attempt_first_token_seconds_count{gateway="default",target="b",upstream="chat"}`:                                                                  answers,
			`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"}`: answers,
			`gen_ai_client_token_usage_count{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet",gen_ai_token_type="output"}`:   answers,
			`gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"}`:              answers,
			`gen_ai_server_time_per_output_token_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="sonnet"}`:            answers,
			`millrace_target_quota_remaining{gateway="default",of="tokens",target="a.1",upstream="chat"}`:                                                               149984,
			`millrace_target_healthy{gateway="default",target="b",upstream="chat"}`:                                                                                     1,
			`millrace_target_weight{gateway="default",target="b",upstream="chat"}`:                                                                                      1,
			`millrace_config_applied`: 1,
			`millrace_envoy_up`:       1,
			`envoy_cluster_upstream_rq{envoy_cluster_name="default/chat/b",envoy_response_code="200",gateway="default",target="b",upstream="chat"}`: answers,
		})
	})
	asked := families[`millrace_attempts_total{class="4xx",gateway="default",provider="openai",reason="rate-limit",target="a.1",upstream="chat"}`]
	if asked == 0 || families[`millrace_retries_total{gateway="default",reason="rate-limit",service="chat"}`] != asked {
		t.Errorf("%v attempts were refused, and %v made again", asked, families[`millrace_retries_total{gateway="default",reason="rate-limit",service="chat"}`])
	}
	if n := families[`envoy_cluster_upstream_rq{envoy_cluster_name="default/chat/a.1",envoy_response_code="429",gateway="default",target="a.1",upstream="chat"}`]; n != asked {
		t.Errorf("Envoy has counted %v refusals, the sidecar %v", n, asked)
	}
	if n := sumOf(families, "envoy_listener_downstream_cx_total{"); n == 0 {
		t.Error("no connection of a client was counted")
	}
	for _, phase := range []string{"read", "encode", "decode"} {
		if families[fmt.Sprintf("millrace_sidecar_seconds_sum{phase=%q}", phase)] == 0 {
			t.Errorf("no time was taken to %s", phase)
		}
	}
	for kind, want := range map[string]float64{"input": answers * 11, "output": answers * 7} {
		if got := families[fmt.Sprintf(`millrace_tokens_total{gateway="default",model="other",provider="anthropic",service="chat",type=%q}`, kind)]; got != want {
			t.Errorf("%v %s tokens were counted, the provider has counted %v", got, kind, want)
		}
	}
	if body := metricsOf(t, admin); strings.Contains(body, "made-up") {
		t.Errorf("a client has made a row: %s", regexp.MustCompile(".*made-up.*").FindString(body))
	}
	if body := bodyOf(t, admin+"/metrics?envoy=0"); strings.Contains(body, "envoy_cluster") || !strings.Contains(body, "millrace_requests_total{") {
		t.Errorf("without Envoy's: %.300s", body)
	}

	var digest metrics.Digest
	if err := json.Unmarshal([]byte(bodyOf(t, admin+"/stats")), &digest); err != nil {
		t.Fatal(err)
	}
	if gw := digest.Gateways[0]; gw.Total != answers || gw.Retries != asked || gw.Tokens["output"] != answers*7 {
		t.Errorf("the digest of the gateway: %+v", gw)
	}
	if first := digest.Targets[0]; first.Errors != asked || first.Reasons["rate-limit"] != asked {
		t.Errorf("the digest of the target that refuses: %+v", first)
	}
	if second := digest.Targets[1]; second.Total != answers || !second.State.Healthy || second.State.Connections == 0 || second.FirstToken.Count != answers {
		t.Errorf("the digest of the target that answers: %+v", second)
	}
	rows, err := csv.NewReader(strings.NewReader(bodyOf(t, admin+"/stats;csv;norefresh"))).ReadAll()
	if err != nil || len(rows) != 5 || rows[0][0] != "# pxname" || rows[4][1] != "BACKEND" || rows[4][7] != fmt.Sprint(answers+asked) {
		t.Errorf("in HAProxy's columns: %v %v", rows, err)
	}
	out, code := millrace(t, "stats", "--admin", admin)
	for _, want := range []string{`(?m)^default +6 `, `(?m)^default/chat +\d of 2 `, `(?m)^  b +up +1 +6 +0 `} {
		if !regexp.MustCompile(want).MatchString(out) || code != 0 {
			t.Errorf("millrace stats (%d) lacks %s:\n%s", code, want, out)
		}
	}
}

// scraped are the rows of a scrape, as Prometheus's parser reads them.
func scraped(t *testing.T, body string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(body)); err != nil {
		t.Fatalf("Prometheus's parser: %v", err)
	}
	rows := map[string]float64{}
	for line := range strings.Lines(body) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			rows[line[:at]] = value
		}
	}
	return rows
}

// sumOf adds up the rows that begin so.
func sumOf(rows map[string]float64, begin string) (sum float64) {
	for row, value := range rows {
		if strings.HasPrefix(row, begin) {
			sum += value
		}
	}
	return sum
}

// rowsAre tells what of the wanted rows is not there, or has another value.
func rowsAre(got, want map[string]float64) error {
	var wrong []error
	for row, value := range want {
		if n, ok := got[row]; !ok || n != value {
			wrong = append(wrong, fmt.Errorf("%s is %v (%t), not %v", row, n, ok, value))
		}
	}
	return errors.Join(wrong...)
}

func bodyOf(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("%s: %d %s %v", url, r.StatusCode, body, err)
	}
	return string(body)
}
