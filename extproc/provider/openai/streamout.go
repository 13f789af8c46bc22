package openai

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
)

// NewStreamEncoder implements llm.ClientCodec.
func (Chat) NewStreamEncoder(to llm.Asked) llm.StreamEncoder {
	return &streamEncoder{head: to.Head}
}

// streamEncoder writes chunks (https://platform.openai.com/docs/api-reference/chat-streaming). The
// finish reason is the last thing said of a choice and usage the last of all, whatever order the
// provider told them in, so both wait for Close.
//
// Reasoning goes out as reasoning_content. Once Anthropic has signed a piece of it, the whole piece
// follows as an entry of thinking_blocks: what a client collects there can be sent back as it is
// (DecodeRequest reads it).
type streamEncoder struct {
	head    llm.Head
	prefix  []byte // of every chunk, up to the value of choices
	suffix  string // behind it
	usage   llm.Usage
	choices []choiceOut
}

// choiceOut is what the encoder knows of one choice.
type choiceOut struct {
	opened   bool // the role chunk is out
	refused  bool // a piece of a refusal is out
	stop     llm.Stop
	thinking strings.Builder // of the piece that may still be signed
	tools    []toolOut
}

type toolOut struct {
	started bool
	spoke   bool // some argument bytes are out
}

// maxThinkingBytes bounds what is kept of a piece of reasoning until it is signed; a longer one
// goes out unsigned.
const maxThinkingBytes = 4 << 20

// Encode implements llm.StreamEncoder.
func (e *streamEncoder) Encode(dst []byte, ev llm.Event) []byte {
	if ev.Choice < 0 || ev.Choice >= maxChoices || ev.Tool < 0 || ev.Tool >= maxTools {
		return dst
	}
	switch ev.Kind {
	case llm.Ping:
		return append(dst, ": ping\n\n"...)
	case llm.Start:
		return e.start(dst, ev)
	case llm.UsageReport:
		e.report(ev.Usage)
		return dst
	case llm.End, llm.Failure:
		return dst
	}
	dst, c := e.open(dst, ev.Choice)
	switch ev.Kind {
	case llm.TextDelta:
		return e.text(dst, ev.Choice, `{"content":`, ev.Text)
	case llm.RefusalDelta:
		c.refused = c.refused || ev.Text != ""
		return e.text(dst, ev.Choice, `{"refusal":`, ev.Text)
	case llm.ThinkingDelta:
		if c.thinking.Len() <= maxThinkingBytes {
			c.thinking.WriteString(ev.Text)
		}
		return e.text(dst, ev.Choice, `{"reasoning_content":`, ev.Text)
	case llm.ThinkingSignature:
		return e.signature(dst, ev, c)
	case llm.ThinkingRedacted:
		return e.thinkingBlock(dst, ev.Choice, llm.Thinking{Redacted: ev.Text, Origin: ev.Origin})
	case llm.ToolStart:
		return e.toolStart(dst, ev, c)
	case llm.ToolDelta:
		return e.toolDelta(dst, ev, c)
	case llm.ToolEnd:
		return e.toolEnd(dst, ev.Choice, ev.Tool, c.tool(ev.Tool))
	case llm.Finish:
		c.stop = ev.Stop
	}
	return dst
}

// Close implements llm.StreamEncoder. A broken stream ends in an error that OpenAI's SDKs raise,
// and in nothing that could be taken for an end.
func (e *streamEncoder) Close(dst []byte, err *llm.Error) []byte {
	if err != nil {
		dst = append(dst, "data: "...)
		dst = append(dst, Chat{}.EncodeError(err)...)
		return append(dst, "\n\n"...)
	}
	dst, _ = e.open(dst, 0)
	for i := range e.choices {
		dst = e.finish(dst, i)
	}
	if e.head.IncludeUsage {
		dst = e.usageChunk(dst)
	}
	return append(dst, streamEnd...)
}

const streamEnd = "data: [DONE]\n\n"

// StreamEnd implements llm.ClientCodec.
func (Chat) StreamEnd() []byte { return []byte(streamEnd) }

// start makes the frame of all chunks and opens the first choice. A stream that begins without a
// Start gets a made-up id.
func (e *streamEncoder) start(dst []byte, ev llm.Event) []byte {
	if e.prefix != nil {
		return dst
	}
	model := ev.Model
	if model == "" {
		model = e.head.Model
	}
	p := append(e.prefix, `data: {"id":`...)
	p = append(p, wirejson.Quote(answerID(ev.ID))...)
	p = append(p, `,"object":"chat.completion.chunk","created":`...)
	p = strconv.AppendInt(p, createdAt(ev.Created), 10)
	p = append(p, `,"model":`...)
	p = append(p, wirejson.Quote(model)...)
	e.prefix = append(p, `,"choices":`...)
	e.suffix = "}\n\n"
	if e.head.IncludeUsage {
		e.suffix = `,"usage":null` + e.suffix
	}
	e.report(ev.Usage)
	dst, _ = e.open(dst, 0)
	return dst
}

func (e *streamEncoder) report(u *llm.Usage) {
	if u != nil {
		e.usage = *u
	}
}

