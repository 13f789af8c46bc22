package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// soak is true for `make soak`, the long form of the tests that have one.
var soak = os.Getenv("MILLRACE_SOAK") != ""

// api calls the REST API and returns the answer; errors are for the caller, which may be any
// goroutine.
func api(method, url string, body any, header ...string) (int, http.Header, map[string]any, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, nil, nil, err
	}
	r, err := http.NewRequest(method, url, bytes.NewReader(data))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("content-type", "application/json")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, nil, err
	}
	decoded := map[string]any{}
	if err := json.Unmarshal(text, &decoded); err != nil && len(text) > 0 {
		decoded["text"] = string(text)
	}
	return response.StatusCode, response.Header, decoded, nil
}

// must is api for a call that has to succeed, and to be applied when it writes.
func must(t *testing.T, method, url string, body any) map[string]any {
	t.Helper()
	status, header, decoded, err := api(method, url, body)
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %v %v", method, url, status, decoded, err)
	}
	if state := header.Get("x-millrace-state"); method != "GET" && state != "applied" {
		t.Fatalf("%s %s: state %q", method, url, state)
	}
	return decoded
}

func target(id string, s *fakellm.Server, more map[string]any) map[string]any {
	t := map[string]any{"id": id, "provider": map[string]any{"type": "openai", "base_url": s.URL() + "/v1", "secret_key_ref": "k"}, "weight": 10}
	for k, v := range more {
		t[k] = v
	}
	return t
}

// newPool makes an upstream, a service and a rule over REST.
func newPool(t *testing.T, base, name, path string, targets ...map[string]any) {
	t.Helper()
	must(t, "POST", base+"/upstreams", map[string]any{"name": name, "algorithm": "weighted-round-robin", "targets": targets})
	must(t, "POST", base+"/services", map[string]any{"name": name, "upstream": name})
	must(t, "POST", base+"/rules", map[string]any{"path": path, "service": name, "strip_path": true})
}

