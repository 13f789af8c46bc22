package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"millrace/internal/fakellm"
)

// private are headers of a client that are no provider's business.
var private = []string{
	"Authorization: Bearer client-secret", "X-Api-Key: client-secret", "Api-Key: client-secret", "X-Goog-Api-Key: client-secret",
	"Cookie: session=client-secret", "Proxy-Authorization: client-secret", "X-Forwarded-For: 10.1.2.3", "X-Real-Ip: 10.1.2.3",
	"Forwarded: for=10.1.2.3", "X-Millrace-Stream: 1", "X-Envoy-Upstream-Rq-Timeout-Ms: 1", "X-Request-Id: of-the-client",
	"Accept-Encoding: gzip", "X-Unheard-Of: client-secret", "X-Team: client-secret", "X-Team-Token: client-secret", "User-Agent: app/1",
}

// twoProcesses starts sidecar and Envoy as two processes, so that either can die alone. It returns
// what starts the sidecar.
func twoProcesses(t *testing.T, g *gateway) (sidecar []string, dir string) {
	t.Helper()
	dir = shortTempDir(t)
	sidecar = []string{"serve", "--config", g.Config, "--socket-dir", dir}
	g.exec(sidecar...)
	startEnvoy(t, dir)
	g.waitReady()
	return sidecar, dir
}

// kill ends the sidecar as a crash does.
func (g *gateway) kill() {
	g.cmd.Process.Kill()
	<-g.exited
}

// openAndClosed is a document with an open service below /v1 and /ai for each schema, and the same
// upstreams closed.
func openAndClosed(t *testing.T, schemas map[string][]*fakellm.Provider) string {
	t.Helper()
	var upstreams, services, rules strings.Builder
	for name, fakes := range schemas {
		fmt.Fprintf(&upstreams, "- name: %s\n  targets:\n", name)
		for i, p := range fakes {
			headers := `headers: {x-team-token: token-of-all}`
			if i == 0 {
				headers = `headers: {x-team-token: token-of-all, x-team: 100% "mine"}`
			}
			upstreams.WriteString("  - " + to(p.Name, p, provider(t, p), headers) + "\n")
		}
		fmt.Fprintf(&services, "- {name: %s, upstream: %s, failure: open}\n- {name: %s-closed, upstream: %s}\n", name, name, name, name)
		fmt.Fprintf(&rules, "- {path: /%s, service: %s, strip_path: true}\n- {path: /closed/%s, service: %s-closed, strip_path: true}\n", name, name, name, name)
	}
	return "upstreams:\n" + upstreams.String() + "services:\n" + services.String() + "rules:\n" + rules.String()
}

