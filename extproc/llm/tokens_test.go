package llm

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEstimateTokens: what each part of a request adds.
func TestEstimateTokens(t *testing.T) {
	turn := func(parts ...Part) *Request { return &Request{Messages: []Message{{Role: User, Parts: parts}}} }
	for name, c := range map[string]struct {
		request *Request
		want    int64
	}{
		"nothing":                 {&Request{}, 0},
		"an empty message":        {turn(), 4},
		"a text":                  {turn(Text{Text: "12345678"}), 4 + 2},
		"a token that is begun":   {turn(Text{Text: "123456789"}), 4 + 3},
		"two texts":               {turn(Text{Text: "1"}, Text{Text: "2"}), 4 + 2},
		"bytes, not characters":   {turn(Text{Text: "日本語です"}), 4 + 4},
		"the system":              {&Request{System: []Part{Text{Text: "12345678"}}}, 2},
		"thinking":                {turn(Thinking{Text: "12345678", Signature: strings.Repeat("x", 999)}), 4 + 2},
		"thinking that is hidden": {turn(Thinking{Redacted: strings.Repeat("x", 999)}), 4},
		"a refusal":               {turn(Refusal{Text: "12345678"}), 4 + 2},
		"a call":                  {turn(ToolCall{ID: "toolu_1", Name: "f", Arguments: `{"a":10}`}), 4 + 4 + 1 + 2},
		"its result":              {turn(ToolResult{CallID: "toolu_1", Parts: []Part{Text{Text: "sunny"}, Image{Data: "x"}}}), 4 + 4 + 2 + 1600},
		"an image":                {turn(Image{Data: strings.Repeat("x", 1<<20)}), 4 + 1600},
		"a file":                  {turn(File{Data: strings.Repeat("x", 1<<20)}), 4 + 1600},
		"a file of text":          {turn(File{Text: "12345678"}), 4 + 2},
		"a tool":                  {&Request{Tools: []Tool{{Name: "f", Description: "finds", Parameters: json.RawMessage(`{"type":"object"}`)}}}, 4 + 1 + 2 + 5},
		"a form for the answer":   {&Request{Format: Format{Schema: json.RawMessage(`{"type":"object"}`)}}, 5},
	} {
		if got := EstimateTokens(c.request); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestEstimateTextTokens: a prompt of texts is estimated alike from its parts and from their sum.
func TestEstimateTextTokens(t *testing.T) {
	r := &Request{}
	for _, text := range []string{"12345678", "1234", strings.Repeat("x", 400)} {
		r.Messages = append(r.Messages, Message{Role: User, Parts: []Part{Text{Text: text}}})
	}
	if got, want := EstimateTextTokens(3, 412), EstimateTokens(r); got != want {
		t.Errorf("%d, want %d", got, want)
	}
}
