package openai

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/golden"
	"millrace/internal/sse"
)

// relayed is what came of a stream: its bytes, what they mean, and what a client of this schema is
// sent for that.
type relayed struct {
	raw, events, client string
	err                 error
}

// relay decodes chunks and encodes their events, as the gateway does between two schemas: the
// stream ends well after an End, with the failure after a Failure, and broken otherwise.
func relay(h llm.Head, chunks [][]byte) relayed {
	var r relayed
	var raw, events strings.Builder
	var client []byte
	d, e := answerReader{h}.Stream(), Chat{}.NewStreamEncoder(llm.Asked{Head: h})
	var last llm.Event
	take := func(frames []llm.Frame) {
		for _, f := range frames {
			raw.Write(f.Raw)
			if f.Injected {
				events.WriteString("(injected) ")
			}
			for _, ev := range f.Events {
				events.WriteString(line(ev))
				client = e.Encode(client, ev)
				last = ev
			}
		}
	}
	for _, c := range chunks {
		frames, err := d.Push(c)
		take(frames)
		if err != nil {
			r.err = err
			break
		}
		for _, f := range frames { // the decoder owns them until here: what it said must not depend on them later
			clear(f.Raw)
			clear(f.Events)
		}
	}
	take(d.Close())
	switch {
	case last.Kind == llm.Failure:
		client = e.Close(client, last.Err)
	case last.Kind == llm.End:
		client = e.Close(client, nil)
	default:
		client = e.Close(client, llm.Errorf(llm.ErrBadGateway, "the provider's stream broke off"))
	}
	r.raw, r.events, r.client = raw.String(), events.String(), string(client)
	return r
}

var kinds = []string{
	"Ping", "Start", "TextDelta", "TextSignature", "ThinkingDelta", "ThinkingSignature", "ThinkingRedacted", "RefusalDelta", "ToolStart",
	"ToolDelta", "ToolEnd", "Finish", "UsageReport", "End", "Failure",
}

// line writes an event on one line, the fields that are set.
func line(e llm.Event) string {
	s := fmt.Sprintf("%s choice=%d", kinds[e.Kind], e.Choice)
	if e.Kind == llm.ToolStart || e.Kind == llm.ToolDelta {
		s += fmt.Sprintf(" tool=%d", e.Tool)
	}
	for _, f := range []struct{ name, value string }{
		{"text", e.Text}, {"id", e.ID}, {"name", e.Name}, {"model", e.Model}, {"signature", e.Signature}, {"origin", string(e.Origin)}, {"stop", string(e.Stop)},
	} {
		if f.value != "" {
			s += fmt.Sprintf(" %s=%q", f.name, f.value)
		}
	}
	if e.Usage != nil {
		s += fmt.Sprintf(" usage=%+v", *e.Usage)
	}
	if e.Err != nil {
		s += fmt.Sprintf(" error=%+v", *e.Err)
	}
	return s + "\n"
}

// TestStream reads a provider's stream, however it is cut, and writes it again. A case with a file
// usage is a client that asked for usage.
func TestStream(t *testing.T) {
	golden.Run(t, "testdata/stream/*.txtar", func(c *golden.Case) {
		h := llm.Head{Model: "asked-model", Stream: true, IncludeUsage: c.Input("usage") != nil}
		in := c.Input("stream")
		if c.Input("no-last-newline") == nil {
			in = append(bytes.Clone(in), '\n') // txtar took it
		}
		golden.EveryCut(c.T, in, func(chunks [][]byte) string {
			r := relay(h, chunks)
			if ending(r.raw) != ending(string(in)) {
				c.T.Fatalf("bytes were lost: got %q", r.raw)
			}
			return r.events + "\n" + r.client
		})
		crlf := bytes.ReplaceAll(in, []byte("\n"), []byte("\r\n"))
		r := relay(h, [][]byte{in})
		if other := relay(h, [][]byte{crlf}); other.events != r.events {
			c.T.Errorf("with CRLF the events are\n%s", other.events)
		}
		c.Output("want-events", []byte(r.events))
		c.Output("want-client", []byte(r.client))
	})
}

// ending is a stream's bytes, but for whether it ended in a stop or in calls: the decoder puts that
// right.
func ending(stream string) string {
	return strings.ReplaceAll(stream, `"finish_reason":"tool_calls"`, `"finish_reason":"stop"`)
}

