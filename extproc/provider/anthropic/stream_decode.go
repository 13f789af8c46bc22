package anthropic

import (
	"bytes"
	"fmt"

	"millrace/extproc/llm"
	"millrace/internal/errorbody"
	"millrace/internal/sse"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"

	"github.com/go-json-experiment/json/jsontext"
)

// maxEventBytes bounds one event of a provider's stream: room for the longest tool arguments sent
// whole.
const maxEventBytes = 8 << 20

// maxOpenCalls bounds how many tool calls the decoder keeps apart at a time. The API sends one
// after another.
const maxOpenCalls = 1024

// Stream reads the API's stream. https://docs.anthropic.com/en/docs/build-with-claude/streaming
func (answerReader) Stream() llm.StreamDecoder {
	return &streamDecoder{parser: sse.Parser{MaxBytes: maxEventBytes}}
}

// streamDecoder turns each event of the provider into a frame. What a call returns lives in buffers
// that the next call overwrites.
type streamDecoder struct {
	parser sse.Parser
	reader objectReader
	text   []byte // scratch for names in quotes

	raw    []byte
	events []llm.Event
	marks  []mark
	frames []llm.Frame

	calls  map[int64]int // tool calls that may still get deltas: the index of the content block → the call's number
	tools  int           // tool calls begun so far
	counts counts
	over   bool // the terminal event has been seen
	done   bool // the answer has said why it stopped
	denies bool // the event at hand says end_turn though there were calls
}

// mark is a frame whose slices are not cut yet: raw and events may still move while the chunk is
// read.
type mark struct {
	rawEnd, eventsEnd int
	own               bool // the provider's own error event
}

type blockKind uint8

const (
	textKind blockKind = iota
	thinkingKind
	toolKind
	redactedKind
)

// Push implements llm.StreamDecoder.
func (d *streamDecoder) Push(chunk []byte) ([]llm.Frame, error) {
	d.reset()
	err := d.parser.Push(chunk, d.take)
	return d.cut(), err
}

// Close implements llm.StreamDecoder. An answer that has said why it stopped is whole, message_stop
// or not.
func (d *streamDecoder) Close() []llm.Frame {
	d.reset()
	d.parser.Close(d.take)
	if !d.over && d.done {
		d.over = true
		d.add(llm.Event{Kind: llm.End})
		d.marks = append(d.marks, mark{len(d.raw), len(d.events), false})
	}
	return d.cut()
}

// Complete implements llm.StreamDecoder.
func (d *streamDecoder) Complete() bool { return d.done }

func (d *streamDecoder) reset() {
	clear(d.events) // the strings of the last call are not held on to
	d.raw, d.events, d.marks, d.frames = d.raw[:0], d.events[:0], d.marks[:0], d.frames[:0]
}

func (d *streamDecoder) cut() []llm.Frame {
	var from mark
	for _, to := range d.marks {
		d.frames = append(d.frames, llm.Frame{
			Raw:    d.raw[from.rawEnd:to.rawEnd:to.rawEnd],
			Events: d.events[from.eventsEnd:to.eventsEnd:to.eventsEnd],

			OwnError: to.own,
		})
		from = to
	}
	return d.frames
}

// take reads one event of the provider. Events behind the terminal one pass without a meaning.
func (d *streamDecoder) take(e sse.Event) {
	d.raw = append(d.raw, e.Raw...)
	own := false
	if e.Data != nil && !d.over {
		own = d.read(e)
		d.putRight(e)
	}
	d.marks = append(d.marks, mark{len(d.raw), len(d.events), own})
}

// putRight gives the event that was read last the stop_reason that goes with tool calls. Data in
// several lines stays as it is.
func (d *streamDecoder) putRight(e sse.Event) {
	begin := len(d.raw) - len(e.Raw)
	at := bytes.Index(e.Raw, e.Data)
	if !d.denies || at < 0 {
		return
	}
	d.denies = false
	d.raw = append(d.raw[:begin+at], strictjson.ReplaceAt(e.Data, toolUse, "delta", "stop_reason")...)
	d.raw = append(d.raw, e.Raw[at+len(e.Data):]...)
}

func (d *streamDecoder) add(e llm.Event) { d.events = append(d.events, e) }

