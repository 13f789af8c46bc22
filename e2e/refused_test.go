package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// refusal is an answer of a provider that has nothing to do with the client's request, and what the
// gateway makes of it.
type refusal struct {
	status  int
	message string
	code    string // of OpenAI
	client  int    // the client's status when no other target is left
	trouble string // what the target's health says
	told    string // a part of what the client is told
}

var refusals = []refusal{
	{401, "Incorrect API key provided.", "invalid_api_key", 502, "its key is refused", "does not accept the gateway"},
	{402, "Insufficient Balance", "", 502, "its account has no credit", "no credit"},
	{403, "This account is not allowed to use the API here.", "", 502, "it refuses access", "not allowed to use the API here"},
	{404, "The model `m` does not exist", "model_not_found", 502, "it has no model m", `has no model \"m\"`},
	{408, "Request timed out.", "", 503, "it says that requests take too long to arrive", "Request timed out."},
	{425, "Too early.", "", 503, "it is not ready yet", "Too early."},
	{498, "Capacity exceeded", "capacity_exceeded", 503, "it has no capacity", "Capacity exceeded"},
}

func (r refusal) reply() fakellm.Reply {
	return fakellm.Reply{Failure: &fakellm.Failure{Status: r.status, Message: r.message, Code: r.code}}
}

// fourWays are the four ways to ask for the same.
var fourWays = []struct{ path, body string }{
	{"/v1/chat/completions", strings.Replace(chatHello, "gpt-4o", "m", 1)}, {"/v1/chat/completions", strings.Replace(chatStream, "gpt-4o", "m", 1)},
	{"/v1/messages", claudeHello}, {"/v1/messages", claudeStream},
}

// TestProviderRefusesTheGateway: what is between gateway and provider is no affair of the client's.
// The next target is asked; the target's health, the metrics and the log say what the matter is,
// until it answers well; where no other is left the client gets a 5xx in its schema that does not
// read as if its own key were wrong, and the event has the provider's words. For clients and
// targets of either schema, streams and whole answers.
func TestProviderRefusesTheGateway(t *testing.T) {
	t.Parallel()
	for _, p := range []*fakellm.Provider{openAI("a"), anthropicAI("a")} {
		t.Run(p.Schema, func(t *testing.T) {
			t.Parallel()
			b := openAI("b")
			a := to("a", p, provider(t, p), "default_model: m", "priority: 1")
			two := start(t, "", pool("health_checks: {passive: false}", a, to("b", b, provider(t, b), "default_model: m", "priority: 2")))
			alone, admin := withAdmin(t, "", pool("health_checks: {passive: false}\nretry: {backoff: 1ms}", a))
			for _, r := range refusals {
				p.Always(r.reply())
				for _, ask := range fourWays {
					two.post(ask.path, ask.body).want(200).header("x-millrace-attempts", fmt.Sprintf("a=%d;b=200", r.status))
					got := alone.post(ask.path, ask.body).want(r.client, r.told)
					for _, word := range []string{"invalid_api_key", "API key", "authentication", "permission"} {
						if strings.Contains(got.Body, word) {
							t.Errorf("%d: the client reads of %q: %s", r.status, word, got.Body)
						}
					}
					if strings.HasSuffix(ask.path, "messages") {
						got.anthropicError(map[int]string{502: "api_error", 503: "overloaded_error"}[r.client])
					} else {
						got.openAIError("server_error")
					}
					e := alone.byID(got.Header.Get("x-millrace-request-id"))
					if int(e.Status) != r.client || e.Error != r.message || int(e.Attempts[0].Status) != r.status {
						t.Errorf("%d: event %v", r.status, e)
					}
				}
				if got := healthOf(t, admin, "a")["trouble"]; got != r.trouble {
					t.Errorf("%d: health says %q, want %q", r.status, got, r.trouble)
				}
				metric := fmt.Sprintf(`millrace_target_trouble{gateway="default",target="a",trouble="%s",upstream="chat"} 1`, r.trouble)
				if got := metricsOf(t, admin); !strings.Contains(got, metric) {
					t.Errorf("%d: the metrics lack %s", r.status, metric)
				}
				if !strings.Contains(alone.log.String(), r.trouble) {
					t.Errorf("%d: the log says nothing", r.status)
				}
			}
			p.Reset()
			alone.post(fourWays[0].path, fourWays[0].body).want(200)
			alone.eventually("the trouble is over", func() error {
				if healthOf(t, admin, "a")["trouble"] != "" || strings.Contains(metricsOf(t, admin), "millrace_target_trouble{") {
					return errors.New("it is not")
				}
				return nil
			})
		})
	}
}

