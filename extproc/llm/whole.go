package llm

import (
	"strings"
)

// Events are the answer as a stream of it would have told it: for a client that asked for a stream
// and a target that gave a whole answer. What Logprobs has of it is lost.
func (r *Response) Events() []Event {
	events := []Event{{Kind: Start, ID: r.ID, Model: r.Model, Created: r.Created}}
	for i, c := range r.Choices {
		tools := 0
		for _, p := range c.Parts {
			events = appendPart(events, i, tools, p)
			if _, call := p.(ToolCall); call {
				tools++
			}
		}
		events = append(events, Event{Kind: Finish, Choice: i, Stop: c.Stop, StopSequence: c.StopSequence})
	}
	return append(events, Event{Kind: UsageReport, Usage: &r.Usage}, Event{Kind: End})
}

// TextBytes is how many bytes of text the model has written: what the deltas of Events add up to,
// and the names of tools.
func (r *Response) TextBytes() int {
	n := 0
	for _, c := range r.Choices {
		for _, p := range c.Parts {
			switch p := p.(type) {
			case Text:
				n += len(p.Text)
			case Refusal:
				n += len(p.Text)
			case Thinking:
				n += len(p.Text)
			case ToolCall:
				n += len(p.Name) + len(p.Arguments)
			}
		}
	}
	return n
}

func appendPart(events []Event, choice, tool int, p Part) []Event {
	switch p := p.(type) {
	case Text:
		events = append(events, Event{Kind: TextDelta, Choice: choice, Text: p.Text})
		if p.Signature != "" {
			events = append(events, Event{Kind: TextSignature, Choice: choice, Signature: p.Signature, Origin: p.Origin})
		}
	case Refusal:
		return append(events, Event{Kind: RefusalDelta, Choice: choice, Text: p.Text})
	case Thinking:
		if p.Redacted != "" {
			return append(events, Event{Kind: ThinkingRedacted, Choice: choice, Text: p.Redacted, Origin: p.Origin})
		}
		events = append(events, Event{Kind: ThinkingDelta, Choice: choice, Text: p.Text})
		if p.Signature != "" {
			events = append(events, Event{Kind: ThinkingSignature, Choice: choice, Signature: p.Signature, Origin: p.Origin})
		}
	case ToolCall:
		events = append(events,
			Event{Kind: ToolStart, Choice: choice, Tool: tool, ID: p.ID, Name: p.Name, Signature: p.Signature, Origin: p.Origin},
			Event{Kind: ToolDelta, Choice: choice, Tool: tool, Text: p.Arguments},
			Event{Kind: ToolEnd, Choice: choice, Tool: tool})
	}
	return events
}

// Assembly collects the events of a stream into the whole answer that they tell: for a client that
// asked for a whole answer and a target that gave a stream. The zero value is empty.
type Assembly struct {
	response Response
	choices  []assembledChoice
	bytes    int
}

type assembledChoice struct {
	pieces       []*piece
	tools        map[int]*piece
	stop         Stop
	stopSequence string
}

// piece is a part of the answer that may still grow.
type piece struct {
	kind      EventKind // of the event that began it
	text      strings.Builder
	id, name  string
	signature string
	origin    Origin
	closed    bool // it grows no more
}

// Bytes is how much of the answer has come: whoever feeds the assembly bounds it.
func (a *Assembly) Bytes() int { return a.bytes }

// Add takes the next event of the stream. Which choice and call it is of, its decoder has bounded.
func (a *Assembly) Add(e Event) {
	a.bytes += len(e.Text) + len(e.ID) + len(e.Name) + len(e.Signature)
	switch e.Kind {
	case Start:
		a.response.ID, a.response.Model, a.response.Created = e.ID, e.Model, e.Created
	case Ping, End, Failure:
		return
	}
	if e.Usage != nil {
		a.response.Usage = *e.Usage
	}
	if e.Kind == Start || e.Kind == UsageReport {
		return
	}
	for len(a.choices) <= e.Choice {
		a.choices = append(a.choices, assembledChoice{tools: map[int]*piece{}})
	}
	a.choices[e.Choice].add(e)
}

func (c *assembledChoice) add(e Event) {
	switch e.Kind {
	case TextDelta, RefusalDelta, ThinkingDelta:
		if e.Text != "" {
			c.open(e.Kind).text.WriteString(e.Text)
		}
	case TextSignature:
		c.open(TextDelta).sign(e)
	case ThinkingSignature:
		c.open(ThinkingDelta).sign(e)
	case ThinkingRedacted:
		p := c.begin(e.Kind)
		p.origin = e.Origin
		p.text.WriteString(e.Text)
	case ToolStart:
		p := c.begin(e.Kind)
		p.id, p.name, p.signature, p.origin = e.ID, e.Name, e.Signature, e.Origin
		c.tools[e.Tool] = p
	case ToolDelta:
		if p := c.tools[e.Tool]; p != nil {
			p.text.WriteString(e.Text)
		}
	case Finish:
		c.stop, c.stopSequence = e.Stop, e.StopSequence
	}
}

// open is the last piece if it is of this kind and may grow, else a new one.
func (c *assembledChoice) open(kind EventKind) *piece {
	if n := len(c.pieces); n > 0 && c.pieces[n-1].kind == kind && !c.pieces[n-1].closed {
		return c.pieces[n-1]
	}
	return c.begin(kind)
}

// sign closes the piece.
func (p *piece) sign(e Event) { p.signature, p.origin, p.closed = e.Signature, e.Origin, true }

func (c *assembledChoice) begin(kind EventKind) *piece {
	p := &piece{kind: kind}
	c.pieces = append(c.pieces, p)
	return p
}

// Response is the answer so far; it has no choices while nothing has been said.
func (a *Assembly) Response() *Response {
	r := a.response
	r.Choices = make([]Choice, 0, len(a.choices))
	for _, c := range a.choices {
		out := Choice{Stop: c.stop, StopSequence: c.stopSequence}
		for _, p := range c.pieces {
			out.Parts = append(out.Parts, p.part())
		}
		r.Choices = append(r.Choices, out)
	}
	return &r
}

func (p *piece) part() Part {
	switch text := p.text.String(); p.kind {
	case RefusalDelta:
		return Refusal{Text: text}
	case ThinkingDelta:
		return Thinking{Text: text, Signature: p.signature, Origin: p.origin}
	case ThinkingRedacted:
		return Thinking{Redacted: text, Origin: p.origin}
	case ToolStart:
		return ToolCall{ID: p.id, Name: p.name, Arguments: text, Signature: p.signature, Origin: p.origin}
	default:
		return Text{Text: text, Signature: p.signature, Origin: p.origin}
	}
}