func TestStreamBound(t *testing.T) {
	d := answerReader{}.Stream()
	frames, err := d.Push([]byte("data: [DONE]\n\ndata: " + strings.Repeat("x", maxFrameBytes)))
	if !errors.Is(err, sse.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if len(frames) != 1 || frames[0].Events[0].Kind != llm.End {
		t.Fatalf("the frame before it is lost: %v", frames)
	}
}

// TestStreamFramesOutliveEachOther pushes many frames at once: their bytes and events must not
// share room.
func TestStreamFramesOutliveEachOther(t *testing.T) {
	var in []byte
	for i := range 500 {
		in = fmt.Appendf(in, "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"%d\"}}]}\n\n", i)
	}
	frames, err := answerReader{}.Stream().Push(in)
	if err != nil || len(frames) != 500 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	for i, f := range frames {
		want := fmt.Sprintf("%q", fmt.Sprint(i))
		if e := f.Events[len(f.Events)-1]; e.Text != fmt.Sprint(i) || !bytes.Contains(f.Raw, []byte(want)) {
			t.Fatalf("frame %d: %q, %s", i, f.Raw, line(e))
		}
	}
}

func TestStreamTooManyChoicesAndTools(t *testing.T) {
	var tools strings.Builder
	for i := range maxTools + 1 {
		fmt.Fprintf(&tools, `data: {"id":"x","choices":[{"delta":{"tool_calls":[{"index":%d,"id":"c%d","function":{"name":"f"}}]}}]}`+"\n\n", i, i)
	}
	piece := `data: {"id":"x","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"` + strings.Repeat("x", 1<<20) + `"}}]}}]}` + "\n\n"
	for name, in := range map[string]string{
		"a tool without a name": strings.Repeat(piece, maxPendingBytes>>20+1),
		"choices":               `data: {"id":"x","choices":[{"index":128,"delta":{"content":"x"}}]}` + "\n\n",
		"tools":                 tools.String(),
	} {
		r := relay(llm.Head{}, [][]byte{[]byte(in)})
		if !strings.HasSuffix(r.events, "}\n") || !strings.Contains(r.events, "Failure choice=0 error={Type:bad_gateway") {
			t.Errorf("%s: %.200s", name, r.events)
		}
	}
}

// events are streams of other schemas, by the name of their golden case.
var events = map[string][]llm.Event{
	"anthropic": {
		{Kind: llm.Start, ID: "msg_1", Model: "claude-x", Created: 7, Usage: &llm.Usage{Input: 9, Output: 1, CacheRead: 4}},
		{Kind: llm.Ping},
		{Kind: llm.ThinkingDelta, Text: "Let me "},
		{Kind: llm.ThinkingDelta, Text: "see."},
		{Kind: llm.ThinkingSignature, Signature: "sig", Origin: "anthropic"},
		{Kind: llm.ThinkingRedacted, Text: "opaque", Origin: "anthropic"},
		{Kind: llm.TextDelta, Text: "Hello <b>\u2028"},
		{Kind: llm.TextDelta},
		{Kind: llm.ToolStart, Tool: 0, ID: "toolu_1", Name: "look"},
		{Kind: llm.ToolDelta, Tool: 0},
		{Kind: llm.ToolDelta, Tool: 0, Text: `{"a":`},
		{Kind: llm.ToolDelta, Tool: 0, Text: `1.0}`},
		{Kind: llm.ToolEnd, Tool: 0},
		{Kind: llm.ToolStart, Tool: 1, ID: "toolu_2", Name: "now"},
		{Kind: llm.ToolEnd, Tool: 1},
		{Kind: llm.Finish, Stop: llm.StopTool},
		{Kind: llm.UsageReport, Usage: &llm.Usage{Input: 9, Output: 33, CacheRead: 4, Reasoning: 5}},
		{Kind: llm.End},
	},
	"interleaved-tools": {
		{Kind: llm.Start, ID: "x", Model: "m", Created: 7},
		{Kind: llm.ToolStart, Tool: 0, ID: "a", Name: "f", Signature: "gem", Origin: "google"},
		{Kind: llm.ToolStart, Tool: 1, ID: "b", Name: "g"},
		{Kind: llm.ToolDelta, Tool: 1, Text: "{}"},
		{Kind: llm.ToolDelta, Tool: 0, Text: `{"a"`},
		{Kind: llm.ToolDelta, Tool: 0, Text: `:1}`},
		{Kind: llm.ToolStart, Tool: 2, ID: "c", Name: "never closed"},
		{Kind: llm.Finish, Stop: llm.StopTool},
		{Kind: llm.End},
	},
	"many-choices": {
		{Kind: llm.Start, ID: "x", Model: "m", Created: 7},
		{Kind: llm.TextDelta, Choice: 1, Text: "one"},
		{Kind: llm.RefusalDelta, Choice: 0, Text: "zero"},
		{Kind: llm.Finish, Choice: 1, Stop: llm.StopLength},
		{Kind: llm.Finish, Choice: 0, Stop: llm.StopRefusal},
		{Kind: llm.UsageReport, Usage: &llm.Usage{Input: 1, Output: 2}},
		{Kind: llm.End},
	},
	"declined": {
		{Kind: llm.Start, ID: "x", Model: "m", Created: 7}, {Kind: llm.TextDelta, Text: "Half"},
		{Kind: llm.Finish, Stop: llm.StopRefusal}, {Kind: llm.End},
	},
	"nothing-said": {{Kind: llm.Start, ID: "x", Model: "m", Created: 7}, {Kind: llm.End}},
	"broken":       {{Kind: llm.Start, ID: "x", Model: "m", Created: 7}, {Kind: llm.TextDelta, Text: "Hel"}},
	"failed-first": {{Kind: llm.Failure, Err: llm.Errorf(llm.ErrOverloaded, "busy")}},
	"failed-after-finish": {
		{Kind: llm.Start, ID: "x", Model: "m", Created: 7}, {Kind: llm.TextDelta, Text: "Hi"},
		{Kind: llm.Finish, Stop: llm.StopEnd}, {Kind: llm.Failure, Err: llm.Errorf(llm.ErrOverloaded, "busy")},
	},
}

func TestEncodeStream(t *testing.T) {
	golden.Run(t, "testdata/encode/*.txtar", func(c *golden.Case) {
		list, ok := events[c.Name]
		if !ok {
			c.T.Fatal("no such stream in events")
		}
		for _, usage := range []bool{false, true} {
			e := Chat{}.NewStreamEncoder(llm.Asked{Head: llm.Head{Stream: true, IncludeUsage: usage}})
			var out []byte
			for _, ev := range list {
				out = e.Encode(out, ev)
			}
			switch last := list[len(list)-1]; last.Kind {
			case llm.End:
				out = e.Close(out, nil)
			case llm.Failure:
				out = e.Close(out, last.Err)
			default:
				out = e.Close(out, llm.Errorf(llm.ErrBadGateway, "the provider's stream broke off"))
			}
			name := "want-client"
			if usage {
				name += "-with-usage"
			}
			c.Output(name, out)
		}
	})
}

func TestStreamOfNothing(t *testing.T) {
	r := relay(llm.Head{Model: "asked"}, [][]byte{[]byte("data: [DONE]\n\n")})
	if r.events != "End choice=0\n" || strings.Count(r.client, "data: [DONE]") != 1 {
		t.Errorf("only [DONE]: %+v", r)
	}
	r = relay(llm.Head{Model: "asked"}, nil)
	if r.events != "" || !strings.HasPrefix(r.client, `data: {"error":`) || strings.Contains(r.client, "[DONE]") {
		t.Errorf("no bytes: %+v", r)
	}
}

// TestStreamWithoutStart gives the encoder events of a provider that never introduced itself.
func TestStreamWithoutStart(t *testing.T) {
	e := Chat{}.NewStreamEncoder(llm.Asked{Head: llm.Head{Model: "asked"}})
	out := string(e.Close(e.Encode(nil, llm.Event{Kind: llm.TextDelta, Text: "x"}), nil))
	if strings.Count(out, `"id":"chatcmpl-`) != 3 || strings.Count(out, `"model":"asked"`) != 3 || strings.Contains(out, `"created":0`) {
		t.Fatalf("got %s", out)
	}
}

func FuzzStream(f *testing.F) {
	addInputs(f, "testdata/stream/*.txtar", "stream")
	f.Add([]byte(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c"},{"index":0},{"index":0,"id":"c"},{"id":"c","function":{"name":"f","arguments":" "}}]}}]}` + "\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h := llm.Head{Model: "m"}
		whole := relay(h, [][]byte{bytes.Clone(in)})
		if whole.raw != string(in) { // a finish that denied its calls was put right, and no more
			if right := relay(h, [][]byte{[]byte(whole.raw)}); right.raw != whole.raw || stable(right.events) != stable(whole.events) {
				t.Fatalf("bytes: got %q, want %q", whole.raw, in)
			}
		}
		var cut [][]byte
		for rest := bytes.Clone(in); len(rest) > 0; {
			n := min(7, len(rest))
			cut, rest = append(cut, rest[:n]), rest[n:]
		}
		again := relay(h, cut)
		if again.raw != whole.raw || stable(again.events) != stable(whole.events) {
			t.Fatalf("cut, the events are\n%s\nwhole\n%s", again.events, whole.events)
		}
		if n := strings.Count(whole.client, "data: [DONE]\n\n"); n > 1 {
			t.Fatalf("%d times [DONE]: %s", n, whole.client)
		}
		// What is written must be readable as one stream, and end the way it was meant.
		back := relay(h, [][]byte{[]byte(whole.client)})
		if ended, meant := strings.Contains(back.events, "End choice=0\n"), strings.Contains(whole.client, "data: [DONE]\n\n"); ended != meant {
			t.Fatalf("client bytes %s\nread back as %s", whole.client, back.events)
		}
	})
}

// stable blanks made-up ids, which differ from decoder to decoder when the answer has none.
func stable(events string) string {
	for {
		i := strings.Index(events, `id="call_`)
		if i < 0 || len(events) < i+26 {
			return events
		}
		events = events[:i] + events[i+26:]
	}
}
