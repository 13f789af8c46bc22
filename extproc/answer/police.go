package answer

import (
	"slices"

	"millrace/extproc/llm"
)

// Police is the policies that look at an answer on its way to the client. They see what the client
// would get, in its own schema, whatever the target speaks. Its methods must not overlap.
type Police interface {
	// Whole returns what the client gets of a whole answer, or why it gets none.
	Whole(body []byte) ([]byte, *llm.Error)
	// Stream takes the next events of a stream, none of them cut, and appends to dst what may go
	// out now, of these and of those that it has kept back. passed tells that a meaningful one is
	// among them. An error blocks the rest of the answer.
	Stream(dst, events []byte, meaningful bool) (out []byte, passed bool, blocked *llm.Error)
	// End is Stream at the end of the answer: nothing is kept back any more.
	End(dst []byte) (out []byte, passed bool, blocked *llm.Error)
	// Cut ends the stream, of which the client has all that was let out, in the words that the
	// client's schema has for that.
	Cut(dst []byte) []byte
	// Again tells, of an answer that was blocked while the client had nothing of it, whether
	// another one is to be asked for.
	Again() bool
	// Kept is how many bytes are kept back.
	Kept() int
	// Close follows the last of an answer of which the client has a part, whatever its end was. It
	// may follow End.
	Close()
}

// police shows policies what the frame has brought. It tells whether the answer goes on.
func (a *Answer) police(f llm.Frame) bool {
	if a.env.Police == nil || a.assembly != nil {
		return true
	}
	cleared, passed, blocked := a.env.Police.Stream(a.cleared, a.held, slices.ContainsFunc(f.Events, llm.Event.Meaningful))
	return a.judged(cleared, passed, blocked)
}

// littleKept is how many bytes policies may keep of any stream.
const littleKept = 64 << 10

// keepable bounds what policies keep of a stream. It tells whether the answer goes on.
func (a *Answer) keepable() bool {
	if a.env.Police == nil {
		return true
	}
	switch kept := int64(a.env.Police.Kept()); {
	case kept > a.env.MaxBytes:
		a.broken(a.tooLarge())
		return false
	case kept > littleKept && !a.env.Room(kept):
		if a.state == Streaming {
			a.closeWith(a.fail(errCrowded(), false))
			return false
		}
		a.crowded()
		return false
	}
	return true
}

// settle shows policies what is held, the last of a stream. It tells whether the stream ends as it
// would without policies.
func (a *Answer) settle() bool {
	if a.env.Police == nil || a.assembly != nil || a.settled { // a failure of the policies' themselves ends the answer, too
		return a.state != Done
	}
	a.settled = true
	return a.police(llm.Frame{}) && a.judged(a.env.Police.End(a.cleared)) && a.release(llm.Frame{})
}

func (a *Answer) judged(cleared []byte, passed bool, blocked *llm.Error) bool {
	a.cleared, a.held, a.passed = cleared, a.held[:0], a.passed || passed
	if blocked != nil {
		a.block(blocked)
	}
	return blocked == nil
}

// block ends an answer that must not reach the client: with an error while it has nothing, else as
// a stream that is complete and says why it stopped. The target is not to blame. Policies that
// could not be carried out end a stream as one that has failed.
func (a *Answer) block(e *llm.Error) {
	a.settled, a.blocked = true, e.Type != llm.ErrUnavailable
	switch {
	case a.state != Streaming:
		_ = a.fail(e, false)
		a.again = a.env.Police.Again()
		a.tell(e)
		return
	case !a.blocked:
		a.closeWith(a.fail(e, false))
		return
	}
	a.ended = true
	a.cleared = a.env.Police.Cut(a.cleared)
	a.finally()
}
