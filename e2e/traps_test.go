package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

func openAI(name string) *fakellm.Provider {
	return &fakellm.Provider{Name: name, Schema: fakellm.OpenAIChat, Key: "key-" + name}
}

func anthropicAI(name string) *fakellm.Provider {
	return &fakellm.Provider{Name: name, Schema: fakellm.AnthropicMessages, Key: "key-" + name}
}

const (
	chatHello    = `{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}`
	chatStream   = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}`
	claudeHello  = `{"model":"claude-x","max_tokens":100,"messages":[{"role":"user","content":"hello"}]}`
	claudeStream = `{"model":"claude-x","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hello"}]}`
)

// failover starts a gateway whose first target is a and whose second is b.
func failover(t *testing.T, a, b *fakellm.Provider, more ...string) *gateway {
	t.Helper()
	return start(t, "", pool("",
		to(a.Name, a, provider(t, a), append(more, "priority: 1")...),
		to(b.Name, b, provider(t, b), "priority: 2", "default_model: other-model")))
}

// oneID is the line of a request that has passed one gateway.
var oneID = regexp.MustCompile(`^X-Millrace-Via: [0-9a-f]{8}$`)

// TestFailoverCarriesNothingOver: what target A got never reaches target B: credential, configured
// headers, schema headers, address; and the client's own credentials reach neither. Envoy keeps
// attempt 1's header mutations for attempt 2.
func TestFailoverCarriesNothingOver(t *testing.T) {
	for _, c := range []struct{ a, b *fakellm.Provider }{
		{openAI("a"), anthropicAI("b")},
		{anthropicAI("a"), openAI("b")},
		{openAI("a"), openAI("b")},
		{anthropicAI("a"), anthropicAI("b")},
	} {
		t.Run(c.a.Schema+" to "+c.b.Schema, func(t *testing.T) {
			t.Parallel()
			g := failover(t, c.a, c.b, `headers: {x-team: secret-of-a, anthropic-version: "2023-06-01", anthropic-beta: for-a, user-agent: agent-of-a}`)
			c.a.Script(fakellm.Fail(503, "down"))
			g.post("/v1/chat/completions", chatHello,
				"Authorization: Bearer client-secret", "X-Api-Key: client-secret", "Api-Key: client-secret", "X-Goog-Api-Key: client-secret",
				"Cookie: session=client-secret", "Proxy-Authorization: client-secret", "X-Forwarded-For: 10.1.2.3", "User-Agent: app/1",
				"X-Millrace-Stream: 1", "X-Millrace-Via: client-secret", "X-Envoy-Upstream-Rq-Timeout-Ms: 1", "X-Request-Id: of-the-client").
				want(200, "b heard: hello").header("x-millrace-attempts", "a=503;b=200")
			first, second := c.a.Requests()[0], c.b.Requests()[0]
			for who, r := range map[string]fakellm.Request{"a": first, "b": second} {
				for name, values := range r.Header {
					line := name + ": " + strings.Join(values, ", ")
					if strings.Contains(line, "client-secret") || strings.HasPrefix(name, "X-Envoy") || strings.HasPrefix(name, "X-Forwarded") || strings.HasPrefix(name, "X-Millrace") && !oneID.MatchString(line) {
						t.Errorf("target %s got %s", who, line)
					}
				}
			}
			for name, values := range second.Header {
				line := name + ": " + strings.Join(values, ", ")
				if strings.Contains(line, "key-a") || strings.Contains(line, "secret-of-a") || strings.Contains(line, "for-a") || strings.Contains(line, "agent-of-a") {
					t.Errorf("target b got a's %s", line)
				}
			}
			if c.b.Schema == fakellm.OpenAIChat && (second.Header.Get("x-api-key") != "" || second.Header.Get("anthropic-version") != "") {
				t.Errorf("target b got headers of another schema: %v", second.Header)
			}
			if id := first.Header.Get("x-request-id"); id == "" || id == "of-the-client" || id != second.Header.Get("x-request-id") {
				t.Errorf("request ids %q and %q", id, second.Header.Get("x-request-id"))
			}
			if first.Host == second.Host || second.Header.Get("user-agent") != "app/1" {
				t.Errorf("host %q, user agent %q", second.Host, second.Header.Get("user-agent"))
			}
		})
	}
}

// TestStreamThatOpensWithAnErrorFailsOverUnseen: a 200 stream whose first event is an error, in
// either schema and after its preamble too, is another target's to answer. So are an empty stream,
// a stream that is none, and silence.
func TestStreamThatOpensWithAnErrorFailsOverUnseen(t *testing.T) {
	preamble := map[string][]fakellm.Step{
		fakellm.OpenAIChat: fakellm.Chunks("data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
		fakellm.AnthropicMessages: fakellm.Chunks(
			"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
			"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
	}
	sse := http.Header{"Content-Type": {"text/event-stream"}}
	for _, a := range []func(string) *fakellm.Provider{openAI, anthropicAI} {
		for name, c := range map[string]struct {
			reply  fakellm.Reply
			status string
		}{
			"error first":             {fakellm.FailInStream(529, "Overloaded"), "5"},
			"error after preamble":    {fakellm.Reply{Header: sse, Steps: preamble[a("").Schema], ErrorEvent: &fakellm.Failure{Status: 500, Message: "boom"}}, "5"},
			"empty":                   {fakellm.Reply{Header: sse}, "502"},
			"preamble, then end":      {fakellm.Reply{Header: sse, Steps: preamble[a("").Schema]}, "502"},
			"HTML":                    {fakellm.HTML(200, "<html>sorry</html>"), "502"},
			"malformed":               {fakellm.Reply{Header: sse, Body: "data: {oops\n\n"}, "502"},
			"an error that is JSON":   {fakellm.Reply{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"error":{"message":"no","type":"server_error"}}`}, "5"},
			"cut in the preamble":     {fakellm.Reply{Header: sse, Steps: preamble[a("").Schema], End: fakellm.Cut}, ""},
			"reset before the status": {fakellm.RefuseTCP(), ""},
		} {
			t.Run(a("").Schema+" "+name, func(t *testing.T) {
				t.Parallel()
				pa, pb := a("a"), anthropicAI("b")
				g := failover(t, pa, pb)
				pa.Script(c.reply)
				r := g.post("/v1/chat/completions", chatStream).want(200, "data: [DONE]", `"finish_reason":"stop"`).header("x-millrace-target", "b")
				if strings.Contains(r.Body, "boom") || strings.Contains(r.Body, "Overloaded") || strings.Contains(r.Body, `"error"`) {
					t.Errorf("the client saw the failed attempt: %s", r.Body)
				}
				if attempts := r.Header.Get("x-millrace-attempts"); c.status != "" && !strings.HasPrefix(attempts, "a="+c.status) {
					t.Errorf("attempts: %s", attempts)
				}
				e := g.byID(r.Header.Get("x-millrace-request-id"))
				if len(e.Attempts) != 2 || e.Attempts[0].Error == "" || e.Attempts[1].Status != 200 || e.Usage.GetOutput() == 0 || e.Error != "" {
					t.Errorf("event: %v", e)
				}
			})
		}
	}
}

