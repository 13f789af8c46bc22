package extproc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
)

const (
	sameKey   = "sk-proj-4fJq8ZtR2mWcX7vB/nLk3+hYdTs9"
	otherKey  = "sk-ant-api03-Qw7Rt2Yp9Lk4Jh6Gf1Ds8Az3"
	headerKey = "Zx9Cv8Bn7Mq6Wl5Ek4Rj3Th2Yg1Fd0Sa9Pp8Oo7"
)

const keyDocument = `
upstreams:
- name: chat
  targets:
  - {id: same, provider: openai, credentials: {header_name: Authorization, header_value: Bearer ` + sameKey + `}, headers: {x-team-token: ` + headerKey + `, cookie: "session=` + headerKey + `"}}
  - {id: other, provider: anthropic, default_model: claude-x, credentials: {header_name: X-Api-Key, header_value: ` + otherKey + `}}
services: [{name: chat, upstream: chat}]
rules: [{path: /v1, service: chat}]
`

// quotes are the ways in which a provider quotes a key, as they stand in a string of JSON, by what
// must not be left of it.
func quotes(key string) map[string]string {
	escaped := ""
	for _, c := range key {
		escaped += fmt.Sprintf(`\u%04x`, c)
	}
	std, url := base64.StdEncoding, base64.URLEncoding
	all := map[string]string{ // what is left of it, by how it is said
		key:                             key,
		"Bearer " + key:                 key,
		escaped:                         escaped,
		key[:18]:                        key[:18],
		key[len(key)-8:]:                key[len(key)-8:],
		key[:18] + "****" + key[32:]:    key[:18] + "*",
		key[:10] + "\\u2026" + key[30:]: key[:10] + "\\u",
		`{\"key\":\"` + key + `\"}`:     key,
	}
	for _, before := range []string{"", "k", "ke"} {
		for _, code := range []*base64.Encoding{std, url} {
			encoded := code.EncodeToString([]byte(before + key))
			all[encoded] = encoded[4 : len(encoded)-4]
		}
	}
	return all
}

// play has a target answer a request, and returns all that Envoy is told: headers, bodies,
// trailers.
func (p *peer) play(t *testing.T, target, body string, head []string, chunks []string, trailers ...string) string {
	t.Helper()
	const id = "played"
	p.server.exchanges.take(id)
	router := p.open(t, envoy.StreamRouter)
	exchangeMessage(t, router, headersMessage(id))
	exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
	}})
	router.CloseSend()

	upstream := p.open(t, envoy.StreamUpstream)
	exchangeMessage(t, upstream, upstreamHeaders(id, p.targets[target]))
	upstream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(head...)},
	}})
	for i, c := range chunks {
		upstream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(c), EndOfStream: i == len(chunks)-1 && len(trailers) == 0},
		}})
	}
	if len(trailers) > 0 {
		upstream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{
			ResponseTrailers: &extprocv3.HttpTrailers{Trailers: headerMap(trailers...)},
		}})
	}
	var said strings.Builder
	removed := map[string]bool{}
	for {
		reply, err := upstream.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", said.String(), err)
		}
		common := reply.GetResponseHeaders().GetResponse()
		for _, mutation := range []*extprocv3.HeaderMutation{common.GetHeaderMutation(), reply.GetResponseTrailers().GetHeaderMutation()} {
			for _, h := range mutation.GetSetHeaders() {
				removed[h.Header.Key] = true
				fmt.Fprintf(&said, "%s: %s\n", h.Header.Key, h.Header.RawValue)
			}
			for _, name := range mutation.GetRemoveHeaders() {
				removed[name] = true
			}
		}
		piece := reply.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		said.Write(piece.GetBody())
		if reply.GetResponseTrailers() != nil || piece.GetEndOfStream() && len(trailers) == 0 {
			break
		}
	}
	upstream.CloseSend()
	for { // until the attempt is over
		if _, err := upstream.Recv(); err != nil {
			break
		}
	}
	var kept strings.Builder
	for _, line := range append(head, trailers...) { // what is neither set nor removed goes on as it came
		if name, v, _ := strings.Cut(line, "= "); !removed[name] {
			fmt.Fprintf(&kept, "%s: %s\n", name, v)
		}
	}
	return kept.String() + said.String()
}

