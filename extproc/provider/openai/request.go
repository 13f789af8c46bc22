package openai

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// DecodeRequest implements llm.ClientCodec. It understands the published schema and the extensions
// that clients of gateways use (a top-level system, top_k, cache_control, replayed reasoning); what
// llm.Request cannot say is in Extra.
func (Chat) DecodeRequest(h llm.Head, body []byte) (*llm.Request, error) {
	var w request
	if err := unmarshal("", body, &w); err != nil {
		return nil, err
	}
	d := requestDecoder{wire: &w, out: &llm.Request{
		Family: row.Family, Model: h.Model, Stream: h.Stream, IncludeUsage: h.IncludeUsage,
		ParallelToolCalls: w.ParallelToolCalls,
		Temperature:       json.Number(w.Temperature), TopP: json.Number(w.TopP), TopK: json.Number(w.TopK),
		FrequencyPenalty: json.Number(w.FrequencyPenalty), PresencePenalty: json.Number(w.PresencePenalty),
		Seed:     json.Number(w.Seed),
		Logprobs: w.Logprobs, TopLogprobs: w.TopLogprobs,
		ServiceTier: w.ServiceTier,
	}}
	for _, step := range []func() error{
		d.refuseLegacy, d.limits, d.stop, d.format, d.reasoning, d.user, d.tools, d.toolChoice, d.system, d.messages, d.rest,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return d.out, nil
}

// requestDecoder takes one request from the wire's form to the neutral one.
type requestDecoder struct {
	wire   *request
	out    *llm.Request
	talk   bool // a turn other than system or developer has been seen
	extras llm.Names
}

// extra keeps a member that has no field, by its name once.
func (d *requestDecoder) extra(name string, value jsontext.Value) {
	if d.extras.Add(name) {
		d.out.Extra = append(d.out.Extra, llm.Extra{Name: name, Value: json.RawMessage(value)})
	}
}

// refuseLegacy refuses functions and function_call. They could be sent as tools, but the answer
// would come back as tool calls, which a client that still speaks of functions does not look for.
func (d *requestDecoder) refuseLegacy() error {
	switch {
	case wirejson.Given(d.wire.Functions):
		return llm.Invalid("functions", "deprecated, and not translated to this provider: use tools")
	case wirejson.Given(d.wire.FunctionCall):
		return llm.Invalid("function_call", "deprecated, and not translated to this provider: use tool_choice")
	}
	return nil
}

func (d *requestDecoder) limits() error {
	d.out.MaxTokens = d.wire.MaxTokens
	name := "max_tokens"
	if d.wire.MaxCompletionTokens != nil {
		d.out.MaxTokens = d.wire.MaxCompletionTokens
		name = "max_completion_tokens"
		d.out.SpellAs(llm.MemberMaxTokens, name)
	}
	if d.out.MaxTokens != nil && *d.out.MaxTokens < 1 {
		return llm.Invalid(name, "must be at least 1")
	}
	if d.wire.N != nil {
		if *d.wire.N < 1 {
			return llm.Invalid("n", "must be at least 1")
		}
		d.out.N = *d.wire.N
	}
	return nil
}

// stop reads both spellings of a union request: what either names stops the answer.
func (d *requestDecoder) stop() error {
	if err := d.ownStop(); err != nil {
		return err
	}
	if len(d.wire.StopSequences) > 0 {
		if len(d.out.Stop) == 0 {
			d.out.SpellAs(llm.MemberStop, "stop_sequences")
		}
		d.out.Stop = append(d.out.Stop, d.wire.StopSequences...)
	}
	return nil
}

func (d *requestDecoder) ownStop() error {
	switch d.wire.Stop.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil
	case jsontext.KindBeginArray:
		return unmarshal("stop", d.wire.Stop, &d.out.Stop)
	default:
		d.out.Stop = make([]string, 1)
		return unmarshal("stop", d.wire.Stop, &d.out.Stop[0])
	}
}

var formatKinds = map[string]llm.FormatKind{
	"text": llm.FormatText, "json_object": llm.FormatJSONObject, "json_schema": llm.FormatJSONSchema,
}

func (d *requestDecoder) format() error {
	f := d.wire.ResponseFormat
	if f == nil {
		return nil
	}
	kind, known := formatKinds[f.Type]
	if !known {
		return llm.Invalid("response_format.type", "want text, json_object or json_schema")
	}
	d.out.Format.Kind = kind
	if kind != llm.FormatJSONSchema {
		return nil
	}
	s := f.JSONSchema
	if s == nil {
		return llm.Invalid("response_format.json_schema", "required")
	}
	d.out.Format.Name, d.out.Format.Description, d.out.Format.Strict = s.Name, s.Description, s.Strict
	schema, err := schemaOf("response_format.json_schema.schema", s.Schema)
	d.out.Format.Schema = schema
	return err
}