// TestOpenWithoutTheSidecar: while the sidecar is dead Envoy serves an open service by itself, with
// the target's own host, path, headers and credential and with nothing that is private to the
// client; retries go on; a closed service has its 503. With the sidecar back all is as before.
func TestOpenWithoutTheSidecar(t *testing.T) {
	t.Parallel()
	a, b, c := openAI("a"), openAI("b"), anthropicAI("c")
	b.Key = a.Key
	g := prepare(t, "", openAndClosed(t, map[string][]*fakellm.Provider{"chat": {a, b}, "claude": {c}}))
	sidecar, dir := twoProcesses(t, g)
	by := func(who string, r *answer) *answer { // by whom the request was served, the sidecar or Envoy alone
		t.Helper()
		if got := map[bool]string{true: "Envoy", false: "sidecar"}[r.Header.Get("x-millrace-attempts") == ""]; r.Status != 200 || got != who {
			t.Fatalf("%d by %s, want 200 by %s: %s", r.Status, got, who, r.Body)
		}
		if r.Header.Get("x-millrace-target") == "" || r.Header.Get("x-selected-provider") == "" || r.Header.Get("anthropic-organization-id") != "" {
			t.Errorf("headers of the answer: %v", r.Header)
		}
		return r
	}
	serve := func(who string) {
		t.Helper()
		for range 2 { // one each
			by(who, g.post("/chat/v1/chat/completions", chatHello, private...)).want(200, "heard: hello")
		}
		by(who, g.post("/chat/chat/completions", chatStream, private...)).want(200, "[DONE]")
		by(who, g.post("/chat", chatStream, private...)).want(200, "[DONE]")
		by(who, g.post("/claude/v1/messages?beta=true", claudeHello, append(private, "Anthropic-Beta: some")...)).want(200, "c heard: hello")
		by(who, g.post("/claude/messages", claudeStream, private...)).want(200, "message_stop")
		by(who, g.post("/claude", claudeStream, append(private, "Anthropic-Version: 2023-06-01")...)).want(200, "message_stop")
		a.Script(fakellm.Fail(503, "down"))
		b.Script(fakellm.Fail(429, "slow down"))
		by(who, g.post("/chat/v1/chat/completions", chatHello, private...))
		g.post("/closed/chat/v1/chat/completions", chatHello).want(map[string]int{"sidecar": 200, "Envoy": 503}[who])
	}
	serve("sidecar")
	quoting := fakellm.Fail(401, "Incorrect API key provided: "+a.Key)
	a.Always(quoting)
	b.Always(quoting)
	g.post("/chat/v1/chat/completions", chatHello).want(502, "the provider does not accept the gateway")
	a.Reset()
	b.Reset()

	g.kill()
	live := map[*fakellm.Provider]int{a: len(a.Requests()), b: len(b.Requests()), c: len(c.Requests())}
	serve("Envoy")
	for p, before := range live {
		for _, r := range p.Requests()[before:] {
			checkServedOpen(t, p, r)
		}
	}
	g.post("/closed/chat/v1/chat/completions", chatHello).want(503).openAIError("server_error")
	g.post("/closed/claude/v1/messages", claudeHello).want(503).anthropicError("overloaded_error")
	for _, r := range []*answer{ // what would reach a provider with something private in it, or what is not its operation
		g.post("/chat/v1/chat/completions?key=client-secret", chatHello),
		g.post("/chat/v1/files", chatHello),
		g.post("/chat/v1/messages", claudeHello),
		g.get("/chat/v1/models"),
		g.get("/health"),
	} {
		r.want(503)
	}

	a.Always(quoting)
	b.Always(quoting)
	c.Always(fakellm.Fail(403, c.Key))
	refused := g.post("/chat/v1/chat/completions", chatHello).want(502).openAIError("server_error") +
		g.post("/claude/v1/messages", claudeHello).want(502).anthropicError("overloaded_error")
	if strings.Contains(refused, "key-") {
		t.Errorf("the client is told the credential: %s", refused)
	}
	for _, p := range []*fakellm.Provider{a, b, c} {
		p.Reset()
	}

	g.exec(sidecar...)
	g.eventually("the sidecar is healthy", func() error {
		return exec.Command(binary, "health", "--socket-dir", dir).Run()
	})
	g.eventually("the sidecar serves", func() error {
		if r := g.post("/chat/v1/chat/completions", chatHello); r.Status != 200 || r.Header.Get("x-millrace-attempts") == "" {
			return fmt.Errorf("%d, attempts %q", r.Status, r.Header.Get("x-millrace-attempts"))
		}
		return nil
	})
	serve("sidecar")
	g.stop()
}