// bodyOf is what play returned from the body on.
func bodyOf(said string) string { return said[strings.Index(said, "{"):] }

const plainBody = `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}`

func chunk(content string) string {
	return `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"` + content + `"}}]}` + "\n\n"
}

func delta(content string) string {
	return "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" + content + "\"}}\n\n"
}

// echo is one place where a provider says something, with %s where it says it.
type echo struct {
	name, target, body string
	head               []string
	chunks             []string
	trailers           []string
}

func echoes() []echo {
	const done = "data: [DONE]\n\n"
	refused := []string{":status= 400", "content-type= application/json"}
	fine := []string{":status= 200", "content-type= application/json"}
	stream := []string{":status= 200", "content-type= text/event-stream"}
	begun, ended := openAIChunks[1], openAIChunks[2]+done
	claude, stop := strings.Join(anthropicChunks[:2], ""), anthropicChunks[3]
	return []echo{
		{"an error's message", "same", plainBody, refused, []string{`{"error":{"message":"bad key %s","type":"x"}}`}, nil},
		{"an error's code, param and detail", "same", plainBody, refused, []string{`{"error":{"message":"m","code":"%s","param":"%s","innererror":{"a":["%s"]}}}`}, nil},
		{"an error's other members", "same", plainBody, refused, []string{`{"error":{"message":"m"},"request":{"headers":{"Authorization":"%s"}}}`}, nil},
		{"the name of an error's member", "same", plainBody, refused, []string{`{"error":{"message":"m"},"%s":1}`}, nil},
		{"an error that is no JSON", "same", plainBody, []string{":status= 400", "content-type= text/plain"}, []string{"bad key %s"}, nil},
		{"an error of a server", "same", plainBody, []string{":status= 503"}, []string{`{"error":{"message":"%s","innererror":{"%s":"%s"}}}`}, nil},
		{"an error, translated", "other", plainBody, refused, []string{`{"type":"error","error":{"type":"authentication_error","message":"bad key %s"}}`}, nil},
		{"an error in a 200", "same", plainBody, fine, []string{`{"error":{"message":"bad key %s","code":"%s"}}`}, nil},
		{"an answer", "same", plainBody, fine, []string{`{"id":"%s","object":"chat.completion","model":"%s","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"debug":"%s"}`}, nil},
		{"an answer, translated", "other", plainBody, fine, []string{`{"id":"m","type":"message","role":"assistant","model":"%s","content":[{"type":"text","text":"%s"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`}, nil},
		{"an encoding", "same", plainBody, append(fine, "content-encoding= %s"), []string{`{}`}, nil},
		{"headers", "same", plainBody, append(fine, "x-request-id= %s", "request-id= %s", "content-language= %s", "openai-version= %s", "x-ratelimit-key= %s", "x-other= %s"), []string{`{"choices":[]}`}, nil},
		{"headers of a stream", "same", streamBody, []string{":status= 200", "content-type= text/event-stream; key=%s", "x-request-id= %s"}, []string{begun, ended}, nil},
		{"trailers", "same", streamBody, stream, []string{begun, ended}, []string{"x-key= %s", "grpc-message= %s"}},
		{"a stream's first event", "same", streamBody, stream, []string{`data: {"error":{"message":"bad key %s","code":"%s"}}` + "\n\n"}, nil},
		{"an error event", "same", streamBody, stream, []string{begun, `data: {"error":{"message":"bad key %s","code":"%s","other":"%s"}}` + "\n\n"}, nil},
		{"a comment", "same", streamBody, stream, []string{": %s\n\n", begun, ": %s\n\n", ended}, nil},
		{"fields of an event", "same", streamBody, stream, []string{begun, "event: %s\nid: %s\nx-%s: y\n: %s\ndata: {\"choices\":[]}\n\n", ended}, nil},
		{"an unknown event", "same", streamBody, stream, []string{begun, "event: debug\ndata: {\"headers\":\"%s\"}\n\n", "event: debug\ndata: %s\n\n", ended}, nil},
		{"a stream's content", "same", streamBody, stream, []string{begun, chunk("%s"), ended}, nil},
		{"what comes after the end", "same", streamBody, stream, []string{begun, ended + ": %s\n\n", ": %s"}, nil},
		{"half an event", "same", streamBody, stream, []string{begun, "data: {\"x\":\"%s\""}, nil},
		{"an error event, translated", "other", streamBody, stream, []string{claude, delta("a"), "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"%s\"}}\n\n"}, nil},
		{"a stream's content, translated", "other", streamBody, stream, []string{claude, delta("%s"), ": %s\n\nevent: debug\ndata: {\"a\":\"%s\"}\n\n", stop}, nil},
	}
}