// TestChangesUnderLoad: changes of every kind, while requests and long streams run. No request
// fails, no stream is cut, every change is applied. `make soak`: 1,000 changes in 60 s, 200
// requests/s, 200 streams.
func TestChangesUnderLoad(t *testing.T) {
	changes, streams, rate := 60, 30, 50
	if soak {
		changes, streams, rate = 1000, 200, 200
	}
	every := 60 * time.Millisecond // 1,000 a minute
	plain := &fakellm.Provider{Name: "plain", Schema: fakellm.OpenAIChat}
	long := &fakellm.Provider{Name: "long", Schema: fakellm.OpenAIChat}
	text := strings.Repeat("word ", changes*int(every/time.Millisecond)/500)
	long.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: text}, Each: fakellm.Pace{Delay: 500 * time.Millisecond}})
	ps, ls := provider(t, plain), provider(t, long)
	g, admin := withAdmin(t, "", "")
	base := admin + "/api/v1/gateways/default"
	newPool(t, base, "plain", "/plain", target("a", ps, nil), target("b", ps, nil), target("c", ps, nil))
	newPool(t, base, "long", "/long", target("a", ls, nil), target("b", ls, nil), target("c", ls, nil))

	ctx, done := context.WithCancel(context.Background())
	var load sync.WaitGroup
	var requests, failed atomic.Int64
	for range streams {
		load.Go(func() {
			r, err := http.DefaultClient.Do(g.request("POST", "/long/v1/chat/completions", strings.NewReader(chatStream)))
			if err != nil {
				t.Errorf("stream: %v", err)
				return
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != 200 || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
				t.Errorf("a stream was cut: %d, %v, %d bytes, ends %q", r.StatusCode, err, len(body), body[max(0, len(body)-200):])
			}
		})
	}
	const workers = 10
	for range workers {
		load.Go(func() {
			for tick := time.NewTicker(workers * time.Second / time.Duration(rate)); ctx.Err() == nil; <-tick.C {
				requests.Add(1)
				r, err := http.DefaultClient.Do(g.request("POST", "/plain/v1/chat/completions", strings.NewReader(chatHello)))
				if err != nil {
					failed.Add(1)
					t.Errorf("request: %v", err)
					continue
				}
				body, _ := io.ReadAll(r.Body)
				r.Body.Close()
				if r.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("request: %d %s", r.StatusCode, body)
				}
			}
		})
	}

	var times []time.Duration
	began := time.Now()
	for i := range changes {
		pool, server := "plain", ps
		if i%2 == 1 {
			pool, server = "long", ls
		}
		upstream := base + "/upstreams/" + pool
		before := time.Now()
		switch i / 2 % 6 {
		case 0:
			must(t, "PATCH", upstream+"/targets/a", map[string]any{"weight": 1 + i%90})
		case 1:
			must(t, "PATCH", upstream+"/targets/b", map[string]any{"disabled": true})
		case 2:
			must(t, "PATCH", upstream, map[string]any{"targets": []any{target("a", server, nil), target("b", server, nil), target("c", server, nil), target("new", server, nil)}})
		case 3:
			must(t, "PATCH", upstream+"/targets/b", map[string]any{"weight": 3})
		case 4:
			must(t, "PATCH", upstream, map[string]any{"targets": []any{target("a", server, nil), target("b", server, nil), target("c", server, nil)}})
		case 5:
			rule := must(t, "POST", base+"/rules", map[string]any{"path": fmt.Sprintf("/extra-%d", i), "service": pool})
			if i > 24 { // keep a few
				must(t, "DELETE", base+"/rules/"+rule["id"].(string), nil)
			}
		}
		times = append(times, time.Since(before))
		if next := began.Add(time.Duration(i+1) * every); time.Now().Before(next) {
			time.Sleep(time.Until(next))
		}
	}
	took := time.Since(began)
	done()
	load.Wait()
	slices.Sort(times)
	t.Logf("%d changes in %s beside %d requests and %d streams: p50 %s, p99 %s; %d requests failed", changes, took.Round(time.Millisecond),
		requests.Load(), streams, times[len(times)/2], times[len(times)*99/100], failed.Load())
}

// TestManyTargets: 1,000 targets in 100 upstreams are applied, and one weight touches one resource
// of one type.
func TestManyTargets(t *testing.T) {
	t.Parallel()
	var document strings.Builder
	document.WriteString("upstreams:\n")
	for u := range 100 {
		fmt.Fprintf(&document, "- name: u%d\n  algorithm: weighted-round-robin\n  targets:\n", u)
		for i := range 10 {
			fmt.Fprintf(&document, "  - {id: t%d, host: 127.77.0.1, port: %d, protocol: http}\n", i, 20000+u*10+i)
		}
	}
	began := time.Now()
	g := prepare(t, "", document.String())
	g.exec("run", "--config", g.Config, "--log-level", "debug")
	defer g.stop()
	g.waitReady()
	t.Logf("from the start of `millrace run` to applied: %s", time.Since(began).Round(time.Millisecond))
	before := len(g.log.String())
	g.edit(func(s string) string { return strings.Replace(s, "port: 20505,", "port: 20505, weight: 7,", 1) })
	g.said(`"msg":"configuration file applied"`)
	var sent []string
	for line := range strings.Lines(g.log.String()[before:]) {
		if strings.Contains(line, `"msg":"sent"`) {
			sent = append(sent, line)
		}
	}
	if len(sent) != 1 || !strings.Contains(sent[0], `ClusterLoadAssignment","resources":1,"removed":0`) {
		t.Errorf("one weight made Envoy receive %q", sent)
	}
}