// open sees to it that the choice's role chunk is out.
func (e *streamEncoder) open(dst []byte, number int) ([]byte, *choiceOut) {
	if e.prefix == nil {
		dst = e.start(dst, llm.Event{})
	}
	for len(e.choices) <= number {
		e.choices = append(e.choices, choiceOut{})
	}
	c := &e.choices[number]
	if !c.opened {
		c.opened = true
		dst = e.beginDelta(dst, number)
		dst = append(dst, `{"role":"assistant","content":""}`...)
		dst = e.endDelta(dst)
	}
	return dst, c
}

func (e *streamEncoder) beginDelta(dst []byte, choice int) []byte {
	dst = append(dst, e.prefix...)
	dst = append(dst, `[{"index":`...)
	dst = strconv.AppendInt(dst, int64(choice), 10)
	return append(dst, `,"delta":`...)
}

func (e *streamEncoder) endDelta(dst []byte) []byte {
	dst = append(dst, `,"logprobs":null,"finish_reason":null}]`...)
	return append(dst, e.suffix...)
}

// text writes a delta with one string member; name is the delta up to its value.
func (e *streamEncoder) text(dst []byte, choice int, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = e.beginDelta(dst, choice)
	dst = append(dst, name...)
	dst = wirejson.AppendQuote(dst, value)
	dst = append(dst, '}')
	return e.endDelta(dst)
}

func (e *streamEncoder) signature(dst []byte, ev llm.Event, c *choiceOut) []byte {
	text := c.thinking.String()
	c.thinking.Reset()
	if ev.Signature == "" || len(text) > maxThinkingBytes {
		return dst
	}
	return e.thinkingBlock(dst, ev.Choice, llm.Thinking{Text: text, Signature: ev.Signature, Origin: ev.Origin})
}

func (e *streamEncoder) thinkingBlock(dst []byte, choice int, t llm.Thinking) []byte {
	if t.Origin != ofThinkingBlocks {
		return dst
	}
	block, err := json.Marshal(blockOf(t), wirejson.Writing)
	if err != nil {
		return dst // strings only: cannot be
	}
	dst = e.beginDelta(dst, choice)
	dst = append(dst, `{"thinking_blocks":[`...)
	dst = append(dst, block...)
	dst = append(dst, `]}`...)
	return e.endDelta(dst)
}

func (c *choiceOut) tool(number int) *toolOut {
	for len(c.tools) <= number {
		c.tools = append(c.tools, toolOut{})
	}
	return &c.tools[number]
}

func (e *streamEncoder) beginTool(dst []byte, choice, tool int) []byte {
	dst = e.beginDelta(dst, choice)
	dst = append(dst, `{"tool_calls":[{"index":`...)
	return strconv.AppendInt(dst, int64(tool), 10)
}

func (e *streamEncoder) endTool(dst []byte) []byte {
	return e.endDelta(append(dst, "}]}"...))
}

func (e *streamEncoder) toolStart(dst []byte, ev llm.Event, c *choiceOut) []byte {
	c.tool(ev.Tool).started = true
	dst = e.beginTool(dst, ev.Choice, ev.Tool)
	dst = append(dst, `,"id":`...)
	dst = wirejson.AppendQuote(dst, ev.ID)
	dst = append(dst, `,"type":"function","function":{"name":`...)
	dst = wirejson.AppendQuote(dst, ev.Name)
	dst = append(dst, `,"arguments":""}`...)
	if ev.Signature != "" && ev.Origin == ofExtraContent {
		dst = append(dst, `,"extra_content":{"google":{"thought_signature":`...)
		dst = wirejson.AppendQuote(dst, ev.Signature)
		dst = append(dst, "}}"...)
	}
	return e.endTool(dst)
}

func (e *streamEncoder) toolDelta(dst []byte, ev llm.Event, c *choiceOut) []byte {
	if ev.Text == "" {
		return dst
	}
	c.tool(ev.Tool).spoke = true
	dst = e.beginTool(dst, ev.Choice, ev.Tool)
	dst = append(dst, `,"function":{"arguments":`...)
	dst = wirejson.AppendQuote(dst, ev.Text)
	dst = append(dst, '}')
	return e.endTool(dst)
}

// toolEnd gives a call without arguments the empty object: clients parse what they have collected.
func (e *streamEncoder) toolEnd(dst []byte, choice, number int, t *toolOut) []byte {
	if !t.started || t.spoke {
		return dst
	}
	t.spoke = true
	dst = e.beginTool(dst, choice, number)
	dst = append(dst, `,"function":{"arguments":"{}"}`...)
	return e.endTool(dst)
}

// finish ends a choice. Not every provider says when a call is over, so calls are looked at here
// again.
func (e *streamEncoder) finish(dst []byte, number int) []byte {
	c := &e.choices[number]
	if !c.opened {
		return dst
	}
	for i := range c.tools {
		dst = e.toolEnd(dst, number, i, &c.tools[i])
	}
	dst = e.beginDelta(dst, number)
	dst = append(dst, `{},"logprobs":null,"finish_reason":"`...)
	dst = append(dst, finishWord(c.stop, c.refused, len(c.tools) > 0)...)
	dst = append(dst, `"}]`...)
	return append(dst, e.suffix...)
}

func (e *streamEncoder) usageChunk(dst []byte) []byte {
	u, err := json.Marshal(usageForClient(e.usage), wirejson.Writing)
	if err != nil {
		return dst // numbers only: cannot be
	}
	dst = append(dst, e.prefix...)
	dst = append(dst, `[],"usage":`...)
	dst = append(dst, u...)
	return append(dst, "}\n\n"...)
}
