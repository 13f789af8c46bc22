package openai

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/sse"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// A chunk of a provider's stream, as far as it is read.
// https://platform.openai.com/docs/api-reference/chat-streaming
type chunk struct {
	Object  errorMark             `json:"object"`
	Choices []chunkChoice         `json:"choices"`
	Usage   wirejson.Loose[usage] `json:"usage"`
	Error   jsontext.Value        `json:"error"`
}

// firstChunk also holds what every chunk repeats and is needed once: not reading it again saves two
// strings per chunk.
type firstChunk struct {
	ID      wirejson.Text  `json:"id"`
	Model   wirejson.Text  `json:"model"`
	Created wirejson.Count `json:"created"`
	Message jsontext.Value `json:"message"` // of an error that is all there is
	Detail  jsontext.Value `json:"detail"`
	chunk
}

type chunkChoice struct {
	Index        wirejson.Count `json:"index"`
	Delta        delta          `json:"delta"`
	FinishReason wirejson.Text  `json:"finish_reason"`
}

type delta struct {
	Content          said                            `json:"content"`
	Refusal          wirejson.Text                   `json:"refusal"`
	ReasoningContent wirejson.Text                   `json:"reasoning_content"`
	Reasoning        wirejson.Text                   `json:"reasoning"`
	ThinkingBlocks   wirejson.Loose[[]thinkingBlock] `json:"thinking_blocks"`
	ToolCalls        []toolDelta                     `json:"tool_calls"`
}

type toolDelta struct {
	Index        wirejson.Place               `json:"index"`
	ID           wirejson.Text                `json:"id"`
	Function     completeFunc                 `json:"function"`
	ExtraContent wirejson.Loose[extraContent] `json:"extra_content"`
}

// Bounds of what one answer may make the decoder hold.
const (
	maxFrameBytes   = 8 << 20
	maxPendingBytes = 8 << 20 // of a tool call whose name has not come
	maxChoices      = 128     // the API's own bound of n
	maxTools        = 1024
)

// Stream implements llm.AnswerReader.
func (r answerReader) Stream() llm.StreamDecoder {
	d := &streamDecoder{head: r.head, sse: sse.Parser{MaxBytes: maxFrameBytes}}
	d.head.Choices = min(d.head.Choices, maxChoices)
	d.yield = d.frame
	return d
}

// streamDecoder reads one stream. Between calls it holds the parser's unfinished frame and a few
// words per tool call.
type streamDecoder struct {
	head  llm.Head
	sse   sse.Parser
	yield func(sse.Event)

	started bool  // Start has been told
	over    bool  // End or Failure has been told: what follows is passed on unread
	own     bool  // the frame at hand is the provider's own error event
	denying []int // its choices that end in stop though they called tools
	ids     callIDs
	choices []choiceIn

	// What the last call told, and the room that the next one uses again.
	raw    []byte
	events []llm.Event
	frames []llm.Frame
	first  firstChunk
	next   chunk
}

// choiceIn is what the decoder knows of one choice.
type choiceIn struct {
	seen     bool
	finished bool
	refused  bool // a piece of a refusal has come
	tools    []toolIn
	byIndex  map[wirejson.Count]int // the last call of each index, as a place in tools
	byID     map[string]int         // the first call of each id
}

// toolIn is one tool call: how the provider refers to it, and, until its name has come, what waits
// for the ToolStart.
type toolIn struct {
	id      string
	started bool
	pending []byte
}

func (d *streamDecoder) reset() {
	clear(d.events)
	d.raw, d.events, d.frames = d.raw[:0], d.events[:0], d.frames[:0]
}

// Push implements llm.StreamDecoder.
func (d *streamDecoder) Push(chunk []byte) ([]llm.Frame, error) {
	d.reset()
	if err := d.sse.Push(chunk, d.yield); err != nil {
		return d.frames, fmt.Errorf("openai stream: %w", err)
	}
	return d.frames, nil
}

// Close implements llm.StreamDecoder. Some compatibles never send [DONE]: when every choice has
// said why it stopped, the answer is whole, and the end of the bytes is its End.
func (d *streamDecoder) Close() []llm.Frame {
	d.reset()
	d.sse.Close(d.yield)
	if !d.over && d.complete() {
		d.over = true
		from := len(d.events)
		d.emit(llm.Event{Kind: llm.End})
		d.frames = append(d.frames, llm.Frame{Events: d.events[from:]})
	}
	return d.frames
}

func (d *streamDecoder) complete() bool {
	for _, c := range d.choices {
		if c.seen && !c.finished {
			return false
		}
	}
	return len(d.choices) > 0
}

// Complete implements llm.StreamDecoder. Answers that were asked for side by side may come one
// after another.
func (d *streamDecoder) Complete() bool { return len(d.choices) >= d.head.Choices && d.complete() }