// fail ends the stream.
func (d *streamDecoder) fail(err *llm.Error) {
	d.over = true
	d.add(llm.Event{Kind: llm.Failure, Err: err})
}

// failed is fail with what the provider said, and tells whether a client of this schema reads it:
// SDKs go by the event's name.
func (d *streamDecoder) failed(e sse.Event) (own bool) {
	d.fail(failure(errorbody.Read(e.Data)))
	return string(e.Name) == "error" && Messages{}.IsError(e.Data)
}

// envelope are the members of the API's events, as they stand in the event's data.
type envelope struct {
	kind, index, delta, block, message, usage, err jsontext.Value
}

// read tells what an event means, and whether it is the provider's own error.
func (d *streamDecoder) read(e sse.Event) (own bool) {
	var in envelope
	err := d.reader.read(e.Data, func(name, value jsontext.Value) {
		switch string(name) {
		case `"type"`:
			in.kind = value
		case `"index"`:
			in.index = value
		case `"delta"`:
			in.delta = value
		case `"content_block"`:
			in.block = value
		case `"message"`:
			in.message = value
		case `"usage"`:
			in.usage = value
		case `"error"`:
			in.err = value
		}
	})
	if err != nil {
		d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds an event that is not JSON"))
		return false
	}
	kind := e.Name
	if in.kind != nil {
		kind = d.word(in.kind)
	}
	index, _ := integer(in.index)
	switch string(kind) {
	case "content_block_delta":
		d.blockDelta(index, in.delta)
	case "content_block_start":
		d.blockStart(index, in.block)
	case "content_block_stop":
		d.blockStop(index)
	case "message_start":
		d.messageStart(in.message)
	case "message_delta":
		d.messageDelta(in)
	case "message_stop":
		d.over = true
		d.add(llm.Event{Kind: llm.End})
	case "ping":
		d.add(llm.Event{Kind: llm.Ping})
	case "error":
		return d.failed(e)
	default:
		if in.err.Kind() == '{' {
			return d.failed(e)
		}
	}
	return false
}

// word unquotes a short string into scratch: it lives until the next call.
func (d *streamDecoder) word(quoted jsontext.Value) []byte {
	if quoted.Kind() != '"' {
		return nil
	}
	d.text, _ = jsontext.AppendUnquote(d.text[:0], quoted)
	return d.text
}

// string is a JSON string's text, "" for anything else.
func (d *streamDecoder) string(quoted jsontext.Value) string { return string(d.word(quoted)) }

func (d *streamDecoder) messageStart(message jsontext.Value) {
	e := llm.Event{Kind: llm.Start}
	_ = d.reader.read(message, func(name, value jsontext.Value) {
		switch string(name) {
		case `"id"`:
			e.ID = d.string(value)
		case `"model"`:
			e.Model = d.string(value)
		case `"usage"`:
			d.counts.merge(value)
			u := d.counts.usage()
			e.Usage = &u
		}
	})
	d.add(e)
}

func (d *streamDecoder) messageDelta(in envelope) {
	var reason, sequence jsontext.Value
	_ = d.reader.read(in.delta, func(name, value jsontext.Value) {
		switch string(name) {
		case `"stop_reason"`:
			reason = value
		case `"stop_sequence"`:
			sequence = value
		}
	})
	if reason.Kind() == '"' {
		word := d.string(reason)
		d.done = true
		d.denies = word == endTurn && d.tools > 0
		d.add(llm.Event{Kind: llm.Finish, Stop: decodeStop(word, d.tools > 0), StopSequence: d.string(sequence)})
	}
	if in.usage.Kind() == '{' {
		d.counts.merge(in.usage)
		u := d.counts.usage()
		d.add(llm.Event{Kind: llm.UsageReport, Usage: &u})
	}
}

// contentBlock are the members of a block or of a delta that count.
type contentBlock struct {
	kind, text, thinking, signature, data, id, name, input, partial jsontext.Value
}

func (d *streamDecoder) readBlock(value jsontext.Value) contentBlock {
	var b contentBlock
	_ = d.reader.read(value, func(name, value jsontext.Value) {
		switch string(name) {
		case `"type"`:
			b.kind = value
		case `"text"`:
			b.text = value
		case `"partial_json"`:
			b.partial = value
		case `"thinking"`:
			b.thinking = value
		case `"signature"`:
			b.signature = value
		case `"data"`:
			b.data = value
		case `"id"`:
			b.id = value
		case `"name"`:
			b.name = value
		case `"input"`:
			b.input = value
		}
	})
	return b
}