// TestEnvoyRefuses: what only Envoy can refuse is rejected with its own words, and both halves stay
// as they were.
func TestEnvoyRefuses(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	g, admin := withAdmin(t, "ca_file: /no/such/file.pem", "")
	base := admin + "/api/v1/gateways/default"
	newPool(t, base, "chat", "/v1", target("a", s, nil))
	g.post("/v1/chat/completions", chatHello).want(200)
	was := must(t, "GET", admin+"/api/v1/status", nil)

	status, _, problem, err := api("PATCH", base+"/upstreams/chat", map[string]any{"targets": []any{
		target("b", s, nil), map[string]any{"id": "tls", "host": "localhost", "protocol": "https"},
	}})
	if err != nil || status != 422 || !strings.Contains(fmt.Sprint(problem), "/no/such/file.pem") {
		t.Fatalf("%d %v %v", status, problem, err)
	}
	g.eventually("the former version is applied", func() error { // Envoy is told it once more
		if is := must(t, "GET", admin+"/api/v1/status", nil); is["state"] != "applied" || is["version"] == "" || is["version"] != was["version"] {
			return fmt.Errorf("status %v, was %v", is, was)
		}
		return nil
	})
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
	targets := must(t, "GET", base+"/upstreams/chat", nil)["targets"].([]any)
	if len(targets) != 1 || targets[0].(map[string]any)["id"] != "a" {
		t.Errorf("the store holds %v", targets)
	}
	must(t, "PATCH", base+"/upstreams/chat/targets/a", map[string]any{"weight": 3}) // and goes on
}

// TestWritesAreConditional: ETags and If-Match, dry runs, versions, diffs and rollback.
func TestWritesAreConditional(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	g, admin := withAdmin(t, "", "")
	base := admin + "/api/v1/gateways/default"
	newPool(t, base, "chat", "/v1", target("a", s, nil))
	chat := base + "/upstreams/chat"

	_, header, _, err := api("GET", chat, nil)
	if err != nil || header.Get("etag") == "" {
		t.Fatalf("no ETag: %v %v", header, err)
	}
	first := header.Get("etag")
	must(t, "PATCH", chat+"/targets/a", map[string]any{"weight": 20})
	if status, _, problem, _ := api("PATCH", chat, map[string]any{"algorithm": "random"}, "If-Match: "+first); status != 412 {
		t.Errorf("a stale write: %d %v", status, problem)
	}
	before := must(t, "GET", admin+"/api/v1/status", nil)
	if status, _, problem, _ := api("PATCH", chat+"?dry_run=true", map[string]any{"algorithm": "fair"}); status != 400 && status != 422 || !strings.Contains(fmt.Sprint(problem), "algorithm") {
		t.Errorf("a bad dry run: %d %v", status, problem)
	}
	if status, _, problem, _ := api("PATCH", chat+"?dry_run=true", map[string]any{"algorithm": "random"}); status != 200 {
		t.Errorf("a good dry run: %d %v", status, problem)
	}
	if after := must(t, "GET", admin+"/api/v1/status", nil); after["version"] != before["version"] {
		t.Error("a dry run changed something")
	}
	versions := must(t, "GET", admin+"/api/v1/versions", nil)["versions"].([]any)
	if len(versions) < 4 {
		t.Fatalf("versions: %v", versions)
	}
	previous := versions[1].(map[string]any)["revision"]
	must(t, "POST", fmt.Sprintf("%s/api/v1/versions/%v/rollback", admin, previous), nil)
	if w := must(t, "GET", chat, nil)["targets"].([]any)[0].(map[string]any)["weight"]; w != float64(10) {
		t.Errorf("weight after the rollback: %v", w)
	}
	g.post("/v1/chat/completions", chatHello).want(200)

	health := fmt.Sprint(must(t, "GET", chat+"/health", nil))
	if !strings.Contains(health, "healthy:true") {
		t.Errorf("health: %s", health)
	}
	if all := fmt.Sprint(must(t, "GET", base+"/upstreams", nil), must(t, "GET", admin+"/api/v1/config", nil)); strings.Contains(all, "secret_key_ref:k ") {
		t.Errorf("a credential is shown: %s", all)
	}
}