// TestSilenceIsAFirstTokenTimeout: a head and a role are signs of life and no content: silence
// after them counts like before.
func TestSilenceIsAFirstTokenTimeout(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "timeouts: {first_byte_timeout: 1s}", pool("",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	a.Script(fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, End: fakellm.Hang,
		Steps: fakellm.Chunks("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n")})
	g.post("/v1/chat/completions", chatStream).want(200, "[DONE]").header("x-millrace-attempts", "a=504;b=200")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if r, err := a.WaitEnded(ctx, 1); err != nil || r.Outcome != fakellm.Cancelled {
		t.Errorf("the silent attempt was not cancelled: %+v, %v", r.Outcome, err)
	}
}

// TestWeightsCountTargetsNotAddresses: two targets on one host and port, told apart by their keys,
// get their shares.
func TestWeightsCountTargetsNotAddresses(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat, KeepRequests: 4000}
	s := provider(t, p)
	g := start(t, "", pool("algorithm: weighted-round-robin",
		fmt.Sprintf("{id: big, provider: {base_url: %q, secret_key_ref: key-big}, weight: 3}", s.URL()+"/v1"),
		fmt.Sprintf("{id: small, provider: {base_url: %q, secret_key_ref: key-small}, weight: 1}", s.URL()+"/v1")))
	const n = 2000
	parallel(8, n, func(int) { g.post("/v1/chat/completions", chatHello).want(200) })
	counts := map[string]int{}
	for _, r := range p.Requests() {
		counts[r.Header.Get("Authorization")]++
	}
	if big := counts["Bearer key-big"]; big < n*3/4-n/20 || big > n*3/4+n/20 || big+counts["Bearer key-small"] != n {
		t.Errorf("shares: %v", counts)
	}
}

