package extproc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
)

// byModelDocument has rules that the model chooses, each with an upstream that wants something else
// of the router stream, and one for any other model.
const byModelDocument = `
upstreams:
- {name: listed, model_choice: listed, targets: [{id: l1, provider: openai, models: [m-listed]}, {id: l2, provider: openai, models: [m-other]}]}
- {name: hashed, algorithm: prompt-hash, targets: [{id: h, provider: openai}]}
- {name: forwarding, targets: [{id: f, provider: openai, forward_headers: [x-team]}]}
- {name: mixed, targets: [{id: o, provider: openai}, {id: a, provider: anthropic, default_model: c}]}
- {name: plain, targets: [{id: p, provider: openai, models: [m-plain]}]}
services: [{name: listed, upstream: listed}, {name: hashed, upstream: hashed}, {name: forwarding, upstream: forwarding}, {name: mixed, upstream: mixed}, {name: plain, upstream: plain}]
rules:
- {path: /v1, service: listed, models: [m-listed, m-missing]}
- {path: /v1, service: hashed, models: [m-hashed]}
- {path: /v1, service: forwarding, models: [m-forwarding]}
- {path: /v1, service: mixed, models: [m-mixed]}
- {path: /v1, service: plain, models: [m-gold], headers: {x-tier: gold}}
- {path: /v1, service: hashed, models: [m-gold]}
`

// toldRouter is what Envoy is told of a request at the end of the router stream.
func (p *peer) toldRouter(t *testing.T, route, body string) (*extprocv3.ProcessingResponse, *exchange) {
	t.Helper()
	reply := p.routed(t, route, body)
	return reply, p.server.exchanges.take(callID)
}

// routed plays the router stream of a request that is on this route until its body is read.
func (p *peer) routed(t *testing.T, route, body string) *extprocv3.ProcessingResponse {
	t.Helper()
	message := headersMessage(callID)
	message.Attributes = attributes(map[string]any{envoy.AttributeRoute: route})
	message.GetRequestHeaders().Headers.Headers = append(message.GetRequestHeaders().Headers.Headers, headerMap("x-team= blue").Headers...)
	router := p.open(t, envoy.StreamRouter)
	exchangeMessage(t, router, message)
	return exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
	}})
}

// TestDecided: what the router stream does with a body goes by the rule that the model chooses,
// whatever the route was before it was read.
func TestDecided(t *testing.T) {
	const undecided = envoy.RouteModel + "default /v1"
	for name, c := range map[string]struct {
		document, route string
	}{
		"only rules with models": {byModelDocument, undecided},
		"and one for any other":  {byModelDocument + "- {path: /v1, service: plain}\n", routeName},
	} {
		p := newPeerOf(t, c.document)
		for _, want := range []struct {
			model, choose, speaks string
			hashed, forwards      bool
			status                string
		}{
			{model: "m-listed", choose: "m-listed"},
			{model: "m-missing", status: "NotFound"}, // nobody in listed has it
			{model: "m-hashed", hashed: true},
			{model: "m-forwarding", forwards: true},
			{model: "m-mixed", speaks: "openai.chat"},
			{model: "m-gold", hashed: true}, // it may be that of another header, too
		} {
			t.Run(name+", "+want.model, func(t *testing.T) {
				reply, x := p.toldRouter(t, c.route, fmt.Sprintf(`{"model":%q,"n":2,"messages":[{"role":"user","content":"hi"}]}`, want.model))
				if status := reply.GetImmediateResponse().GetStatus().GetCode().String(); reply.GetImmediateResponse() != nil || want.status != "" {
					if status != want.status {
						t.Errorf("status %s, want %q", status, want.status)
					}
					return
				}
				lb := reply.DynamicMetadata.GetFields()[envoy.MetadataLB].GetStructValue().GetFields()
				if got := lb[envoy.MetadataModel].GetStringValue(); got != want.choose {
					t.Errorf("chosen by model %q, want %q", got, want.choose)
				}
				if got := lb[envoy.MetadataSpeaks].GetStringValue(); got != want.speaks {
					t.Errorf("chosen by schema %q, want %q", got, want.speaks)
				}
				var set []string
				for _, h := range reply.GetRequestBody().GetResponse().GetHeaderMutation().GetSetHeaders() {
					set = append(set, h.Header.Key)
				}
				if !slices.Contains(set, envoy.HeaderModel) {
					t.Errorf("set %q: Envoy does not learn the model", set)
				}
				if got := slices.Contains(set, envoy.HeaderPromptHash); got != want.hashed {
					t.Errorf("hash set: %v, want %v", got, want.hashed)
				}
				if got := x.forward["x-team"] == "blue"; want.forwards && !got {
					t.Errorf("kept of the client's headers: %v", x.forward)
				}
			})
		}
	}
}

