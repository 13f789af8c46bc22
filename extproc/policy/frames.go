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
	first         []byte
	open, closed  []int // choices or blocks that are not over, and that are
	said          map[int]*saying
	last          *frame // what may be the end of the text; nil: nothing may
}

// saying is what one answer has said.
type saying struct {
	begun bool
	calls bool // it calls tools, so it is no answer for people
	frame *frame
	text  int // of the frame, the last one
}

// put lets an event out. The one that may end an answer's text waits for the next: that tells
// whether there is more to come.
func (f *frames) put(dst []byte, e *frame) []byte {
	if f.before == "" && f.after == "" {
		return f.write(dst, e)
	}
	if f.last != nil {
		more := slices.ContainsFunc(e.event.Opens, func(n int) bool { return !slices.Contains(f.last.event.Closes, n) })
		dst = f.ending(dst, !more || f.several)
	}
	for i := range e.event.Texts {
		t := &e.event.Texts[i]
		s := f.of(t.Channel)
		switch t.Kind {
		case texts.Call:
			s.calls = true
		case texts.Said:
			if !s.begun && f.before != "" {
				e.edit(i, f.before+e.text(i))
			}
			s.begun, s.frame, s.text = true, e, i
		}
	}
	if f.after != "" && slices.ContainsFunc(e.event.Closes, f.saidBy) {
		f.last = e
		return dst
	}
	return f.write(dst, e)
}

// saidBy tells whether the last text that was said is of this choice or block.
func (f *frames) saidBy(n int) bool {
	s := f.of(texts.Channel{Choice: n})
	return s.frame != nil && s.frame.event.Texts[s.text].Channel.Choice == n
}

func (f *frames) of(c texts.Channel) *saying {
	n := 0
	if f.several {
		n = c.Choice
	}
	if f.said == nil {
		f.said = map[int]*saying{}
	}
	if f.said[n] == nil {
		f.said[n] = &saying{}
	}
	return f.said[n]
}

// ending lets out the event that waits, with the text that comes after an answer's before it if it
// is the end of one.
func (f *frames) ending(dst []byte, ends bool) []byte {
	e := f.last
	f.last = nil
	s := f.of(texts.Channel{Choice: e.event.Closes[0]})
	switch {
	case !ends || s.calls:
	case s.frame == e:
		e.edit(s.text, e.text(s.text)+f.after)
	default: // an event as the last one was, with this text alone
		again := &frame{raw: s.frame.raw, data: s.frame.data, event: s.frame.event}
		for i := range again.event.Texts {
			again.edit(i, "")
		}
		again.edit(s.text, f.after)
		dst = f.write(dst, again)
	}
	return f.write(dst, e)
}

// end follows the last event.
func (f *frames) end(dst []byte) []byte {
	if f.last != nil {
		dst = f.ending(dst, true)
	}
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