// parallel calls f n times from so many goroutines.
func parallel(workers, n int, f func(i int)) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}

// TestLargeBodies: a 30 MB request passes both streams, patched and translated; a 5 MB answer comes
// back.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "max_request_bytes: 32MiB", pool("", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	text := strings.Repeat("thirty megabytes of prompt ", 30_000_000/27)
	body := `{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"` + text + `"}]}`

	a.Script(fakellm.Fail(500, "no"))
	g.post("/v1/chat/completions", body).want(200).header("x-millrace-attempts", "a=500;b=200")
	if got := a.Requests()[0].Body; string(got) != body {
		t.Errorf("native: %d bytes arrived, want the client's own %d", len(got), len(body))
	}
	if got := b.Requests()[0].Body; !bytes.Contains(got, []byte(text)) {
		t.Errorf("translated: %d bytes arrived, without the prompt", len(got))
	}

	long := strings.Repeat("x", 5_000_000)
	a.Script(fakellm.Say(long))
	g.post("/v1/chat/completions", chatHello).want(200, long)
	a.Script(fakellm.Say(long))
	g.post("/v1/messages", claudeHello).want(200, long)
}

// TestTooLarge: a body over the limit is 413 in the client's schema, with and without a
// content-length, and leaves the gateway well.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 100KB", pool("", to("a", a, provider(t, a))))
	body := `{"model":"gpt-4o","messages":[{"role":"user","content":"` + strings.Repeat("x", 300_000) + `"}]}`
	for name, reader := range map[string]func() io.Reader{
		"with content-length": func() io.Reader { return strings.NewReader(body) },
		"chunked":             func() io.Reader { return io.MultiReader(strings.NewReader(body)) },
	} {
		t.Run(name, func(t *testing.T) {
			for path, check := range map[string]func(*answer){
				"/v1/chat/completions": func(r *answer) { r.openAIError("request_too_large") },
				"/v1/messages":         func(r *answer) { r.anthropicError("request_too_large") },
			} {
				response, err := http.DefaultClient.Do(g.request("POST", path, reader()))
				if err != nil {
					t.Fatal(err)
				}
				r := g.read(response)
				r.want(413)
				check(r)
			}
		})
	}
	if n := len(a.Requests()); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestRefusals: each is in the client's schema and names what was wrong; none goes upstream.
