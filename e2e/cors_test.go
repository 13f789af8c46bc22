package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// preflight asks what a browser asks before a page of this origin may post JSON with a key.
func (g *gateway) preflight(path, origin string) *answer {
	g.t.Helper()
	return g.send("OPTIONS", path, "Origin: "+origin, "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: authorization,content-type,x-stainless-lang", "Access-Control-Request-Private-Network: true")
}

// send is a request without a body.
func (g *gateway) send(method, path string, header ...string) *answer {
	g.t.Helper()
	response, err := http.DefaultClient.Do(g.request(method, path, nil, header...))
	if err != nil {
		g.t.Fatal(err)
	}
	return g.read(response)
}

// allows checks that a page of the origin may send what preflight asks.
func (a *answer) allows(origin string) {
	a.t.Helper()
	a.want(200).readableFrom(origin)
	for name, want := range map[string][]string{
		"Access-Control-Allow-Methods": {"POST", "GET"},
		"Access-Control-Allow-Headers": {"authorization", "*"},
	} {
		if got := listOf(a.Header.Get(name)); !containsAll(got, want) {
			a.t.Errorf("%s: %q, want %q among them", name, got, want)
		}
	}
	a.header("Access-Control-Allow-Private-Network", "true").header("Access-Control-Allow-Credentials", "")
}

// readableFrom checks that a page of the origin may read the answer, and all of its headers.
func (a *answer) readableFrom(origin string) *answer {
	a.t.Helper()
	a.header("Access-Control-Allow-Origin", origin)
	exposed := listOf(a.Header.Get("Access-Control-Expose-Headers"))
	want := []string{"retry-after", "x-request-id", "*"}
	for name := range a.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-millrace-") || lower == "x-selected-provider" {
			want = append(want, lower)
		}
	}
	if !containsAll(exposed, want) {
		a.t.Errorf("Access-Control-Expose-Headers: %q, want %q among them", exposed, want)
	}
	return a
}

// saysNothing checks that the answer has nothing for pages of other origins.
func (a *answer) saysNothing() *answer {
	a.t.Helper()
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			a.t.Errorf("%s: %s", name, a.Header.Get(name))
		}
	}
	return a
}

func listOf(header string) []string {
	var list []string
	for item := range strings.SplitSeq(header, ",") {
		list = append(list, strings.TrimSpace(item))
	}
	return list
}

func containsAll(list, items []string) bool {
	return !slices.ContainsFunc(items, func(i string) bool { return !slices.Contains(list, i) })
}

