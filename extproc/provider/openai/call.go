package openai

import (
	stdjson "encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/jsonschema"
	"millrace/internal/wirejson"
)

// EncodeRequest implements llm.TargetCodec. It writes what the schema has: only published members,
// strings for content wherever there is nothing but text, tool results where OpenAI wants them.
// What the target's dialect has instead, or its model refuses, fit changes in what is written.
func (Chat) EncodeRequest(r *llm.Request, o llm.Options) (llm.Call, error) {
	d := dialectOf(o.Dialect)
	e := requestEncoder{in: r, dialect: d, model: d.familyOf(o.Model), out: request{
		Model:       o.Model,
		Temperature: wirejson.Number(r.Temperature), TopP: wirejson.Number(r.TopP),
		FrequencyPenalty: wirejson.Number(r.FrequencyPenalty), PresencePenalty: wirejson.Number(r.PresencePenalty), Seed: wirejson.Number(r.Seed),
		Logprobs: r.Logprobs, TopLogprobs: r.TopLogprobs,
	}}
	said, lost := r.Extras(row.Family, row.Members)
	for _, step := range []func() error{e.tools, e.system, e.messages, e.toolChoice, e.format, e.stop} {
		if err := step(); err != nil {
			return llm.Call{}, err
		}
	}
	e.limits()
	e.reasoning()
	e.user()
	e.tier()
	e.stream()
	e.extra(said)
	body, err := json.Marshal(&e.out, wirejson.Writing)
	if err != nil {
		return llm.Call{}, llm.Errorf(llm.ErrInternal, "encode request for openai: %v", err)
	}
	e.drop(r.TopK != "", "top_k")
	for _, name := range lost {
		e.drop(true, name)
	}
	f, err := fit(body, d, o, false)
	if err != nil {
		return llm.Call{}, err
	}
	for _, name := range f.dropped.List() {
		if name == "max_completion_tokens" {
			name = "max_tokens"
		}
		e.drop(true, r.Spell(llm.Member(name)))
	}
	return llm.Call{Body: f.p.Bytes(), Path: row.Conversation(), Dropped: e.dropped.List(), Answer: e.renamed.Undo(answerReader{r.Head()})}, nil
}

// requestEncoder takes one request from the neutral form to the wire's.
type requestEncoder struct {
	in      *llm.Request
	dialect *dialect
	model   family
	out     request
	dropped llm.Names
	renamed llm.Renames // tools: the name here, the client's
	calls   openCalls
}

// toolName is what a tool is called here.
func (e *requestEncoder) toolName(name string) string { return e.renamed.Fit(e.dialect.name, name) }

// openCalls are the calls of the last assistant turn in their order, and which of them have no
// result yet.
type openCalls struct {
	all     []openCall
	waiting map[string][]int // by id, the places in all of those without a result
	left    int              // how many have none
}

type openCall struct {
	path     string
	answered bool
}

func (c *openCalls) add(id, path string) {
	if c.waiting == nil {
		c.waiting = map[string][]int{}
	}
	c.waiting[id] = append(c.waiting[id], len(c.all))
	c.all = append(c.all, openCall{path: path})
	c.left++
}

// answer takes a result for the first call of that id that waits for one; false when none does.
func (c *openCalls) answer(id string) bool {
	places := c.waiting[id]
	if len(places) == 0 {
		return false
	}
	c.all[places[0]].answered = true
	c.waiting[id] = places[1:]
	c.left--
	return true
}

func (e *requestEncoder) drop(lost bool, name string) {
	if lost {
		e.dropped.Add(name)
	}
}

// system joins the instructions: many compatibles take one system message only.
func (e *requestEncoder) system() error {
	text, err := e.joined("system[]", e.in.System)
	if text != "" {
		e.out.Messages = append(e.out.Messages, message{Role: "system", Content: wirejson.Quote(text)})
	}
	return err
}

// joined makes one string of parts that can only be text.
func (e *requestEncoder) joined(path string, parts []llm.Part) (string, error) {
	var texts []string
	for _, p := range parts {
		t, ok := p.(llm.Text)
		if !ok {
			return "", llm.Invalid(path, "only text can stand here")
		}
		e.unmark(path, t.Cache)
		if t.Text != "" {
			texts = append(texts, t.Text)
		}
	}
	return strings.Join(texts, "\n\n"), nil
}

