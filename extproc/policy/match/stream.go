package match

import "slices"

// Stream finds in a text that comes in pieces what Find finds in the whole. It belongs to one
// goroutine.
//
// The text that is not settled yet is the window: nobody may see it before it is. It begins where
// the earliest match may begin that is still possible, and so it is empty most of the time.
type Stream struct {
	most  int
	texts texts

	settled, size int     // positions in the text: where the window starts and ends
	found         []Found // in the window, sorted
}

// texts is what a stream reads: one text, or the values of JSON text. Positions are the stream's.
type texts interface {
	push(text string)
	close()
	open() int
	take() []Found
	decide(at int)
	restart(at int)
	start(at int) int
}

// Step is what a piece of text decided. Offsets are in the window as it is with the piece.
type Step struct {
	Settled int     // so many bytes at the start of the window are decided and leave it
	Found   []Found // what is in them, sorted; nothing goes over their end
	Slid    bool    // the window grew beyond its most: what was waited for is given up
}

// Stream begins a text. most, 16 or more, is how many bytes the window may have after a Step. If it
// has more, its older half is settled as if nothing more came: a long match that begins there may
// be missed, or found too short. Other patterns still find what is no longer than half of most.
func (s *Set) Stream(most int) *Stream {
	return &Stream{most: max(most, 16), texts: s.read()}
}

// Push adds a piece of the text. It may be cut anywhere, within a character too.
func (w *Stream) Push(text string) (Step, error) {
	w.size += len(text)
	w.texts.push(text)
	open := w.texts.open()
	w.collect()
	open = w.before(open)
	if w.size-open > w.most {
		if at := w.slide(); at > open {
			step := w.step(at)
			step.Slid = true
			return step, nil
		}
	}
	return w.step(open), nil
}

// Close ends the text: all of the window is settled.
func (w *Stream) Close() (Step, error) {
	w.texts.close()
	w.collect()
	return w.step(w.size), nil
}

// step settles the text before open.
func (w *Stream) step(open int) Step {
	s := Step{Settled: open - w.settled}
	n, _ := slices.BinarySearchFunc(w.found, open, func(f Found, open int) int { return f.From - open })
	for _, f := range w.found[:n] {
		f.From -= w.settled
		f.To -= w.settled
		s.Found = append(s.Found, f)
	}
	w.found = slices.Delete(w.found, 0, n)
	w.settled = open
	return s
}

func (w *Stream) collect() {
	w.found = append(w.found, w.texts.take()...)
	slices.SortFunc(w.found, order)
}

// before is the last position up to at that is within no match.
func (w *Stream) before(at int) int {
	for i := len(w.found) - 1; i >= 0; i-- {
		if f := w.found[i]; f.From < at && f.To > at {
			at, i = f.From, len(w.found)
		}
	}
	return at
}

// after is the first position from at on that is within no match.
func (w *Stream) after(at int) int {
	for _, f := range w.found { // sorted
		if f.From < at && f.To > at {
			at = f.To
		}
	}
	return at
}

// slide gives up what is open in the older half of the window, and returns where the rest starts.
func (w *Stream) slide() int {
	at := w.texts.start(w.size - w.most/2)
	for {
		w.texts.decide(at)
		w.collect()
		next := w.after(at)
		if next == at {
			break
		}
		at = next
	}
	w.texts.restart(at)
	return at
}
