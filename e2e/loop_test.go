package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// asks are the requests of both schemas, whole and streamed, with the type that an error has in
// each.
var asks = []struct{ operation, body, kind string }{
	{"/chat/completions", chatHello, "server_error"},
	{"/chat/completions", chatStream, "server_error"},
	{"/messages", claudeHello, "api_error"},
	{"/messages", claudeStream, "api_error"},
}

func (a *answer) wantLoop(kind string) {
	a.t.Helper()
	a.want(508, "came back")
	if kind == "api_error" {
		a.anthropicError(kind)
	} else {
		a.openAIError(kind)
	}
	a.header("x-should-retry", "false") // or SDKs send it again
}

// place puts the port of another gateway, or its own, in the place of a name in a gateway's
// configuration.
func (g *gateway) place(name string, other *gateway) {
	g.t.Helper()
	document, err := os.ReadFile(g.Config)
	if err != nil {
		g.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(document), name, other.port())
	if err := os.WriteFile(g.Config, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) port() string { return g.URL[strings.LastIndexByte(g.URL, ':')+1:] }

// wantEvents waits for n events and checks that there are no more once a later request has its own.
func (g *gateway) wantEvents(n int) []*millracev1.Event {
	g.t.Helper()
	last := g.get("/nowhere").want(404)
	g.byID(last.Header.Get("x-millrace-request-id"))
	g.eventually(fmt.Sprintf("%d events", n), func() error {
		if got := len(g.readEvents()); got != n+1 {
			return fmt.Errorf("%d", got-1)
		}
		return nil
	})
	return g.readEvents()
}

// TestLoop: a request whose target is the gateway itself, under a name, gets 508 in the client's
// schema and has one event with one attempt: it is not retried, goes to no other target, and takes
// none out, with hedging too.
func TestLoop(t *testing.T) {
	t.Parallel()
	spare := openAI("spare")
	s := provider(t, spare)
	upstream := func(name, kind, hedge string) string {
		return fmt.Sprintf(`
- name: %s
  health_checks: {passive: true, threshold: 1}
  retry: {attempts: 3%s}
  targets:
  - {id: self, provider: {type: %s, base_url: "http://localhost:SELF/%s/v1"}}
  - %s`, name, hedge, kind, name, to("spare", spare, s, "priority: 1"))
	}
	g := prepare(t, `allow_upstreams: ["localhost:SELF"]`, "upstreams:"+upstream("o", "openai", "")+upstream("a", "anthropic", "")+upstream("h", "openai", ", hedge: 10s")+`
services: [{name: o, upstream: o}, {name: a, upstream: a}, {name: h, upstream: h}]
rules: [{path: /o, service: o, strip_path: true}, {path: /a, service: a, strip_path: true}, {path: /h, service: h, strip_path: true}]
`)
	g.place("SELF", g)
	g.run()
	n := 0
	for _, rule := range []string{"/o/v1", "/a/v1", "/h/v1"} {
		for _, ask := range asks {
			r := g.post(rule+ask.operation, ask.body)
			r.wantLoop(ask.kind)
			r.header("x-millrace-attempts", "self=508")
			n++
		}
	}
	for _, e := range g.wantEvents(n)[:n] {
		if e.Status != 508 || len(e.Attempts) != 1 || e.Attempts[0].Status != 508 || !strings.Contains(e.Error, "came back") {
			t.Errorf("event %v", e)
		}
	}
	if got := len(spare.Requests()); got != 0 {
		t.Errorf("the other target got %d requests", got)
	}
}

// TestChain: a request may pass one gateway after another; when it comes back to one that it has
// passed, all of them answer 508.
func TestChain(t *testing.T) {
	t.Parallel()
	p := openAI("p")
	s := provider(t, p)
	document := func(other string) string {
		return fmt.Sprintf(`
upstreams:
- {name: end, targets: [%s]}
- {name: on, targets: [{id: other, provider: {type: openai, base_url: "http://127.0.0.1:%s/end/v1"}}]}
- {name: round, targets: [{id: other, provider: {type: anthropic, base_url: "http://127.0.0.1:%s/round/v1"}}]}
services: [{name: end, upstream: end}, {name: on, upstream: on}, {name: round, upstream: round}]
rules:
- {path: /end, service: end, strip_path: true}
- {path: /on, service: on, strip_path: true}
- {path: /round, service: round, strip_path: true}
`, to("p", p, s), other, other)
	}
	a, b := prepare(t, "name: a", document("PORT-OF-B")), prepare(t, "name: b", document("PORT-OF-A"))
	for _, g := range []*gateway{a, b} {
		g.place("PORT-OF-A", a)
		g.place("PORT-OF-B", b)
		g.run()
	}
	for _, ask := range asks {
		a.post("/on/v1"+ask.operation, ask.body).want(200, "heard")
	}
	for _, r := range p.Requests() {
		if ids := strings.Split(r.Header.Get("x-millrace-via"), ","); len(ids) != 2 || ids[0] == ids[1] || len(ids[0]) != 8 || len(ids[1]) != 8 {
			t.Errorf("the provider got via %q", ids)
		}
	}
	for _, ask := range asks {
		a.post("/round/v1"+ask.operation, ask.body).wantLoop(ask.kind)
	}
	a.wantEvents(2 * len(asks))
	b.wantEvents(2 * len(asks))
}

// TestLoopThroughABalancer: two gateways behind a balancer that each of them has as its target.
// Replicas are one gateway: the second one ends the request. Gateways that differ end it when it
// comes to one for the second time.
func TestLoopThroughABalancer(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		names  [2]string
		second int // events at the second gateway
	}{
		"replicas":  {[2]string{"one", "one"}, 0},
		"different": {[2]string{"one", "two"}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			balancer, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { balancer.Close() })
			document := pool("", fmt.Sprintf(`{id: balancer, provider: {type: openai, base_url: "http://%s/v1"}}`, balancer.Addr()))
			first, second := start(t, "name: "+c.names[0], document), start(t, "name: "+c.names[1], document)
			go takeTurns(balancer, second, first)
			first.post("/v1/chat/completions", chatHello).wantLoop("server_error")
			first.wantEvents(1)
			second.wantEvents(c.second)
		})
	}
}

