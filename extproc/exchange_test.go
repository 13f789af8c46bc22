package extproc

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"millrace/config"
	"millrace/envoy"
	"millrace/event"
	"millrace/extproc/provider"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// eventNow is what would be recorded of the exchange.
func (p *peer) eventNow() *millracev1.Event {
	x := p.server.exchanges.get(callID)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entry = &millracev1.Event{}
	return x.describe()
}

// attempt has the request sent to a target as attempt number n.
func (p *peer) attempt(t *testing.T, n, target string) *call {
	t.Helper()
	c := &call{t: t, stream: p.open(t, envoy.StreamUpstream), header: http.Header{}}
	m := upstreamHeaders(callID, p.targets[target])
	for _, h := range m.GetRequestHeaders().Headers.Headers {
		if h.Key == envoy.HeaderAttempt {
			h.RawValue = []byte(n)
		}
	}
	exchangeMessage(t, c.stream, m)
	return c
}

// TestUsageOfEachAttempt: what an attempt has used is in its own entry, also when it failed; what
// the request has used is that of the attempt that answered, and nothing where none has. What a
// target does not tell is estimated.
func TestUsageOfEachAttempt(t *testing.T) {
	const (
		overloaded  = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"overloaded\"}}\n\n"
		silentWhole = `{"id":"r1","object":"chat.completion","created":3,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`
		toldWhole   = `{"id":"r1","object":"chat.completion","created":3,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":6,"completion_tokens":8,"total_tokens":14}}`
	)
	preamble := streamedAnswers[schema.AnthropicMessages][0]
	failed := &millracev1.Usage{Input: 5, Output: 1, Estimated: true} // it had only begun to count
	for name, c := range map[string]struct {
		status, second string
		want           *millracev1.Usage // of the second attempt
		answers        bool
	}{
		"the next one tells":     {"200", toldWhole, &millracev1.Usage{Input: 6, Output: 8}, true},
		"the next one is silent": {"200", silentWhole, &millracev1.Usage{Input: 5, Output: 1, Estimated: true}, true},
		"the next one fails":     {"500", "{}", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			a := apps[0]
			p.routedTo(t, a, a.stream)
			p.attempt(t, "1", "other").head(":status= 200", "content-type= text/event-stream").ends(preamble, overloaded).all()
			p.attempt(t, "2", "same").head(":status= "+c.status, "content-type= application/json").ends(c.second).all()
			e := p.eventNow()
			if len(e.Attempts) != 2 {
				t.Fatalf("%d attempts", len(e.Attempts))
			}
			var whole *millracev1.Usage
			if c.answers {
				whole = c.want
			}
			got := []*millracev1.Usage{e.Attempts[0].Usage, e.Attempts[1].Usage, e.Usage}
			if diff := cmp.Diff([]*millracev1.Usage{failed, c.want, whole}, got, protocmp.Transform()); diff != "" {
				t.Errorf("first attempt, second attempt, request (-want +got)\n%s", diff)
			}
		})
	}
}

// TestKeyOfAnExchange: an exchange keeps the key that let it in, not only its name: one that was
// replaced by another of the same name meanwhile is still the one that it came with.
func TestKeyOfAnExchange(t *testing.T) {
	const hash = "8eb943e7040b69a94bf39562088223755bff4c2e7c5fc257f1e08f870fe01d35" // of client-key
	keyed := func(hash string) string { return document + "keys: [{name: team, hash: " + hash + "}]\n" }
	p := newPeerOf(t, keyed(hash))
	p.routedTo(t, apps[0], apps[0].whole)
	p.use(t, keyed(strings.Repeat("0", 64)))
	x := p.server.exchanges.get(callID)
	if x.key == nil || x.key.Hash != hash {
		t.Errorf("key %+v", x.key)
	}
	if e := p.eventNow(); e.Key != "team" {
		t.Errorf("the event says %q", e.Key)
	}
	p = newPeer(t)
	p.routedTo(t, apps[0], apps[0].whole)
	if e := p.eventNow(); e.Key != "" {
		t.Errorf("without keys the event says %q", e.Key)
	}
}

// TestLeftWhileItIsRead: a client that leaves while its request is read, and Envoy's account of
// that, take nothing from whoever reads it; the event comes when that is done, and no attempt
// begins afterwards.
func TestLeftWhileItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	file, err := event.OpenFile(event.FileOptions{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	events := event.NewRecorder("test")
	if err := events.Use(file); err != nil {
		t.Fatal(err)
	}
	r := newRegistry(events, func(*exchange, *millracev1.Event) {})
	x := &exchange{clientRequest: clientRequest{id: "a", body: []byte("{}"), client: provider.Codec{Schema: schema.Usual()}}, route: &route{}, open: 1}
	r.add(x)
	r.logged(&millracev1.Event{Id: "a"}, 0)
	if x.recorded || x.body == nil {
		t.Error("the request is over while it is read")
	}
	r.read(x)
	if !x.recorded || x.body != nil {
		t.Error("the request is not over though it is read")
	}
	if x.begin(1, &target{config: &config.Target{}}, x.route, time.Now()) != nil {
		t.Error("an attempt begins when the request is over")
	}
	if n := events.Waiting(); n != 2 { // the destination and the event
		t.Errorf("%d entries wait, want 2", n)
	}
}