// TestOpenPools: without the sidecar, too, the services of an A/B test share, a hash with
// priorities is a pool for each under one name, checks are made, and TLS and HTTP/2 are spoken.
func TestOpenPools(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	a, b, c, d := openAI("a"), openAI("b"), openAI("c"), openAI("d")
	b.Key = a.Key
	s := providerTLS(t, d, conf)
	_, port, _ := net.SplitHostPort(s.Addr())
	g := prepare(t, "ca_file: "+caFile+"\nconnection_pool: {http2: true}", fmt.Sprintf(`upstreams:
- {name: hash, algorithm: header-hash, hash_header: x-user, targets: [%s, %s]}
- {name: checked, health_checks: {passive: false, active: {path: /v1/models, interval: 0.1s}}, targets: [%s]}
- {name: tls, targets: [{id: d, provider: {base_url: "https://localhost:%s/v1", secret_key_ref: key-d}}]}
services:
- {name: hash, upstream: hash, failure: open}
- {name: checked, upstream: checked, failure: open}
- {name: tls, upstream: tls, failure: open}
rules:
- {path: /v1, services: [{service: hash, weight: 1}, {service: checked, weight: 1}]}
- {path: /tls, service: tls}
`, to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2"), to("c", c, provider(t, c)), port))
	twoProcesses(t, g)
	g.kill()

	shares := map[string]int{}
	ask := func() {
		g.eventually("both answer", func() error { // once c's checks have passed
			clear(shares)
			for range 40 {
				r := g.post("/v1/chat/completions", chatHello, "X-User: me")
				if r.Status != 200 {
					return fmt.Errorf("%d: %s", r.Status, r.Body)
				}
				shares[r.Header.Get("x-millrace-target")]++
			}
			return nil
		})
	}
	ask()
	if shares["a"] < 8 || shares["c"] < 8 || len(shares) != 2 {
		t.Errorf("answers: %v", shares)
	}
	a.Always(fakellm.Fail(503, "down"))
	ask()
	if shares["b"] < 8 || shares["c"] < 8 || len(shares) != 2 {
		t.Errorf("answers with a down: %v", shares)
	}
	c.Probe(fakellm.Fail(500, "ill"))
	g.eventually("c is out", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 503 {
			return fmt.Errorf("%d by %s", r.Status, r.Header.Get("x-millrace-target"))
		}
		return nil
	})
	g.post("/tls/v1/chat/completions", chatHello).want(200)
	if r := d.Requests()[0]; r.Proto != "HTTP/2.0" || r.Host != "localhost" {
		t.Errorf("%s to %q", r.Proto, r.Host)
	}
}

// TestOpenIsChanged: a service can be opened and closed while requests run, none of which Envoy
// then serves alone; what would make an open one unsafe is refused.
func TestOpenIsChanged(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", strings.Replace(pool("", to("a", a, provider(t, a))), "upstream: chat}", "upstream: chat, failure: closed}", 1))
	sidecar, _ := twoProcesses(t, g)
	change := func(from, to string) { // with a rule that shows that it is applied
		t.Helper()
		marker := fmt.Sprint("/", to, len(g.log.String()))
		g.edit(func(s string) string {
			return strings.Replace(s, "failure: "+from, "failure: "+to, 1) + "- {path: " + marker + ", service: chat}\n"
		})
		g.eventually("the change is applied", func() error {
			if r := g.post("/v1/chat/completions", chatHello).want(200); r.Header.Get("x-millrace-attempts") != "a=200" {
				t.Errorf("served by Envoy alone: %v", r.Header)
			}
			if r := g.post(marker+"/chat/completions", chatHello); r.Status != 200 {
				return fmt.Errorf("status %d", r.Status)
			}
			return nil
		})
	}
	change("closed", "open")
	g.edit(func(s string) string { return strings.Replace(s, "gateway:\n", "gateway:\n  auth: required\n", 1) })
	g.said(`gateway.auth: service \"chat\" has failure: open`)
	g.edit(func(s string) string { return strings.Replace(s, "  auth: required\n", "", 1) })
	g.kill()
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "")

	g.exec(sidecar...)
	g.eventually("the sidecar serves", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 200 || r.Header.Get("x-millrace-attempts") == "" {
			return fmt.Errorf("%d, attempts %q", r.Status, r.Header.Get("x-millrace-attempts"))
		}
		return nil
	})
	change("open", "closed")
	g.kill()
	g.post("/v1/chat/completions", chatHello).want(503)
}