// schemaOf keeps a JSON schema as it came; nil when there is none.
func schemaOf(path string, v jsontext.Value) (json.RawMessage, error) {
	if !wirejson.Given(v) {
		return nil, nil
	}
	if v.Kind() != jsontext.KindBeginObject {
		return nil, llm.Invalid(path, "want an object, got %s", wirejson.Kind(v.Kind()))
	}
	return json.RawMessage(v), nil
}

// reasoning keeps the effort word as it is: which words a model takes is its provider's to say. A
// thinking in Anthropic's form stands for it where there is none; one in the form of others is
// theirs alone.
func (d *requestDecoder) reasoning() error {
	r := &d.out.Reasoning
	if d.wire.ReasoningEffort != "" {
		r.Effort, r.Disabled = d.wire.ReasoningEffort, d.wire.ReasoningEffort == "none"
	}
	if !wirejson.Given(d.wire.Thinking) {
		return nil
	}
	var t struct {
		Type   string `json:"type"`
		Budget *int64 `json:"budget_tokens"`
	}
	if err := unmarshal("thinking", d.wire.Thinking, &t); err != nil {
		return err
	}
	switch {
	case r.Effort != "":
		d.extra("thinking", d.wire.Thinking)
		return nil
	case t.Type == "enabled" && t.Budget != nil:
		r.Budget = t.Budget
	case t.Type == "enabled", t.Type == "adaptive":
		r.Adaptive = true
	case t.Type == "disabled", t.Type == "between_tools":
		r.Disabled = true
	default:
		return llm.Invalid("thinking.type", "want enabled, adaptive, disabled or between_tools")
	}
	d.out.SpellAs(llm.MemberReasoning, "thinking")
	return nil
}

// user takes the older of the two members for one thing; safety_identifier is what OpenAI replaces
// user by.
func (d *requestDecoder) user() error {
	d.out.User = d.wire.User
	switch {
	case d.out.User == "" && d.wire.SafetyIdentifier != "":
		d.out.User = d.wire.SafetyIdentifier
		d.out.SpellAs(llm.MemberUser, "safety_identifier")
	case d.wire.SafetyIdentifier != "" && d.wire.SafetyIdentifier != d.wire.User:
		d.extra("safety_identifier", wirejson.Quote(d.wire.SafetyIdentifier))
	}
	return d.metadata()
}

// metadata is OpenAI's own, which no other schema has, or Anthropic's user_id.
func (d *requestDecoder) metadata() error {
	if d.wire.Metadata.Kind() != jsontext.KindBeginObject {
		return nil
	}
	members, err := strictjson.Scan(d.wire.Metadata)
	if err != nil {
		return llm.Unreadable(err)
	}
	for _, m := range members {
		value := d.wire.Metadata[m.Value:m.End]
		if m.Name == "user_id" && value.Kind() == jsontext.KindString && d.out.User == "" {
			d.out.User = wirejson.Unquote(value)
			d.out.SpellAs(llm.MemberUser, "metadata.user_id")
		} else if !saysNothing(m.Name, value) {
			d.extra("metadata", d.wire.Metadata)
		}
	}
	return nil
}

func (d *requestDecoder) tools() error {
	for i, t := range d.wire.Tools {
		path := fmt.Sprintf("tools[%d]", i)
		if t.Type != "function" {
			return llm.Invalid(path+".type", "only function tools are translated to this provider")
		}
		if t.Function == nil {
			return llm.Invalid(path+".function", "required")
		}
		f := t.Function
		if f.Name == "" {
			return llm.Invalid(path+".function.name", "required")
		}
		parameters, err := schemaOf(path+".function.parameters", f.Parameters)
		if err != nil {
			return err
		}
		cache := t.CacheControl
		if !wirejson.Given(cache) {
			cache = f.CacheControl
		}
		d.out.Tools = append(d.out.Tools, llm.Tool{
			Name: f.Name, Description: f.Description, Parameters: parameters, Strict: f.Strict, Cache: cacheOf(cache),
		})
		d.extrasIn("tools[].", t.Rest)
		d.extrasIn("tools[].function.", f.Rest)
	}
	return nil
}

var toolModes = map[string]llm.ToolMode{"auto": llm.ToolAuto, "none": llm.ToolNone, "required": llm.ToolAny}

