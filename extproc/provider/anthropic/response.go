package anthropic

import (
	"crypto/rand"
	"slices"
	"strings"

	"millrace/extproc/llm"
	"millrace/internal/errorbody"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// answerJSON writes arguments that a model wrote: their numbers as they are, their strings
// repaired.
var answerJSON = wirejson.Lenient

// stopOf reads stop_reason; words it does not know end the answer like any other.
// https://docs.anthropic.com/en/api/handling-stop-reasons
var stopOf = map[string]llm.Stop{
	"end_turn":                      llm.StopEnd,
	"stop_sequence":                 llm.StopSequence,
	"max_tokens":                    llm.StopLength,
	"model_context_window_exceeded": llm.StopLength,
	"tool_use":                      llm.StopTool,
	"pause_turn":                    llm.StopPause,
	"refusal":                       llm.StopRefusal,
}

// decodeStop goes by the calls where the reason says no more than that the model was done: some
// hosts of the API say end_turn then.
func decodeStop(reason string, called bool) llm.Stop {
	stop, ok := stopOf[reason]
	switch {
	case called && (!ok || stop == llm.StopEnd):
		return llm.StopTool
	case !ok:
		return llm.StopEnd
	}
	return stop
}

// endTurn is the stop_reason that is wrong beside tool calls, toolUse, in JSON, the one that is
// right.
const endTurn = "end_turn"

var toolUse = []byte(`"tool_use"`)

// Patch puts an end_turn beside tool calls right.
func (answerReader) Patch(body []byte, r *llm.Response) []byte {
	var in struct {
		StopReason string `json:"stop_reason"`
	}
	if r.Choices[0].Stop != llm.StopTool || json.Unmarshal(body, &in, wirejson.Lenient) != nil || in.StopReason != endTurn {
		return body
	}
	return strictjson.ReplaceAt(body, toolUse, "stop_reason")
}

var stopReasons = map[llm.Stop]string{
	llm.StopEnd:      "end_turn",
	llm.StopSequence: "stop_sequence",
	llm.StopLength:   "max_tokens",
	llm.StopTool:     "tool_use",
	llm.StopPause:    "pause_turn",
	llm.StopRefusal:  "refusal",
}

// stopReason is the stop_reason of an answer. Refusals in words and calls decide where the provider
// only said that it was done: OpenAI-shaped ones say "stop" after a forced call.
func stopReason(stop llm.Stop, refused, called bool) string {
	switch {
	case refused:
		return "refusal"
	case called && (stop == llm.StopEnd || stop == ""):
		return "tool_use"
	}
	if reason, ok := stopReasons[stop]; ok {
		return reason
	}
	return "end_turn"
}

// usage is the API's own count: cached tokens stand beside input_tokens, not in it. The order is
// the API's.
type usage struct {
	InputTokens         int64 `json:"input_tokens"`
	CacheCreationTokens int64 `json:"cache_creation_input_tokens"`
	CacheReadTokens     int64 `json:"cache_read_input_tokens"`
	OutputTokens        int64 `json:"output_tokens"`
}

func encodeUsage(u llm.Usage) usage {
	return usage{
		InputTokens:         max(u.Input-u.CacheRead-u.CacheWrite, 0),
		CacheCreationTokens: u.CacheWrite,
		CacheReadTokens:     u.CacheRead,
		OutputTokens:        u.Output,
	}
}

// counts are the usage members that a provider has sent so far.
type counts struct {
	input, cacheWrite, cacheRead, output, reasoning int64
}

// merge takes over the counts that value has. They are cumulative: later ones replace earlier ones.
func (c *counts) merge(value jsontext.Value) {
	forMembers(value, func(name, value jsontext.Value) {
		n, ok := integer(value)
		switch string(name) {
		case `"input_tokens"`:
			set(&c.input, n, ok)
		case `"cache_creation_input_tokens"`:
			set(&c.cacheWrite, n, ok)
		case `"cache_read_input_tokens"`:
			set(&c.cacheRead, n, ok)
		case `"output_tokens"`:
			set(&c.output, n, ok)
		case `"output_tokens_details"`:
			forMembers(value, func(name, value jsontext.Value) {
				if n, ok := integer(value); string(name) == `"thinking_tokens"` {
					set(&c.reasoning, n, ok)
				}
			})
		}
	})
}

func set(to *int64, n int64, ok bool) {
	if ok {
		*to = n
	}
}

func (c counts) usage() llm.Usage {
	return llm.Usage{
		Input: c.input + c.cacheWrite + c.cacheRead, Output: c.output,
		CacheRead: c.cacheRead, CacheWrite: c.cacheWrite, Reasoning: c.reasoning,
	}
}

// integer reads a JSON number that is a count.
func integer(v jsontext.Value) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// forMembers calls each for the members of an object, names still quoted, until the object ends or
// breaks off.
func forMembers(object jsontext.Value, each func(name, value jsontext.Value)) {
	var r objectReader
	_ = r.read(object, each)
}

// Whole reads a message. Blocks that no other schema has (server tools and their results) are
// skipped.
func (answerReader) Whole(body []byte) (*llm.Response, error) {
	var in struct {
		Type         string         `json:"type"`
		ID           string         `json:"id"`
		Model        string         `json:"model"`
		Content      jsontext.Value `json:"content"`
		StopReason   string         `json:"stop_reason"`
		StopSequence string         `json:"stop_sequence"`
		Usage        jsontext.Value `json:"usage"`
		Error        jsontext.Value `json:"error"`
	}
	err := json.Unmarshal(body, &in, wirejson.Lenient)
	if said := errorbody.Read(body); in.Type == "error" || in.Error.Kind() == '{' || in.Content == nil && said.Message != "" {
		return nil, failure(said)
	}
	if err != nil || in.Content == nil {
		return nil, llm.Errorf(llm.ErrBadGateway, "the provider's answer is not a message")
	}
	parts, ok := answerParts(in.Content)
	if !ok {
		return nil, llm.Errorf(llm.ErrBadGateway, "the content of the provider's answer cannot be read")
	}
	var c counts
	c.merge(in.Usage)
	return &llm.Response{
		ID: in.ID, Model: in.Model, Usage: c.usage(),
		Choices: []llm.Choice{{Parts: parts, Stop: decodeStop(in.StopReason, calls(parts)), StopSequence: in.StopSequence}},
	}, nil
}

func calls(parts []llm.Part) bool {
	return slices.ContainsFunc(parts, func(p llm.Part) bool {
		_, call := p.(llm.ToolCall)
		return call
	})
}

// answerParts reads the blocks of an answer.
func answerParts(blocks jsontext.Value) ([]llm.Part, bool) {
	var list []jsontext.Value
	switch blocks.Kind() {
	case '"':
		return []llm.Part{llm.Text{Text: wirejson.Unquote(blocks)}}, true
	case 'n':
		return nil, true
	}
	if json.Unmarshal(blocks, &list, wirejson.Lenient) != nil {
		return nil, false
	}
	var parts []llm.Part
	for _, raw := range list {
		var kind struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &kind, wirejson.Lenient) != nil {
			return nil, false
		}
		switch kind.Type {
		case "text", "thinking", "redacted_thinking", "tool_use":
		default:
			continue
		}
		var b givenBlock
		if json.Unmarshal(raw, &b, wirejson.Lenient) != nil {
			return nil, false
		}
		parts = append(parts, answerPart(&b))
	}
	return parts, true
}