// frame copies the event's bytes, which the parser is going to use again, and reads it.
func (d *streamDecoder) frame(e sse.Event) {
	raw, events := len(d.raw), len(d.events)
	d.raw = append(d.raw, e.Raw...)
	injected := false
	d.own, d.denying = false, d.denying[:0]
	if !d.over {
		injected = d.read(e)
	}
	if len(d.denying) > 0 {
		d.raw = append(d.raw[:raw], d.putRight(d.raw[raw:], bytes.TrimSpace(e.Data))...)
	}
	d.frames = append(d.frames, llm.Frame{
		Raw: d.raw[raw:len(d.raw):len(d.raw)], Events: d.events[events:len(d.events):len(d.events)], Injected: injected, OwnError: d.own,
	})
}

// putRight is the frame's bytes with the finish_reason that goes with tool calls. Data in several
// lines stays as it is.
func (d *streamDecoder) putRight(raw, data []byte) []byte {
	at := bytes.Index(raw, data)
	if at < 0 {
		return raw
	}
	right := data
	for _, i := range d.denying {
		right = strictjson.ReplaceAt(right, finishTools, "choices", i, "finish_reason")
	}
	return slices.Concat(raw[:at], right, raw[at+len(data):])
}

func (d *streamDecoder) emit(e llm.Event) { d.events = append(d.events, e) }

func (d *streamDecoder) fail(err *llm.Error) {
	d.over = true
	d.emit(llm.Event{Kind: llm.Failure, Err: err})
}

// failed is fail with what the provider said.
func (d *streamDecoder) failed(data []byte) {
	d.own = Chat{}.IsError(data)
	d.fail(insideError(data))
}

var done = []byte("[DONE]")

// read tells what an event means, and whether it is there only because the gateway asked for usage.
func (d *streamDecoder) read(e sse.Event) (injected bool) {
	data := bytes.TrimSpace(e.Data)
	switch {
	case e.Data == nil && bytes.IndexByte(e.Raw, ':') >= 0: // a comment, such as OpenRouter's ": OPENROUTER PROCESSING"
		d.emit(llm.Event{Kind: llm.Ping})
	case len(data) == 0:
	case bytes.Equal(data, done):
		d.over = true
		d.emit(llm.Event{Kind: llm.End})
	case string(e.Name) == "error":
		d.failed(data)
	default:
		return d.chunk(data)
	}
	return false
}

func (d *streamDecoder) chunk(data []byte) (injected bool) {
	c, err := d.parse(data)
	bare := !d.started && len(c.Choices) == 0 && (wirejson.Given(d.first.Message) || wirejson.Given(d.first.Detail))
	switch {
	case wirejson.Given(c.Error) || bool(c.Object) || bare:
		d.failed(data)
		return false
	case err != nil:
		if said, ok := parseError(data); ok && said.Message != "" { // Google's, in an array
			d.failed(data)
			return false
		}
		d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds something that is not a chat completion chunk"))
		return false
	}
	d.start(c)
	for i := range c.Choices {
		d.choice(&c.Choices[i])
		if d.over {
			return false
		}
		if c.Choices[i].FinishReason == finishStop && len(d.choices[c.Choices[i].Index].tools) > 0 {
			d.denying = append(d.denying, i)
		}
	}
	if !c.Usage.OK {
		return false
	}
	u := c.Usage.Value.neutral()
	d.emit(llm.Event{Kind: llm.UsageReport, Usage: &u})
	return len(c.Choices) == 0 && !d.head.IncludeUsage
}

// parse reads a chunk into the decoder's own room.
func (d *streamDecoder) parse(data []byte) (*chunk, error) {
	if !d.started {
		d.first = firstChunk{}
		err := json.Unmarshal(data, &d.first, wirejson.Lenient)
		return &d.first.chunk, err
	}
	d.next = chunk{Choices: d.next.Choices[:0]}
	err := json.Unmarshal(data, &d.next, wirejson.Lenient)
	return &d.next, err
}

// start tells Start with the first chunk that names the answer. Azure sends one before it, with the
// prompt's filter results and empty names.
func (d *streamDecoder) start(c *chunk) {
	if d.started || d.first.ID == "" && len(c.Choices) == 0 {
		return
	}
	d.started = true
	d.ids = newCallIDs(string(d.first.ID))
	d.emit(llm.Event{
		Kind: llm.Start, ID: string(d.first.ID), Model: string(d.first.Model), Created: int64(d.first.Created),
	})
}

func (d *streamDecoder) choice(c *chunkChoice) {
	number := int(c.Index)
	if number >= maxChoices {
		d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds choice %d", number))
		return
	}
	for len(d.choices) <= number {
		d.choices = append(d.choices, choiceIn{})
	}
	state := &d.choices[number]
	state.seen = true
	state.refused = state.refused || c.Delta.Refusal != ""
	d.texts(number, &c.Delta)
	for i := range c.Delta.ToolCalls {
		d.tool(number, state, &c.Delta.ToolCalls[i])
		if d.over {
			return
		}
	}
	if c.FinishReason != "" && !state.finished {
		d.finish(number, state, string(c.FinishReason))
	}
}

