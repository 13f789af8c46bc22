package extproc

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/schema"
)

// ends are the last words of a stream of each schema.
var lastWords = map[schema.Name]string{schema.OpenAIChat: "data: [DONE]\n\n", schema.AnthropicMessages: `{"type":"message_stop"}` + "\n\n"}

// unending are ways in which a target says all of its answer and does not end: what it says, and
// what it says then.
var unending = []struct {
	name string
	cut  map[schema.Name]int // how many events at the end it leaves out
	then []string
}{
	{"all is said", nil, nil},
	{"all is said, then heartbeats", nil, []string{": heartbeat\n\n", ": heartbeat\n\n"}},
	{"no end of its own", map[schema.Name]int{schema.OpenAIChat: 1, schema.AnthropicMessages: 1}, nil},
	{"no end of its own, then heartbeats", map[schema.Name]int{schema.OpenAIChat: 1, schema.AnthropicMessages: 1}, []string{": heartbeat\n\n", ": heartbeat\n\n"}},
}

// TestStreamEndsAtItsFinish: what is left to say to the client when the target has said why it
// stopped is said then, usage included, though the target keeps the connection open, and never says
// [DONE] or message_stop. The end of the client's answer waits for the target's (docs/rationale.md,
// "When is a stream complete?").
func TestStreamEndsAtItsFinish(t *testing.T) {
	for _, pair := range pairs() {
		if !pair.streams {
			continue
		}
		for _, c := range unending {
			t.Run(pair.String()+", "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					events := pair.answer()
					events = events[:len(events)-c.cut[targetSchemas[pair.target]]]
					last := "}"
					if pair.wants {
						last = lastWords[pair.app.schema]
					}
					call := newPeer(t).call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/event-stream")
					call.says(events...).says(c.then...).until(last)
					if call.ended {
						t.Error("the client's answer ended before the target's")
					}
					said := call.body
					pair.check(t, call)
					call.ends(c.then...).ends("").all()
					if strings.ReplaceAll(call.body, ": heartbeat\n\n", "") != strings.ReplaceAll(said, ": heartbeat\n\n", "") {
						t.Errorf("after the end came %q", strings.TrimPrefix(call.body, said))
					}
				})
			})
		}
	}
}

// TestUsageBehindTheEnd: usage that comes too late for the client is still counted.
func TestUsageBehindTheEnd(t *testing.T) { synctest.Test(t, usageBehindTheEnd) }

func usageBehindTheEnd(t *testing.T) {
	p := newPeer(t)
	a := apps[1]
	events := streamedAnswers[schema.OpenAIChat]
	n := len(events)
	call := p.call(t, a, a.stream, "same").head(":status= 200", "content-type= text/event-stream")
	call.says(events[:n-2]...).until(lastWords[a.schema])
	call.ends(events[n-2:]...).all()
	if u := p.eventNow().Usage; u.GetInput() != 5 || u.GetOutput() != 7 {
		t.Errorf("usage %+v", u)
	}
}

// TestFinishThatIsNone: targets say finish_reason with every chunk, or go on after it, or say one
// of several answers after the other; nothing is lost of what comes soon.
func TestFinishThatIsNone(t *testing.T) {
	chunk := func(choice, content, finish string) string {
		return `data: {"id":"r1","model":"m","choices":[{"index":` + choice + `,"delta":{"content":"` + content + `"},"finish_reason":` + finish + `}],"usage":{"prompt_tokens":1,"completion_tokens":1}}` + "\n\n"
	}
	p := newPeer(t)
	for name, c := range map[string]struct {
		app  app
		body string
		said []string
		want []string
	}{
		"stop with every chunk": {apps[1], apps[1].stream, []string{chunk("0", "one ", `"stop"`), chunk("0", "two", `"stop"`)}, []string{"one ", "two"}},
		"two, one after the other": {apps[0], strings.Replace(apps[0].stream, `"stream"`, `"n":2,"stream"`, 1),
			[]string{chunk("0", "one", `"stop"`), chunk("1", "two", `"stop"`)}, []string{"one", "two"}},
	} {
		call := p.call(t, c.app, c.body, "same").head(":status= 200", "content-type= text/event-stream")
		for i, piece := range c.said {
			call.says(piece).until(c.want[i]) // the next one comes when this one has arrived
		}
		call.ends("").all()
		if _, err := understood(c.app, true, call.body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBrokenBehindTheFinish: what breaks after the finish breaks nothing that the client needs.
func TestBrokenBehindTheFinish(t *testing.T) {
	for _, pair := range pairs() {
		if !pair.streams {
			continue
		}
		t.Run(pair.String(), func(t *testing.T) {
			events := slices.Clone(pair.answer())
			events[len(events)-1] = "data: {\"half\":"
			call := newPeer(t).call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/event-stream")
			pair.check(t, call.ends(events...).all())
		})
	}
}

// TestStreamEndsWithTrailers: a target that ends its answer with trailers after the client has all
// of it.
func TestStreamEndsWithTrailers(t *testing.T) {
	a := apps[1]
	call := newPeer(t).call(t, a, a.stream, "same").head(":status= 200", "content-type= text/event-stream")
	call.says(streamedAnswers[schema.OpenAIChat]...).until(lastWords[a.schema])
	call.stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{
		ResponseTrailers: &extprocv3.HttpTrailers{Trailers: headerMap("x-late= 1")},
	}})
	call.all()
}

// TestTargetThatNeverEnds: a client that has its complete answer gets the end of it within a
// second, whatever the target does; one whose stream has failed at once (B20). Nothing is wrong
// with an attempt that was complete.
func TestTargetThatNeverEnds(t *testing.T) {
	for _, c := range []struct {
		name, last, problem string
		within              time.Duration
	}{
		{"complete", lastWords[schema.OpenAIChat], "", time.Second},
		{"failed", `data: {"error":{"message":"broken","type":"server_error"}}` + "\n\n", "broken", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(t)
				events := slices.Clone(streamedAnswers[schema.OpenAIChat])
				events[len(events)-1] = c.last
				call := p.call(t, apps[0], apps[0].stream, "same").head(":status= 200", "content-type= text/event-stream").says(events...)
				said := time.Now()
				for ended := false; !ended; {
					reply, err := call.stream.Recv()
					if err != nil {
						t.Fatal(err)
					}
					ended = reply.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetEndOfStream()
				}
				if took := time.Since(said); took != c.within {
					t.Errorf("ended after %s, want %s", took, c.within)
				}
				call.stream.CloseSend()
				synctest.Wait()
				if got := p.server.exchanges.get(callID).attempts[0].Error; got != c.problem {
					t.Errorf("recorded %q, want %q", got, c.problem)
				}
			})
		})
	}
}