// takeTurns gives each connection to the next of the gateways, until the listener closes.
func takeTurns(l net.Listener, gateways ...*gateway) {
	for i := 0; ; i++ {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go relay(from, strings.TrimPrefix(gateways[i%len(gateways)].URL, "http://"))
	}
}

func relay(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		io.Copy(to, from)
		to.Close()
	}()
	io.Copy(from, to)
}

// TestVia: what a client puts on the list goes no further unless it is an id, and does not get
// anybody's request refused but one that has passed eight gateways. Providers that are not to have
// it do not get it.
func TestVia(t *testing.T) {
	t.Parallel()
	p, q := openAI("p"), openAI("q")
	sp, sq := provider(t, p), provider(t, q)
	g := start(t, fmt.Sprintf("hide_via: [%q]", sq.Addr()), fmt.Sprintf(`
upstreams: [{name: p, targets: [%s]}, {name: q, targets: [%s]}]
services: [{name: p, upstream: p}, {name: q, upstream: q}]
rules: [{path: /p, service: p, strip_path: true}, {path: /q, service: q, strip_path: true}]
`, to("p", p, sp), to("q", q, sq)))
	const eight = "00000000,11111111,22222222,33333333,44444444,55555555,66666666,77777777"
	seven := strings.TrimSuffix(eight, ",77777777")
	for _, c := range []struct {
		header []string
		want   string // before the gateway's own id
	}{
		{nil, ""},
		{[]string{"x-millrace-via: anything else, 12345678"}, "12345678,"},
		{[]string{"x-millrace-via: 12345678", "x-millrace-via: <script>", "x-millrace-via: 87654321"}, "12345678,87654321,"},
		{[]string{"x-millrace-via: " + seven}, seven + ","},
	} {
		g.post("/p/v1/chat/completions", chatHello, c.header...).want(200)
		requests := p.Requests()
		got := requests[len(requests)-1].Header.Get("x-millrace-via")
		if id := strings.TrimPrefix(got, c.want); len(id) != 8 || strings.Contains(id, ",") {
			t.Errorf("%q: the provider got %q", c.header, got)
		}
		g.post("/q/v1/chat/completions", chatHello, c.header...).want(200)
	}
	for _, r := range q.Requests() {
		if values, there := r.Header["X-Millrace-Via"]; there {
			t.Errorf("a provider that must not have it got %q", values)
		}
	}
	refused := g.post("/p/v1/chat/completions", chatHello, "x-millrace-via: "+eight).want(508, "passed 8 gateways")
	if e := g.byID(refused.Header.Get("x-millrace-request-id")); e.Status != 508 {
		t.Errorf("event %v", e)
	}
}