// TestKill9: sidecar and Envoy are killed in the middle of writes; what was acknowledged is there
// afterwards, whole.
func TestKill9(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	g := prepare(t, "", "")
	data, admin := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	args := []string{"run", "--config", g.Config, "--data-dir", data, "--admin", admin}
	base := "http://" + admin + "/api/v1/gateways/default"
	g.exec(args...)
	g.waitReady()
	newPool(t, base, "chat", "/v1", target("a", s, nil), target("b", s, nil))

	weight := func(i int) int { return 1 + i%100 }
	acknowledged, i := 0, 0
	for round := range 3 {
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() { // both targets get one weight in one change: half of it would show
			for ; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				status, _, _, err := api("PATCH", base+"/upstreams/chat", map[string]any{"targets": []any{
					target("a", s, map[string]any{"weight": weight(i)}), target("b", s, map[string]any{"weight": weight(i)}),
				}})
				if err != nil {
					return // killed
				}
				if status == 200 {
					acknowledged = i
				}
			}
		})
		g.eventually("some changes are acknowledged", func() error {
			status, _, v, err := api("GET", "http://"+admin+"/api/v1/status", nil)
			if err != nil || status != 200 || v["revision"] == nil {
				return fmt.Errorf("%d %v", status, err)
			}
			if _, _, u, _ := api("GET", base+"/upstreams/chat", nil); u["targets"] == nil {
				return errors.New("the upstream is not there")
			}
			return nil
		})
		time.Sleep(time.Duration(100+70*round) * time.Millisecond)
		g.cmd.Process.Kill() // Envoy dies with its parent
		<-g.exited
		close(stop)
		writer.Wait()

		g.exec(args...)
		g.waitReady()
		targets := must(t, "GET", base+"/upstreams/chat", nil)["targets"].([]any)
		a, b := targets[0].(map[string]any)["weight"], targets[1].(map[string]any)["weight"]
		if a != b || a != float64(weight(acknowledged)) && a != float64(weight(acknowledged+1)) {
			t.Fatalf("round %d: weights %v and %v; the last acknowledged change was %d (weight %d)", round, a, b, acknowledged, weight(acknowledged))
		}
		g.eventually("it serves", func() error {
			if r := g.post("/v1/chat/completions", chatHello); r.Status != 200 {
				return fmt.Errorf("%d", r.Status)
			}
			return nil
		})
		i++
	}
	g.stop()
}

// TestCommands: the client commands, in text and in JSON.
func TestCommands(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	g, admin := withAdmin(t, "", "")
	file := filepath.Join(t.TempDir(), "apply.yaml")
	document := fmt.Sprintf(`gateway: {name: team, subdomain: team}
upstreams:
- name: chat
  algorithm: weighted-round-robin
  targets:
  - {id: a, provider: {base_url: %q, secret_key_ref: top-secret}, weight: 5}
  - {id: b, provider: {base_url: %q, secret_key_ref: top-secret}, weight: 5}
services: [{name: chat, upstream: chat}]
rules: [{path: /v1, service: chat}]
`, s.URL()+"/v1", s.URL()+"/v1")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "MILLRACE_ADMIN="+admin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("millrace %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		if strings.Contains(string(out), "top-secret") {
			t.Errorf("millrace %s shows a secret: %s", strings.Join(args, " "), out)
		}
		return string(out)
	}
	if out := command("apply", file); !strings.Contains(out, "applied") {
		t.Errorf("apply: %s", out)
	}
	hello := func() string {
		r := g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello))
		r.Host = "team.example.com"
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return g.read(response).want(200).Header.Get("x-millrace-target")
	}
	hello()
	command("target", "drain", "team/chat/a")
	for range 4 {
		if got := hello(); got != "b" {
			t.Errorf("a drained target answers")
		}
	}
	for _, args := range [][]string{{"status"}, {"get", "upstreams", "--gateway", "team"}} {
		command(args...)
		var decoded any
		if out := command(append(args, "--output", "json")...); json.Unmarshal([]byte(out), &decoded) != nil {
			t.Errorf("millrace %v --output json: %s", args, out)
		}
	}
}