func (d *requestDecoder) toolChoice() error {
	raw := d.wire.ToolChoice
	switch raw.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil
	case jsontext.KindString:
		var word string
		if err := unmarshal("tool_choice", raw, &word); err != nil {
			return err
		}
		mode, known := toolModes[word]
		if !known {
			return llm.Invalid("tool_choice", "want auto, none, required or a named function")
		}
		d.out.ToolChoice.Mode = mode
		return nil
	}
	var named struct {
		Type     string         `json:"type"`
		Function calledFunction `json:"function"`
	}
	if err := unmarshal("tool_choice", raw, &named); err != nil {
		return err
	}
	switch {
	case named.Type != "function":
		return llm.Invalid("tool_choice.type", "only function is translated to this provider")
	case named.Function.Name == "":
		return llm.Invalid("tool_choice.function.name", "required")
	}
	d.out.ToolChoice = llm.ToolChoice{Mode: llm.ToolNamed, Name: named.Function.Name}
	return nil
}

// system reads the top-level system of a union request (Anthropic's member beside OpenAI's). It
// goes before the system messages, if there are any: both were meant.
func (d *requestDecoder) system() error {
	texts, err := systemTexts(d.wire.System)
	for _, t := range texts {
		d.out.System = append(d.out.System, t)
	}
	return err
}

// systemTexts reads a top-level system: a string, or text blocks as Anthropic has them. Empty ones
// say nothing.
func systemTexts(raw jsontext.Value) ([]llm.Text, error) {
	switch raw.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, nil
	case jsontext.KindString:
		var t llm.Text
		if err := unmarshal("system", raw, &t.Text); err != nil || t.Text == "" {
			return nil, err
		}
		return []llm.Text{t}, nil
	}
	var blocks []part
	if err := unmarshal("system", raw, &blocks); err != nil {
		return nil, err
	}
	var texts []llm.Text
	for i, b := range blocks {
		path := fmt.Sprintf("system[%d]", i)
		if b.Type != "text" {
			return nil, llm.Invalid(path+".type", "want text")
		}
		if b.Text == nil {
			return nil, llm.Invalid(path+".text", "required")
		}
		if *b.Text != "" {
			texts = append(texts, llm.Text{Text: *b.Text, Cache: cacheOf(b.CacheControl)})
		}
	}
	return texts, nil
}

// roles says how each role's messages are read. developer is what reasoning models call system.
var roles = map[string]func(*requestDecoder, string, *message) error{
	"system":    (*requestDecoder).systemMessage,
	"developer": (*requestDecoder).systemMessage,
	"user":      (*requestDecoder).userMessage,
	"assistant": (*requestDecoder).assistantMessage,
	"tool":      (*requestDecoder).toolMessage,
}

func (d *requestDecoder) messages() error {
	if len(d.wire.Messages) == 0 {
		return llm.Invalid("messages", "must not be empty")
	}
	for i := range d.wire.Messages {
		m := &d.wire.Messages[i]
		path := fmt.Sprintf("messages[%d]", i)
		read := roles[m.Role]
		switch {
		case m.Role == "function" || wirejson.Given(m.FunctionCall):
			return llm.Invalid(path, "function calls are deprecated, and not translated to this provider: use tools")
		case read == nil:
			return llm.Invalid(path+".role", "want system, developer, user, assistant or tool")
		}
		if err := read(d, path, m); err != nil {
			return err
		}
		d.extrasIn("messages[].", m.Rest)
	}
	if len(d.out.Messages) == 0 {
		return llm.Invalid("messages", "must hold more than instructions")
	}
	return nil
}

func (d *requestDecoder) systemMessage(path string, m *message) error {
	parts, err := d.content(path, m, textParts)
	switch {
	case err != nil:
		return err
	case d.talk:
		if len(parts) > 0 {
			d.add(llm.Message{Role: llm.System, Name: m.Name, Parts: parts, Paths: contentPaths(path+".content", m.Content, len(parts))})
		}
	default:
		d.out.System = append(d.out.System, parts...)
		if m.Name != "" {
			d.extra("messages[].name", nil)
		}
	}
	return nil
}

func (d *requestDecoder) userMessage(path string, m *message) error {
	parts, err := d.content(path, m, userParts)
	if err == nil && !wirejson.Given(m.Content) {
		err = llm.Invalid(path+".content", "required")
	}
	d.add(llm.Message{Role: llm.User, Name: m.Name, Parts: parts, Paths: contentPaths(path+".content", m.Content, len(parts))})
	return err
}