func metricsOf(t *testing.T, admin string) string {
	t.Helper()
	r, err := http.Get(admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestRefusedInsideAnAnswer: the same words with status 200, as a body and as a stream's first
// event, are the same refusal; and where the client has the head already it is told in its own
// words, too.
func TestRefusedInsideAnAnswer(t *testing.T) {
	t.Parallel()
	const words = `{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`
	a, b := openAI("a"), openAI("b")
	targets := []string{to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")}
	held := start(t, "", pool("health_checks: {passive: false}", targets...))
	atOnce := start(t, "streaming: {commit: headers}", pool("health_checks: {passive: false}", targets...))
	for _, ask := range fourWays {
		stream := strings.Contains(ask.body, `"stream":true`)
		a.Always(fakellm.Reply{Header: http.Header{"Content-Type": {"application/json"}}, Body: words})
		if stream {
			a.Always(fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: "data: " + words + "\n\n"})
		}
		held.post(ask.path, ask.body).want(200).header("x-millrace-attempts", "a=401;b=200")
		if !stream {
			continue
		}
		if got := atOnce.post(ask.path, ask.body).want(200, "does not accept the gateway"); strings.Contains(got.Body, "API key") {
			t.Errorf("the client reads %s", got.Body)
		}
	}
}

// TestRequestsOwnFault: what another target would say as well is not asked of one: bad requests, a
// path that the provider does not know. Own bytes are passed on.
func TestRequestsOwnFault(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g, admin := withAdmin(t, "", pool("health_checks: {passive: false}", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	for _, reply := range []fakellm.Reply{
		fakellm.Fail(400, "bad"), fakellm.Fail(409, "bad"), fakellm.Fail(413, "bad"), fakellm.Fail(422, "bad"),
		{Status: 404, Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>Not Found</html>"},
		{Status: 404, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"detail":"Not Found"}`},
	} {
		a.Always(reply)
		status := reply.Status
		if reply.Failure != nil {
			status = reply.Failure.Status
		}
		for _, ask := range fourWays {
			g.post(ask.path, ask.body).want(status).header("x-millrace-attempts", fmt.Sprintf("a=%d", status)).header("x-should-retry", "")
		}
	}
	if got := healthOf(t, admin, "a")["trouble"]; got != "" {
		t.Errorf("health says %q", got)
	}
	if n := len(b.Requests()); n > 0 {
		t.Errorf("%d requests at the other target", n)
	}
}

// TestRefusedBesideAnother: a hedged request whose first target refuses the gateway is served by
// the second.
func TestRefusedBesideAnother(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {hedge: 0.3s, attempts: 2}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	a.Always(refusals[0].reply())
	for _, ask := range fourWays {
		g.post(ask.path, ask.body).want(200).header("x-millrace-target", "b").header("x-millrace-attempts", "a=401;b=200")
	}
	b.Always(fakellm.Fail(402, "no credit"))
	for _, ask := range fourWays {
		if got := g.post(ask.path, ask.body).want(502); strings.Contains(got.Body, "API key") {
			t.Errorf("the client reads %s", got.Body)
		}
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})
}

// TestRetryOn: only the listed failures are tried elsewhere, by the sidecar's word and by Envoy's.
func TestRetryOn(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	targets := []string{to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")}
	failures := map[string]fakellm.Reply{
		"rate-limit": fakellm.Fail(429, "slow down"), "server-error": fakellm.Fail(500, "boom"), "credential": fakellm.Fail(401, "who?"),
		"model": fakellm.Fail(404, "no such model"), "no-answer": fakellm.RefuseTCP(),
	}
	for on := range failures {
		g := start(t, "", pool("health_checks: {passive: false}\nretry: {on: ["+on+"]}", targets...))
		for failure, reply := range failures {
			a.Always(reply)
			for _, ask := range fourWays {
				before := len(b.Requests())
				if got := g.post(ask.path, ask.body); (got.Status == 200) != (on == failure) || len(b.Requests())-before > 1 {
					t.Errorf("%s, with on: [%s]: %d %s", failure, on, got.Status, got.Body)
				}
			}
		}
	}
}

// TestNoAttempts: attempts: 0 means that nothing is tried again, unlike no word of it.
func TestNoAttempts(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	targets := []string{to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")}
	a.Always(fakellm.Fail(500, "boom"))
	for retry, want := range map[string]string{"{attempts: 0}": "a=500", "{attempts: 1}": "a=500", "{}": "a=500;b=200"} {
		g := start(t, "", pool("health_checks: {passive: false}\nretry: "+retry, targets...))
		for _, ask := range fourWays {
			if got := g.post(ask.path, ask.body).Header.Get("x-millrace-attempts"); got != want {
				t.Errorf("%s: %s, want %s", retry, got, want)
			}
		}
		a.Always(fakellm.RefuseTCP())
		if status := g.post(fourWays[0].path, fourWays[0].body).Status; (status == 200) != (retry == "{}") {
			t.Errorf("%s: %d after a reset", retry, status)
		}
		a.Always(fakellm.Fail(500, "boom"))
	}
}

// TestUnableTargetIsPassedOver: a target whose schema has no word for what is asked is not chosen
// where another has one: several answers and audio of OpenAI's, a provider's own tool of
// Anthropic's; by every way of choosing, first or later. Where none has a word the client is told.
func TestUnableTargetIsPassedOver(t *testing.T) {
	t.Parallel()
	const (
		several   = `{"model":"m","n":2,"messages":[{"role":"user","content":"hello"}]}`
		audio     = `{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]}`
		ownTool   = `{"model":"m","max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":"hello"}]}`
		chat, msg = "/v1/chat/completions", "/v1/messages"
	)
	for name, settings := range map[string]string{
		"round-robin": "", "least-connections": "algorithm: least-connections\n", "random": "algorithm: random\n",
		"listed": "model_choice: listed\n", "hash": "algorithm: source-hash\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), anthropicAI("b")
			for _, priorities := range [][2]int{{1, 1}, {1, 2}, {2, 1}} {
				if name == "hash" && priorities[0] != priorities[1] {
					continue // the levels are pools of their own
				}
				g := start(t, "", pool(settings+"health_checks: {passive: false}",
					to("a", a, provider(t, a), fmt.Sprintf("priority: %d", priorities[0]), "default_model: m"),
					to("b", b, provider(t, b), fmt.Sprintf("priority: %d", priorities[1]), "default_model: m")))
				for range 4 {
					g.post(chat, several).want(200).header("x-millrace-attempts", "a=200")
					g.post(chat, audio).want(200).header("x-millrace-attempts", "a=200")
					g.post(msg, ownTool).want(200).header("x-millrace-attempts", "b=200")
				}
				a.Always(fakellm.Fail(503, "down"))
				got := g.post(chat, several).want(503, "down") // and not a 400 of the target that cannot
				if strings.Contains(got.Header.Get("x-millrace-attempts"), "b=") {
					t.Errorf("attempts %s", got.Header.Get("x-millrace-attempts"))
				}
				a.Reset()
			}
		})
	}
	b := anthropicAI("b")
	g := start(t, "", pool("", to("b", b, provider(t, b), "default_model: m")))
	g.post(chat, several).want(400, "one answer per request").openAIError("invalid_request_error")
}

// TestFirstFailureIsKept: a client whose first target failed in a way that passes is told that, and
// not that its request is bad because the second target does not take it.
func TestFirstFailureIsKept(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("health_checks: {passive: false}\nretry: {attempts: 2}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	b.Always(fakellm.Fail(400, "temperature is not supported"))
	for _, c := range []struct {
		reply  fakellm.Reply
		status int
		says   string
	}{
		{fakellm.Fail(503, "down"), 503, "down"}, {fakellm.Fail(429, "slow down"), 429, "slow down"},
		{fakellm.RefuseTCP(), 503, "closed before an answer"},
		{refusals[0].reply(), 400, "temperature is not supported"}, // that would not pass
	} {
		a.Always(c.reply)
		for _, ask := range fourWays {
			got := g.post(ask.path, ask.body).want(c.status, c.says)
			e := g.byID(got.Header.Get("x-millrace-request-id"))
			if len(e.Attempts) != 2 || e.Attempts[1].Status != 400 || int(e.Status) != c.status {
				t.Errorf("event %v", e)
			}
		}
	}
}

// TestRefusedKeyTakesTheTargetOut: what will not pass by itself, a refused key and an empty
// account, counts against the target, so that requests go to another at once; what may be about one
// input or one model does not (provider-refuses-the-gateways-key.json).
func TestRefusedKeyTakesTheTargetOut(t *testing.T) {
	t.Parallel()
	for _, r := range refusals[:4] {
		t.Run(fmt.Sprint(r.status), func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), openAI("b")
			g, admin := withAdmin(t, "", pool("health_checks: {threshold: 2}",
				to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
			a.Always(r.reply())
			failed := fmt.Sprintf("a=%d;b=200", r.status)
			for range 2 {
				g.post(fourWays[0].path, fourWays[0].body).want(200).header("x-millrace-attempts", failed)
			}
			if r.status == 403 || r.status == 404 {
				g.post(fourWays[0].path, fourWays[0].body).want(200).header("x-millrace-attempts", failed)
				if row := healthOf(t, admin, "a"); row["ejected"] == true {
					t.Errorf("health: %v", row)
				}
				return
			}
			g.eventually("the target is out", func() error {
				row := healthOf(t, admin, "a")
				if row["ejected"] != true || row["trouble"] != r.trouble {
					return fmt.Errorf("health: %v", row)
				}
				return nil
			})
			g.eventually("the other one is asked at once", func() error {
				if got := g.post(fourWays[0].path, fourWays[0].body).want(200).Header.Get("x-millrace-attempts"); got != "b=200" {
					return errors.New(got)
				}
				return nil
			})
		})
	}
}