// TestLoopWithoutTheSidecar: Envoy alone, serving an open service, knows a request that has come
// back, and tells other gateways of it.
func TestLoopWithoutTheSidecar(t *testing.T) {
	t.Parallel()
	p := openAI("p")
	g := prepare(t, `allow_upstreams: ["localhost:SELF"]`, fmt.Sprintf(`
upstreams:
- {name: self, targets: [{id: self, provider: {type: openai, base_url: "http://localhost:SELF/v1"}}]}
- {name: p, targets: [%s]}
services: [{name: self, upstream: self, failure: open}, {name: p, upstream: p, failure: open}]
rules: [{path: /v1, service: self}, {path: /p, service: p, strip_path: true}]
`, to("p", p, provider(t, p))))
	g.place("SELF", g)
	twoProcesses(t, g)
	g.kill()
	for _, body := range []string{chatHello, chatStream} {
		g.post("/v1/chat/completions", body).wantLoop("server_error")
	}
	p.Script(fakellm.Fail(503, "down")) // an attempt more does not put it on the list twice
	g.post("/p/chat/completions", chatHello, "x-millrace-via: 12345678").want(200)
	for _, r := range p.Requests() {
		if got := strings.ReplaceAll(strings.Join(r.Header.Values("x-millrace-via"), ","), " ", ""); len(got) != 17 || !strings.HasPrefix(got, "12345678,") {
			t.Errorf("the provider got via %q", got)
		}
	}
	g.post("/p/chat/completions", chatHello, "x-millrace-via: made up").want(503) // not to be passed on as it is
	if got := len(p.Requests()); got != 2 {
		t.Errorf("the provider got %d requests, want 2", got)
	}
}

// TestRefusedUpstreams: an address that is refused is so in the file, at the start and later, over
// REST, and by validate, in the same words; the configuration before stays.
func TestRefusedUpstreams(t *testing.T) {
	t.Parallel()
	p := openAI("p")
	g, admin := withAdmin(t, "", pool("", to("p", p, provider(t, p))))
	good, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	adminHost, adminPort, _ := strings.Cut(strings.TrimPrefix(admin, "http://"), ":")
	for _, c := range []struct {
		host, port, words string
		runs              bool // only a process that runs knows
	}{
		{"169.254.169.254", "80", "link-local address", false},
		{"0xA9FEA9FE", "80", "write 169.254.169.254", false},
		{"localhost", g.port(), "own listener", false},
		{adminHost, adminPort, "REST API", true},
	} {
		target := fmt.Sprintf("{id: p, host: %q, port: %s, protocol: http}", c.host, c.port)
		before, after, _ := strings.Cut(string(good), "  targets:\n")
		_, after, _ = strings.Cut(after, "\n")
		bad := before + "  targets:\n  - " + target + "\n" + after
		file := t.TempDir() + "/bad.yaml"
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := millrace(t, "validate", file); (code == 0) != c.runs || !c.runs && !strings.Contains(out, c.words) {
			t.Errorf("%s: validate: %d %s", c.host, code, out)
		}
		if out, code := millrace(t, "run", "--config", file, "--data-dir", t.TempDir(), "--admin", strings.TrimPrefix(admin, "http://")); code == 0 || !strings.Contains(out, c.words) {
			t.Errorf("%s: run: %d %s", c.host, code, out)
		}
		status, _, problem, err := api("POST", admin+"/api/v1/gateways/default/upstreams", map[string]any{
			"name": "bad", "targets": []any{map[string]any{"id": "p", "provider": map[string]any{"base_url": "http://" + c.host + ":" + c.port + "/v1"}}},
		})
		if err != nil || status != 422 || !strings.Contains(fmt.Sprint(problem), c.words) {
			t.Errorf("%s: POST: %d %v %v", c.host, status, problem, err)
		}
		if err := os.WriteFile(g.Config, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		g.eventually("the edit is refused", func() error {
			if file, _ := must(t, "GET", admin+"/api/v1/status", nil)["file"].(map[string]any); !strings.Contains(fmt.Sprint(file["error"]), c.words) {
				return fmt.Errorf("%v", file)
			}
			return nil
		})
		g.post("/v1/chat/completions", chatHello).want(200, "p heard")
	}
}
