package e2e

import (
	"bufio"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// The tests here show what the seeds ask of a load balancer and no other test does.
// docs/requirements.md lists all.

// TestRoundRobin: targets take turns when nothing else is said (A06, B03); and over one connection
// of a client's, which stays open (A15, A36).
func TestRoundRobin(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t)
	g := start(t, "", pool("", targets...))
	opened := 0
	for range 30 {
		trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
			if !c.Reused {
				opened++
			}
		}}
		r := g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello))
		response, err := one.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		if err != nil {
			t.Fatal(err)
		}
		g.read(response).want(200)
	}
	for _, p := range fakes {
		if n := len(p.Requests()); n != 10 {
			t.Errorf("target %s got %d of 30 requests", p.Name, n)
		}
		for _, r := range p.Requests() {
			if r.Proto != "HTTP/1.1" || r.Header.Get("Connection") != "" {
				t.Errorf("target %s got %s, connection %q", p.Name, r.Proto, r.Header.Get("Connection"))
			}
		}
	}
	if opened != 1 {
		t.Errorf("%d connections for one client", opened)
	}
}

// one is a client with connections of its own.
var one = &http.Client{Transport: &http.Transport{}}

// TestRandom: targets are chosen at random (B06), so each has its share and they do not take turns.
func TestRandom(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t)
	g := start(t, "", pool("algorithm: random", targets...))
	const n = 300
	last, turns := "", 0
	for range n {
		target := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-target")
		if target == last {
			turns++
		}
		last = target
	}
	for _, p := range fakes {
		if got := len(p.Requests()); got < n/5 || got > n/2 {
			t.Errorf("target %s got %d of %d requests", p.Name, got, n)
		}
	}
	if turns < n/6 {
		t.Errorf("only %d requests went where the one before did", turns)
	}
}

// TestFailuresInARow: after so many failures in a row, 429 among them (B18, B19, D19), a target
// gets nothing for the time given (B20); the others of its priority share on (B31), and the backup
// waits until none is left (C19, B12, B30).
func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t, "priority: 3", "priority: 3", "priority: 3")
	spare := openAI("spare")
	targets = append(targets, to("spare", spare, provider(t, spare), "priority: 7"))
	g := start(t, "", pool("health_checks: {passive: true, threshold: 3, interval: 600}", targets...))
	for range 9 {
		g.post("/v1/chat/completions", chatHello).want(200)
	}
	if n := len(spare.Requests()); n > 0 {
		t.Errorf("the backup got %d requests while all was well", n)
	}
	before := len(fakes[0].Requests())
	fakes[0].Always(fakellm.Fail(429, "slow down"))
	g.eventually("a is left alone", func() error {
		before := len(fakes[0].Requests())
		for range 9 {
			g.post("/v1/chat/completions", chatHello).want(200)
		}
		if n := len(fakes[0].Requests()) - before; n > 0 {
			return fmt.Errorf("%d more requests", n)
		}
		return nil
	})
	if n := len(fakes[0].Requests()) - before; n < 3 {
		t.Errorf("a failed %d times, want 3", n)
	}
	if n := len(spare.Requests()); n != 0 {
		t.Errorf("the backup got %d requests while others of its betters were well", n)
	}
	if b, c := len(fakes[1].Requests()), len(fakes[2].Requests()); b < 9 || c < 9 || b-c > 4 || c-b > 4 {
		t.Errorf("b got %d and c %d requests", b, c)
	}
	fakes[1].Always(fakellm.Fail(500, "ill"))
	fakes[2].Always(fakellm.Fail(500, "ill"))
	g.answeredBy("spare")
}

// TestStreamIsNotBuffered: what a provider says is at the client before it says more (A13, A22),
// and proxies in front are asked not to collect it (A29). The provider is not asked to compress.
func TestStreamIsNotBuffered(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
	gate := make(chan struct{})
	reply := fakellm.Reply{Answer: &fakellm.Answer{Text: "one two three"}, Each: fakellm.Pace{Gate: gate}}
	a.Script(reply)
	go func() { gate <- struct{}{}; gate <- struct{}{} }() // the role and the first word
	r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream), "Accept-Encoding: gzip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for word := range strings.FieldsSeq("one two three") {
		for !strings.Contains(lines.Text(), word) {
			if !lines.Scan() {
				t.Fatalf("the stream ended before %q: %v", word, lines.Err())
			}
		}
		if word != "three" {
			gate <- struct{}{} // only now does the next one leave the provider
		}
	}
	close(gate)
	if r.Header.Get("X-Accel-Buffering") != "no" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("headers: %v", r.Header)
	}
	if got := a.Requests()[0].Header; got.Get("Accept-Encoding") != "identity" {
		t.Errorf("the provider was asked for %q", got.Get("Accept-Encoding"))
	}
	if got := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("X-Accel-Buffering"); got != "" {
		t.Errorf("a whole answer has X-Accel-Buffering: %s", got)
	}
}