// TestCORS: a page of an allowed origin may ask, without a key, on any path, and read every answer,
// errors and streams included. To pages of other origins, and where no origin is allowed, the
// gateway says what it says without the option. A preflight goes nowhere and is no event.
func TestCORS(t *testing.T) {
	t.Parallel()
	const page = "http://localhost:5173"
	a := openAI("a")
	targets := pool("", to("a", a, provider(t, a), "models: [gpt-4o]")) + fmt.Sprintf(`- {path: /get, service: chat, methods: [GET, POST], strip_path: true}
- {path: /special, service: chat, models: [special], strip_path: true}
- {path: /team, service: chat, headers: {x-team: a}, strip_path: true}
- {path: /dead, service: dead, strip_path: true}
keys: [{name: k, hash: %s}]
`, hashOf("client-key"))
	targets = strings.Replace(targets, "services: [", "services: [{name: dead, upstream: dead}, ", 1)
	targets = strings.Replace(targets, "upstreams:\n", fmt.Sprintf("upstreams:\n- {name: dead, targets: [{provider: {base_url: \"http://127.0.0.1:%d/v1\"}}]}\n", freePort(t)), 1)
	g, admin := withAdmin(t, `cors: {allowed_origins: [https://chat.example, "http://localhost:*", "https://*.apps.example"]}`, targets)
	must(t, "POST", admin+"/api/v1/gateways", map[string]any{"name": "other", "hosts": []string{"other.example"}})
	must(t, "POST", admin+"/api/v1/gateways", map[string]any{"name": "third", "hosts": []string{"third.example"}, "cors": map[string]any{"allowed_origins": []string{"https://third.example"}}})

	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/models", "/get/v1/models", "/special/v1/chat/completions", "/team/v1/chat/completions", "/nothing", "/health"} {
		g.preflight(path, page).allows(page)
	}
	for _, origin := range []string{"https://chat.example", "http://localhost", "http://localhost:3000", "https://a.apps.example"} {
		g.preflight("/v1/chat/completions", origin).allows(origin)
	}
	for _, origin := range []string{"https://other.example", "http://chat.example", "https://chat.example:8443", "https://localhost:5173", "http://localhost.evil.example", "http://localhost:5173.evil.example",
		"https://apps.example", "https://a.b.apps.example", "https://evilapps.example", "https://chat.example.evil", "null"} {
		g.preflight("/get/v1/chat/completions", origin).want(405).saysNothing()
		g.post("/v1/chat/completions", chatHello, "Origin: "+origin, "X-Api-Key: client-key").want(200).saysNothing()
	}

	key := "Authorization: Bearer client-key"
	for name, r := range map[string]*answer{
		"whole":                 g.post("/v1/chat/completions", chatHello, "Origin: "+page, key).want(200).header("x-millrace-target", "a"),
		"stream":                g.post("/v1/chat/completions", chatStream, "Origin: "+page, key).want(200, "[DONE]"),
		"translated":            g.post("/v1/messages", claudeStream, "Origin: "+page, key).want(200, "message_stop"),
		"models":                g.get("/v1/models", "Origin: "+page, key).want(200),
		"health":                g.get("/health", "Origin: "+page).want(200),
		"no key":                g.post("/v1/chat/completions", chatHello, "Origin: "+page).want(401),
		"no such path":          g.post("/nothing", chatHello, "Origin: "+page, key).want(404),
		"no such operation":     g.post("/v1/nothing", chatHello, "Origin: "+page, key).want(404),
		"no such model":         g.post("/special/v1/chat/completions", chatHello, "Origin: "+page, key).want(404),
		"no such method":        g.get("/v1/chat/completions", "Origin: "+page, key).want(405),
		"not what rules take":   g.send("DELETE", "/get/v1/models", "Origin: "+page, key).want(405),
		"an OPTIONS of its own": g.send("OPTIONS", "/get/v1/models", "Origin: "+page, key).want(405),
		"no JSON":               g.post("/v1/chat/completions", "{", "Origin: "+page, key).want(400),
		"no target":             g.post("/dead/v1/chat/completions", chatHello, "Origin: "+page, key).want(503),
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			if r.readableFrom(page).header("Access-Control-Allow-Credentials", ""); !slices.Contains(r.Header.Values("Vary"), "origin") {
				t.Errorf("Vary: %q", r.Header.Values("Vary"))
			}
		})
	}
	a.Always(fakellm.Fail(429, "slow down"))
	g.post("/v1/chat/completions", chatHello, "Origin: "+page, key).want(429).readableFrom(page)
	g.post("/v1/chat/completions", chatHello, key).want(429).saysNothing() // it is no browser's

	// Gateways are asked for themselves.
	at := func(host string) *answer {
		r := g.request("OPTIONS", "/get/v1/models", nil, "Origin: https://third.example", "Access-Control-Request-Method: POST")
		r.Host = host
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return g.read(response)
	}
	at("third.example").want(200).readableFrom("https://third.example")
	at("other.example").want(404).saysNothing()
	at("localhost").want(405).saysNothing()

	last := g.post("/nothing", chatHello, "X-Api-Key: client-key").want(404).Header.Get("x-millrace-request-id")
	g.byID(last) // entries come in order
	if n := slices.IndexFunc(g.readEvents(), func(e *millracev1.Event) bool { return e.Method == "OPTIONS" && e.Status == 200 }); n >= 0 {
		t.Errorf("a preflight is an event: %v", g.readEvents()[n])
	}
}

// TestCORSOfAnyOrigin: with * every page may use the gateway, one without an origin too. What Envoy
// answers while the sidecar is dead can be read like the rest: its own errors, and what it sends on
// for an open service.
func TestCORSOfAnyOrigin(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, `cors: {allowed_origins: ["*"]}`, openAndClosed(t, map[string][]*fakellm.Provider{"chat": {a}}))
	twoProcesses(t, g)
	const path, closed = "/chat/v1/chat/completions", "/closed/chat/v1/chat/completions"
	for _, origin := range []string{"https://anything.example", "app://obsidian.md", "null"} {
		for _, p := range []string{path, closed} {
			g.preflight(p, origin).allows(origin)
			g.post(p, chatHello, "Origin: "+origin).want(200).readableFrom(origin)
		}
	}
	g.kill()
	const page = "https://anything.example"
	g.eventually("Envoy serves the open service", func() error {
		if r := g.post(path, chatHello); r.Status != 200 || r.Header.Get("x-millrace-attempts") != "" {
			return fmt.Errorf("status %d", r.Status)
		}
		return nil
	})
	for _, p := range []string{path, closed, "/nothing"} {
		g.preflight(p, page).allows(page)
	}
	g.post(path, chatHello, "Origin: "+page).want(200).header("x-millrace-target", "a").readableFrom(page)
	g.post(path, chatStream, "Origin: "+page).want(200, "[DONE]").readableFrom(page)
	g.post(closed, chatHello, "Origin: "+page).want(503).readableFrom(page)
	g.post("/nothing", chatHello, "Origin: "+page).want(503).readableFrom(page)
}

// TestCORSUnasked: without the option a browser is answered as before, in words and in headers.
func TestCORSUnasked(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	resources := fmt.Sprintf("providers: {targets: [%s]}\n", to("a", a, provider(t, a)))
	keyed := start(t, "", resources+fmt.Sprintf("keys: [{name: k, hash: %s}]\n", hashOf("client-key")))
	for _, g := range []*gateway{start(t, "", resources), keyed} {
		const page = "http://localhost:5173"
		g.preflight("/v1/chat/completions", page).want(405, "this path takes").saysNothing()
		g.post("/v1/chat/completions", chatHello, "Origin: "+page, "X-Api-Key: client-key").want(200).saysNothing().header("Vary", "")
		g.get("/v1/models", "Origin: "+page, "X-Api-Key: client-key").want(200).saysNothing()
	}
}
