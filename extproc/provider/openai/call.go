package openai

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
)

// EncodeRequest implements llm.TargetCodec. What it writes holds for the real API and for strict compatibles: only
// published members, strings for content wherever there is nothing but text, tool results where OpenAI wants them.
func (Chat) EncodeRequest(r *llm.Request, o llm.Options) (llm.Call, error) {
	e := requestEncoder{in: r, out: request{
		Model:       o.Model,
		Temperature: number(r.Temperature), TopP: number(r.TopP),
		FrequencyPenalty: number(r.FrequencyPenalty), PresencePenalty: number(r.PresencePenalty), Seed: number(r.Seed),
		Logprobs: r.Logprobs, TopLogprobs: r.TopLogprobs,
		User: r.User,
	}}
	for _, step := range []func() error{e.system, e.messages, e.tools, e.toolChoice, e.format, e.stop} {
		if err := step(); err != nil {
			return llm.Call{}, err
		}
	}
	e.limits()
	e.reasoning()
	e.tier()
	e.stream()
	body, err := json.Marshal(&e.out, writing)
	if err != nil {
		return llm.Call{}, llm.Errorf(llm.ErrInternal, "encode request for openai: %v", err)
	}
	e.drop(r.TopK != "", "top_k")
	for _, name := range r.Unsaid {
		e.drop(true, name)
	}
	return llm.Call{Body: body, Path: chatPath, Dropped: e.dropped.List()}, nil
}

// requestEncoder takes one request from the neutral form to the wire's.
type requestEncoder struct {
	in      *llm.Request
	out     request
	dropped llm.Names
	calls   openCalls
}

// openCalls are the calls of the last assistant turn in their order, and which of them have no result yet.
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
	text, err := e.joined("system", e.in.System, "\n\n")
	if text != "" {
		e.out.Messages = append(e.out.Messages, message{Role: "system", Content: quote(text)})
	}
	return err
}

// joined makes one string of parts that can only be text.
func (e *requestEncoder) joined(path string, parts []llm.Part, separator string) (string, error) {
	var texts []string
	for i, p := range parts {
		t, ok := p.(llm.Text)
		if !ok {
			return "", llm.Invalid(fmt.Sprintf("%s[%d]", path, i), "only text can stand here")
		}
		e.drop(t.Cache != nil, cachePath(path))
		if t.Text != "" {
			texts = append(texts, t.Text)
		}
	}
	return strings.Join(texts, separator), nil
}

// cachePath is how the loss of a cache marker below path is reported.
func cachePath(path string) string {
	name, _, _ := strings.Cut(path, "[")
	return name + "[].cache_control"
}

