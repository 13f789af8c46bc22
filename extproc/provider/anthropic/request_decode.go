package anthropic

import (
	stdjson "encoding/json"
	"fmt"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
	"millrace/schema"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeRequest reads a client's request for a target of another schema. What no other schema can
// be asked for, such as server tools and their blocks, is refused; other members without a neutral
// field go to Extra.
func (Messages) DecodeRequest(h llm.Head, body []byte) (*llm.Request, error) {
	return decodeRequest(h, body, (*requestDecoder).maxTokens)
}

// decodeRequest reads what all operations have; own is what the one at hand wants.
func decodeRequest(h llm.Head, body []byte, own ...func(*requestDecoder) *llm.Error) (*llm.Request, error) {
	var in request[givenContent, tool]
	if err := unmarshalAt("", body, &in); err != nil {
		return nil, err
	}
	d := requestDecoder{in: &in, out: &llm.Request{
		Model: h.Model, Stream: h.Stream, IncludeUsage: h.IncludeUsage, ServiceTier: in.ServiceTier,
		Family: row.Family, Words: ownWords,
	}}
	for _, read := range own {
		if err := read(&d); err != nil {
			return nil, err
		}
	}
	for _, read := range []func() *llm.Error{
		d.limits, d.system, d.messages, d.tools, d.toolChoice, d.reasoning, d.format, d.metadata, d.union,
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	for _, m := range members(in.Rest) {
		d.extra(m.Name, in.Rest[m.Value:m.End])
	}
	return d.out, nil
}

// ownWords are what clients of the schema call what others call otherwise.
var ownWords = map[llm.Member]string{
	llm.MemberTool:          "tools[]",
	llm.MemberToolSpec:      "tools[].input_schema",
	llm.MemberThoughts:      "messages[].content[].thinking",
	llm.MemberCallName:      "name",
	llm.MemberCallArguments: "input",
	llm.MemberResultCall:    "tool_use_id",
}

type requestDecoder struct {
	in     *request[givenContent, tool]
	out    *llm.Request
	extras llm.Names
}

// extra keeps a member that has no field, by its name once.
func (d *requestDecoder) extra(name string, value jsontext.Value) {
	if d.extras.Add(name) {
		d.out.Extra = append(d.out.Extra, llm.Extra{Name: name, Value: stdjson.RawMessage(value)})
	}
}

// extrasIn names the members of rest, which stand below prefix. Those of list elements are named
// without their index.
func (d *requestDecoder) extrasIn(prefix string, rest jsontext.Value) {
	for _, m := range members(rest) {
		d.extra(prefix+"."+m.Name, nil)
	}
}

func (d *requestDecoder) maxTokens() *llm.Error {
	if n, ok := integer(d.in.MaxCompletionTokens); ok && d.in.MaxTokens == nil {
		d.in.MaxTokens, d.in.MaxCompletionTokens = &n, nil
		d.out.SpellAs(llm.MemberMaxTokens, "max_completion_tokens")
	}
	if d.in.MaxTokens == nil {
		return llm.Invalid("max_tokens", "required")
	}
	if *d.in.MaxTokens < 1 {
		return llm.Invalid("max_tokens", "must be at least 1")
	}
	d.out.MaxTokens = d.in.MaxTokens
	return nil
}

func (d *requestDecoder) limits() *llm.Error {
	if d.in.StopSequences != nil {
		d.out.Stop = d.in.StopSequences
		d.out.SpellAs(llm.MemberStop, "stop_sequences")
	}
	for _, n := range []struct {
		name string
		from jsontext.Value
		to   *stdjson.Number
	}{
		{"temperature", d.in.Temperature, &d.out.Temperature},
		{"top_p", d.in.TopP, &d.out.TopP},
		{"top_k", d.in.TopK, &d.out.TopK},
	} {
		switch kind := n.from.Kind(); kind {
		case 0, 'n':
		case '0':
			*n.to = stdjson.Number(n.from)
		default:
			return llm.Invalid(n.name, "want a number, got %s", wirejson.Kind(kind))
		}
	}
	return nil
}

func (d *requestDecoder) system() *llm.Error {
	parts, err := d.textOnly("system", d.in.System)
	d.out.System = parts
	return err
}

// textOnly reads the content of system and of system turns, without the line of Claude Code's
// accounts: only Anthropic's own targets get that, in the client's bytes.
func (d *requestDecoder) textOnly(path string, blocks givenContent) ([]llm.Part, *llm.Error) {
	var parts []llm.Part
	for i := range blocks {
		at := fmt.Sprintf("%s[%d]", path, i)
		if blocks[i].Type != "text" {
			return nil, llm.Invalid(at+".type", "only text is allowed here, got %q", blocks[i].Type)
		}
		part, err := d.part(at, &blocks[i])
		if err != nil {
			return nil, err
		}
		if text, ok := part.(llm.Text); ok {
			prompt := schema.WithoutAside(text.Text)
			if prompt == "" && text.Text != "" {
				continue
			}
			text.Text = prompt
			part = text
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (d *requestDecoder) messages() *llm.Error {
	if len(d.in.Messages) == 0 {
		return llm.Invalid("messages", "at least one message is required")
	}
	for i := range d.in.Messages {
		m, err := d.message(fmt.Sprintf("messages[%d]", i), &d.in.Messages[i])
		if err != nil {
			return err
		}
		d.out.Messages = append(d.out.Messages, m)
	}
	return nil
}

func (d *requestDecoder) message(path string, in *turn[givenContent]) (llm.Message, *llm.Error) {
	m := llm.Message{Role: llm.Role(in.Role)}
	if in.Content == nil {
		return m, llm.Invalid(path+".content", "required")
	}
	d.extrasIn("messages[]", in.Rest)
	switch m.Role {
	case llm.System:
		var err *llm.Error
		m.Parts, err = d.textOnly(path+".content", in.Content)
		return m, err
	case llm.User, llm.Assistant:
	default:
		return m, llm.Invalid(path+".role", "want user, assistant or system, got %q", in.Role)
	}
	for i := range in.Content {
		b := &in.Content[i]
		at := fmt.Sprintf("%s.content[%d]", path, i)
		if only, ok := blockRole[b.Type]; ok && only != m.Role {
			return m, llm.Invalid(at+".type", "%s belongs into %s messages", b.Type, only)
		}
		part, err := d.part(at, b)
		if err != nil {
			return m, err
		}
		m.Parts, m.Paths = append(m.Parts, part), append(m.Paths, at)
	}
	return m, nil
}

// blockRole is the one role that may hold a block of this type.
var blockRole = map[string]llm.Role{
	"tool_use": llm.Assistant, "thinking": llm.Assistant, "redacted_thinking": llm.Assistant, "tool_result": llm.User,
}

// part reads one content block. https://docs.anthropic.com/en/api/messages#body-messages-content
func (d *requestDecoder) part(path string, b *givenBlock) (llm.Part, *llm.Error) {
	d.extrasIn("messages[].content[]", b.Rest)
	switch b.Type {
	case "text":
		if b.Text == nil {
			return nil, llm.Invalid(path+".text", "required")
		}
		return llm.Text{Text: *b.Text, Cache: given(b.CacheControl)}, nil
	case "image":
		return d.image(path, b)
	case "document":
		return d.document(path, b)
	case "tool_use":
		return d.toolUse(path, b)
	case "tool_result":
		return d.toolResult(path, b)
	case "thinking":
		return llm.Thinking{Text: b.Thinking, Signature: b.Signature, Origin: signed(b.Signature)}, nil
	case "redacted_thinking":
		return llm.Thinking{Redacted: b.Data, Origin: signed(b.Data)}, nil
	case "":
		return nil, llm.Invalid(path+".type", "required")
	default:
		return nil, llm.Invalid(path+".type", "%q cannot be translated for this model's provider", b.Type)
	}
}

func (d *requestDecoder) source(path string, b *givenBlock) (source, *llm.Error) {
	var s source
	if k := b.Source.Kind(); k == 0 || k == 'n' {
		return s, llm.Invalid(path+".source", "required")
	}
	return s, unmarshalAt(path+".source", b.Source, &s)
}

func (d *requestDecoder) image(path string, b *givenBlock) (llm.Part, *llm.Error) {
	s, err := d.source(path, b)
	if err != nil {
		return nil, err
	}
	switch s.Type {
	case "base64":
		return llm.Image{MediaType: s.MediaType, Data: s.Data, Cache: given(b.CacheControl)}, nil
	case "url":
		return llm.Image{URL: s.URL, Cache: given(b.CacheControl)}, nil
	case "file":
		return llm.File{ID: s.FileID, Cache: given(b.CacheControl)}, nil
	default:
		return nil, llm.Invalid(path+".source.type", "want base64, url or file, got %q", s.Type)
	}
}

func (d *requestDecoder) document(path string, b *givenBlock) (llm.Part, *llm.Error) {
	s, err := d.source(path, b)
	if err != nil {
		return nil, err
	}
	f := llm.File{Name: b.Title, MediaType: s.MediaType, Cache: given(b.CacheControl)}
	switch s.Type {
	case "base64":
		f.Data = s.Data
	case "text":
		f.Text = s.Data
	case "url":
		f.URL, f.MediaType = s.URL, wirejson.PDF // the only kind of document that the API fetches
	case "file":
		f.ID = s.FileID
	case "content":
		return nil, llm.Invalid(path+".source.type", "a document made of blocks cannot be translated for this model's provider")
	default:
		return nil, llm.Invalid(path+".source.type", "want base64, text, url or file, got %q", s.Type)
	}
	return f, nil
}

func (d *requestDecoder) toolUse(path string, b *givenBlock) (llm.Part, *llm.Error) {
	switch k := b.Input.Kind(); {
	case b.ID == "":
		return nil, llm.Invalid(path+".id", "required")
	case b.Name == "":
		return nil, llm.Invalid(path+".name", "required")
	case k != 0 && k != '{':
		return nil, llm.Invalid(path+".input", "want an object, got %s", wirejson.Kind(k))
	}
	return llm.ToolCall{ID: b.ID, Name: b.Name, Arguments: string(b.Input), Cache: given(b.CacheControl)}, nil
}

func (d *requestDecoder) toolResult(path string, b *givenBlock) (llm.Part, *llm.Error) {
	if b.ToolUseID == "" {
		return nil, llm.Invalid(path+".tool_use_id", "required")
	}
	result := llm.ToolResult{CallID: b.ToolUseID, IsError: b.IsError, Cache: given(b.CacheControl)}
	var blocks givenContent
	if b.Content != nil {
		if err := unmarshalAt(path+".content", b.Content, &blocks); err != nil {
			return nil, err
		}
	}
	for i := range blocks {
		at := fmt.Sprintf("%s.content[%d]", path, i)
		switch blocks[i].Type {
		case "text", "image", "document":
		default:
			return nil, llm.Invalid(at+".type", "%q cannot be translated for this model's provider", blocks[i].Type)
		}
		part, err := d.part(at, &blocks[i])
		if err != nil {
			return nil, err
		}
		result.Parts = append(result.Parts, part)
	}
	return result, nil
}

func (d *requestDecoder) tools() *llm.Error {
	for i := range d.in.Tools {
		t := &d.in.Tools[i]
		path := fmt.Sprintf("tools[%d]", i)
		if t.Type != "" && t.Type != "custom" {
			return llm.Invalid(path+".type", "the provider's own tool %q cannot be translated for this model's provider", t.Type)
		}
		if t.Name == "" {
			return llm.Invalid(path+".name", "required")
		}
		d.extrasIn("tools[]", t.Rest)
		d.out.Tools = append(d.out.Tools, llm.Tool{
			Name: t.Name, Description: t.Description, Parameters: given(t.InputSchema), Strict: t.Strict,
			Cache: given(t.CacheControl),
		})
	}
	return nil
}

func (d *requestDecoder) toolChoice() *llm.Error {
	c := d.in.ToolChoice
	if c == nil {
		return nil
	}
	switch c.Type {
	case "auto", "any", "none":
		d.out.ToolChoice.Mode = llm.ToolMode(c.Type)
	case "tool":
		if c.Name == "" {
			return llm.Invalid("tool_choice.name", "required")
		}
		d.out.ToolChoice = llm.ToolChoice{Mode: llm.ToolNamed, Name: c.Name}
	default:
		return llm.Invalid("tool_choice.type", "want auto, any, tool or none, got %q", c.Type)
	}
	if c.DisableParallel != nil {
		parallel := !*c.DisableParallel
		d.out.ParallelToolCalls = &parallel
		d.out.SpellAs(llm.MemberParallel, "tool_choice.disable_parallel_tool_use")
	}
	d.extrasIn("tool_choice", c.Rest)
	return nil
}

// reasoning reads thinking and output_config.effort. A budget is more exact than an effort, and no
// thinking is stronger than either: where they meet, the effort is left unsaid.
func (d *requestDecoder) reasoning() *llm.Error {
	r := &d.out.Reasoning
	if t := d.in.Thinking; t != nil {
		d.out.SpellAs(llm.MemberReasoning, "thinking")
		switch t.Type {
		case "enabled":
			if t.BudgetTokens == nil {
				return llm.Invalid("thinking.budget_tokens", "required")
			}
			r.Budget = t.BudgetTokens
		case "adaptive":
			r.Adaptive = true
		case "disabled", string(offBetweenTools): // the latter is how models that cannot stop thinking are asked to
			r.Disabled = true
		default:
			return llm.Invalid("thinking.type", "want enabled, adaptive, disabled or between_tools, got %q", t.Type)
		}
		d.extrasIn("thinking", t.Rest)
	}
	if d.in.OutputConfig == nil || d.in.OutputConfig.Effort == "" {
		return nil
	}
	effort := d.in.OutputConfig.Effort
	switch effort {
	case "low", "medium", "high", "xhigh", "max":
	default:
		return llm.Invalid("output_config.effort", "want low, medium, high, xhigh or max, got %q", effort)
	}
	if r.Budget != nil || r.Disabled {
		d.extra("output_config.effort", nil)
		return nil
	}
	r.Effort = effort
	d.out.SpellAs(llm.MemberReasoning, "output_config.effort")
	return nil
}

func (d *requestDecoder) format() *llm.Error {
	path, f := "output_format", d.in.OutputFormat
	if c := d.in.OutputConfig; c != nil {
		d.extrasIn("output_config", c.Rest)
		if c.Format != nil {
			path, f = "output_config.format", c.Format
		}
	}
	if f == nil {
		return nil
	}
	if f.Type != "json_schema" {
		return llm.Invalid(path+".type", "want json_schema, got %q", f.Type)
	}
	if f.Schema.Kind() != '{' {
		return llm.Invalid(path+".schema", "want an object")
	}
	d.extrasIn(path, f.Rest)
	d.out.SpellAs(llm.MemberFormat, path)
	d.out.SpellAs(llm.MemberSchema, path+".schema")
	d.out.Format = llm.Format{Kind: llm.FormatJSONSchema, Schema: given(f.Schema)}
	return nil
}

func (d *requestDecoder) metadata() *llm.Error {
	if m := d.in.Metadata; m != nil {
		d.out.User = m.UserID
		d.out.SpellAs(llm.MemberUser, "metadata.user_id")
		d.extrasIn("metadata", m.Rest)
	}
	return nil
}

// union reads what a request has of OpenAI's members, where it has none of its own that says it.
// What cannot be read is extra.
func (d *requestDecoder) union() *llm.Error {
	var user, effort string
	var stops []string
	for _, m := range []struct {
		name string
		raw  jsontext.Value
		read func(jsontext.Value) bool
	}{
		{"max_completion_tokens", d.in.MaxCompletionTokens, func(jsontext.Value) bool { return false }},
		{"stop", d.in.Stop, func(v jsontext.Value) bool {
			if v.Kind() == '"' {
				stops = []string{wirejson.Unquote(v)}
				return true
			}
			return json.Unmarshal(v, &stops) == nil
		}},
		{"user", d.in.User, func(v jsontext.Value) bool { return d.out.User == "" && json.Unmarshal(v, &user) == nil }},
		{"reasoning_effort", d.in.ReasoningEffort, func(v jsontext.Value) bool {
			return !d.out.Reasoning.Asked() && json.Unmarshal(v, &effort) == nil
		}},
		{"seed", d.in.Seed, numberInto(&d.out.Seed)},
		{"frequency_penalty", d.in.FrequencyPenalty, numberInto(&d.out.FrequencyPenalty)},
		{"presence_penalty", d.in.PresencePenalty, numberInto(&d.out.PresencePenalty)},
	} {
		if k := m.raw.Kind(); k != 0 && k != 'n' && !m.read(m.raw) {
			d.extra(m.name, m.raw)
		}
	}
	if len(stops) > 0 {
		if len(d.out.Stop) == 0 {
			d.out.SpellAs(llm.MemberStop, "stop")
		}
		d.out.Stop = append(d.out.Stop, stops...)
	}
	if user != "" {
		d.out.User = user
		d.out.SpellAs(llm.MemberUser, "user")
	}
	if effort != "" {
		d.out.Reasoning.Effort, d.out.Reasoning.Disabled = effort, effort == "none"
		d.out.SpellAs(llm.MemberReasoning, "reasoning_effort")
	}
	return nil
}

func numberInto(to *stdjson.Number) func(jsontext.Value) bool {
	return func(v jsontext.Value) bool {
		if v.Kind() != '0' {
			return false
		}
		*to = stdjson.Number(v)
		return true
	}
}

// given returns a member's bytes, nil for null.
func given(v jsontext.Value) stdjson.RawMessage {
	if v.Kind() == 'n' {
		return nil
	}
	return stdjson.RawMessage(v)
}
