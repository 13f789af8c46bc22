package e2e

import (
	"fmt"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestRoundRobinByWeight: a weight is a share with round-robin as well, from the file and over REST
// (D04, D16).
func TestRoundRobinByWeight(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t, "weight: 3", "weight: 2", "weight: 1")
	g, admin := withAdmin(t, "", strings.Replace(pool("algorithm: round-robin", targets...), "{path: /v1, service: chat}", "{path: /v1, service: chat, methods: [POST]}", 1))
	check := func(path string, want ...int) {
		t.Helper()
		var before []int
		for _, p := range fakes {
			before = append(before, len(p.Requests()))
		}
		for range 60 {
			g.post(path, chatHello).want(200)
		}
		for i, p := range fakes {
			if got := len(p.Requests()) - before[i]; got < want[i]-1 || got > want[i]+1 {
				t.Errorf("%s: target %s got %d of 60 requests, want %d", path, p.Name, got, want[i])
			}
		}
	}
	check("/v1/chat/completions", 30, 20, 10)

	base := admin + "/api/v1/gateways/default"
	must(t, "POST", base+"/upstreams", map[string]any{"name": "rest", "algorithm": "round-robin", "targets": []any{
		map[string]any{"id": "a", "provider": map[string]any{"base_url": g.base(fakes[0], targets[0]), "secret_key_ref": fakes[0].Key}, "weight": 50},
		map[string]any{"id": "b", "provider": map[string]any{"base_url": g.base(fakes[1], targets[1]), "secret_key_ref": fakes[1].Key}, "weight": 50},
	}})
	must(t, "POST", base+"/services", map[string]any{"name": "rest", "upstream": "rest"})
	must(t, "POST", base+"/rules", map[string]any{"path": "/rest/v1", "service": "rest"})
	check("/rest/v1/chat/completions", 30, 30, 0)
	must(t, "PATCH", base+"/upstreams/rest/targets/a", map[string]any{"weight": 10})
	check("/rest/v1/chat/completions", 10, 50, 0)
}

// base is the base URL in a target that `to` wrote.
func (g *gateway) base(p *fakellm.Provider, target string) string {
	g.t.Helper()
	_, rest, _ := strings.Cut(target, `base_url: "`)
	base, _, ok := strings.Cut(rest, `"`)
	if !ok {
		g.t.Fatalf("target %s of %s has no base URL", target, p.Name)
	}
	return base
}

// TestWithoutEffectIsSaid: what the source documents write and nothing can act on is served, and
// said: by validate, in the log, in the status, and to whoever writes it over REST (E11, E12, E22).
func TestWithoutEffectIsSaid(t *testing.T) {
	t.Parallel()
	fields := []string{"policy_timeout", "buffer_size", "max_idle_per_host"}
	p := openAI("a")
	g, admin := withAdmin(t, "timeouts: {policy_timeout: 2s}\nconnection_pool: {max_idle_per_host: 32}\nstreaming: {buffer_size: 64KB}", pool("", to("a", p, provider(t, p))))
	g.post("/v1/chat/completions", chatHello).want(200)
	out, code := millrace(t, "validate", g.Config)
	status := fmt.Sprint(must(t, "GET", admin+"/api/v1/status", nil)["warnings"])
	for _, field := range fields {
		for where, text := range map[string]string{"validate": out, "the log": g.log.String(), "the status": status} {
			if code != 0 || !strings.Contains(text, field+": ") {
				t.Errorf("%s says nothing of %s: %s", where, field, text)
			}
		}
	}

	team := map[string]any{"name": "team", "subdomain": "team", "timeouts": map[string]any{"policy_timeout": "2s"},
		"connection_pool": map[string]any{"max_idle_per_host": 32}, "streaming": map[string]any{"buffer_size": "64KB"}}
	for range 2 { // the second is a replacement that says it again: nothing is new
		status, header, body, err := api("PUT", admin+"/api/v1/gateways/team", team)
		if status == 404 {
			status, header, body, err = api("POST", admin+"/api/v1/gateways", team)
			if got := strings.Join(header.Values("X-Millrace-Warning"), "\n"); strings.Count(got, "\n") != 2 || !strings.Contains(got, "team: gateway.timeouts.policy_timeout: ") {
				t.Errorf("REST warns %q", got)
			}
		} else if got := header.Values("X-Millrace-Warning"); len(got) > 0 {
			t.Errorf("REST warns again: %q", got)
		}
		if err != nil || status >= 300 {
			t.Fatalf("%d %v %v", status, body, err)
		}
	}
}

// TestMaxTotalIsForAll: max_total bounds the connections to all targets of the gateway, whatever
// upstream they are in (E14): the parts that pools get in Envoy are no more together.
func TestMaxTotalIsForAll(t *testing.T) {
	t.Parallel()
	var document strings.Builder
	document.WriteString("upstreams:\n")
	for _, u := range []struct{ name, more string }{{"a", "algorithm: random"}, {"b", "algorithm: prompt-hash"}, {"c", ""}} {
		fmt.Fprintf(&document, "- name: %s\n  %s\n  targets:\n", u.name, u.more)
		for i, priority := range []int{1, 1, 2} {
			fmt.Fprintf(&document, "  - {id: t%d, host: 127.0.0.1, port: 9, protocol: http, priority: %d}\n", i, priority)
		}
	}
	g := start(t, "connection_pool: {max_total: 20}", document.String())
	page, err := g.envoyAdmin("/clusters")
	if err != nil {
		t.Fatal(err)
	}
	total, targets := 0, 0
	for line := range strings.Lines(page) {
		var n int
		if _, value, ok := strings.Cut(line, "::default_priority::max_connections::"); ok && strings.HasPrefix(line, "default/") && strings.Contains(line, "/t") {
			if _, err := fmt.Sscan(value, &n); err == nil && n < 1_000_000 {
				total, targets = total+n, targets+1
			}
		}
	}
	if targets != 9 || total > 20 || total < 17 {
		t.Errorf("%d targets may have %d connections together, want at most 20\n%s", targets, total, page)
	}
}