func TestRefusals(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("", to("a", a, provider(t, a), "weight: 0"), to("b", b, provider(t, b), "default_model: m"))+
		"- {path: /post-only, service: chat, methods: [POST], strip_path: true}\n- {path: /by-model, service: chat, models: [m]}\n- {path: /by-model, service: chat}\n")
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		openAI, anthropic  string
		says               string
		header             string
	}{
		"unknown path":               {"POST", "/nope", "{}", 404, "not_found_error", "", "no rule", ""},
		"unknown path, Anthropic":    {"POST", "/nope", "{}", 404, "", "not_found_error", "no rule", "anthropic-version: 2023-06-01"},
		"unknown operation":          {"POST", "/v1/images", "{}", 404, "not_found_error", "", "/v1/images", ""},
		"not a segment of the rule":  {"POST", "/v1x/chat/completions", "{}", 404, "not_found_error", "", "no rule", ""},
		"unknown, Anthropic":         {"POST", "/v1/messages/batches", "{}", 404, "", "not_found_error", "batches", ""},
		"count tokens, OpenAI":       {"POST", "/v1/chat/completions/count_tokens", "{}", 404, "not_found_error", "", "count_tokens", ""},
		"count of nothing":           {"POST", "/v1/messages/count_tokens", `[]`, 400, "", "invalid_request_error", "JSON", ""},
		"wrong method":               {"GET", "/v1/chat/completions", "", 405, "invalid_request_error", "", "POST", ""},
		"wrong method, Anthropic":    {"DELETE", "/v1/messages", "", 405, "", "invalid_request_error", "POST", ""},
		"method the rule lacks":      {"GET", "/post-only/v1/models", "", 405, "invalid_request_error", "", "POST", ""},
		"no body":                    {"POST", "/v1/chat/completions", "", 400, "invalid_request_error", "", "empty body", ""},
		"not JSON":                   {"POST", "/v1/chat/completions", "hello", 400, "invalid_request_error", "", "invalid character", ""},
		"duplicate key":              {"POST", "/v1/chat/completions", `{"model":"a","model":"b"}`, 400, "invalid_request_error", "", `"model"`, ""},
		"duplicate key, Anthropic":   {"POST", "/v1/messages", `{"model":"a","model":"b"}`, 400, "", "invalid_request_error", `"model"`, ""},
		"invalid UTF-8":              {"POST", "/v1/chat/completions", "{\"model\":\"\xff\"}", 400, "invalid_request_error", "", "UTF-8", ""},
		"two values":                 {"POST", "/v1/messages", `{}{}`, 400, "", "invalid_request_error", "more than one", ""},
		"compressed":                 {"POST", "/v1/chat/completions", "x", 400, "invalid_request_error", "", "gzip", "content-encoding: gzip"},
		"not sayable to the target":  {"POST", "/v1/chat/completions", `{"model":"m","n":2,"messages":[{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "", "n", ""},
		"wrong type inside":          {"POST", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":7}]}`, 400, "invalid_request_error", "", "messages[0].content", ""},
		"line feed in the model":     {"POST", "/v1/chat/completions", `{"model":"a\nb","messages":[]}`, 400, "invalid_request_error", "", "control character", ""},
		"NUL in the model":           {"POST", "/v1/messages", `{"model":"a\u0000b"}`, 400, "", "invalid_request_error", "control character", ""},
		"CR LF in the model":         {"POST", "/by-model/chat/completions", `{"model":"a\r\nx-y: z","messages":[]}`, 400, "invalid_request_error", "", "control character", ""},
		"C1 control in the model":    {"POST", "/by-model/messages", `{"model":"a\u0085b"}`, 400, "", "invalid_request_error", "control character", ""},
		"huge model":                 {"POST", "/by-model/chat/completions", `{"model":"` + strings.Repeat("m", 100_000) + `","messages":[]}`, 400, "invalid_request_error", "", "512 bytes", ""},
		"wrong type, Anthropic path": {"POST", "/v1/messages", `{"model":7}`, 400, "", "invalid_request_error", "model", ""},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{}
			if c.header != "" {
				headers = append(headers, c.header)
			}
			response, err := http.DefaultClient.Do(g.request(c.method, c.path, strings.NewReader(c.body), headers...))
			if err != nil {
				t.Fatal(err)
			}
			r := g.read(response).want(c.status, "")
			message := ""
			if c.openAI != "" {
				message = r.openAIError(c.openAI)
			} else {
				message = r.anthropicError(c.anthropic)
			}
			if !strings.Contains(message, c.says) {
				t.Errorf("message %q does not name %q", message, c.says)
			}
			if c.status == 405 && r.Header.Get("allow") == "" {
				t.Error("no allow header")
			}
		})
	}
	if n := len(a.Requests()) + len(b.Requests()); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
}