func answerPart(b *givenBlock) llm.Part {
	switch b.Type {
	case "thinking":
		return llm.Thinking{Text: b.Thinking, Signature: b.Signature, Origin: signed(b.Signature)}
	case "redacted_thinking":
		return llm.Thinking{Redacted: b.Data, Origin: signed(b.Data)}
	case "tool_use":
		return llm.ToolCall{ID: b.ID, Name: b.Name, Arguments: compact(b.Input)}
	}
	var text string
	if b.Text != nil {
		text = *b.Text
	}
	return llm.Text{Text: text}
}

// compact is a call's input as the text of one object without white space, "" for none. Numbers and
// strings keep their spelling.
func compact(input jsontext.Value) string {
	if input.Kind() != '{' {
		return ""
	}
	input = input.Clone()
	_ = input.Compact() // what is no JSON has been refused before
	return strings.ToValidUTF8(string(input), "\uFFFD")
}

// EncodeResponse writes the first choice: the API knows no others. It fails when the model's
// arguments for a tool are no JSON object, because every client reads them as one.
func (Messages) EncodeResponse(_ llm.Asked, r *llm.Response) ([]byte, error) {
	var choice llm.Choice
	if len(r.Choices) > 0 {
		choice = r.Choices[0]
	}
	out := struct {
		ID           string  `json:"id"`
		Type         string  `json:"type"`
		Role         string  `json:"role"`
		Model        string  `json:"model"`
		Content      []block `json:"content"`
		StopReason   string  `json:"stop_reason"`
		StopSequence *string `json:"stop_sequence"`
		Usage        usage   `json:"usage"`
	}{ID: messageID(r.ID), Type: "message", Role: "assistant", Model: r.Model, Usage: encodeUsage(r.Usage)}
	var refused, called bool
	for _, p := range choice.Parts {
		b, ok, err := answerBlock(p)
		if err != nil {
			return nil, err
		}
		if ok {
			out.Content = append(out.Content, b)
		}
		_, isRefusal := p.(llm.Refusal)
		refused = refused || isRefusal
		called = called || b.Type == "tool_use"
	}
	out.StopReason = stopReason(choice.Stop, refused, called)
	if choice.StopSequence != "" {
		out.StopSequence = &choice.StopSequence
	}
	body, err := json.Marshal(out, answerJSON)
	if err != nil {
		return nil, llm.Errorf(llm.ErrBadGateway, "the provider's answer cannot be written: %v", err)
	}
	return body, nil
}

// answerBlock writes a part of an answer; not empty text, and nothing that an answer cannot hold.
func answerBlock(p llm.Part) (b block, ok bool, err error) {
	switch p := p.(type) {
	case llm.Text:
		return textBlock(p.Text), p.Text != "", nil
	case llm.Refusal:
		return textBlock(p.Text), p.Text != "", nil
	case llm.Thinking:
		switch {
		case p.Redacted != "":
			return block{Type: "redacted_thinking", Data: p.Redacted}, p.Origin == own, nil
		case p.Origin != own: // another one's
			p.Signature = ""
		}
		return block{Type: "thinking", Thinking: &p.Text, Signature: &p.Signature}, true, nil
	case llm.ToolCall:
		input := jsontext.Value(strings.TrimSpace(p.Arguments))
		if len(input) == 0 {
			input = jsontext.Value("{}")
		}
		if input.Kind() != '{' || !input.IsValid(wirejson.Lenient) {
			return block{}, false, llm.Errorf(llm.ErrBadGateway,
				"the model's arguments for tool %q are not a JSON object", p.Name)
		}
		return block{Type: "tool_use", ID: p.ID, Name: p.Name, Input: input}, true, nil
	default:
		return block{}, false, nil
	}
}

// messageID is the provider's id; one of the API's own form where the provider gave none.
func messageID(id string) string {
	if id == "" {
		return "msg_" + rand.Text()
	}
	return id
}
