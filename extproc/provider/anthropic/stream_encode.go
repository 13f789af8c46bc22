package anthropic

import (
	"strconv"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
)

// maxHeldBytes bounds what the encoder holds back while providers interleave their tool calls. A
// stream that needs more is ended as broken. A block that is held back counts as blockBytes,
// without what it says.
const (
	maxHeldBytes = 8 << 20
	blockBytes   = 256
)

// NewStreamEncoder writes the API's stream.
func (Messages) NewStreamEncoder(llm.Asked) llm.StreamEncoder { return &streamEncoder{} }

// streamEncoder writes content blocks one after another, as clients of the API expect them, from
// events that may interleave. queue holds the blocks that are not finished: the first one is on the
// wire, what the others have got so far is held back until it is their turn. A call gives way to
// the next block once the provider says so or its arguments are a whole JSON object; other blocks
// give way at once.
type streamEncoder struct {
	id, model string
	usage     llm.Usage
	started   bool

	queue []*pendingBlock
	calls map[int]*pendingBlock // those of queue that are tool calls, by number
	held  int                   // bytes held back
	index int64                 // of the block on the wire

	called, refused bool
	stop            llm.Stop
	stopSequence    string
	broken          *llm.Error
}

// pendingBlock is a content block on its way out.
type pendingBlock struct {
	kind      blockKind
	tool      int
	id, name  string
	text      []byte // not yet written
	signature string
	held      int // its share of the encoder's
	opened    bool
	ended     bool
	arguments objectEnd
}

// Encode implements llm.StreamEncoder. It writes message_start with the first event that counts.
func (e *streamEncoder) Encode(dst []byte, ev llm.Event) []byte {
	if ev.Choice != 0 || e.broken != nil {
		return dst
	}
	switch ev.Kind {
	case llm.Ping:
		return append(dst, "event: ping\ndata: {\"type\":\"ping\"}\n\n"...)
	case llm.Start:
		e.id, e.model = ev.ID, ev.Model
		e.note(ev.Usage)
		return e.start(dst)
	case llm.UsageReport:
		e.note(ev.Usage)
		return dst
	case llm.Finish:
		e.stop, e.stopSequence = ev.Stop, ev.StopSequence
		return e.finish(e.start(dst))
	case llm.End, llm.Failure: // Close says it
		return dst
	}
	e.hold(ev)
	return e.advance(e.start(dst))
}

func (e *streamEncoder) note(u *llm.Usage) {
	if u != nil {
		e.usage = *u
	}
}

// hold puts what the event says behind what is waiting.
func (e *streamEncoder) hold(ev llm.Event) {
	switch ev.Kind {
	case llm.TextDelta:
		e.append(textKind, ev.Text)
	case llm.RefusalDelta:
		e.refused = true
		e.append(textKind, ev.Text)
	case llm.ThinkingDelta:
		e.append(thinkingKind, ev.Text)
	case llm.ThinkingSignature:
		b := e.open(thinkingKind)
		b.ended = true
		if ev.Origin == own {
			b.signature = ev.Signature
			e.keep(b, len(ev.Signature))
		}
	case llm.ThinkingRedacted:
		if ev.Origin != own {
			return
		}
		e.add(e.push(&pendingBlock{kind: redactedKind, ended: true}), ev.Text)
	case llm.ToolStart:
		e.called = true
		b := e.push(&pendingBlock{kind: toolKind, tool: ev.Tool, id: ev.ID, name: ev.Name})
		if e.calls == nil {
			e.calls = map[int]*pendingBlock{}
		}
		e.calls[ev.Tool] = b
	case llm.ToolDelta: // of a call that is finished it has nowhere to go
		if b := e.calls[ev.Tool]; b != nil {
			b.arguments.read(ev.Text)
			e.add(b, ev.Text)
		}
	case llm.ToolEnd:
		if b := e.calls[ev.Tool]; b != nil {
			b.ended = true
		}
	}
}

// append adds text to the last block if it is of that kind, else to a new one.
func (e *streamEncoder) append(kind blockKind, text string) {
	if text != "" {
		e.add(e.open(kind), text)
	}
}

func (e *streamEncoder) open(kind blockKind) *pendingBlock {
	if n := len(e.queue); n > 0 && e.queue[n-1].kind == kind && !e.queue[n-1].ended {
		return e.queue[n-1]
	}
	return e.push(&pendingBlock{kind: kind})
}

// push puts a block at the end of the queue.
func (e *streamEncoder) push(b *pendingBlock) *pendingBlock {
	e.queue = append(e.queue, b)
	e.keep(b, blockBytes+len(b.id)+len(b.name))
	return b
}

func (e *streamEncoder) add(b *pendingBlock, text string) {
	b.text = append(b.text, text...)
	e.keep(b, len(text))
}

// keep counts bytes that a block holds back, or, below 0, no longer does.
func (e *streamEncoder) keep(b *pendingBlock, size int) {
	b.held += size
	e.held += size
}

// advance writes what may be written: the block on the wire, and the ones behind it once it gives
// way.
func (e *streamEncoder) advance(dst []byte) []byte {
	for len(e.queue) > 0 {
		b := e.queue[0]
		dst = e.write(dst, b)
		if !b.ended && (len(e.queue) == 1 || !b.givesWay()) {
			break
		}
		dst = e.pop(dst)
	}
	if e.held > maxHeldBytes {
		e.broken = llm.Errorf(llm.ErrBadGateway, "the provider interleaves more tool calls than can be held back")
		e.queue, e.calls = nil, nil
	}
	return dst
}