// TestEnvoysOwnErrors: what Envoy says itself is in the client's schema too.
func TestEnvoysOwnErrors(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		g := start(t, "", pool("", fmt.Sprintf("{id: gone, provider: {base_url: \"http://127.0.0.1:%d/v1\"}}", freePort(t))))
		g.post("/v1/chat/completions", chatHello).want(503).openAIError("server_error")
		g.post("/v1/chat/completions", chatStream).want(503).openAIError("server_error")
		g.post("/v1/messages", claudeHello).want(503).anthropicError("overloaded_error")
		r := g.post("/v1/messages", claudeStream).want(503)
		r.anthropicError("overloaded_error")
		g.event("with attempts", func(e *millracev1.Event) bool {
			return e.Schema == "anthropic.messages" && e.Stream && len(e.Attempts) > 0 && e.Status == 503
		})
	})
	t.Run("too slow", func(t *testing.T) {
		a := openAI("a")
		g := start(t, "timeouts: {request_timeout: 1s, first_byte_timeout: 1s}", pool("retry: {attempts: 1}", to("a", a, provider(t, a))))
		a.Always(fakellm.Silent())
		g.post("/v1/chat/completions", chatHello).want(504).openAIError("timeout")
		g.post("/v1/messages", claudeHello).want(504).anthropicError("timeout_error")
		g.post("/v1/messages", claudeStream).want(504).anthropicError("timeout_error")
	})
}

// TestClientAbort: when the client goes away the provider's request ends within a second, and there
// is one event.
func TestClientAbort(t *testing.T) {
	for name, reply := range map[string]fakellm.Reply{
		"before the first token": {Header: http.Header{"Content-Type": {"text/event-stream"}}, End: fakellm.Hang},
		"in the stream": {Header: http.Header{"Content-Type": {"text/event-stream"}}, End: fakellm.Hang,
			Steps: fakellm.Chunks("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n")},
	} {
		t.Run(name, func(t *testing.T) {
			a := openAI("a")
			g := start(t, "", pool("", to("a", a, provider(t, a))))
			a.Script(reply)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			arrived, wait := context.WithTimeout(context.Background(), patience)
			defer wait()
			go func() {
				a.WaitArrived(arrived, 1)
				if name != "in the stream" {
					cancel()
				}
			}()
			response, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)).WithContext(ctx))
			if err == nil { // in the stream: the first token is here
				bufio.NewReader(response.Body).ReadString('\n')
				cancel()
				response.Body.Close()
			}
			left := time.Now()
			r, err := a.WaitEnded(arrived, 1)
			if err != nil || r.Outcome != fakellm.Cancelled || r.EndedAt.Sub(left) > time.Second {
				t.Errorf("upstream: %s after %s, %v", r.Outcome, r.EndedAt.Sub(left), err)
			}
			e := g.event("of the abort", func(e *millracev1.Event) bool { return e.Path == "/v1/chat/completions" })
			if !strings.Contains(e.Details, "downstream") || len(e.Attempts) != 1 {
				t.Errorf("event: %v", e)
			}
		})
	}
}

