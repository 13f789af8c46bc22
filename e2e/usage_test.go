package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// client is an app's way to ask.
type client struct {
	name, path, body string // %s: the model, true or false for a stream
}

var clients = []client{
	{"openai", "/v1/chat/completions", `{"model":%q,"stream":%v,"messages":[{"role":"user","content":%q}]}`},
	{"anthropic", "/v1/messages", `{"model":%q,"max_tokens":999,"stream":%v,"messages":[{"role":"user","content":%q}]}`},
}

// provided are the providers of both schemas, with how many events each has before the first word
// of a stream.
var provided = []struct {
	make   func(string) *fakellm.Provider
	before int
}{{openAI, 1}, {anthropicAI, 3}}

// TestUsageIsTheProviders: what the events of complete requests say was used is what the providers
// have counted, to the token (E06, D20).
func TestUsageIsTheProviders(t *testing.T) {
	t.Parallel()
	for _, of := range provided {
		p := of.make("a")
		g := start(t, "", pool("", to("a", p, provider(t, p)))+"prices: [{model: priced, input: 2.5, output: 10, cache_read: 1.25}]\n")
		var sum fakellm.Usage
		var events []*millracev1.Event
		for _, c := range clients {
			for _, stream := range []bool{false, true} {
				for _, said := range []string{"hello", "What is the weather in Paris and in Rome?", strings.Repeat("long ", 100)} {
					r := g.post(c.path, fmt.Sprintf(c.body, "priced", stream, said)).want(200)
					events = append(events, g.byID(r.Header.Get("x-millrace-request-id")))
				}
			}
		}
		for _, r := range p.Requests() {
			sum.Input += r.Counted.Input
			sum.Output += r.Counted.Output
			sum.Cached += r.Counted.Cached
			sum.Reasoning += r.Counted.Reasoning
		}
		got := fakellm.Usage{}
		for _, e := range events {
			got.Input += int(e.Usage.GetInput())
			got.Output += int(e.Usage.GetOutput())
			got.Cached += int(e.Usage.GetCacheRead())
			got.Reasoning += int(e.Usage.GetReasoning())
			cost := 2.5*float64(e.Usage.GetInput()-e.Usage.GetCacheRead()) + 1.25*float64(e.Usage.GetCacheRead()) + 10*float64(e.Usage.GetOutput())
			if want := strconv.FormatFloat(cost/1e6, 'f', -1, 64); e.Cost.GetUsd() != want {
				t.Errorf("%v costs %s, want %s", e.Usage, e.Cost.GetUsd(), want)
			}
			if e.Usage.GetEstimated() || e.Cost.GetEstimated() || e.FinishReason == "" || len(e.Attempts) != 1 {
				t.Errorf("event %v", e)
			}
			if e.Protocol != "HTTP/1.1" || e.Service != "chat" || e.Rule != "/v1" || e.Phases.GetReceivedMs() <= 0 || e.ReceivedBytes == 0 || e.SentBytes == 0 {
				t.Errorf("event %v", e)
			}
			if a := e.Attempts[0]; (a.FirstTokenMs > 0) != e.Stream || a.FirstByteMs <= 0 || a.Schema != p.Schema {
				t.Errorf("attempt %v", a)
			}
		}
		if got != sum {
			t.Errorf("%s: the events say %+v, the provider %+v", p.Schema, got, sum)
		}
	}
}

// TestUsageOfWhatIsCutShort: a stream whose client leaves after any number of words has used those
// words. Where the provider breaks off it is one less where Envoy has lost the last (E06).
func TestUsageOfWhatIsCutShort(t *testing.T) {
	t.Parallel()
	const words = 4
	text := strings.Repeat("abc ", words-1) + "abcd" // a word is four bytes: a token by either count
	for _, of := range provided {
		p := of.make("a")
		g := start(t, "", pool("", to("a", p, provider(t, p))))
		for i, c := range clients {
			for written := range words + 1 {
				for _, end := range []fakellm.End{fakellm.Hang, fakellm.Cut} {
					model := fmt.Sprintf("m-%d-%d-%d", i, written, end)
					last := make(chan struct{}, of.before+words)
					for range of.before + written - 1 {
						last <- struct{}{}
					}
					p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: text}, StopAfter: of.before + written, Each: fakellm.Pace{Gate: last}, End: end})
					seen := written
					if end == fakellm.Cut {
						seen = max(0, written-1)
					}
					readWords(g, p, c, model, seen, last, end == fakellm.Hang)
					e := g.event(model, func(e *millracev1.Event) bool { return e.Model == model })
					u := e.Attempts[0].Usage
					least, most := seen, written
					if written == 0 && p.Schema == fakellm.AnthropicMessages {
						most = 1 // message_start has it
					}
					if nothing := u == nil && written == 0 && end == fakellm.Cut; nothing { // it has failed, and nothing came of it
						continue
					}
					if got := int(u.GetOutput()); got < least || got > most || !u.GetEstimated() || u.GetInput() == 0 {
						t.Errorf("%s, %s at %s: %d words written: %v", model, c.name, p.Schema, written, e)
					}
					if end == fakellm.Hang && (!slices.Contains(e.Flags, "DC") || !proto.Equal(e.Usage, u)) {
						t.Errorf("%s: a client that leaves: %v", model, e)
					}
				}
			}
		}
	}
}

// readWords asks for a stream, reads so many words of it, and leaves, or lets the provider go on
// and break off before. Nobody waits for the end of a stream that was cut: it takes Envoy seconds.
func readWords(g *gateway, p *fakellm.Provider, c client, model string, words int, last chan<- struct{}, leaves bool) {
	g.t.Helper()
	ctx, leave := context.WithTimeout(context.Background(), patience)
	defer leave()
	next := len(p.Requests()) + 1
	asked := g.request("POST", c.path, strings.NewReader(fmt.Sprintf(c.body, model, true, "hi"))).WithContext(ctx)
	if leaves {
		last <- struct{}{}
	}
	if words == 0 { // it has nothing, not even a head
		go func() {
			if _, err := p.WaitArrived(ctx, next); err != nil {
				g.t.Errorf("%s did not arrive: %v", model, err)
			}
			if leaves {
				leave()
			} else {
				last <- struct{}{}
			}
		}()
	}
	response, err := http.DefaultClient.Do(asked)
	if err != nil {
		return
	}
	defer response.Body.Close()
	seen, retried := "", words == 0 // by a whole answer
	for buffer := make([]byte, 4096); err == nil; {
		if strings.Count(seen, "abc") >= words && !retried {
			if leaves {
				return
			}
			last <- struct{}{}
			if _, err := p.WaitEnded(ctx, next); err != nil {
				g.t.Errorf("%s did not end: %v", model, err)
			}
			return
		}
		var n int
		n, err = response.Body.Read(buffer)
		seen += string(buffer[:n])
	}
}