func (d *streamDecoder) texts(choice int, m *delta) {
	thinking := string(m.ReasoningContent)
	if thinking == "" {
		thinking = string(m.Reasoning)
	}
	d.text(llm.ThinkingDelta, choice, m.Content.thinking)
	d.text(llm.ThinkingDelta, choice, thinking)
	for _, b := range m.ThinkingBlocks.Value { // their text has come as reasoning_content
		switch {
		case b.Data != "":
			d.emit(llm.Event{Kind: llm.ThinkingRedacted, Choice: choice, Text: b.Data, Origin: ofThinkingBlocks})
		case b.Signature != "":
			d.emit(llm.Event{Kind: llm.ThinkingSignature, Choice: choice, Signature: b.Signature, Origin: ofThinkingBlocks})
		}
	}
	d.text(llm.TextDelta, choice, m.Content.text)
	d.text(llm.RefusalDelta, choice, string(m.Refusal))
}

func (d *streamDecoder) text(kind llm.EventKind, choice int, s string) {
	if s != "" {
		d.emit(llm.Event{Kind: kind, Choice: choice, Text: s})
	}
}

// tool reads a piece of a tool call. A call starts once its name is known; OpenAI sends that first,
// others may not.
func (d *streamDecoder) tool(choice int, state *choiceIn, t *toolDelta) {
	number := state.find(t)
	if number < 0 {
		number = len(state.tools)
		if number == maxTools {
			d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds more than %d tool calls", maxTools))
			return
		}
		state.begin(t)
	}
	call := &state.tools[number]
	if call.id == "" {
		state.name(number, string(t.ID))
	}
	arguments := string(t.Function.Arguments)
	if !call.started && t.Function.Name == "" {
		if len(call.pending)+len(arguments) > maxPendingBytes {
			d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds a tool call of more than %d bytes without a name", maxPendingBytes))
			return
		}
		call.pending = append(call.pending, arguments...)
		return
	}
	if !call.started {
		call.started = true
		id := call.id
		if id == "" {
			id = d.ids.id(choice, number)
		}
		start := llm.Event{Kind: llm.ToolStart, Choice: choice, Tool: number, ID: id, Name: string(t.Function.Name)}
		start.Signature, start.Origin = t.ExtraContent.Value.signature()
		d.emit(start)
		arguments, call.pending = string(call.pending)+arguments, nil
	}
	if arguments != "" {
		d.emit(llm.Event{Kind: llm.ToolDelta, Choice: choice, Tool: number, Text: arguments})
	}
}

// find tells which call a piece belongs to, -1 for a new one. The index decides, unless id and name
// are both new: some compatibles number every call 0 (Gemini's endpoint, proxies). A new id alone
// does not count, for others make one up per chunk. Without an index it is the id; a piece that has
// neither, nor a name, continues the last call.
func (c *choiceIn) find(t *toolDelta) int {
	id, named := string(t.ID), t.Function.Name != ""
	if t.Index.Known {
		i, ok := c.byIndex[t.Index.Count]
		switch {
		case !ok:
			return -1
		case named && c.tools[i].started && id != "" && c.tools[i].id != "" && id != c.tools[i].id:
			return c.ofID(id)
		}
		return i
	}
	if i := c.ofID(id); i >= 0 || named {
		return i
	}
	return len(c.tools) - 1
}

func (c *choiceIn) ofID(id string) int {
	if i, ok := c.byID[id]; ok {
		return i
	}
	return -1
}

// begin adds a call that t is the first piece of.
func (c *choiceIn) begin(t *toolDelta) {
	if c.byIndex == nil {
		c.byIndex, c.byID = map[wirejson.Count]int{}, map[string]int{}
	}
	if t.Index.Known {
		c.byIndex[t.Index.Count] = len(c.tools)
	}
	c.tools = append(c.tools, toolIn{})
}

// name gives a call the id by which its provider refers to it; "" is none.
func (c *choiceIn) name(number int, id string) {
	c.tools[number].id = id
	if first, ok := c.byID[id]; id != "" && (!ok || number < first) {
		c.byID[id] = number
	}
}

func (d *streamDecoder) finish(choice int, state *choiceIn, reason string) {
	for i := range state.tools {
		if !state.tools[i].started {
			d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds a tool call without a name"))
			return
		}
	}
	if reason == finishFailed {
		d.fail(llm.Errorf(llm.ErrBadGateway, "the provider broke the answer off"))
		return
	}
	state.finished = true
	d.emit(llm.Event{Kind: llm.Finish, Choice: choice, Stop: stopOf(reason, len(state.tools) > 0, state.refused)})
}