// TestTargetFields: a target's own path takes the place of its provider's (B09), its headers win
// over the client's (B15), its models decide which one is asked for (B13, B14, D03, D04, D18); a
// base URL may be plain HTTP, without a credential (E17).
func TestTargetFields(t *testing.T) {
	t.Parallel()
	a := &fakellm.Provider{Name: "a", Schema: fakellm.OpenAIChat, Key: "key-a"}
	s := provider(t, a)
	g := start(t, "", pool("", fmt.Sprintf(`{id: a, provider: {base_url: %q}, path: /v1/chat/completions, headers: {user-agent: ours, Authorization: Bearer key-a},
    models: [listed], default_model: standard, model_map: {nick: real-name}}`, s.URL()+"/nowhere")))
	for model, want := range map[string]string{"listed": "listed", "unheard-of": "standard", "": "standard", "nick": "real-name", "standard": "standard"} {
		g.post("/v1/chat/completions", strings.Replace(chatHello, "gpt-4o", model, 1), "User-Agent: app/1").want(200)
		requests := a.Requests()
		r := requests[len(requests)-1]
		if !strings.Contains(string(r.Body), fmt.Sprintf(`"model":%q`, want)) || r.Path != "/v1/chat/completions" || r.Header.Get("User-Agent") != "ours" {
			t.Errorf("model %q: %s %s %v", model, r.Path, r.Body, r.Header)
		}
	}
}

// TestDroppedFields: what a target's schema cannot say is left out, and the client is told (B27).
func TestDroppedFields(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	body := strings.Replace(chatHello, "{", `{"seed":7,"frequency_penalty":1,`, 1)
	g.post("/v1/chat/completions", body).want(200).header("x-millrace-dropped", "")
	a.Script(fakellm.Fail(503, "down"))
	dropped := g.post("/v1/chat/completions", body).want(200).header("x-millrace-target", "b").Header.Get("x-millrace-dropped")
	if !strings.Contains(dropped, "seed") || !strings.Contains(dropped, "frequency_penalty") {
		t.Errorf("x-millrace-dropped: %q", dropped)
	}
}

// TestManyModels: a rule may name more models than Envoy lets an expression have by default (C26).
func TestManyModels(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	models := make([]string, 200)
	for i := range models {
		models[i] = fmt.Sprintf("some-model-%d", i)
	}
	g := start(t, "", strings.Replace(pool("", to("a", a, provider(t, a))),
		"{path: /v1, service: chat}", "{path: /v1, service: chat, models: ["+strings.Join(models, ", ")+"]}", 1))
	g.post("/v1/chat/completions", strings.Replace(chatHello, "gpt-4o", models[199], 1)).want(200)
	g.post("/v1/chat/completions", chatHello).want(404)
}

// TestInstances: each gateway says which one it is, always the same (A33).
func TestInstances(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	resources := pool("", to("a", a, provider(t, a)))
	seen := map[string]int{}
	for _, g := range []*gateway{start(t, "", resources), start(t, "", resources)} {
		for range 5 {
			body := g.get("/health").want(200).Body
			_, id, _ := strings.Cut(body, `"instance_id":"`)
			id, _, _ = strings.Cut(id, `"`)
			seen[id]++
		}
	}
	if len(seen) != 2 || seen[""] > 0 {
		t.Errorf("instances: %v", seen)
	}
}

// TestAdminSocketIsPrivate: Envoy's own administration interface is a socket for the gateway's user
// alone (C13, A24).
func TestAdminSocketIsPrivate(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	_, dir := twoProcesses(t, g)
	info, err := os.Stat(filepath.Join(dir, "envoy-admin.sock"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	g.stop()
}