// TestNoKeyInAnswers: wherever a provider quotes the gateway's credential, and in whatever form,
// neither the client nor the record of the attempt has it. What the client gets is JSON still.
func TestNoKeyInAnswers(t *testing.T) {
	p := newPeerOf(t, keyDocument)
	for _, e := range echoes() {
		t.Run(e.name, func(t *testing.T) {
			keys := []string{sameKey, headerKey}
			if e.target == "other" {
				keys = []string{otherKey}
			}
			for _, key := range keys {
				for said, left := range quotes(key) {
					e.check(t, p, said, left)
				}
			}
		})
	}
}

func (e echo) check(t *testing.T, p *peer, quoted, left string) {
	t.Helper()
	in := func(lines []string) []string {
		var all []string
		for _, line := range lines {
			if !strings.Contains(line, `"`) { // it is not JSON
				quoted = strings.ReplaceAll(quoted, `\"`, `"`)
			}
			all = append(all, strings.ReplaceAll(line, "%s", quoted))
		}
		return all
	}
	said := p.play(t, e.target, e.body, in(e.head), in(e.chunks), in(e.trailers)...)
	record := p.server.Recent(p.targets[e.target])[0].Error + p.server.exchanges.get("played").attempts[0].Error
	if strings.Contains(said, left) || strings.Contains(record, left) {
		t.Errorf("%q is left of %q:\n%s\nrecorded: %s", left, quoted, said, record)
	}
	if e.body == streamBody {
		for line := range strings.Lines(said) {
			if data, ok := strings.CutPrefix(line, "data: {"); ok && e.name != "half an event" && !json.Valid([]byte("{"+data)) {
				t.Errorf("%q: no JSON: %s", quoted, line)
			}
		}
	}
}

// TestDummyKeys: where a provider needs no key people give it one all the same. Answers that hold
// that word stay as they are.
func TestDummyKeys(t *testing.T) {
	const text = `the test key is none: x, password, sk-dummy, key-a, content, choices, assistant, null`
	for _, dummy := range []string{"x", "key", "test", "none", "null", "password", "content", "choices", "assistant", "sk-dummy", "key-a"} {
		p := newPeerOf(t, strings.NewReplacer(sameKey, dummy, headerKey, dummy).Replace(keyDocument))
		answer := `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `"},"finish_reason":null}]}`
		if got := p.play(t, "same", plainBody, []string{":status= 200", "x-request-id= my-test"}, []string{answer}); !strings.Contains(got, answer) || !strings.Contains(got, "my-test") {
			t.Errorf("%s: answer %s", dummy, got)
		}
		stream := openAIChunks[1] + chunk(text) + openAIChunks[2] + "data: [DONE]\n\n"
		if got := p.play(t, "same", streamBody, []string{":status= 200", "content-type= text/event-stream"}, []string{stream}); !strings.Contains(got, stream) {
			t.Errorf("%s: stream %s", dummy, got)
		}
	}
	p := newPeerOf(t, strings.ReplaceAll(keyDocument, sameKey, "sk-dummy"))
	const refusal = `{"error":{"message":"Incorrect API key provided: sk-dummy.","code":"sk-dummy-1"}}`
	want := strings.Replace(refusal, "sk-dummy", "[redacted]", 1)
	if got := p.play(t, "same", plainBody, []string{":status= 400"}, []string{refusal}); bodyOf(got) != want {
		t.Errorf("an error that quotes it: %s, want %s", got, want)
	}
}
