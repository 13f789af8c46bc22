package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// thinking is a stream that begins, then sends signs of life for a while, and then answers: how
// models that think look from outside.
func thinking(schema, life string, beats int) fakellm.Reply {
	head, rest := `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}]}`+"\n\n",
		`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"thought"}}]}`+"\n\n"+
			`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n"
	if schema == fakellm.AnthropicMessages {
		head = "event: message_start\n" + `data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}` + "\n\n"
		rest = "event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n" +
			"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"thought"}}` + "\n\n" +
			"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
			"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}` + "\n\n" +
			"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
	}
	r := fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Steps: fakellm.Chunks(head)}
	for range beats {
		r.Steps = append(r.Steps, fakellm.Step{Pace: fakellm.Pace{Delay: 500 * time.Millisecond}, Bytes: life})
	}
	r.Steps = append(r.Steps, fakellm.Step{Bytes: rest})
	return r
}

const openRouter, ping = ": OPENROUTER PROCESSING\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n"

// TestSilentThinking: a target that sends signs of life is awaited for several times
// first_byte_timeout, and asked once, whether it is alone or not; for clients and targets of each
// schema, with comments and with pings (E10). In the second configuration Envoy's own clock for an
// attempt would end it: silence after the first token may be longer than before.
func TestSilentThinking(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"held":      "timeouts: {first_byte_timeout: 2s}\nstreaming: {inter_chunk_timeout: 2s}",
		"committed": "timeouts: {first_byte_timeout: 2s}",
	} {
		for _, p := range []*fakellm.Provider{openAI("a"), anthropicAI("a")} {
			t.Run(name+" "+p.Schema, func(t *testing.T) {
				t.Parallel()
				b := openAI("b")
				a := to("a", p, provider(t, p), "default_model: m", "priority: 1")
				alone := start(t, settings, pool("", a))
				two := start(t, settings, pool("", a, to("b", b, provider(t, b), "default_model: m", "priority: 2")))
				for _, g := range []*gateway{alone, two} {
					for i, life := range []string{openRouter, ping} {
						if life == ping && p.Schema == fakellm.OpenAIChat {
							continue
						}
						p.Script(thinking(p.Schema, life, 12))
						path, body, end := "/v1/chat/completions", chatStream, "[DONE]"
						if i == 1 {
							path, body, end = "/v1/messages", claudeStream, "message_stop"
						}
						got := g.post(path, body).want(200, "thought", end).header("x-millrace-attempts", "a=200")
						if e := g.byID(got.Header.Get("x-millrace-request-id")); len(e.Attempts) != 1 || e.Error != "" {
							t.Errorf("event %v", e)
						}
					}
				}
				if n := len(b.Requests()); n > 0 {
					t.Errorf("%d requests at the other target", n)
				}
			})
		}
	}
}

