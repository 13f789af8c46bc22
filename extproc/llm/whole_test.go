package llm

import (
	"reflect"
	"testing"
)

// TestEventsAndBack: what a whole answer says, its events say, and the answer made of these is the
// same one.
func TestEventsAndBack(t *testing.T) {
	want := &Response{
		ID: "id", Model: "m", Created: 7, Usage: Usage{Input: 5, Output: 6, CacheRead: 1},
		Choices: []Choice{
			{Stop: StopTool, Parts: []Part{
				Thinking{Text: "why", Signature: "signed", Origin: "a"}, Thinking{Text: "more", Signature: "too", Origin: "b"},
				Thinking{Redacted: "opaque", Origin: "a"}, Thinking{Text: "unsigned"},
				Text{Text: "hello", Signature: "mine", Origin: "c"}, Text{Text: "again"},
				ToolCall{ID: "1", Name: "f", Arguments: `{"a":1}`, Signature: "g", Origin: "c"}, ToolCall{ID: "2", Name: "g"},
				Text{Text: "bye"},
			}},
			{Stop: StopSequence, StopSequence: "###", Parts: []Part{Refusal{Text: "no"}}},
		},
	}
	var a Assembly
	for _, e := range want.Events() {
		a.Add(e)
	}
	if got := a.Response(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if a.Bytes() == 0 {
		t.Error("no bytes counted")
	}
}

// TestAssembleInterleaved: pieces of calls that interleave go to their calls, text goes on where
// nothing came between.
func TestAssembleInterleaved(t *testing.T) {
	var a Assembly
	for _, e := range []Event{
		{Kind: Ping}, {Kind: Start, ID: "x", Usage: &Usage{Input: 3}},
		{Kind: TextDelta, Text: "a"}, {Kind: TextDelta}, {Kind: TextDelta, Text: "b"},
		{Kind: ToolStart, Tool: 0, ID: "1", Name: "f"}, {Kind: ToolStart, Tool: 1, ID: "2", Name: "g"},
		{Kind: ToolDelta, Tool: 1, Text: "{"}, {Kind: ToolDelta, Tool: 0, Text: "["}, {Kind: ToolDelta, Tool: 1, Text: "}"},
		{Kind: ToolDelta, Tool: 9, Text: "nobody's"}, {Kind: Finish, Stop: StopTool},
		{Kind: UsageReport, Usage: &Usage{Input: 3, Output: 4}}, {Kind: End},
	} {
		a.Add(e)
	}
	want := &Response{ID: "x", Usage: Usage{Input: 3, Output: 4}, Choices: []Choice{{Stop: StopTool, Parts: []Part{
		Text{Text: "ab"}, ToolCall{ID: "1", Name: "f", Arguments: "["}, ToolCall{ID: "2", Name: "g", Arguments: "{}"},
	}}}}
	if got := a.Response(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