// TestModelsOfRulesByModel: the list of models has those of all rules of the path.
func TestModelsOfRulesByModel(t *testing.T) {
	for name, c := range map[string]struct{ document, route, want string }{
		"only rules with models": {byModelDocument, envoy.RouteModel + "default /v1", "m-forwarding m-gold m-hashed m-listed m-mixed"},
		"and one for any other":  {byModelDocument + "- {path: /v1, service: plain}\n", routeName, "m-forwarding m-gold m-hashed m-listed m-mixed m-plain"},
	} {
		p := newPeerOf(t, c.document)
		message := headersMessage(callID)
		message.Attributes = attributes(map[string]any{envoy.AttributeRoute: c.route})
		for _, h := range message.GetRequestHeaders().Headers.Headers {
			switch h.Key {
			case ":path":
				h.RawValue = []byte("/v1/models")
			case ":method":
				h.RawValue = []byte("GET")
			}
		}
		reply := exchangeMessage(t, p.open(t, envoy.StreamRouter), message)
		var list struct{ Data []struct{ ID string } }
		if err := json.Unmarshal(reply.GetImmediateResponse().GetBody(), &list); err != nil {
			t.Fatalf("%s: %v: %v", name, err, reply)
		}
		var names []string
		for _, m := range list.Data {
			names = append(names, m.ID)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestAttemptLivesByItsRule: how long an attempt may take goes by the rule that Envoy has taken,
// though its name comes with the attempt alone: Envoy has read headers that the sidecar has not.
func TestAttemptLivesByItsRule(t *testing.T) { synctest.Test(t, attemptLivesByItsRule) }

func attemptLivesByItsRule(t *testing.T) {
	const document = `
upstreams:
- {name: hasty, retry: {per_try_timeout: 2s}, targets: [{id: h1, provider: openai}, {id: h2, provider: openai}]}
- {name: plain, retry: {per_try_timeout: 5s}, targets: [{id: p1, provider: openai}, {id: p2, provider: openai}]}
services: [{name: hasty, upstream: hasty}, {name: plain, upstream: plain}]
rules:
- {path: /v1, service: hasty, models: [m], headers: {x-tier: gold}}
- {path: /v1, service: plain, models: [m]}
`
	p := newPeerOf(t, document)
	for target, c := range map[string]struct {
		route string
		ends  time.Duration
	}{
		"p1": {`"default" [] "/v1" map[] map[] ["m"]`, 5 * time.Second},
		"h1": {`"default" [] "/v1" map["x-tier":"gold"] map[] ["m"]`, 2 * time.Second},
	} {
		p.routed(t, envoy.RouteModel+"default /v1", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
		stream := p.open(t, envoy.StreamUpstream)
		exchangeMessage(t, stream, attempted(headersMessage(callID), p.targets[target], c.route))
		asked := time.Now()
		reply, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(asked); reply.GetImmediateResponse().GetStatus().GetCode() != http.StatusGatewayTimeout || took != c.ends {
			t.Errorf("%s: %v after %s, want 504 after %s", target, reply, took, c.ends)
		}
		stream.CloseSend()
		p.server.exchanges.take(callID)
	}
}

// TestPoliciesOfTheModelsRule: where the model chooses the rule, the policies that only its service
// has are told of the request's headers and address as those of the gateway are.
func TestPoliciesOfTheModelsRule(t *testing.T) {
	p := newPeerOf(t, `
upstreams: [{name: chat, targets: [{id: a, provider: openai}]}]
services: [{name: open, upstream: chat}, {name: strict, upstream: chat, policies: {chain: [blue]}}]
policies: {policy: {blue: {kind: expression, expression: 'request.headers["x-team"] == "blue"', reason: not for blue}}}
rules: [{path: /v1, service: strict, models: [m-strict]}, {path: /v1, service: open, models: [m-open]}]
`)
	for model, refused := range map[string]bool{"m-strict": true, "m-open": false} {
		reply := p.routed(t, envoy.RouteModel+"default /v1", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model))
		if got := reply.GetImmediateResponse() != nil; got != refused {
			t.Errorf("%s: refused %v: %v", model, got, reply)
		}
	}
}
