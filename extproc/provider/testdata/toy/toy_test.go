package extproc

import (
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/schema"
)

const toyDocument = `
upstreams:
- name: chat
  targets:
  - {id: toy, provider: toy, default_model: "b/7", credentials: {header_name: X-Toy-Key, header_value: secret-of-toy}}
  - {id: placed, provider: toy, default_model: m, path: /talk}
  - {id: same, provider: openai, default_model: gpt-x}
  - {id: other, provider: anthropic, default_model: claude-x}
  - {id: terse, provider: terse, default_model: t}
services: [{name: chat, upstream: chat}]
rules: [{path: /v1, service: chat}]
`

const (
	toyHello    = `{"who":"assistant","text":"hello","last":true}`
	toyStream   = "{\"who\":\"assistant\",\"text\":\"hello\"}\n{\"who\":\"assistant\",\"text\":\"\",\"last\":true}\n"
	toySays     = `{ "say": [{"who":"user","text":"hi"}], "limit": 5, "mood": "gay" }`
	openAISays  = `{"model":"m","messages":[{"role":"user","content":"hi"}],"seed":7,"store":true}`
	openAIAsks  = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	toyOverflow = `{"oops":"too much","kind":"you"}`
)

// TestToy: a new schema is spoken by clients and targets, native and translated, whole and
// streamed, though nothing but its rows and its folder knows of it.
func TestToy(t *testing.T) {
	ask := app{schema: "toy.talk", path: "/v1/toys/a%2Fb:ask"}
	tell := app{schema: "toy.talk", path: "/v1/toys/m:tell"}
	for name, c := range map[string]struct {
		client       app
		body, target string
		path, sent   string // what the target is asked
		kind, says   string // what it answers
		gets, lost   string // what the client is answered, and what it is told was not said
	}{
		"native":         {ask, toySays, "toy", "/v1/toys/b%2F7:ask", toySays, "application/json", toyHello, toyHello, ""},
		"native stream":  {tell, toySays, "toy", "/v1/toys/b%2F7:tell", toySays, "application/x-toy", toyStream, toyStream, ""},
		"to OpenAI":      {ask, toySays, "same", "/v1/chat/completions", `"content":"hi"`, "application/json", openAIWhole, toyHello, "mood"},
		"to Anthropic":   {ask, toySays, "other", "/v1/messages", `"max_tokens":5`, "application/json", anthropicWhole, toyHello, "mood"},
		"stream to it":   {tell, toySays, "same", "/v1/chat/completions", `"stream":true`, "text/event-stream", strings.Join(openAIChunks, ""), `{"who":"assistant","text":"hello"}`, "mood"},
		"from OpenAI":    {apps[0], openAISays, "toy", "/v1/toys/b%2F7:ask", `{"say":[{"who":"user","text":"hi"}]}`, "application/json", toyHello, `"content":"hello"`, "store, seed"},
		"stream from it": {apps[0], openAIAsks, "toy", "/v1/toys/b%2F7:tell", `"text":"hi"`, "application/x-toy", toyStream, `{"content":"hello"}`, ""},
		"passed through": {app{schema: "toy.talk", path: "/v1/toyfiles/x%20y"}, `[1, 2]`, "toy", "/v1/toyfiles/x%20y", `[1, 2]`, "application/json", `{ "ok": 1 }`, `{ "ok": 1 }`, ""},
		"a terse host":   {apps[0], strings.Replace(openAISays, `"seed":7`, `"max_completion_tokens":7`, 1), "terse", "/v1/chat/completions", `{"model":"t","messages":[{"role":"user","content":"hi"}],"max_tokens":7}`, "application/json", openAIWhole, `"hello"`, "store"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeerOf(t, toyDocument)
			header, body := sent(p.begun(t, c.client, c.body, c.target), upstreamHeaders(callID, ""))
			if header[":path"] != c.path || !strings.Contains(string(body), c.sent) {
				t.Errorf("sent to %s: %s", header[":path"], body)
			}
			if key := header["x-toy-key"]; (key == "secret-of-toy") != (c.target == "toy") {
				t.Errorf("with the key %q", key)
			}
			a := p.call(t, c.client, c.body, c.target).head(":status= 200", "content-type= "+c.kind).ends(c.says).all()
			if !strings.Contains(a.body, c.gets) || a.header.Get(":status") != "200" {
				t.Errorf("answered %v: %s", a.header, a.body)
			}
			if want := map[bool]string{true: "application/x-toy", false: "text/event-stream"}[c.client.schema == "toy.talk"]; c.kind != "application/json" && a.header.Get("content-type") != want {
				t.Errorf("labelled %v", a.header)
			}
			if lost := a.header.Get("x-millrace-dropped"); lost != c.lost {
				t.Errorf("lost is %q", lost)
			}
		})
	}
}

// TestToyErrors: errors of the gateway's and of targets are in the client's words, before its
// operation is known and after.
func TestToyErrors(t *testing.T) {
	p := newPeerOf(t, toyDocument)
	ask := app{schema: "toy.talk", path: "/v1/toys/m:ask"}
	if a := p.call(t, ask, toySays, "toy").head(":status= 413").ends(toyOverflow).all(); a.body != toyOverflow {
		t.Errorf("of its own target: %s", a.body)
	}
	if a := p.call(t, ask, toySays, "same").head(":status= 400").ends(`{"error":{"message":"no"}}`).all(); a.body != `{"oops":"no","kind":"you"}` {
		t.Errorf("of another target: %s", a.body)
	}
	if a := p.call(t, apps[0], openAISays, "toy").head(":status= 413").ends(toyOverflow).all(); !strings.Contains(a.body, `"message":"too much"`) {
		t.Errorf("for another client: %s", a.body)
	}
	unreadable := exchangeText(t, p, "/v1/toys/m:ask", `{`)
	nowhere := exchangeText(t, p, "/v1/toys/m:sing", `{}`)
	if !strings.HasPrefix(unreadable, `{"oops":`) || !strings.HasPrefix(nowhere, `{"oops":`) || !strings.Contains(nowhere, "/toys/{model}:ask") {
		t.Errorf("of the gateway: %s %s", unreadable, nowhere)
	}
	for _, target := range []string{"same", "placed"} {
		refused := p.begun(t, app{schema: "toy.talk", path: "/v1/toyfiles/x"}, `{}`, target).GetImmediateResponse()
		if !strings.Contains(string(refused.GetBody()), "cannot be asked for files") {
			t.Errorf("an operation that a target has not: %v", refused)
		}
	}
	if s := schema.Of(schema.OpenAIChat); !s.Foreign()["say"] || s.Foreign()["limit"] != true {
		t.Error("its members are not foreign to others")
	}
}

// exchangeText is what the router stream answers with.
func exchangeText(t *testing.T, p *peer, path, body string) string {
	t.Helper()
	message := headersMessage(callID)
	for _, h := range message.GetRequestHeaders().Headers.Headers {
		if h.Key == ":path" {
			h.RawValue = []byte(path)
		}
	}
	router := p.open(t, envoy.StreamRouter)
	reply := exchangeMessage(t, router, message)
	if reply.GetImmediateResponse() == nil {
		reply = exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
		}})
	}
	return string(reply.GetImmediateResponse().GetBody())
}
