package anthropic

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/sse"

	"github.com/google/go-cmp/cmp"
)

// encodeAll runs events through an encoder and shows its stream without event lines, which repeat
// the type.
func encodeAll(t *testing.T, events []llm.Event, end *llm.Error) string {
	t.Helper()
	encoder := Messages{}.NewStreamEncoder(llm.Asked{})
	var out []byte
	for _, e := range events {
		out = encoder.Encode(out, e)
	}
	out = encoder.Close(out, end)
	var lines []string
	parser := sse.Parser{MaxBytes: 64 << 20}
	err := parser.Push(out, func(e sse.Event) {
		if want := `{"type":"` + string(e.Name) + `"`; !strings.HasPrefix(string(e.Data), want) {
			t.Errorf("event %s has data %s", e.Name, e.Data)
		}
		lines = append(lines, string(e.Data))
	})
	if err != nil || len(lines) == 0 {
		t.Fatalf("no stream in %q: %v", out, err)
	}
	return strings.Join(lines, "\n")
}

// TestStreamEncoder holds the event orders that a provider of this schema does not produce.
func TestStreamEncoder(t *testing.T) {
	start := llm.Event{Kind: llm.Start, ID: "chatcmpl-1", Model: "gpt"}
	text := func(s string) llm.Event { return llm.Event{Kind: llm.TextDelta, Text: s} }
	call := func(n int, name string) llm.Event {
		return llm.Event{Kind: llm.ToolStart, Tool: n, ID: "c" + name, Name: name}
	}
	arguments := func(n int, s string) llm.Event { return llm.Event{Kind: llm.ToolDelta, Tool: n, Text: s} }
	finish := func(s llm.Stop) llm.Event { return llm.Event{Kind: llm.Finish, Stop: s} }
	end := llm.Event{Kind: llm.End}
	usage := llm.Event{Kind: llm.UsageReport, Usage: &llm.Usage{Input: 10, Output: 5, CacheRead: 4}}

	const (
		opening = `{"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant","model":"gpt","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}` + "\n"
		stopped = `{"type":"message_stop"}`
	)
	startOf := func(i, block string) string {
		return `{"type":"content_block_start","index":` + i + `,"content_block":` + block + "}\n"
	}
	deltaOf := func(i, delta string) string {
		return `{"type":"content_block_delta","index":` + i + `,"delta":` + delta + "}\n"
	}
	stopOf := func(i string) string { return `{"type":"content_block_stop","index":` + i + "}\n" }
	textBlock := `{"type":"text","text":""}`
	callBlock := func(name string) string {
		return `{"type":"tool_use","id":"c` + name + `","name":"` + name + `","input":{}}`
	}
	partial := func(s string) string { return `{"type":"input_json_delta","partial_json":` + s + `}` }
	ending := func(reason string) string {
		return `{"type":"message_delta","delta":{"stop_reason":"` + reason + `","stop_sequence":null},"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}` + "\n" + stopped
	}

	for name, c := range map[string]struct {
		events []llm.Event
		err    *llm.Error
		want   string
	}{
		"empty": {
			events: []llm.Event{start, end},
			want:   opening + ending("end_turn"),
		},
		"usage behind the finish": {
			events: []llm.Event{start, text("a"), finish(llm.StopLength), usage, end},
			want: opening + startOf("0", textBlock) + deltaOf("0", `{"type":"text_delta","text":"a"}`) + stopOf("0") +
				`{"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5}}` + "\n" + stopped,
		},
		"other choices, empty deltas and pings": {
			events: []llm.Event{{Kind: llm.Ping}, start, {Kind: llm.TextDelta, Choice: 1, Text: "x"}, text(""), {Kind: llm.Finish, Choice: 1, Stop: llm.StopLength}, finish(llm.StopEnd), end},
			want:   `{"type":"ping"}` + "\n" + opening + ending("end_turn"),
		},
		"refusal": {
			events: []llm.Event{start, {Kind: llm.RefusalDelta, Text: "I "}, {Kind: llm.RefusalDelta, Text: "won't"}, finish(llm.StopEnd), end},
			want: opening + startOf("0", textBlock) + deltaOf("0", `{"type":"text_delta","text":"I "}`) +
				deltaOf("0", `{"type":"text_delta","text":"won't"}`) + stopOf("0") + ending("refusal"),
		},
		"reasoning without signature, then text": {
			events: []llm.Event{start, {Kind: llm.ThinkingDelta, Text: "hm"}, text("a"), finish(llm.StopEnd), end},
			want: opening + startOf("0", `{"type":"thinking","thinking":"","signature":""}`) + deltaOf("0", `{"type":"thinking_delta","thinking":"hm"}`) + stopOf("0") +
				startOf("1", textBlock) + deltaOf("1", `{"type":"text_delta","text":"a"}`) + stopOf("1") + ending("end_turn"),
		},
		"calls one after another, without ends": {
			events: []llm.Event{start, text("a"), call(0, "f"), arguments(0, `{"x":"}`), arguments(0, `\"{"}`), call(1, "g"), arguments(1, `{}`), finish(llm.StopTool), end},
			want: opening + startOf("0", textBlock) + deltaOf("0", `{"type":"text_delta","text":"a"}`) + stopOf("0") +
				startOf("1", callBlock("f")) + deltaOf("1", partial(`"{\"x\":\"}"`)) + deltaOf("1", partial(`"\\\"{\"}"`)) + stopOf("1") +
				startOf("2", callBlock("g")) + deltaOf("2", partial(`"{}"`)) + stopOf("2") + ending("tool_use"),
		},
		"interleaved calls: the later waits for the earlier": {
			events: []llm.Event{start, call(0, "f"), call(1, "g"), arguments(1, `{"g"`), arguments(0, `{"f"`), arguments(1, `:2}`), arguments(0, `:1}`), finish(llm.StopTool), end},
			want: opening + startOf("0", callBlock("f")) + deltaOf("0", partial(`"{\"f\""`)) + deltaOf("0", partial(`":1}"`)) + stopOf("0") +
				startOf("1", callBlock("g")) + deltaOf("1", partial(`"{\"g\":2}"`)) + stopOf("1") + ending("tool_use"),
		},
		"text among a call's arguments waits too": {
			events: []llm.Event{start, call(0, "f"), arguments(0, `{`), text("a"), arguments(0, `}`), text("b"), finish(llm.StopTool), end},
			want: opening + startOf("0", callBlock("f")) + deltaOf("0", partial(`"{"`)) + deltaOf("0", partial(`"}"`)) + stopOf("0") +
				startOf("1", textBlock) + deltaOf("1", `{"type":"text_delta","text":"a"}`) + deltaOf("1", `{"type":"text_delta","text":"b"}`) + stopOf("1") + ending("tool_use"),
		},
		"a call without arguments, another behind it": {
			events: []llm.Event{start, call(0, "f"), call(1, "g"), arguments(1, "{}"), finish(llm.StopEnd), end},
			want: opening + startOf("0", callBlock("f")) + stopOf("0") + startOf("1", callBlock("g")) + deltaOf("1", partial(`"{}"`)) + stopOf("1") +
				ending("tool_use"),
		},
		"an end lets the next one go": {
			events: []llm.Event{start, call(0, "f"), {Kind: llm.ToolEnd, Tool: 0}, call(1, "g"), {Kind: llm.ToolEnd, Tool: 1}, end},
			want:   opening + startOf("0", callBlock("f")) + stopOf("0") + startOf("1", callBlock("g")) + stopOf("1") + ending("tool_use"),
		},
		"deltas of calls that are not there": {
			events: []llm.Event{start, arguments(3, "{}"), {Kind: llm.ToolEnd, Tool: 3}, end},
			want:   opening + ending("end_turn"),
		},
		"broken off in a block": {
			events: []llm.Event{start, text("a")}, err: llm.Errorf(llm.ErrBadGateway, "broke off"),
			want: opening + startOf("0", textBlock) + deltaOf("0", `{"type":"text_delta","text":"a"}`) + `{"type":"error","error":{"type":"api_error","message":"broke off"}}`,
		},
		"failed at once": {
			events: nil, err: llm.Errorf(llm.ErrUnavailable, "nobody there"),
			want: `{"type":"error","error":{"type":"overloaded_error","message":"nobody there"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, encodeAll(t, c.events, c.err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestStreamEncoderBoundsWhatItHolds: everything counts that is held back behind a call which does
// not end, the blocks themselves too.
func TestStreamEncoderBoundsWhatItHolds(t *testing.T) {
	large := strings.Repeat("x", maxHeldBytes+1)
	small := slices.Repeat([]llm.Event{{Kind: llm.TextDelta, Text: "x"}, {Kind: llm.ThinkingDelta, Text: "x"}}, maxHeldBytes/blockBytes/2)
	for name, held := range map[string][]llm.Event{
		"arguments":         {{Kind: llm.ToolStart, Tool: 1}, {Kind: llm.ToolDelta, Tool: 1, Text: large}},
		"an id":             {{Kind: llm.ToolStart, Tool: 1, ID: large}},
		"a signature":       {{Kind: llm.ThinkingSignature, Signature: large, Origin: own}},
		"opaque thinking":   {{Kind: llm.ThinkingRedacted, Text: large, Origin: own}},
		"many small blocks": small,
	} {
		t.Run(name, func(t *testing.T) {
			events := slices.Concat([]llm.Event{{Kind: llm.Start, ID: "x"}, {Kind: llm.ToolStart, Tool: 0}}, held, []llm.Event{{Kind: llm.End}})
			got := encodeAll(t, events, nil)
			if last := got[strings.LastIndex(got, "\n")+1:]; !strings.HasPrefix(last, `{"type":"error"`) {
				t.Errorf("the stream ends with %.200s", last)
			}
		})
	}
}

// TestStreamEncoderForgetsWhatItWrote: a stream may be as long as it likes as long as its calls
// end.
func TestStreamEncoderForgetsWhatItWrote(t *testing.T) {
	turn := []llm.Event{{Kind: llm.ToolStart}, {Kind: llm.ThinkingSignature, Signature: "s", Origin: own}, {Kind: llm.ThinkingRedacted, Text: "x"}, {Kind: llm.TextDelta, Text: "x"}, {Kind: llm.ToolEnd}}
	events := append(slices.Repeat(turn, maxHeldBytes/blockBytes), llm.Event{Kind: llm.End})
	if got := encodeAll(t, events, nil); !strings.HasSuffix(got, `{"type":"message_stop"}`) {
		t.Errorf("the stream ends with %.200s", got[strings.LastIndex(got, "\n")+1:])
	}
}

// TestStreamDecoderBoundsOpenCalls: calls that have stopped do not count.
func TestStreamDecoderBoundsOpenCalls(t *testing.T) {
	start := func(index int) []byte {
		return fmt.Appendf(nil, "data: {\"type\":\"content_block_start\",\"index\":%d,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\"}}\n\n", index)
	}
	stop := []byte("data: {\"type\":\"content_block_stop\",\"index\":0}\n\n")
	d := answerReader{}.Stream()
	for range 2 * maxOpenCalls {
		if frames, err := d.Push(slices.Concat(start(0), stop)); err != nil || len(frames[0].Events) != 1 || frames[0].Events[0].Kind != llm.ToolStart {
			t.Fatalf("one call after another: %+v, %v", frames, err)
		}
	}
	for i := range maxOpenCalls + 1 {
		frames, err := d.Push(start(i))
		if failed := err == nil && frames[0].Events[0].Kind == llm.Failure; failed != (i == maxOpenCalls) {
			t.Fatalf("call %d at once: %+v, %v", i, frames[0].Events, err)
		}
	}
}

func TestStreamDecoderBound(t *testing.T) {
	d := answerReader{}.Stream()
	frames, err := d.Push([]byte("data: {\"type\":\"ping\"}\n\ndata: " + strings.Repeat("x", maxEventBytes)))
	if err == nil || len(frames) != 1 {
		t.Fatalf("got %d frames and error %v, want the one before the event that is too large", len(frames), err)
	}
}