func (d *streamDecoder) blockStart(index int64, value jsontext.Value) {
	b := d.readBlock(value)
	delete(d.calls, index) // of a block that never stopped
	switch string(d.word(b.kind)) {
	case "text":
		d.addText(llm.TextDelta, b.text)
	case "thinking":
		d.addText(llm.ThinkingDelta, b.thinking)
		d.addSignature(b.signature)
	case "redacted_thinking":
		d.add(llm.Event{Kind: llm.ThinkingRedacted, Text: d.string(b.data), Origin: own})
	case "tool_use":
		d.callStart(index, b)
	}
}

func (d *streamDecoder) callStart(index int64, b contentBlock) {
	if len(d.calls) == maxOpenCalls {
		d.fail(llm.Errorf(llm.ErrBadGateway, "the provider's stream holds more than %d tool calls at once", maxOpenCalls))
		return
	}
	if d.calls == nil {
		d.calls = map[int64]int{}
	}
	number := d.tools
	d.tools++
	d.calls[index] = number
	d.add(llm.Event{Kind: llm.ToolStart, Tool: number, ID: d.string(b.id), Name: d.string(b.name)})
	if b.input.Kind() == '{' && len(bytes.TrimSpace(b.input[1:len(b.input)-1])) > 0 {
		d.add(llm.Event{Kind: llm.ToolDelta, Tool: number, Text: compact(b.input)})
	}
}

func (d *streamDecoder) addText(kind llm.EventKind, quoted jsontext.Value) {
	if len(quoted) > len(`""`) {
		d.add(llm.Event{Kind: kind, Text: d.string(quoted)})
	}
}

func (d *streamDecoder) addSignature(quoted jsontext.Value) {
	if len(quoted) > len(`""`) {
		d.add(llm.Event{Kind: llm.ThinkingSignature, Signature: d.string(quoted), Origin: own})
	}
}

// blockDelta reads a delta. Text and thinking say themselves what they are; arguments count only in
// a block that is known to be a call, because server tools send theirs in the same words.
func (d *streamDecoder) blockDelta(index int64, value jsontext.Value) {
	b := d.readBlock(value)
	switch string(d.word(b.kind)) {
	case "text_delta":
		d.addText(llm.TextDelta, b.text)
	case "thinking_delta":
		d.addText(llm.ThinkingDelta, b.thinking)
	case "signature_delta":
		d.addSignature(b.signature)
	case "input_json_delta":
		if number, ok := d.calls[index]; ok && len(b.partial) > len(`""`) {
			d.add(llm.Event{Kind: llm.ToolDelta, Tool: number, Text: d.string(b.partial)})
		}
	}
}

func (d *streamDecoder) blockStop(index int64) {
	if number, ok := d.calls[index]; ok {
		delete(d.calls, index)
		d.add(llm.Event{Kind: llm.ToolEnd, Tool: number})
	}
}

// objectReader reads JSON objects one after another with one decoder.
type objectReader struct {
	decoder *jsontext.Decoder
	buffer  bytes.Buffer
}

// read calls each for every member of object, the name still in its quotes. Both are pieces of
// object. It fails when object is not one JSON object; each may have been called by then.
func (r *objectReader) read(object jsontext.Value, each func(name, value jsontext.Value)) error {
	r.buffer = *bytes.NewBuffer(object)
	if r.decoder == nil {
		r.decoder = jsontext.NewDecoder(&r.buffer, wirejson.Lenient)
	} else {
		r.decoder.Reset(&r.buffer, wirejson.Lenient)
	}
	d := r.decoder
	if kind := d.PeekKind(); kind != '{' {
		return fmt.Errorf("want an object, got %v", kind)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		quoted, err := d.ReadValue()
		if err != nil {
			return err
		}
		nameEnd := d.InputOffset()
		name := object[nameEnd-int64(len(quoted)) : nameEnd]
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		end := d.InputOffset()
		each(name, object[end-int64(len(value)):end])
	}
	_, err := d.ReadToken()
	return err
}
