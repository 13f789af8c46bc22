package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestNoKeyIsEchoed: a provider that quotes the gateway's credential wherever it can tells it to
// nobody: not to the client of either schema, not to the events, the log, the status or Envoy's
// configuration dump.
func TestNoKeyIsEchoed(t *testing.T) {
	t.Parallel()
	const key, token = "sk-proj-e2e4fJq8ZtR2mWcX7vBnLk3hYdTs9", "tk-9vQ4xW7zB2nM5kL8jH1g"
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat, Key: key}
	s := provider(t, p)
	g, admin := withAdmin(t, "", "")
	base := admin + "/api/v1/gateways/default"
	newPool(t, base, "chat", "/v1", map[string]any{
		"id": "p", "provider": map[string]any{"base_url": s.URL() + "/v1", "secret_key_ref": key}, "headers": map[string]any{"x-team-token": token},
	})
	encoded := base64.StdEncoding.EncodeToString([]byte("Bearer " + key))
	quoted := fmt.Sprintf(`%s Bearer %s \u0073%s %s %s...%s %s`, key, key, key[1:], encoded, key[:14], key[len(key)-4:], token)
	leaks := []string{key[4:16], key[len(key)-8:], encoded[20:32], key[:14] + "...", token[4:16]}
	plain := strings.ReplaceAll(quoted, `\u0073`, "s")
	headers := http.Header{"X-Request-Id": {plain}, "Openai-Version": {plain}, "Content-Language": {plain}}
	refused := fakellm.Reply{Status: 400, Header: headers, Body: `{"error":{"message":"bad ` + quoted + `","type":"x","code":"` + quoted + `","param":"` + quoted + `","innererror":{"a":"` + quoted + `"}},"request":"` + quoted + `"}`}
	event := func(content string) string {
		return `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"` + content + `"}}]}` + "\n\n"
	}
	stream := http.Header{"Content-Type": {"text/event-stream"}, "X-Request-Id": {plain}}
	broken := fakellm.Reply{Header: stream, Steps: fakellm.Chunks(": "+plain+"\n\n", event("hello"), "event: debug\ndata: {\"a\":\""+quoted+"\"}\n\n",
		event(quoted), `data: {"error":{"message":"bad `+quoted+`","code":"`+quoted+`"}}`+"\n\n")}

	var answers []string
	say := func(a *answer) {
		t.Helper()
		answers = append(answers, a.Body+fmt.Sprint(a.Header))
		if !strings.Contains(a.Body, "[redacted]") {
			t.Errorf("nothing is redacted in %d %s", a.Status, a.Body)
		}
	}
	for path, bodies := range map[string][2]string{"/v1/chat/completions": {chatHello, chatStream}, "/v1/messages": {claudeHello, claudeStream}} {
		p.Script(refused, fakellm.Say(plain), refused, broken)
		say(g.post(path, bodies[0]).want(400))
		say(g.post(path, bodies[0]).want(200))
		say(g.post(path, bodies[1]).want(400))
		say(g.post(path, bodies[1]).want(200, "hello"))
	}
	last := g.post("/v1/chat/completions", chatHello).want(200)
	g.byID(last.Header.Get("x-millrace-request-id"))

	events, err := os.ReadFile(g.events)
	if err != nil || !strings.Contains(string(events), "bad [redacted]") {
		t.Errorf("events: %v %s", err, events)
	}
	health := fmt.Sprint(must(t, "GET", base+"/upstreams/chat/health", nil))
	if !strings.Contains(health, "bad [redacted]") {
		t.Errorf("recent outcomes: %s", health)
	}
	dump, err := g.envoyAdmin("/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"answers": strings.Join(answers, "\n"), "events": string(events), "recent outcomes": health, "log": g.log.String(), "dump": dump,
		"configuration": fmt.Sprint(must(t, "GET", admin+"/api/v1/config", nil)),
	} {
		for _, leak := range leaks {
			if i := strings.Index(text, leak); i >= 0 {
				t.Errorf("%s: %q in …%s…", what, leak, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// TestKeptKeyStaysHome: a write that keeps the key and leads elsewhere is refused, and the new host
// hears nothing; with the key sent again it is taken.
func TestKeptKeyStaysHome(t *testing.T) {
	t.Parallel()
	home, elsewhere := openAI("home"), openAI("elsewhere")
	sh, se := provider(t, home), provider(t, elsewhere)
	g, admin := withAdmin(t, "", "")
	base := admin + "/api/v1/gateways/default"
	at := func(url, key string) map[string]any {
		return map[string]any{"id": "a", "provider": map[string]any{"type": "openai", "base_url": url + "/v1", "secret_key_ref": key}}
	}
	newPool(t, base, "chat", "/v1", at(sh.URL(), home.Key))
	chat := base + "/upstreams/chat"
	for name, write := range map[string]func() (int, http.Header, map[string]any, error){
		"PUT": func() (int, http.Header, map[string]any, error) {
			return api("PUT", chat, map[string]any{"name": "chat", "targets": []any{at(se.URL(), "[redacted]")}})
		},
		"PATCH": func() (int, http.Header, map[string]any, error) {
			return api("PATCH", chat, map[string]any{"targets": []any{at(se.URL(), "[redacted]")}})
		},
		"PATCH, target": func() (int, http.Header, map[string]any, error) {
			return api("PATCH", chat+"/targets/a", map[string]any{"provider": map[string]any{"base_url": se.URL() + "/v1"}})
		},
	} {
		if status, _, problem, err := write(); err != nil || status != 422 || !strings.Contains(fmt.Sprint(problem), "send the secret again") {
			t.Errorf("%s: %d %v %v", name, status, problem, err)
		}
	}
	g.post("/v1/chat/completions", chatHello).want(200, "home heard")
	if got := len(elsewhere.Requests()); got != 0 {
		t.Errorf("the other host got %d requests", got)
	}
	must(t, "PATCH", chat+"/targets/a", at(se.URL(), elsewhere.Key))
	g.post("/v1/chat/completions", chatHello).want(200, "elsewhere heard")
}

// TestTrailersStayHere: a provider's trailers do not reach a client that could read them, and the
// answer is whole, with the sidecar and without.
func TestTrailersStayHere(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	p := openAI("p")
	s := providerTLS(t, p, conf)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	g := prepare(t, "ca_file: "+caFile+"\nconnection_pool: {http2: true}", fmt.Sprintf(`
upstreams: [{name: chat, targets: [{id: p, provider: {type: openai, base_url: "https://localhost:%s/v1", secret_key_ref: %s}}]}]
services: [{name: chat, upstream: chat, failure: open}]
rules: [{path: /v1, service: chat}]
`, port, p.Key))
	twoProcesses(t, g)
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)
	for i, body := range []string{chatHello, chatStream, chatHello, chatStream} {
		if i == 2 {
			g.kill()
		}
		p.Script(fakellm.Reply{Answer: &fakellm.Answer{}, Header: http.Header{http.TrailerPrefix + "X-Debug": {p.Key}}})
		r, err := client.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.ProtoMajor != 2 || r.StatusCode != 200 || !strings.Contains(string(text), "heard") || len(r.Trailer) > 0 {
			t.Errorf("%s %d, %v, trailers %v: %s", r.Proto, r.StatusCode, err, r.Trailer, text)
		}
	}
}