// TestSilenceIsSeenAnywhere: a stream's target that is silent for first_byte_timeout is given up
// and another one asked, whether it sends nothing at all, or a head, or has begun; where none is
// left to ask, it is asked once, and the client is told what was too slow.
func TestSilenceIsSeenAnywhere(t *testing.T) {
	t.Parallel()
	const settings = "timeouts: {first_byte_timeout: 1s}\nstreaming: {inter_chunk_timeout: 1s}"
	a, b := openAI("a"), anthropicAI("b")
	target := to("a", a, provider(t, a), "priority: 1")
	two := start(t, settings, pool("health_checks: {passive: false}", target, to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	alone := start(t, settings, pool("health_checks: {passive: false}", target))
	stream := http.Header{"Content-Type": {"text/event-stream"}}
	role := thinking(a.Schema, "", 0).Steps[:1]
	for name, c := range map[string]struct {
		reply        fakellm.Reply
		status, says string
	}{
		"nothing":         {fakellm.Reply{NoHead: true, End: fakellm.Hang}, "504", "no answer within 1s"},
		"a head":          {fakellm.Reply{Header: stream, End: fakellm.Hang}, "504", "silent for 1s before its first token"},
		"a role":          {fakellm.Reply{Header: stream, Steps: role, End: fakellm.Hang}, "504", "silent for 1s before its first token"},
		"comments, a few": {fakellm.Reply{Header: stream, Steps: thinking(a.Schema, openRouter, 3).Steps[:4], End: fakellm.Hang}, "504", "silent for 1s before its first token"},
	} {
		a.Always(c.reply)
		two.post("/v1/chat/completions", chatStream).want(200, "[DONE]").header("x-millrace-attempts", "a="+c.status+";b=200")
		before := len(a.Requests())
		got := alone.post("/v1/messages", claudeStream).want(504, c.says)
		got.anthropicError("timeout_error")
		if n := len(a.Requests()) - before; n != 1 {
			t.Errorf("%s: asked %d times", name, n)
		}
		if e := alone.byID(got.Header.Get("x-millrace-request-id")); e.Status != 504 || !strings.Contains(e.Error, c.says) {
			t.Errorf("%s: event %v", name, e)
		}
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})
}

// TestSilenceOfWholeAnswers: first_byte_timeout is for streams. A whole answer comes when it is
// done, over connections that streams have used before.
func TestSilenceOfWholeAnswers(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "timeouts: {first_byte_timeout: 1s}\nstreaming: {inter_chunk_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	g.post("/v1/chat/completions", chatStream).want(200)
	slow := fakellm.Usual()
	slow.Head = fakellm.Pace{Delay: 3 * time.Second}
	a.Script(slow)
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=200")
}

// TestFirstTokenTimeout: it bounds the wait for the first token, whatever else the target sends,
// the gateway's and a target's own; the next target is asked, and a client whose targets are all
// too slow is told so. Without it there is no such bound (TestSilentThinking).
func TestFirstTokenTimeout(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	a.Always(thinking(a.Schema, openRouter, 100))
	b.Always(thinking(b.Schema, ping, 0))
	const settings = "timeouts: {first_byte_timeout: 1s}\nstreaming: {inter_chunk_timeout: 1s}"
	own := start(t, settings, pool("health_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1", "timeouts: {first_token_timeout: 2s}"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	own.post("/v1/chat/completions", chatStream).want(200, "thought").header("x-millrace-attempts", "a=504;b=200")
	all := start(t, strings.Replace(settings, "{", "{first_token_timeout: 2s, ", 1), pool("health_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	all.post("/v1/messages", claudeStream).want(200, "thought").header("x-millrace-attempts", "a=504;b=200")
	b.Always(thinking(b.Schema, ping, 100))
	all.post("/v1/chat/completions", chatStream).want(504, `target \"a\": no first token within 2s`).openAIError("timeout") // the third attempt
	nothingIsLeft(t, []*fakellm.Provider{a, b})
}

// TestThinkingWithKeepAlive: where the head goes out at once, comments break the silence of a model
// that thinks, and signs of life of the target count as before.
func TestThinkingWithKeepAlive(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	a.Always(thinking(a.Schema, openRouter, 6))
	g := start(t, "timeouts: {first_byte_timeout: 1s}\nstreaming: {commit: headers, keep_alive: 1s}", pool("", to("a", a, provider(t, a))))
	g.post("/v1/messages", claudeStream).want(200, "thought", "message_stop")
	got := g.post("/v1/chat/completions", chatStream).want(200, "thought", "[DONE]")
	if !strings.Contains(got.Body, "PROCESSING") {
		t.Errorf("the target's own comments are gone: %s", got.Body)
	}
}

// TestWholeAnswerIsAskedForElsewhere: a target that hangs, before its head or in the middle of its
// answer, leaves time to ask another within request_timeout, without a word of the operator's.
func TestWholeAnswerIsAskedForElsewhere(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "timeouts: {request_timeout: 4s}", pool("health_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	for _, reply := range []fakellm.Reply{
		{NoHead: true, End: fakellm.Hang},
		{Header: http.Header{"Content-Type": {"application/json"}}, Steps: fakellm.Chunks("{"), End: fakellm.Hang},
	} {
		a.Always(reply)
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=504;b=200")
		g.post("/v1/messages", claudeHello).want(200).header("x-millrace-attempts", "a=504;b=200")
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})
}

// TestClientsOwnLimit: the time that a client says it waits bounds the request where it is shorter,
// for streams and whole answers, with a head and without; the client is told in its schema, nobody
// else is asked, and the target does not suffer for it. What makes no sense is not heeded.
func TestClientsOwnLimit(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("health_checks: {passive: true, threshold: 1}", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	const says = "no answer within the time that the client waits"
	for _, reply := range []fakellm.Reply{{NoHead: true, End: fakellm.Hang}, thinking(a.Schema, openRouter, 100)} {
		a.Always(reply)
		g.post("/v1/chat/completions", chatStream, "x-stainless-timeout: 2").want(504, says).openAIError("timeout")
		g.post("/v1/messages", claudeStream, "x-stainless-read-timeout: 2.0").want(504, says).anthropicError("timeout_error")
		if reply.NoHead {
			g.post("/v1/messages", claudeHello, "x-stainless-timeout: 2").want(504, says).anthropicError("timeout_error")
		}
	}
	a.Reset()
	slow := fakellm.Usual()
	slow.Head = fakellm.Pace{Delay: 1500 * time.Millisecond}
	for _, nonsense := range []string{"0", "-1", "soon", "NaN", "1e999", "", "3000000000"} {
		a.Script(slow)
		g.post("/v1/chat/completions", chatHello, fmt.Sprintf("x-stainless-timeout: %s", nonsense)).want(200).header("x-millrace-attempts", "a=200")
	}
	nothingIsLeft(t, []*fakellm.Provider{a, b})
	if n := len(b.Requests()); n > 0 {
		t.Errorf("%d requests at the other target", n)
	}
}

// TestThinkingOverTLS: silence and signs of life are told apart through TLS, too, and over HTTP/2,
// where one connection carries many streams.
func TestThinkingOverTLS(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	a, b := openAI("a"), openAI("b")
	s := providerTLS(t, a, conf)
	other := providerTLS(t, b, conf)
	target := func(id string, s *fakellm.Server, priority int) string {
		_, port, _ := net.SplitHostPort(s.Addr())
		return fmt.Sprintf(`{id: %[1]s, provider: {type: openai, base_url: "https://localhost:%[2]s/v1", secret_key_ref: key-%[1]s}, priority: %[3]d}`, id, port, priority)
	}
	for _, settings := range []string{"streaming: {inter_chunk_timeout: 1s}", "connection_pool: {http2: true}"} {
		g := start(t, "ca_file: "+caFile+"\ntimeouts: {first_byte_timeout: 1s}\n"+settings, pool("health_checks: {passive: false}", target("a", s, 1), target("b", other, 2)))
		a.Always(thinking(a.Schema, openRouter, 7))
		parallel(4, 4, func(int) {
			g.post("/v1/chat/completions", chatStream).want(200, "thought", "[DONE]").header("x-millrace-attempts", "a=200")
		})
		a.Always(fakellm.Silent())
		g.post("/v1/chat/completions", chatStream).want(200, "[DONE]").header("x-millrace-attempts", "a=504;b=200")
	}
}
