package extproc

import (
	"net/http"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/schema"
)

// countBody is a request to count tokens: 4 for a message and 3 for its text are estimated.
const countBody = `{"model":"m","messages":[{"role":"user","content":"how many ?"}]}`

var counting = app{schema: schema.AnthropicMessages, path: "/v1/messages/count_tokens"}

const countDocument = `
upstreams:
- name: chat
  targets:
  - {id: native, provider: anthropic, default_model: claude-x, credentials: {header_name: X-Api-Key, header_value: secret-of-native}}
  - {id: placed, provider: anthropic, path: /anthropic/chat, credentials: {header_name: X-Api-Key, header_value: secret-of-placed}}
  - {id: other, provider: openai, credentials: {header_name: Authorization, header_value: Bearer secret-of-other}}
  - {id: sorry, provider: static, answer: "Sorry."}
services: [{name: chat, upstream: chat}]
rules: [{path: /v1, service: chat}]
`

// verdicts are what is said of targets: succeeded, failed, cooled.
type verdicts struct{ succeeded, failed, cooled int }

func newCountPeer(t *testing.T) (*peer, *verdicts) {
	p, v := newPeerOf(t, countDocument), &verdicts{}
	p.server.options.Succeeded = func(string, string) { v.succeeded++ }
	p.server.options.Failed = func(string, string, string) { v.failed++ }
	p.server.options.Cool = func(string, time.Duration) { v.cooled++ }
	return p, v
}

// TestCountEstimated: where the target cannot count, the gateway estimates and says so. Nobody is
// asked, and it says nothing of the target; what no target of the schema could be told is refused.
func TestCountEstimated(t *testing.T) {
	for _, target := range []string{"other", "placed", "sorry"} {
		for body, want := range map[string]string{
			countBody: `{"input_tokens":7}`,
			strings.Replace(countBody, `"model"`, `"stream":true,"max_tokens":5,"model"`, 1): `{"input_tokens":7}`,
			`{"model":"m","messages":[{"role":"user","content":7}]}`:                         `messages[0].content`,
		} {
			p, said := newCountPeer(t)
			reply := p.begun(t, counting, body, target).GetImmediateResponse()
			if !strings.Contains(string(reply.GetBody()), want) {
				t.Errorf("%s, %s: %s", target, body, reply.GetBody())
			}
			header := http.Header{}
			for _, h := range reply.GetHeaders().GetSetHeaders() {
				header.Set(h.Header.Key, string(h.Header.RawValue))
			}
			estimated := want == `{"input_tokens":7}`
			if estimated != (header.Get("x-millrace-estimated") == "input_tokens") || estimated && header.Get("x-millrace-target") != target {
				t.Errorf("%s, %s: %v", target, body, header)
			}
			if recent := p.server.Recent(p.targets[target]); *said != (verdicts{}) || len(recent) != 0 {
				t.Errorf("%s, %s: %+v, %v is said of the target", target, body, *said, recent)
			}
		}
	}
}

// TestCountNative: a target of the schema is asked. What it says comes back as it is if it is a
// count, costs nothing, and neither takes the target from conversations nor gives it back to them.
func TestCountNative(t *testing.T) {
	const refused = `{"type":"error","error":{"type":"rate_limit_error","message":"too many counts"}}`
	for name, c := range map[string]struct {
		head   []string
		body   string
		status string
		want   string
	}{
		"a count":      {[]string{":status= 200"}, "{ \"input_tokens\" : 2095 }\n", "200", "{ \"input_tokens\" : 2095 }\n"},
		"none":         {[]string{":status= 200"}, `{}`, "502", "input_tokens"},
		"a message":    {[]string{":status= 200"}, `{"id":"msg_1","type":"message","content":[],"usage":{"input_tokens":1,"output_tokens":1}}`, "502", "input_tokens"},
		"a stream":     {[]string{":status= 200", "content-type= text/event-stream"}, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"r\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", "502", "input_tokens"},
		"a rate limit": {[]string{":status= 429", "retry-after= 30"}, refused, "429", refused},
		"no such path": {[]string{":status= 404"}, `Not Found`, "404", "Not Found"},
		"a failure":    {[]string{":status= 500"}, `{"type":"error","error":{"type":"api_error","message":"oops"}}`, "500", "oops"},
	} {
		t.Run(name, func(t *testing.T) {
			p, said := newCountPeer(t)
			a := p.call(t, counting, countBody, "native").head(c.head...).ends(c.body).all()
			if a.header.Get(":status") != c.status || !strings.Contains(a.body, c.want) || a.header.Get("x-millrace-estimated") != "" {
				t.Errorf("%v %s", a.header, a.body)
			}
			if *said != (verdicts{}) {
				t.Errorf("%+v is said of the target", *said)
			}
			if e := p.eventNow(); e.Usage != nil {
				t.Errorf("it has cost %+v", e.Usage)
			}
		})
	}
}

// begun is what the beginning of an attempt is answered with.
func (p *peer) begun(t testing.TB, a app, body, target string) *extprocv3.ProcessingResponse {
	t.Helper()
	p.routedTo(t, a, body)
	stream := p.open(t, envoy.StreamUpstream)
	reply := exchangeMessage(t, stream, upstreamHeaders(callID, p.targets[target]))
	(&call{t: t, stream: stream}).close()
	return reply
}