// TestBrokenStreamEndsInTheClientsDialect: after the first token nothing can be retried; the client
// is told in a way its SDK understands, and no end is invented.
func TestBrokenStreamEndsInTheClientsDialect(t *testing.T) {
	for _, p := range []func(string) *fakellm.Provider{openAI, anthropicAI} {
		for name, reply := range map[string]fakellm.Reply{
			"error event": {Answer: &fakellm.Answer{Text: "one two three"}, StopAfter: 4, ErrorEvent: &fakellm.Failure{Status: 529, Message: "Overloaded"}},
			"early end":   {Answer: &fakellm.Answer{Text: "one two three"}, StopAfter: 4},
		} {
			t.Run(p("").Schema+" "+name, func(t *testing.T) {
				t.Parallel()
				a := p("a")
				g := start(t, "", pool("", to("a", a, provider(t, a), "default_model: m")))
				a.Script(reply, reply)
				r := g.post("/v1/chat/completions", chatStream).want(200, "one", `data: {"error":`)
				if strings.Contains(r.Body, "[DONE]") || strings.Contains(r.Body, `"finish_reason":"stop"`) {
					t.Errorf("an end was invented: %s", r.Body)
				}
				r = g.post("/v1/messages", claudeStream).want(200, "one", "event: error")
				if strings.Contains(r.Body, "message_stop") || strings.Contains(r.Body, "end_turn") {
					t.Errorf("an end was invented: %s", r.Body)
				}
				if e := g.byID(r.Header.Get("x-millrace-request-id")); e.Error == "" {
					t.Errorf("event without the error: %v", e)
				}
			})
		}
	}
}

// TestNativeTrafficIsByteExact: between client and target of one schema only what must change does,
// there and back.
func TestNativeTrafficIsByteExact(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
	body := "{ \"messages\" : [ {\"content\":\"\\u00e9 <&> 1.0\" , \"role\":\"user\"} ],\n\t\"temperature\": 1.0, \"model\":\"gpt-4o\", \"seed\" : 9007199254740993}"
	reply := "{ \"id\":\"x\",\"object\":\"chat.completion\", \"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"ok\"},\"finish_reason\":\"stop\"}],\"weird\":[1.0,1e400] }"
	a.Script(fakellm.Reply{Body: reply, Header: http.Header{"Content-Type": {"application/json"}}})
	if r := g.post("/v1/chat/completions", body).want(200); r.Body != reply {
		t.Errorf("answer %q, want %q", r.Body, reply)
	}
	if got := string(a.Requests()[0].Body); got != body {
		t.Errorf("request %q, want %q", got, body)
	}
}

// TestAnswersWithoutBody: headers that end the answer still become a whole error, and a retry.
func TestAnswersWithoutBody(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("retry: {attempts: 1}\nhealth_checks: {passive: false}", to("a", a, provider(t, a))))
	empty := func(status int) fakellm.Reply {
		return fakellm.Reply{Status: status, Header: http.Header{"Content-Length": {"0"}}}
	}
	for _, c := range []struct{ provider, client int }{{500, 500}, {404, 404}, {200, 502}, {204, 502}} {
		a.Script(empty(c.provider), empty(c.provider), empty(c.provider))
		if g.post("/v1/chat/completions", chatHello).want(c.client, `"message"`).Header.Get("x-millrace-request-id") == "" {
			t.Error("no request id")
		}
		g.post("/v1/messages", claudeHello).want(c.client, `"type":"error"`)
		g.post("/v1/chat/completions", chatStream).want(c.client, `"message"`)
	}
}

// TestSecretsAreNotQuoted: a provider that repeats the gateway's credential in its error does not
// tell the client.
func TestSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("retry: {attempts: 1}\nhealth_checks: {passive: false}", to("a", a, provider(t, a))))
	quoting := fakellm.Fail(400, "Incorrect API key provided: key-a. (Bearer key-a)") // as Google says it
	inStream := fakellm.Reply{Answer: &fakellm.Answer{Text: "one two three"}, StopAfter: 3, ErrorEvent: &fakellm.Failure{Status: 500, Message: "key-a failed"}}
	a.Script(quoting, quoting, quoting, inStream, inStream)
	for i, r := range []*answer{
		g.post("/v1/chat/completions", chatHello).want(400, "Incorrect API key"),
		g.post("/v1/messages", claudeHello).want(400, "Incorrect API key"),
		g.post("/v1/chat/completions", chatStream).want(400, "Incorrect API key"),
		g.post("/v1/chat/completions", chatStream).want(200, "failed"),
		g.post("/v1/messages", claudeStream).want(200, "failed"),
	} {
		if strings.Contains(r.Body, "key-a") {
			t.Errorf("%d: the client got the credential: %s", i, r.Body)
		}
	}
	for _, e := range g.readEvents() {
		if strings.Contains(e.String(), "key-a") {
			t.Errorf("the event holds the credential: %v", e)
		}
	}
}