func (b *pendingBlock) givesWay() bool { return b.kind != toolKind || b.arguments.seen() }

// finish ends every block: the provider has said that nothing more comes.
func (e *streamEncoder) finish(dst []byte) []byte {
	for len(e.queue) > 0 {
		dst = e.write(dst, e.queue[0])
		dst = e.pop(dst)
	}
	return dst
}

// pop closes the block on the wire.
func (e *streamEncoder) pop(dst []byte) []byte {
	dst = e.head(dst, "content_block_stop")
	dst = append(dst, "}\n\n"...)
	b := e.queue[0]
	e.queue = e.queue[1:]
	e.keep(b, -b.held)
	if e.calls[b.tool] == b {
		delete(e.calls, b.tool)
	}
	e.index++
	return dst
}

// head begins an event about the block on the wire.
func (e *streamEncoder) head(dst []byte, name string) []byte {
	dst = append(append(append(dst, "event: "...), name...), "\ndata: {\"type\":\""...)
	dst = append(append(dst, name...), `","index":`...)
	return strconv.AppendInt(dst, e.index, 10)
}

// write opens the block if it is not, and writes what it holds as one delta.
func (e *streamEncoder) write(dst []byte, b *pendingBlock) []byte {
	e.keep(b, -len(b.text))
	if b.kind == redactedKind {
		dst = e.head(dst, "content_block_start")
		dst = append(dst, `,"content_block":{"type":"redacted_thinking","data":`...)
		dst = wirejson.AppendQuote(dst, b.text)
		return append(dst, "}}\n\n"...)
	}
	if !b.opened {
		b.opened = true
		dst = e.head(dst, "content_block_start")
		dst = appendOpening(dst, b)
	}
	if len(b.text) > 0 {
		dst = appendDelta(e.head(dst, "content_block_delta"), deltaOpening[b.kind], b.text)
		b.text = b.text[:0]
	}
	if b.signature != "" {
		dst = appendDelta(e.head(dst, "content_block_delta"), `"signature_delta","signature":`, b.signature)
	}
	return dst
}

var deltaOpening = [...]string{
	textKind:     `"text_delta","text":`,
	thinkingKind: `"thinking_delta","thinking":`,
	toolKind:     `"input_json_delta","partial_json":`,
}

func appendDelta[S string | []byte](dst []byte, opening string, text S) []byte {
	dst = append(append(dst, `,"delta":{"type":`...), opening...)
	return append(wirejson.AppendQuote(dst, text), "}}\n\n"...)
}

func appendOpening(dst []byte, b *pendingBlock) []byte {
	switch b.kind {
	case thinkingKind:
		return append(dst, ",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n"...)
	case toolKind:
		dst = wirejson.AppendQuote(append(dst, `,"content_block":{"type":"tool_use","id":`...), b.id)
		dst = wirejson.AppendQuote(append(dst, `,"name":`...), b.name)
		return append(dst, ",\"input\":{}}}\n\n"...)
	default:
		return append(dst, ",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"...)
	}
}

// start writes message_start, once.
func (e *streamEncoder) start(dst []byte) []byte {
	if e.started {
		return dst
	}
	e.started = true
	dst = append(dst, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":"...)
	dst = wirejson.AppendQuote(dst, messageID(e.id))
	dst = wirejson.AppendQuote(append(dst, `,"type":"message","role":"assistant","model":`...), e.model)
	dst = append(dst, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":`...)
	return append(appendUsage(dst, e.usage), "}}\n\n"...)
}

func appendUsage(dst []byte, of llm.Usage) []byte {
	u := encodeUsage(of)
	dst = strconv.AppendInt(append(dst, `{"input_tokens":`...), u.InputTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"cache_creation_input_tokens":`...), u.CacheCreationTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"cache_read_input_tokens":`...), u.CacheReadTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"output_tokens":`...), u.OutputTokens, 10)
	return append(dst, '}')
}

// Close implements llm.StreamEncoder.
func (e *streamEncoder) Close(dst []byte, err *llm.Error) []byte {
	if err == nil {
		err = e.broken
	}
	if err != nil {
		dst = append(dst, "event: error\ndata: "...)
		return append(appendError(dst, err), "\n\n"...)
	}
	dst = e.finish(e.start(dst))
	dst = append(dst, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\""...)
	dst = append(append(dst, stopReason(e.stop, e.refused, e.called)...), `","stop_sequence":`...)
	if e.stopSequence == "" {
		dst = append(dst, "null"...)
	} else {
		dst = wirejson.AppendQuote(dst, e.stopSequence)
	}
	dst = appendUsage(append(dst, `},"usage":`...), e.usage)
	dst = append(dst, "}\n\n"...)
	return append(dst, streamEnd...)
}

const streamEnd = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

// StreamEnd implements llm.ClientCodec.
func (Messages) StreamEnd() []byte { return []byte(streamEnd) }

// objectEnd watches text go by in pieces and knows when it has been one JSON object, without
// reading anything twice.
type objectEnd struct {
	depth    int
	inString bool
	escaped  bool
	whole    bool
}

func (o *objectEnd) seen() bool { return o.whole }

func (o *objectEnd) read(text string) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case o.escaped:
			o.escaped = false
		case o.inString && c == '\\':
			o.escaped = true
		case c == '"':
			o.inString = !o.inString
		case o.inString:
		case c == '{' || c == '[':
			o.depth++
		case c == '}' || c == ']':
			o.depth--
			o.whole = o.whole || o.depth <= 0
		}
	}
}