// checkServedOpen: the request is the one that the sidecar would have sent, but for its body.
func checkServedOpen(t *testing.T, p *fakellm.Provider, r fakellm.Request) {
	t.Helper()
	if r.Refused != nil {
		t.Errorf("target %s refused: %s", p.Name, r.Refused.Message)
	}
	if _, port, err := net.SplitHostPort(r.Host); err != nil || !strings.HasPrefix(r.Host, "127.0.0.1:") || port == "" {
		t.Errorf("target %s was called %q", p.Name, r.Host)
	}
	sent := []string{"Accept", "Content-Length", "Content-Type", "User-Agent", "X-Request-Id", "X-Millrace-Via"}
	want := map[string]string{"User-Agent": "app/1", "Content-Type": "application/json", "Accept-Encoding": "identity", "X-Team-Token": "token-of-all"}
	switch p.Name {
	case "a":
		want["X-Team"] = `100% "mine"`
		want["Authorization"] = "Bearer " + p.Key
	case "b":
		want["Authorization"] = "Bearer " + p.Key
	case "c":
		want["X-Team"] = `100% "mine"`
		want["X-Api-Key"], want["Anthropic-Version"] = p.Key, "2023-06-01"
		sent = append(sent, "Anthropic-Beta")
	}
	for name, values := range r.Header {
		if value, ok := want[name]; ok && value != strings.Join(values, ", ") || !ok && !slices.Contains(sent, name) || values[0] == "of-the-client" || name == "X-Millrace-Via" && !oneID.MatchString(name+": "+strings.Join(values, ", ")) {
			t.Errorf("target %s got %s: %q", p.Name, name, values)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("target %s did not get %v", p.Name, want)
	}
}

// TestSidecarDiesUnderARequest: what an open service's sidecar was doing when it died ends as a
// failure, never as an answer that is short; so does what breaks while Envoy serves alone.
func TestSidecarDiesUnderARequest(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", openAndClosed(t, map[string][]*fakellm.Provider{"chat": {a}}))
	twoProcesses(t, g)
	gate := make(chan struct{})
	three := &fakellm.Answer{Text: "one two three"}
	a.Script(
		fakellm.Reply{Answer: three, StopAfter: 4, End: fakellm.Hang},
		fakellm.Reply{Answer: three, Head: fakellm.Pace{Gate: gate}},
		fakellm.Reply{Answer: three, CutEvery: 100, StopAfter: 1, End: fakellm.Hang})

	stream, err := http.DefaultClient.Do(g.request("POST", "/chat/v1/chat/completions", strings.NewReader(chatStream)))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if _, err := stream.Body.Read(make([]byte, 1)); err != nil || stream.StatusCode != 200 {
		t.Fatalf("the stream has not begun: %d, %v", stream.StatusCode, err)
	}
	var whole sync.WaitGroup
	for i := range 2 { // before the status line, and in the middle of the body
		whole.Go(func() {
			r, err := http.DefaultClient.Do(g.request("POST", "/chat/v1/chat/completions", strings.NewReader(chatHello)))
			if err == nil {
				defer r.Body.Close()
				if r.StatusCode < 500 {
					t.Errorf("request %d: %s", i, r.Status)
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := a.WaitArrived(ctx, 3); err != nil {
		t.Fatal(err)
	}
	g.kill()
	if rest, err := io.ReadAll(stream.Body); err == nil || strings.Contains(string(rest), "[DONE]") {
		t.Errorf("the stream looks complete: %s", rest)
	}
	whole.Wait()
	close(gate)

	a.Script(fakellm.Reply{Answer: three, StopAfter: 4, End: fakellm.Cut})
	r, err := http.DefaultClient.Do(g.request("POST", "/chat/v1/chat/completions", strings.NewReader(chatStream)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if rest, err := io.ReadAll(r.Body); err == nil || r.StatusCode != 200 || r.Header.Get("x-millrace-attempts") != "" {
		t.Errorf("%s by Envoy, which looks complete: %s", r.Status, rest)
	}
}