func (d *requestDecoder) assistantMessage(path string, m *message) error {
	parts, err := d.content(path, m, assistantParts)
	if err != nil {
		return err
	}
	thoughts := thinkingParts(m.ThinkingBlocks, m.ReasoningContent, m.Reasoning)
	paths := append(slices.Repeat([]string{path + ".reasoning_content"}, len(thoughts)), contentPaths(path+".content", m.Content, len(parts))...)
	parts = append(thoughts, parts...)
	if m.Refusal != "" {
		parts, paths = append(parts, llm.Refusal{Text: m.Refusal}), append(paths, path+".refusal")
	}
	for i, c := range m.ToolCalls {
		at := fmt.Sprintf("%s.tool_calls[%d]", path, i)
		switch {
		case c.Type != "" && c.Type != "function":
			return llm.Invalid(at+".type", "only function calls are translated to this provider")
		case c.ID == "":
			return llm.Invalid(at+".id", "required")
		case c.Function.Name == "":
			return llm.Invalid(at+".function.name", "required")
		}
		paths = append(paths, at)
		call := llm.ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments, Cache: cacheOf(c.CacheControl)}
		call.Signature, call.Origin = c.ExtraContent.signature()
		parts = append(parts, call)
	}
	d.add(llm.Message{Role: llm.Assistant, Name: m.Name, Parts: parts, Paths: paths})
	return nil
}

// toolMessage makes the results of one turn, which are a message each, parts of one User message.
func (d *requestDecoder) toolMessage(path string, m *message) error {
	if m.ToolCallID == "" {
		return llm.Invalid(path+".tool_call_id", "required")
	}
	parts, err := d.partsOf(path+".content", m.Content, resultParts)
	if err != nil {
		return err
	}
	result := llm.ToolResult{CallID: m.ToolCallID, Parts: parts, Cache: cacheOf(m.CacheControl)}
	if n := len(d.out.Messages); n > 0 && holdsResult(d.out.Messages[n-1]) {
		last := &d.out.Messages[n-1]
		last.Parts, last.Paths = append(last.Parts, result), append(last.Paths, path)
		return nil
	}
	d.add(llm.Message{Role: llm.User, Parts: []llm.Part{result}, Paths: []string{path}})
	return nil
}

func holdsResult(m llm.Message) bool {
	if len(m.Parts) == 0 {
		return false
	}
	_, ok := m.Parts[0].(llm.ToolResult)
	return ok
}

func (d *requestDecoder) add(m llm.Message) {
	d.talk = true
	d.out.Messages = append(d.out.Messages, m)
}

// thinkingParts reads reasoning that comes with a message. The blocks are the same reasoning with
// the signatures, so they make the plain text superfluous.
func thinkingParts(blocks []thinkingBlock, texts ...string) []llm.Part {
	var parts []llm.Part
	for _, b := range blocks {
		switch {
		case b.Data != "":
			parts = append(parts, llm.Thinking{Redacted: b.Data, Origin: ofThinkingBlocks})
		case b.Signature != "" || b.Thinking != nil && *b.Thinking != "":
			t := llm.Thinking{Signature: b.Signature}
			if t.Signature != "" {
				t.Origin = ofThinkingBlocks
			}
			if b.Thinking != nil {
				t.Text = *b.Thinking
			}
			parts = append(parts, t)
		}
	}
	for _, t := range texts {
		if len(parts) == 0 && t != "" {
			parts = append(parts, llm.Thinking{Text: t})
		}
	}
	return parts
}

// rest keeps everything else.
func (d *requestDecoder) rest() error {
	for m, value := range members(d.wire.Rest) {
		d.extra(m, value)
	}
	return nil
}

// extrasIn names the members of rest (an object, or nil), which are of items of a list.
func (d *requestDecoder) extrasIn(prefix string, rest jsontext.Value) {
	for m := range members(rest) {
		d.extra(prefix+m, nil)
	}
}

// members are those of an object, or of none, that say something.
func members(object jsontext.Value) iter.Seq2[string, jsontext.Value] {
	return func(yield func(string, jsontext.Value) bool) {
		if object == nil {
			return
		}
		all, _ := strictjson.Scan(object) // cannot fail: the body it is from has been scanned
		for _, m := range all {
			if value := object[m.Value:m.End]; !saysNothing(m.Name, value) && !yield(m.Name, value) {
				return
			}
		}
	}
}

// saysNothing tells whether a member is as good as absent: SDKs write nulls and empty lists into
// replayed answers, and modalities asks for something only when it asks for more than text. An
// empty object may well say something (web_search_options).
func saysNothing(name string, value jsontext.Value) bool {
	compact := value.Clone()
	if compact.Compact() != nil {
		return false
	}
	switch string(compact) {
	case `null`, `""`, `[]`:
		return true
	case `["text"]`:
		return name == "modalities"
	}
	return false
}
