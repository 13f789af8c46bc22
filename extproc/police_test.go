package extproc

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"

	"millrace/audit"
	"millrace/envoy"
	"millrace/extproc/policy"
	millracev1 "millrace/proto/millrace/v1"
)

// TestFactsForPolicies: what policies are told of a request before it is sent, and when Envoy hears
// that it may be: the record is on the disk by then. Nothing of its text and no credential is in
// it.
func TestFactsForPolicies(t *testing.T) {
	const keyed = "keys: [{name: team, hash: 8eb943e7040b69a94bf39562088223755bff4c2e7c5fc257f1e08f870fe01d35}]\npolicies: {chain: [audit-logger]}\n"
	dir := filepath.Join(t.TempDir(), "audit")
	log := slog.New(slog.DiscardHandler)
	l, err := audit.Open(dir, audit.Settings{}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := newPeerOf(t, document+keyed)
	p.server.options.Policies = policy.Host{Audit: func(string) *audit.Log { return l }, Log: log}

	router := p.open(t, envoy.StreamRouter)
	head := headersMessage("1")
	h := head.GetRequestHeaders().Headers
	h.Headers = append(h.Headers, headerMap("x-forwarded-for= 10.9.9.9, 192.0.2.7").Headers...)
	exchangeMessage(t, router, head)
	reply := exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte("\xef\xbb\xbf" + streamBody), EndOfStream: true},
	}})
	if reply.GetRequestBody() == nil {
		t.Fatalf("refused: %v", reply)
	}
	data, err := os.ReadFile(filepath.Join(dir, "audit-000000000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Data map[string]any }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	delete(record.Data, "time")
	want := map[string]any{
		"id": "1", "gateway": "default", "key": "team", "client_address": "192.0.2.7", "method": "POST", "path": "/v1/chat/completions",
		"schema": "openai.chat", "model": "gpt-4o", "stream": true, "bytes": float64(len(streamBody) + 3),
		"sha256": hashKey("\xef\xbb\xbf" + streamBody),
	}
	if diff := cmp.Diff(want, record.Data); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if strings.Contains(string(data), "client-key") {
		t.Error("the key is in the record")
	}

	p.server.exchanges.logged(&millracev1.Event{Id: "1"}, 0) // whether an intent was recorded goes with the exchange, not with the gateway
	p.server.exchanges.logged(&millracev1.Event{Id: "2", Path: "/nowhere"}, 0)
	l.Close()
	all, err := os.ReadFile(filepath.Join(dir, "audit-000000000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(all), `"kind":"outcome"`); n != 1 || strings.Contains(string(all), "/nowhere") {
		t.Errorf("%d outcomes: %s", n, all)
	}
}

// TestRefusedIsNotAttempted: what policies refuse goes to no target, on whatever stream it was
// read, and however late Envoy's next attempt at it comes.
func TestRefusedIsNotAttempted(t *testing.T) {
	p := newPeerOf(t, document+"policies: {chain: [audit-logger]}\n")
	p.server.options.Policies = policy.Host{Audit: func(string) *audit.Log { return nil }, Log: slog.New(slog.DiscardHandler)}
	body := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(streamBody), EndOfStream: true},
	}}
	joined := upstreamHeaders("joined", p.targets["same"])
	h := joined.GetRequestHeaders().Headers
	h.Headers = append(h.Headers, headerMap(envoy.HeaderRead+"= 1").Headers...)
	for id, begin := range map[string]struct {
		kind string
		head *extprocv3.ProcessingRequest
	}{"router": {envoy.StreamRouter, headersMessage("router")}, "joined": {envoy.StreamUpstream, joined}} {
		s := p.open(t, begin.kind)
		exchangeMessage(t, s, begin.head)
		if got := exchangeMessage(t, s, body).GetImmediateResponse(); got.GetStatus().GetCode() != 503 || !strings.Contains(string(got.GetBody()), "audit-logger") {
			t.Errorf("%s: %v", id, got)
		}
		next := p.open(t, envoy.StreamUpstream)
		next.Send(upstreamHeaders(id, p.targets["same"]))
		if reply, err := next.Recv(); err == nil {
			t.Errorf("%s: an attempt after it gets %v", id, reply)
		}
	}
}

// TestClientLeavesPolicies: while policies are asked nothing is sent, whatever stream asks for it.
// A client that leaves meanwhile has one event, which comes when they have answered.
func TestClientLeavesPolicies(t *testing.T) {
	for name, leaves := range map[string]bool{"it leaves": true, "it stays": false} {
		t.Run(name, func(t *testing.T) {
			p := newPeerOf(t, document+"policies: {chain: [audit-logger]}\n")
			asked, answers := make(chan struct{}), make(chan struct{})
			p.server.options.Policies = policy.Host{Log: slog.New(slog.DiscardHandler), Audit: func(string) *audit.Log {
				close(asked)
				<-answers
				return nil
			}}
			recorded := make(chan *millracev1.Event, 2)
			p.server.exchanges.onRecord = func(x *exchange, e *millracev1.Event) {
				if x == nil || !x.policed {
					t.Error("the event does not know that policies were asked")
				}
				recorded <- e
			}
			router := p.open(t, envoy.StreamRouter)
			exchangeMessage(t, router, headersMessage("1"))
			router.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
				RequestBody: &extprocv3.HttpBody{Body: []byte(streamBody), EndOfStream: true},
			}})
			<-asked
			early := p.open(t, envoy.StreamUpstream)
			early.Send(upstreamHeaders("1", p.targets["same"]))
			if reply, err := early.Recv(); err == nil {
				t.Errorf("an attempt meanwhile gets %v", reply)
			}
			if leaves {
				p.server.exchanges.logged(&millracev1.Event{Id: "1"}, 0)
			}
			if len(recorded) > 0 {
				t.Error("the event comes before the policies have answered")
			}
			close(answers)
			if reply, err := router.Recv(); err != nil || reply.GetImmediateResponse() == nil {
				t.Errorf("%v, %v", reply, err)
			}
			if !leaves {
				p.server.exchanges.logged(&millracev1.Event{Id: "1"}, 0)
			}
			if e := <-recorded; len(e.Attempts) != 0 || e.Error == "" {
				t.Errorf("event %v", e)
			}
			if p.server.exchanges.unsettled() || len(recorded) > 0 {
				t.Error("there is more to come")
			}
		})
	}
}
