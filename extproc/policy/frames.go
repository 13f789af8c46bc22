package policy

import (
	"slices"

	"millrace/extproc/llm"
	"millrace/extproc/texts"
)

// frames is what has gone out of a stream, and what policies put around the answer's text.
type frames struct {
	before, after string
	several       bool // answers were asked for side by side: each is framed
	client        llm.ClientCodec
	first         []byte
	open, closed  []int // choices or blocks that are not over, and that are
	said          map[int]*saying
	waiting       []*frame // the event that may end the answer's text, and those after it
	size          int      // of what waits, in bytes
	passed        bool     // a meaningful event has gone out
	changed       bool     // something was put around a text
}

// saying is what one answer has said.
type saying struct {
	begun    bool
	calls    bool // it calls tools, so it is no answer for people
	followed bool // the text after it is out
	frame    *frame
	text     int // of the frame, the last one
}

// put lets an event out. Where answers follow one another in blocks, the one that ends a text waits
// until more is said or the stream ends: a stream that breaks off gets no text after the answer's.
// Neither does a text that is followed by blocks without one.
func (f *frames) put(dst []byte, e *frame) []byte {
	if f.before == "" && f.after == "" {
		return f.write(dst, e)
	}
	switch {
	case len(f.waiting) == 0:
	case e.event.Last:
		dst = f.follow(dst, f.waiting[0])
		dst = f.end(dst)
	case len(e.event.Texts) > 0 || slices.ContainsFunc(e.event.Opens, func(n int) bool { return !slices.Contains(f.waiting[0].event.Closes, n) }):
		dst = f.end(dst)
	default:
		f.wait(e)
		return dst
	}
	f.hear(e)
	switch {
	case f.after == "":
	case f.several:
		dst = f.follow(dst, e)
	case slices.ContainsFunc(e.event.Closes, func(n int) bool { return f.saidBy(n) != nil }):
		f.wait(e)
		return dst
	}
	return f.write(dst, e)
}

func (f *frames) wait(e *frame) {
	f.waiting = append(f.waiting, e)
	f.size += len(e.raw)
}

// hear notes what an event says, and puts text before an answer's.
func (f *frames) hear(e *frame) {
	for i := range e.event.Texts {
		t := &e.event.Texts[i]
		if t.Kind != texts.Call && !framedText(t) {
			continue
		}
		s := f.of(t.Channel.Choice)
		if t.Kind == texts.Call {
			s.calls = true
			continue
		}
		if !s.begun && f.before != "" {
			e.edit(i, f.before+e.text(i))
			f.changed = true
		}
		s.begun, s.frame, s.text = true, e, i
	}
}

// framedText tells whether a text is one that others are put around: what an answer says, and not
// what it cites.
func framedText(t *texts.Text) bool { return t.Kind == texts.Said && t.Channel.Part == 0 }

// follow puts text after that of the answers that the event ends: in the event itself, if it has
// the last of the text, else in one before it.
func (f *frames) follow(dst []byte, e *frame) []byte {
	for _, n := range e.event.Closes {
		s := f.saidBy(n)
		if s == nil || s.calls || s.followed {
			continue
		}
		s.followed, f.changed = true, true
		if s.frame == e {
			e.edit(s.text, e.text(s.text)+f.after)
			continue
		}
		dst = f.client.Say(dst, s.frame.data, n, f.after)
	}
	return dst
}

// saidBy is the saying of which the last text is of this choice or block; nil for none.
func (f *frames) saidBy(n int) *saying {
	s := f.of(n)
	if !s.begun || s.frame.event.Texts[s.text].Channel.Choice != n {
		return nil
	}
	return s
}

// of is the saying of a choice or block.
func (f *frames) of(n int) *saying {
	if !f.several {
		n = 0
	}
	if f.said == nil {
		f.said = map[int]*saying{}
	}
	if f.said[n] == nil {
		f.said[n] = &saying{}
	}
	return f.said[n]
}

// end lets out what waits.
func (f *frames) end(dst []byte) []byte {
	for _, e := range f.waiting {
		dst = f.write(dst, e)
	}
	f.waiting, f.size = nil, 0
	return dst
}

func (f *frames) write(dst []byte, e *frame) []byte {
	if f.first == nil && e.data != nil {
		f.first = e.data
	}
	for _, n := range e.event.Opens {
		if !slices.Contains(f.open, n) && !slices.Contains(f.closed, n) {
			f.open = append(f.open, n)
		}
	}
	for _, n := range e.event.Closes {
		if i := slices.Index(f.open, n); i >= 0 {
			f.open, f.closed = slices.Delete(f.open, i, i+1), append(f.closed, n)
		}
	}
	if e.event.Last {
		f.open = nil
	}
	f.passed = f.passed || e.meaningful
	return append(dst, e.bytes()...)
}

// Cut implements answer.Police.
func (o *Answer) Cut(dst []byte) []byte {
	f := &o.gate.frames
	if f.first != nil {
		return o.client.Cut(dst, f.first, f.open, llm.StopRefusal)
	}
	encoder := o.client.NewStreamEncoder(o.asked)
	dst = encoder.Encode(dst, llm.Event{Kind: llm.Start, ID: o.session.ID, Model: o.session.Model})
	dst = encoder.Encode(dst, llm.Event{Kind: llm.Finish, Stop: llm.StopRefusal})
	return encoder.Close(dst, nil)
}