// unmark reports that a part loses its mark for the prompt cache.
func (e *requestEncoder) unmark(path string, cache stdjson.RawMessage) {
	if cache != nil {
		e.dropped.Add(e.in.SpellIn(llm.Unnumbered(path), llm.MemberCache))
	}
}

func (e *requestEncoder) messages() error {
	for in := e.in.Placed(); len(in) > 0; {
		n := runLength(in)
		if err := e.turn(in[:n]); err != nil {
			return err
		}
		in = in[n:]
	}
	return e.checkAnswered()
}

// runLength counts the messages at the front that are of one role.
func runLength(messages []llm.Message) int {
	n := 1
	for n < len(messages) && messages[n].Role == messages[0].Role {
		n++
	}
	return n
}

// turn writes a run of messages of one role.
func (e *requestEncoder) turn(run []llm.Message) error {
	if run[0].Role == llm.User {
		return e.userTurn(run)
	}
	if err := e.checkAnswered(); err != nil {
		return err
	}
	if run[0].Role == llm.Assistant {
		run = oneMessage(run)
	}
	for _, m := range run {
		var err error
		if m.Role == llm.System {
			err = e.systemMessage(m)
		} else {
			err = e.assistantMessage(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkAnswered checks that the calls of the last assistant turn have all got their results, as the
// API demands.
func (e *requestEncoder) checkAnswered() error {
	if e.calls.left > 0 {
		first := slices.IndexFunc(e.calls.all, func(c openCall) bool { return !c.answered })
		return llm.Invalid(e.calls.all[first].path, "the tool call has no result in the turn that follows")
	}
	e.calls = openCalls{}
	return nil
}

// oneMessage makes one of several assistant messages when they call tools: results must follow the
// message that called, and in the schemas that allow such runs they follow the last one.
func oneMessage(run []llm.Message) []llm.Message {
	calls := slices.ContainsFunc(run[:len(run)-1], func(m llm.Message) bool {
		return slices.ContainsFunc(m.Parts, func(p llm.Part) bool { _, ok := p.(llm.ToolCall); return ok })
	})
	if !calls {
		return run
	}
	one := llm.Message{Role: llm.Assistant, Name: run[0].Name}
	for _, m := range run {
		one.Parts, one.Paths = append(one.Parts, m.Parts...), append(one.Paths, m.Paths...)
	}
	return []llm.Message{one}
}

func (e *requestEncoder) systemMessage(m llm.Message) error {
	text, err := e.joined("messages[].content[]", m.Parts)
	if text != "" {
		e.out.Messages = append(e.out.Messages, message{Role: "system", Name: m.Name, Content: wirejson.Quote(text)})
	}
	return err
}

// assistantMessage joins the texts with nothing between them, as they were said. Thinking stays
// out, but where the provider wants it back and nobody else has signed it.
func (e *requestEncoder) assistantMessage(m llm.Message) error {
	out := message{Role: "assistant", Name: m.Name}
	var text, refusal, thought strings.Builder
	for i, p := range m.Parts {
		path := m.Paths[i]
		switch p := p.(type) {
		case llm.Text:
			text.WriteString(p.Text)
			e.unmark(path, p.Cache)
			e.drop(p.Signature != "", e.in.Spell(llm.MemberSignature))
		case llm.Refusal:
			refusal.WriteString(p.Text)
		case llm.ToolCall:
			e.call(path, &out, p)
		case llm.Thinking:
			if e.dialect.thinking && p.Origin == "" {
				thought.WriteString(p.Text)
			} else {
				e.drop(true, e.in.Spell(llm.MemberThoughts))
			}
		default:
			return llm.Invalid(path, "cannot stand in an assistant message of this provider")
		}
	}
	out.Refusal, out.ReasoningContent = refusal.String(), thought.String()
	out.Content = wirejson.Quote(text.String())
	if text.Len() == 0 && (len(out.ToolCalls) > 0 || out.Refusal != "") {
		out.Content = jsontext.Value("null")
	}
	e.out.Messages = append(e.out.Messages, out)
	return nil
}

func (e *requestEncoder) call(path string, out *message, c llm.ToolCall) {
	e.unmark(path, c.Cache)
	e.drop(c.Signature != "", e.in.Spell(llm.MemberSignature))
	arguments := c.Arguments
	if arguments == "" {
		arguments = "{}"
	}
	id := e.dialect.callID(c.ID)
	e.calls.add(id, path)
	out.ToolCalls = append(out.ToolCalls, toolCall{
		ID: id, Type: "function", Function: calledFunction{Name: e.toolName(c.Name), Arguments: arguments},
	})
}

// userTurn writes a run of user messages. Tool results come first, for they must follow the calls
// at once; images and files inside them, which a tool message cannot hold, move to the front of the
// first user message behind.
func (e *requestEncoder) userTurn(run []llm.Message) error {
	var moved []part
	for _, m := range run {
		for j, p := range m.Parts {
			r, ok := p.(llm.ToolResult)
			if !ok {
				continue
			}
			parts, err := e.result(m.Paths[j], r)
			if err != nil {
				return err
			}
			moved = append(moved, parts...)
		}
	}
	if err := e.checkAnswered(); err != nil {
		return err
	}
	for _, m := range run {
		parts, err := e.userParts(m)
		if err != nil {
			return err
		}
		if parts == nil && len(m.Parts) > 0 {
			continue // nothing but results
		}
		e.out.Messages = append(e.out.Messages, userMessage(m.Name, append(moved, parts...)))
		moved = nil
	}
	if moved != nil {
		e.out.Messages = append(e.out.Messages, userMessage("", moved))
	}
	return nil
}

// result writes one tool message and returns the parts that did not fit in.
func (e *requestEncoder) result(path string, r llm.ToolResult) (moved []part, err error) {
	id := e.dialect.callID(r.CallID)
	if !e.calls.answer(id) {
		return nil, llm.Invalid(path, "the result belongs to no tool call of the turn before")
	}
	e.unmark(path, r.Cache)
	var texts []string
	for i, p := range r.Parts {
		if t, ok := p.(llm.Text); ok {
			e.unmark(path+".content[]", t.Cache)
			texts = append(texts, t.Text)
			continue
		}
		p, err := e.userPart(fmt.Sprintf("%s.content[%d]", path, i), p)
		if err != nil {
			return nil, err
		}
		moved = append(moved, p)
	}
	text := strings.Join(texts, "\n")
	if r.IsError {
		text = strings.TrimSuffix("Error: "+text, ": ")
	}
	e.out.Messages = append(e.out.Messages, message{Role: "tool", Content: wirejson.Quote(text), ToolCallID: id})
	return moved, nil
}

// userParts writes what a user message holds beside tool results; nil when that is nothing.
func (e *requestEncoder) userParts(m llm.Message) ([]part, error) {
	var out []part
	for j, p := range m.Parts {
		if _, result := p.(llm.ToolResult); result {
			continue
		}
		p, err := e.userPart(m.Paths[j], p)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// userMessage holds a string where one text is all there is: older compatibles take nothing else.
func userMessage(name string, parts []part) message {
	m := message{Role: "user", Name: name}
	switch {
	case len(parts) == 0:
		m.Content = wirejson.Quote("")
	case len(parts) == 1 && parts[0].Text != nil:
		m.Content = wirejson.Quote(*parts[0].Text)
	default:
		m.Content, _ = json.Marshal(parts, wirejson.Writing) // strings and raw values only: cannot fail
	}
	return m
}

func (e *requestEncoder) userPart(path string, p llm.Part) (part, error) {
	switch p := p.(type) {
	case llm.Text:
		e.unmark(path, p.Cache)
		return part{Type: "text", Text: &p.Text}, nil
	case llm.Image:
		e.unmark(path, p.Cache)
		url := p.URL
		if p.Data != "" {
			url = wirejson.DataURL(imageType(p), p.Data)
		}
		return part{Type: "image_url", ImageURL: &imageURL{URL: url, Detail: p.Detail}}, nil
	case llm.File:
		e.unmark(path, p.Cache)
		e.drop(p.Name != "" && p.Text != "", e.in.Spell(llm.MemberTitle))
		return filePart(path, p)
	case llm.Audio:
		return part{Type: "input_audio", InputAudio: &inputAudio{Data: p.Data, Format: p.Format}}, nil
	}
	return part{}, llm.Invalid(path, "cannot stand in a user message of this provider")
}

// imageType trusts the bytes more than the label.
func imageType(i llm.Image) string {
	if kind := wirejson.MediaType(i.Data); strings.HasPrefix(kind, "image/") {
		return kind
	}
	return i.MediaType
}

// filePart says a document as a file part, or as text when that is what it is. A URL has no member
// here, and an id is worth something only to the provider that gave it: OpenAI's begin with
// "file-".
func filePart(path string, f llm.File) (part, error) {
	switch {
	case f.Text != "":
		return part{Type: "text", Text: &f.Text}, nil
	case f.Data != "":
		mediaType, name := f.MediaType, f.Name
		if mediaType == "" {
			mediaType = "application/octet-stream"
		}
		if name == "" && mediaType == wirejson.PDF {
			name = "document.pdf" // required by the API
		}
		return part{Type: "file", File: &file{Filename: name, FileData: wirejson.DataURL(mediaType, f.Data)}}, nil
	case strings.HasPrefix(f.ID, "file-"):
		return part{Type: "file", File: &file{FileID: f.ID}}, nil
	case f.URL != "":
		return part{}, llm.Invalid(path, "this provider takes documents inline only, not by URL")
	}
	return part{}, llm.Invalid(path, "this provider does not know the file id")
}

// refusedAtTop are the keywords that the schema of a function must not have at its top level:
// "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top
// level".
var refusedAtTop = []string{"oneOf", "anyOf", "allOf", "enum", "not"}

// toolRules: "array schema missing items".
var toolRules = jsonschema.Rules{Items: true}

func (e *requestEncoder) tools() error {
	if most := e.dialect.maxTools; most > 0 && len(e.in.Tools) > most {
		return llm.Invalid("tools", "this provider takes at most %d", most)
	}
	for i, t := range e.in.Tools {
		e.drop(t.Cache != nil, "tools[].cache_control")
		f, err := e.function(i, t)
		if err != nil {
			return err
		}
		e.out.Tools = append(e.out.Tools, tool{Type: "function", Function: f})
	}
	if len(e.in.Tools) > 0 { // "only allowed when 'tools' are specified"
		e.out.ParallelToolCalls = e.in.ParallelToolCalls
	}
	return nil
}

// function writes a tool. A schema that leaves anything open cannot be kept to strictly here; other
// schemas can do so.
func (e *requestEncoder) function(i int, t llm.Tool) (*function, error) {
	spec := e.in.Spell(llm.MemberToolSpec)
	strict := t.Strict != nil && *t.Strict
	parameters := jsontext.Value(t.Parameters)
	if strict && !wirejson.Given(parameters) {
		parameters = jsontext.Value(`{"type":"object","properties":{},"additionalProperties":false}`)
	}
	object, note, moved, err := jsonschema.Tool(parameters, refusedAtTop)
	var adapted jsonschema.Adapted
	if err == nil {
		adapted, err = jsonschema.Adapt(object, toolRules)
	}
	if err != nil {
		return nil, llm.Invalid(strings.Replace(spec, "[]", fmt.Sprintf("[%d]", i), 1), "%v", err)
	}
	for _, name := range moved {
		e.drop(true, spec+"."+name)
	}
	f := &function{Name: e.toolName(t.Name), Description: t.Description, Parameters: adapted.Schema, Strict: t.Strict}
	if note != "" {
		f.Description = strings.TrimPrefix(f.Description+"\n\n"+note, "\n\n")
	}
	if strict && !(adapted.Strict && e.dialect.strict) {
		f.Strict = nil
		e.drop(true, e.in.Spell(llm.MemberTool)+".strict")
	}
	return f, nil
}

var toolWords = map[llm.ToolMode]string{llm.ToolAuto: "auto", llm.ToolNone: "none", llm.ToolAny: "required"}

// toolChoice leaves out what needs no saying without tools, where the API allows no tool_choice at
// all.
func (e *requestEncoder) toolChoice() error {
	choice := e.in.ToolChoice
	forced := choice.Mode == llm.ToolNamed || choice.Mode == llm.ToolAny
	switch {
	case len(e.in.Tools) == 0 && forced:
		return llm.Invalid("tool_choice", "there are no tools to call")
	case len(e.in.Tools) == 0 || choice.Mode == "":
		return nil
	case choice.Mode == llm.ToolNamed:
		value := append([]byte(`{"type":"function","function":{"name":`), wirejson.Quote(e.toolName(choice.Name))...)
		e.out.ToolChoice = append(value, "}}"...)
	default:
		e.out.ToolChoice = wirejson.Quote(toolWords[choice.Mode])
	}
	return nil
}

func (e *requestEncoder) format() error {
	f := e.in.Format
	switch f.Kind {
	case llm.FormatJSONObject:
		e.out.ResponseFormat = &format{Type: "json_object"}
	case llm.FormatJSONSchema:
		name := f.Name
		if name == "" {
			name = "response" // required here, unknown to other schemas
		}
		name = e.dialect.name.Fit(name)
		e.out.ResponseFormat = &format{Type: "json_schema", JSONSchema: &jsonSchema{
			Name: name, Description: f.Description, Schema: jsontext.Value(f.Schema), Strict: f.Strict,
		}}
	}
	return nil
}

func (e *requestEncoder) stop() error {
	stops := slices.DeleteFunc(slices.Clone(e.in.Stop), func(s string) bool { return s == "" })
	if most := e.dialect.maxStops; most > 0 && len(stops) > most {
		return llm.Invalid(e.in.Spell(llm.MemberStop), "this provider takes at most %d", most)
	}
	if len(stops) > 0 {
		e.out.Stop, _ = json.Marshal(stops, wirejson.Writing) // strings: cannot fail
	}
	return nil
}

// limits chooses the member: models that reason refuse max_tokens, and many compatibles know
// nothing else.
func (e *requestEncoder) limits() {
	if e.dialect.newLimit && (e.model.reasons || e.model.chat) {
		e.out.MaxCompletionTokens = e.in.MaxTokens
	} else {
		e.out.MaxTokens = e.in.MaxTokens
	}
	if e.in.N > 0 {
		e.out.N = &e.in.N
	}
}

func (e *requestEncoder) reasoning() {
	r := e.in.Reasoning
	word := r.Effort
	switch {
	case word != "":
	case r.Disabled:
		word = "none"
	case r.Adaptive:
		word = "high"
	case r.Budget != nil:
		word = llm.EffortOf(*r.Budget)
	default:
		return
	}
	name := e.in.Spell(llm.MemberReasoning)
	effort := e.model.effort(word)
	switch {
	case effort == "":
		e.drop(true, name)
	case e.dialect.thinking:
		e.think(effort)
	case r.Disabled && r.Effort == "" && !e.model.reasons: // nothing to turn off; other servers may not know the word
	case e.model.plain:
		e.drop(effort != "none", name)
	default:
		e.drop(word == "none" && effort != "none", name) // it cannot be turned off
		e.out.ReasoningEffort = effort
	}
}

// think asks for reasoning in the words of DeepSeek, which has no efforts.
func (e *requestEncoder) think(effort string) {
	kind := "enabled"
	if effort == "none" {
		kind = "disabled"
	}
	e.out.Thinking = jsontext.Value(`{"type":"` + kind + `"}`)
}

// user shortens what other schemas let be longer. Equal ids stay equal.
func (e *requestEncoder) user() {
	e.out.User = e.in.User
	if most := e.dialect.maxUser; most > 0 && utf8.RuneCountInString(e.out.User) > most {
		e.out.User = llm.Digest(e.out.User)[:most]
	}
}

// tiers are OpenAI's own words; those of others (Anthropic's standard_only) have no equal here.
var tiers = []string{"auto", "default", "flex", "priority"}

func (e *requestEncoder) tier() {
	if slices.Contains(tiers, e.in.ServiceTier) {
		e.out.ServiceTier = e.in.ServiceTier
		return
	}
	e.drop(e.in.ServiceTier != "", "service_tier")
}

// extra writes what another schema of the family says in the same words.
func (e *requestEncoder) extra(said []llm.Extra) {
	if len(said) == 0 {
		return
	}
	e.out.Rest = jsontext.Value{'{'}
	for i, x := range said {
		if i > 0 {
			e.out.Rest = append(e.out.Rest, ',')
		}
		e.out.Rest = append(append(wirejson.AppendQuote(e.out.Rest, x.Name), ':'), x.Value...)
	}
	e.out.Rest = append(e.out.Rest, '}')
}

// stream asks for usage where the client wants it, or the dialect is known to take the wish: the
// gateway counts it.
func (e *requestEncoder) stream() {
	if !e.in.Stream {
		return
	}
	e.out.Stream = true
	if e.dialect.asksUsage || e.in.IncludeUsage && e.dialect.takes("stream_options") {
		e.out.StreamOptions = &streamOptions{IncludeUsage: true}
	}
}