func (e *requestEncoder) messages() error {
	in := e.in.Messages
	for i := 0; i < len(in); {
		n := runLength(in[i:])
		if err := e.turn(i, in[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return e.answered()
}

// runLength counts the messages at the front that are of one role.
func runLength(messages []llm.Message) int {
	n := 1
	for n < len(messages) && messages[n].Role == messages[0].Role {
		n++
	}
	return n
}

// turn writes a run of messages of one role, the first of which is number i.
func (e *requestEncoder) turn(i int, run []llm.Message) error {
	if run[0].Role == llm.User {
		return e.userTurn(i, run)
	}
	if err := e.answered(); err != nil {
		return err
	}
	if run[0].Role == llm.Assistant {
		run = oneMessage(run)
	}
	for k, m := range run {
		path := fmt.Sprintf("messages[%d]", i+k)
		var err error
		if m.Role == llm.System {
			err = e.systemMessage(path, m)
		} else {
			err = e.assistantMessage(path, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answered checks that the calls of the last assistant turn have all got their results, as the API demands.
func (e *requestEncoder) answered() error {
	if e.calls.left > 0 {
		first := slices.IndexFunc(e.calls.all, func(c openCall) bool { return !c.answered })
		return llm.Invalid(e.calls.all[first].path, "the tool call has no result in the turn that follows")
	}
	e.calls = openCalls{}
	return nil
}

// oneMessage makes one of several assistant messages when they call tools: results must follow the message that called,
// and in the schemas that allow such runs they follow the last one.
func oneMessage(run []llm.Message) []llm.Message {
	calls := slices.ContainsFunc(run[:len(run)-1], func(m llm.Message) bool {
		return slices.ContainsFunc(m.Parts, func(p llm.Part) bool { _, ok := p.(llm.ToolCall); return ok })
	})
	if !calls {
		return run
	}
	one := llm.Message{Role: llm.Assistant, Name: run[0].Name}
	for _, m := range run {
		one.Parts = append(one.Parts, m.Parts...)
	}
	return []llm.Message{one}
}

func (e *requestEncoder) systemMessage(path string, m llm.Message) error {
	text, err := e.joined(path+".content", m.Parts, "\n\n")
	if text != "" {
		e.out.Messages = append(e.out.Messages, message{Role: "system", Name: m.Name, Content: quote(text)})
	}
	return err
}

// assistantMessage joins the texts with nothing between them, as they were said. Thinking stays out: no published member
// takes it, and it is of use only to the provider it is from.
func (e *requestEncoder) assistantMessage(path string, m llm.Message) error {
	out := message{Role: "assistant", Name: m.Name}
	var text, refusal strings.Builder
	for i, p := range m.Parts {
		switch p := p.(type) {
		case llm.Text:
			text.WriteString(p.Text)
			e.drop(p.Cache != nil, cachePath(path))
		case llm.Refusal:
			refusal.WriteString(p.Text)
		case llm.ToolCall:
			e.call(path, &out, p)
		case llm.Thinking:
			e.drop(true, "messages[].thinking")
		default:
			return llm.Invalid(fmt.Sprintf("%s.content[%d]", path, i), "cannot stand in an assistant message of this provider")
		}
	}
	out.Refusal = refusal.String()
	out.Content = quote(text.String())
	if text.Len() == 0 && (len(out.ToolCalls) > 0 || out.Refusal != "") {
		out.Content = jsontext.Value("null")
	}
	e.out.Messages = append(e.out.Messages, out)
	return nil
}

func (e *requestEncoder) call(path string, out *message, c llm.ToolCall) {
	e.drop(c.Cache != nil, cachePath(path))
	e.drop(c.Signature != "", "messages[].tool_calls[].extra_content")
	arguments := c.Arguments
	if arguments == "" {
		arguments = "{}"
	}
	id := callID(c.ID)
	e.calls.add(id, fmt.Sprintf("%s.tool_calls[%d]", path, len(out.ToolCalls)))
	out.ToolCalls = append(out.ToolCalls, toolCall{
		ID: id, Type: "function", Function: calledFunction{Name: c.Name, Arguments: arguments},
	})
}

// maxCallID is the longest tool call id that the API takes back ("string too long. Expected a string with maximum length
// 40", seen in its 400s; not on its pages). Other providers' ids are longer.
const maxCallID = 40

// callID shortens an id that would be refused. Equal ids stay equal, so results keep their calls.
func callID(id string) string {
	if len(id) <= maxCallID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "call_" + hex.EncodeToString(sum[:16])
}

// userTurn writes a run of user messages. Tool results come first, for they must follow the calls at once; images and files
// inside them, which a tool message cannot hold, move to the front of the first user message behind.
func (e *requestEncoder) userTurn(i int, run []llm.Message) error {
	var moved []part
	for k, m := range run {
		for j, p := range m.Parts {
			r, ok := p.(llm.ToolResult)
			if !ok {
				continue
			}
			parts, err := e.result(fmt.Sprintf("messages[%d].content[%d]", i+k, j), r)
			if err != nil {
				return err
			}
			moved = append(moved, parts...)
		}
	}
	if err := e.answered(); err != nil {
		return err
	}
	for k, m := range run {
		parts, err := e.userParts(fmt.Sprintf("messages[%d]", i+k), m.Parts)
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
	id := callID(r.CallID)
	if !e.calls.answer(id) {
		return nil, llm.Invalid(path, "the result belongs to no tool call of the turn before")
	}
	e.drop(r.Cache != nil, cachePath(path))
	var texts []string
	for i, p := range r.Parts {
		if t, ok := p.(llm.Text); ok {
			e.drop(t.Cache != nil, cachePath(path))
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
	e.out.Messages = append(e.out.Messages, message{Role: "tool", Content: quote(text), ToolCallID: id})
	return moved, nil
}

// userParts writes what a user message holds beside tool results; nil when that is nothing.
func (e *requestEncoder) userParts(path string, in []llm.Part) ([]part, error) {
	var out []part
	for j, p := range in {
		if _, result := p.(llm.ToolResult); result {
			continue
		}
		p, err := e.userPart(fmt.Sprintf("%s.content[%d]", path, j), p)
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
		m.Content = quote("")
	case len(parts) == 1 && parts[0].Text != nil:
		m.Content = quote(*parts[0].Text)
	default:
		m.Content, _ = json.Marshal(parts, writing) // strings and raw values only: cannot fail
	}
	return m
}

func (e *requestEncoder) userPart(path string, p llm.Part) (part, error) {
	switch p := p.(type) {
	case llm.Text:
		e.drop(p.Cache != nil, cachePath(path))
		return part{Type: "text", Text: &p.Text}, nil
	case llm.Image:
		e.drop(p.Cache != nil, cachePath(path))
		url := p.URL
		if p.Data != "" {
			url = "data:" + imageType(p) + ";base64," + p.Data
		}
		return part{Type: "image_url", ImageURL: &imageURL{URL: url, Detail: p.Detail}}, nil
	case llm.File:
		e.drop(p.Cache != nil, cachePath(path))
		e.drop(p.Name != "" && p.Text != "", "messages[].content[].title")
		return filePart(path, p)
	case llm.Audio:
		return part{Type: "input_audio", InputAudio: &inputAudio{Data: p.Data, Format: p.Format}}, nil
	}
	return part{}, llm.Invalid(path, "cannot stand in a user message of this provider")
}

// imageMagic is how the images that the API takes begin, in base64.
var imageMagic = []struct{ prefix, mediaType string }{
	{"iVBORw0KGgo", "image/png"}, {"/9j/", "image/jpeg"}, {"R0lGOD", "image/gif"}, {"UklGR", "image/webp"},
}

// imageType trusts the bytes more than the label.
func imageType(i llm.Image) string {
	for _, m := range imageMagic {
		if strings.HasPrefix(i.Data, m.prefix) {
			return m.mediaType
		}
	}
	return i.MediaType
}

// filePart says a document as a file part, or as text when that is what it is. A URL has no member here, and an id is worth
// something only to the provider that gave it: OpenAI's begin with "file-".
func filePart(path string, f llm.File) (part, error) {
	switch {
	case f.Text != "":
		return part{Type: "text", Text: &f.Text}, nil
	case f.Data != "":
		mediaType, name := f.MediaType, f.Name
		if mediaType == "" {
			mediaType = "application/octet-stream"
		}
		if name == "" && mediaType == "application/pdf" {
			name = "document.pdf" // required by the API
		}
		return part{Type: "file", File: &file{Filename: name, FileData: "data:" + mediaType + ";base64," + f.Data}}, nil
	case strings.HasPrefix(f.ID, "file-"):
		return part{Type: "file", File: &file{FileID: f.ID}}, nil
	case f.URL != "":
		return part{}, llm.Invalid(path, "this provider takes documents inline only, not by URL")
	}
	return part{}, llm.Invalid(path, "this provider does not know the file id")
}

func (e *requestEncoder) tools() error {
	for _, t := range e.in.Tools {
		e.drop(t.Cache != nil, "tools[].cache_control")
		e.out.Tools = append(e.out.Tools, tool{Type: "function", Function: &function{
			Name: t.Name, Description: t.Description, Parameters: jsontext.Value(t.Parameters), Strict: t.Strict,
		}})
	}
	if len(e.in.Tools) > 0 { // "only allowed when 'tools' are specified"
		e.out.ParallelToolCalls = e.in.ParallelToolCalls
	}
	return nil
}

var toolWords = map[llm.ToolMode]string{llm.ToolAuto: "auto", llm.ToolNone: "none", llm.ToolAny: "required"}

// toolChoice leaves out what needs no saying without tools, where the API allows no tool_choice at all.
func (e *requestEncoder) toolChoice() error {
	choice := e.in.ToolChoice
	forced := choice.Mode == llm.ToolNamed || choice.Mode == llm.ToolAny
	switch {
	case len(e.in.Tools) == 0 && forced:
		return llm.Invalid("tool_choice", "there are no tools to call")
	case len(e.in.Tools) == 0 || choice.Mode == "":
		return nil
	case choice.Mode == llm.ToolNamed:
		value := append([]byte(`{"type":"function","function":{"name":`), quote(choice.Name)...)
		e.out.ToolChoice = append(value, "}}"...)
	default:
		e.out.ToolChoice = quote(toolWords[choice.Mode])
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
		e.out.ResponseFormat = &format{Type: "json_schema", JSONSchema: &jsonSchema{
			Name: name, Description: f.Description, Schema: jsontext.Value(f.Schema), Strict: f.Strict,
		}}
	}
	return nil
}

// maxStops is how many stop sequences the API takes.
const maxStops = 4

func (e *requestEncoder) stop() error {
	stops := slices.DeleteFunc(slices.Clone(e.in.Stop), func(s string) bool { return s == "" })
	if len(stops) > maxStops {
		return llm.Invalid("stop_sequences", "this provider takes at most %d", maxStops)
	}
	if len(stops) > 0 {
		e.out.Stop, _ = json.Marshal(stops, writing) // strings: cannot fail
	}
	return nil
}

// limits chooses the member: reasoning models refuse max_tokens, and many compatibles know nothing else.
func (e *requestEncoder) limits() {
	if reasons(e.out.Model) {
		e.out.MaxCompletionTokens = e.in.MaxTokens
	} else {
		e.out.MaxTokens = e.in.MaxTokens
	}
	if e.in.N > 0 {
		e.out.N = &e.in.N
	}
}

// efforts are the words that models take; none takes them all. max is said as the strongest word that each of them takes.
var efforts = map[string]string{
	"none": "none", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "high",
}

func (e *requestEncoder) reasoning() {
	r := e.in.Reasoning
	word, known := efforts[r.Effort]
	switch {
	case r.Effort != "" && !known:
		e.drop(true, "reasoning_effort")
	case r.Effort != "":
	case r.Disabled:
		return
	case r.Adaptive:
		word = "high"
	case r.Budget != nil:
		word = effortOf(*r.Budget)
	}
	if word != "" && neverReasons(e.out.Model) {
		e.drop(true, "thinking")
		return
	}
	e.out.ReasoningEffort = word
}

// effortOf says a budget of thinking tokens as a word.
func effortOf(budget int64) string {
	switch {
	case budget < 4096:
		return "low"
	case budget < 16384:
		return "medium"
	default:
		return "high"
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

// stream always asks for usage: the gateway counts it, whether the client wants it or not.
func (e *requestEncoder) stream() {
	if e.in.Stream {
		e.out.Stream = true
		e.out.StreamOptions = &streamOptions{IncludeUsage: true}
	}
}

// reasons tells OpenAI's reasoning models by name: o1, o3, o4-mini, ..., gpt-5 and later, also behind a router's prefix
// ("openai/gpt-5"). https://platform.openai.com/docs/guides/reasoning
func reasons(model string) bool {
	name := bareModel(model)
	if after, ok := strings.CutPrefix(name, "gpt-"); ok {
		return generation(after) >= 5
	}
	after, ok := strings.CutPrefix(name, "o")
	return ok && generation(after) >= 1
}

// neverReasons tells the models that answer reasoning_effort with a 400.
func neverReasons(model string) bool {
	name := bareModel(model)
	after, ok := strings.CutPrefix(name, "gpt-")
	return ok && generation(after) >= 1 && generation(after) < 5 || strings.HasPrefix(name, "chatgpt-4o")
}

func bareModel(model string) string {
	return strings.ToLower(model[strings.LastIndexByte(model, '/')+1:])
}

// generation reads the number that a name begins with; 0 when there is none, or it does not end there ("4o" is 4, "20b" 0).
func generation(name string) int {
	digits := len(name) - len(strings.TrimLeft(name, "0123456789"))
	n, err := strconv.Atoi(name[:digits])
	if err != nil || strings.HasPrefix(name[digits:], "b") {
		return 0
	}
	return n
}
