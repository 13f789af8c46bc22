package extproc

import (
	"fmt"
	"strings"
	"testing"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"millrace/envoy"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// textsOf are the texts that each event of streamedAnswers has for its answer.
var textsOf = map[schema.Name][]string{
	schema.OpenAIChat:        {"", "", "let me look", `look{"at":`, `"it"}`, "", "", ""},
	schema.AnthropicMessages: {"", "", "let me look", "", "look", `{"at":"it"}`, "", "", ""},
}

// counts is where in streamedAnswers the target tells its usage: of the request, and of all.
var counts = map[schema.Name][2]int{schema.OpenAIChat: {6, 6}, schema.AnthropicMessages: {0, 7}}

// TestUsageAtEveryEnd: a client that leaves after any of the target's events, and one in the middle
// of any, has used what the target has told, and what came beside it, to the event (E06, D20).
func TestUsageAtEveryEnd(t *testing.T) {
	p := newPeer(t)
	for _, pair := range pairs() {
		if !pair.streams {
			continue
		}
		of := targetSchemas[pair.target]
		events, told := streamedAnswers[of], counts[of]
		for n := range len(events) + 1 {
			for _, half := range []string{"", "data: {\"half"} {
				c := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/event-stream")
				c.says(events[:n]...)
				if half != "" {
					c.says(half)
				}
				c.close()
				texts := strings.Join(textsOf[of][:n], "")
				want := &millracev1.Usage{Input: 5, Output: uint32(llm.EstimateOutputTokens(len(texts))), Estimated: true}
				switch {
				case n > told[1]:
					want = &millracev1.Usage{Input: 5, Output: 7}
				case n > told[0]:
					want.Output = max(want.Output, 1) // as message_start has it
				}
				a := p.eventNow().Attempts[0]
				if diff := cmp.Diff(want, a.Usage, protocmp.Transform()); diff != "" {
					t.Errorf("%s, left after %d events and %q (-want +got)\n%s", pair, n, half, diff)
				}
				if (a.FirstTokenMs > 0) != (texts != "") {
					t.Errorf("%s, left after %d events: first token after %v ms", pair, n, a.FirstTokenMs)
				}
			}
		}
	}
}

// TestUsageOfWholeAnswers: the target's numbers where it tells them, and an estimate where it does
// not, whatever the client wants (E06).
func TestUsageOfWholeAnswers(t *testing.T) {
	p := newPeer(t)
	untold := map[schema.Name]string{
		schema.OpenAIChat:        strings.Replace(wholeAnswers[schema.OpenAIChat], `,"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}`, "", 1),
		schema.AnthropicMessages: strings.Replace(wholeAnswers[schema.AnthropicMessages], `,"usage":{"input_tokens":5,"output_tokens":7}`, "", 1),
	}
	for _, pair := range pairs() {
		if pair.streams {
			continue
		}
		of := targetSchemas[pair.target]
		output := uint32(llm.EstimateOutputTokens(len(strings.Join(textsOf[of], ""))))
		for answer, want := range map[string]*millracev1.Usage{
			wholeAnswers[of]: {Input: 5, Output: 7},
			untold[of]:       {Input: 5, Output: output, Estimated: true},
		} {
			p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= application/json").ends(answer).all()
			e := p.eventNow()
			if diff := cmp.Diff(want, e.Usage, protocmp.Transform()); diff != "" || e.FinishReason != string(llm.StopTool) {
				t.Errorf("%s, %s: finish %q, usage (-want +got)\n%s", pair, answer, e.FinishReason, diff)
			}
		}
	}
}

// TestCostOfAttempts: what each attempt has cost stands in the event, and what all have, wasted
// ones too; what has no price is named (D22).
func TestCostOfAttempts(t *testing.T) {
	p := newPeerOf(t, document+"prices: [{model: gpt-4o, provider: openai, input: 2.5, output: 10}]\n")
	a := apps[0]
	p.routedTo(t, a, a.stream)
	p.attempt(t, "1", "other").head(":status= 200", "content-type= text/event-stream").
		ends(streamedAnswers[schema.AnthropicMessages][0], "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"overloaded\"}}\n\n").all()
	p.attempt(t, "2", "same").head(":status= 200", "content-type= text/event-stream").ends(streamedAnswers[schema.OpenAIChat]...).all()
	e := p.eventNow()
	got := []*millracev1.Cost{e.Attempts[0].Cost, e.Attempts[1].Cost, e.Cost}
	want := []*millracev1.Cost{{Unpriced: []string{"claude-x"}, Estimated: true}, {Usd: "0.0000825"}, {Usd: "0.0000825", Unpriced: []string{"claude-x"}, Estimated: true}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("first attempt, second attempt, request (-want +got)\n%s", diff)
	}
	if first := e.Attempts[0]; first.RetriedOn != "server-error" || first.Schema != "anthropic.messages" || e.Retries != 1 || e.Attempts[1].RetriedOn != "" {
		t.Errorf("%v", e)
	}
	if e.Service != "chat" || e.Rule != "/v1" || e.FinishReason != "tool" || e.FirstTokenMs <= 0 || e.Attempts[1].FirstByteMs <= 0 {
		t.Errorf("%v", e)
	}
}

// TestWhatEnvoyTells: Envoy's account of a request is in its event, also where the sidecar has seen
// nothing of it (C10).
func TestWhatEnvoyTells(t *testing.T) {
	p := newPeer(t)
	entry := &datav3.HTTPAccessLogEntry{
		ProtocolVersion: datav3.HTTPAccessLogEntry_HTTP2,
		CommonProperties: &datav3.AccessLogCommon{
			ResponseFlags:               &datav3.ResponseFlags{DownstreamConnectionTermination: true, UpstreamRequestTimeout: true},
			DownstreamWireBytesReceived: 11, DownstreamWireBytesSent: 12, UpstreamRequestAttemptCount: 3, RouteName: routeName,
		},
	}
	e := eventOf(entry)
	p.server.rule(nil, routeName).describe(e)
	if got := fmt.Sprintln(e.Protocol, e.Flags, e.ReceivedBytes, e.SentBytes, e.Retries, e.Gateway, e.Service, e.Rule); got != "HTTP/2 [DC UT] 11 12 2 default chat /v1\n" {
		t.Error(got)
	}
	for name, of := range map[string]*datav3.ResponseFlags{"": nil, "none": {}} {
		if got := flagsOf(of); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestServiceOfAShare: the service of a rule of several is that of the target, where it is certain.
func TestServiceOfAShare(t *testing.T) {
	p := newPeerOf(t, strings.Replace(document, "services: [{name: chat, upstream: chat}]\nrules: [{path: /v1, service: chat}]", `- name: other
  targets: [{id: third, provider: openai}]
services: [{name: one, upstream: chat}, {name: two, upstream: other, tags: [b]}]
rules: [{path: /v1, services: [{service: one, weight: 1}, {service: two, weight: 1}]}]`, 1))
	for target, want := range map[string]string{"same": "one", "third": "two"} {
		p.call(t, apps[0], apps[0].whole, target).head(":status= 200", "content-type= application/json").ends(wholeAnswers[schema.OpenAIChat]).all()
		if e := p.eventNow(); e.Service != want || e.Rule != "/v1" {
			t.Errorf("%s: service %q, rule %q", target, e.Service, e.Rule)
		}
	}
}

// BenchmarkEvent is what the making of an event costs a request, from Envoy's entry on.
func BenchmarkEvent(b *testing.B) {
	p := costServer(b)
	c := costCases[0]
	entry := &datav3.HTTPAccessLogEntry{
		CommonProperties: &datav3.AccessLogCommon{ResponseFlags: &datav3.ResponseFlags{}, RouteName: routeName, UpstreamRequestAttemptCount: 1},
		Request:          &datav3.HTTPRequestProperties{RequestId: "id"},
		Response:         &datav3.HTTPResponseProperties{},
	}
	request := []*extprocv3.ProcessingRequest{headersMessage("id"), {
		Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(c.body), EndOfStream: true}},
	}}
	for _, stream := range []*script{
		newScript(envoy.StreamRouter, request), newScript(envoy.StreamUpstream, append([]*extprocv3.ProcessingRequest{upstreamHeaders("id", p.targets[c.target])}, c.answer...)),
	} {
		if err := p.server.Process(stream); err != nil {
			b.Fatal(err)
		}
	}
	x := p.server.exchanges.get("id")
	b.ReportAllocs()
	for b.Loop() {
		x.mu.Lock()
		x.entry = eventOf(entry)
		x.describe()
		x.mu.Unlock()
	}
}