// TestUnionRequest: one body with the fields of both schemas is served by either (seed 001,
// B24-B28).
func TestUnionRequest(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("", to("a", a, provider(t, a)), to("b", b, provider(t, b), "default_model: claude-x")))
	union := `{"model":"gpt-4","messages":[{"role":"user","content":"Hello!"}],"max_tokens":1000,"system":"You are an assistant","temperature":0.7,"stream":%v}`
	for range 2 {
		g.post("/v1/chat/completions", fmt.Sprintf(union, false)).want(200, "heard: Hello!")
		g.post("/v1/chat/completions", fmt.Sprintf(union, true)).want(200, "[DONE]")
	}
	if len(a.Requests()) != 2 || len(b.Requests()) != 2 {
		t.Errorf("round robin: %d and %d", len(a.Requests()), len(b.Requests()))
	}
	for _, r := range append(a.Requests(), b.Requests()...) {
		if !bytes.Contains(r.Body, []byte("You are an assistant")) {
			t.Errorf("the system text is lost: %s", r.Body)
		}
	}
}

// TestModels: the list is the union of what the targets say; with model_choice listed, others are
// 404 and the listed ones only go where they are.
func TestModels(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("model_choice: listed", to("a", a, provider(t, a), "models: [gpt-4o]"), to("b", b, provider(t, b), "models: [claude-x], model_map: {smart: claude-x}")))
	g.get("/v1/models").want(200, `"object":"list"`, `"gpt-4o"`, `"claude-x"`, `"smart"`)
	g.post("/v1/models", "{}").want(405)
	for range 3 {
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
		g.post("/v1/messages", claudeHello).want(200).header("x-millrace-target", "b")
	}
	e := g.post("/v1/chat/completions", `{"model":"gpt-5","messages":[]}`).want(404, "model_not_found").openAIError("not_found_error")
	if !strings.Contains(e, "gpt-5") {
		t.Errorf("message: %s", e)
	}
}

// TestTLSTarget: a target's certificate is checked against its name.
func TestTLSTarget(t *testing.T) {
	t.Parallel()
	ca, conf := certificate(t)
	p := openAI("a")
	s := providerTLS(t, p, conf)
	_, port, _ := net.SplitHostPort(s.Addr())
	target := "{id: %s, host: %s, port: " + port + ", protocol: https, provider: openai, credentials: {header_name: Authorization, header_value: Bearer key-a}}"
	g := start(t, "ca_file: "+ca, pool("", fmt.Sprintf(target, "good", "localhost")))
	g.post("/v1/chat/completions", chatHello).want(200)
	if host := p.Requests()[0].Host; host != "localhost:"+port {
		t.Errorf("host %q", host)
	}
	wrong := start(t, "ca_file: "+ca, pool("", fmt.Sprintf(target, "bad", "127.0.0.1")))
	wrong.post("/v1/chat/completions", chatHello).want(503)
}

// certificate makes an authority's file and a server's configuration for localhost.
func certificate(t *testing.T) (caFile string, conf *tls.Config) {
	t.Helper()
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	writePair(t, caFile, keyFile)
	pair, err := tls.LoadX509KeyPair(caFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return caFile, &tls.Config{Certificates: []tls.Certificate{pair}}
}

// writePair writes a new self-signed certificate for localhost and its key.
func writePair(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{keyFile: {Type: "PRIVATE KEY", Bytes: private}, certFile: {Type: "CERTIFICATE", Bytes: cert}} {
		if err := os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil { // Envoy watches for moves, as ConfigMap updates make them
			t.Fatal(err)
		}
	}
}
