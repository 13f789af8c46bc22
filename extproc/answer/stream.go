package answer

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"millrace/extproc/llm"
)

// maxHeld bounds what a stream may say before its first meaningful event.
const maxHeld = 1 << 20

// passage is the way of a frame from the target to the client, in order. Each step says whether the
// frame goes on. Policies see what the client would get: they may keep events back, change their
// texts or end the answer.
var passage = [...]func(*Answer, llm.Frame) bool{
	(*Answer).account, // usage, and whether the stream has ended
	(*Answer).fails,   // an error inside the stream
	(*Answer).word,    // relay, translate or collect
	(*Answer).police,  // let out what policies are done with
	(*Answer).release, // the first meaningful event commits the answer to this attempt
	(*Answer).bound,   // nothing is held without limit
	(*Answer).finish,  // the end, as soon as nothing more can come for the client
}

func (a *Answer) pass(f llm.Frame) {
	for _, step := range passage {
		if !step(a, f) {
			return
		}
	}
}

// decode begins to read a stream.
func (a *Answer) decode() {
	a.decoder = a.env.Reader.Stream()
	switch {
	case !a.env.Asked.Stream:
		a.assembly = &llm.Assembly{}
		return
	case !a.env.Native:
		a.encoder = a.env.Client.NewStreamEncoder(a.env.Asked)
	}
	if a.env.AtHeaders && a.state == Waiting {
		a.begin()
		a.detach()
	}
}

// streams tells whether a stream is read, for a client that wants one.
func (a *Answer) streams() bool { return a.decoder != nil && a.assembly == nil }

// relays tells whether the client gets the target's own events.
func (a *Answer) relays() bool { return a.encoder == nil && a.assembly == nil }

// errEnough is no error: nothing more is read.
var errEnough = errors.New("enough")

// take takes the next bytes of the answer, unpacked, once it is known whether they are a stream.
func (a *Answer) take(plain []byte) error {
	if a.content.form == formWhole || !a.head.ok() {
		a.takeWhole(plain)
	} else {
		a.takeStream(plain)
	}
	if !a.reads() {
		return errEnough
	}
	return nil
}

// unpacked heeds an error of the body's encoding.
func (a *Answer) unpacked(err error) {
	if errors.Is(err, errPacked) && a.state != Concluded {
		a.broken(a.problem("the answer %v", err))
	}
}

func (a *Answer) takeStream(plain []byte) {
	if a.decoder == nil {
		a.decode()
	}
	frames, err := a.decoder.Push(plain)
	for _, f := range frames {
		if a.pass(f); !a.reads() {
			return
		}
	}
	if err != nil && a.state != Concluded {
		a.broken(a.problem("unreadable stream: %v", err))
	}
}

// account counts. Of what comes when the client has all it gets, that is all that counts.
func (a *Answer) account(f llm.Frame) bool {
	for i := range f.Events {
		e := &f.Events[i]
		a.count.event(e, a.clock.now)
		if e.Kind == llm.End && a.state != Concluded {
			a.ended, a.finished = true, a.clock.now
		}
	}
	return a.state != Concluded
}

// fails ends the answer if the frame is an error.
func (a *Answer) fails(f llm.Frame) bool {
	at := slices.IndexFunc(f.Events, func(e llm.Event) bool { return e.Kind == llm.Failure })
	if at < 0 {
		return true
	}
	if at > 0 {
		before := llm.Frame{Events: f.Events[:at]}
		a.word(before)
		if !a.police(before) || !a.release(before) {
			return false
		}
	}
	e := f.Events[at].Err
	a.ended, a.finished = true, time.Time{}
	if a.state != Streaming {
		a.refuse(e)
		return false
	}
	told := a.fail(e, true)
	if a.encoder == nil && f.OwnError && told == e { // the client reads it as it is
		if !a.settle() {
			return false
		}
		a.held = append(a.held, a.env.Secrets.Events(f.Raw)...)
		a.finally()
		return false
	}
	a.closeWith(told)
	return false
}

// word puts the frame into the client's words.
func (a *Answer) word(f llm.Frame) bool {
	for _, e := range f.Events {
		switch {
		case a.assembly != nil:
			a.assembly.Add(e)
		case a.encoder != nil:
			a.held = a.encoder.Encode(a.held, e)
		case e.Kind == llm.End && len(f.Raw) == 0:
			a.held = append(a.held, a.env.Client.StreamEnd()...)
		}
	}
	if a.relays() && !f.Injected {
		raw := f.Raw
		if a.ended { // it may be an error
			raw = a.env.Secrets.Events(raw)
		}
		a.held = append(a.held, raw...)
	}
	return true
}

// release commits the answer to this attempt when the first frame that means something has passed
// the policies.
func (a *Answer) release(f llm.Frame) bool {
	means := a.assembly == nil && slices.ContainsFunc(f.Events, llm.Event.Meaningful)
	a.spoke = a.spoke || means
	if a.env.Police == nil {
		a.passed = means
	}
	if a.passed && a.state != Streaming {
		a.begin()
		a.detach()
	}
	return a.reads()
}

func (a *Answer) bound(llm.Frame) bool {
	switch {
	case a.assembly != nil && int64(a.assembly.Bytes()) > a.env.MaxBytes:
		a.refuse(a.tooLarge())
		return false
	case a.assembly != nil && !a.env.Room(int64(a.assembly.Bytes())):
		a.crowded()
		return false
	case !a.keepable():
		return false
	case a.state != Streaming && len(a.held)+len(a.cleared) > maxHeld:
		a.refuse(a.problem("%d bytes of stream without content", len(a.held)))
		return false
	}
	return true
}

// finish ends the answer as soon as nothing more can come that the client is to get: the target's
// connection may stay open for long. Comments are no progress.
func (a *Answer) finish(f llm.Frame) bool {
	complete := !a.finished.IsZero()
	switch {
	case a.ended:
	case !a.decoder.Complete():
		a.finished = time.Time{}
	case !complete || slices.ContainsFunc(f.Events, func(e llm.Event) bool { return e.Kind != llm.Ping }):
		a.finished = a.clock.now
	}
	if a.ended || complete && !a.relays() && onlyUsage(f) {
		a.done()
	}
	return false
}

// onlyUsage tells whether the frame is the one that OpenAI sends behind the last choice's end.
func onlyUsage(f llm.Frame) bool {
	return len(f.Events) > 0 && !slices.ContainsFunc(f.Events, func(e llm.Event) bool { return e.Kind != llm.UsageReport })
}

// endStream ends the client's stream: completely if the target has said that it was complete, else
// as broken, with the error.
func (a *Answer) endStream(unfinished *llm.Error) {
	for _, f := range a.decoder.Close() {
		if n := len(f.Events); n > 0 && f.Events[n-1].Kind == llm.Failure && !f.OwnError { // half an event
			a.broken(unfinished)
			return
		}
		if a.pass(f); !a.reads() || a.state == Concluded {
			return
		}
	}
	if !a.ended {
		a.broken(unfinished)
		return
	}
	a.done()
}

// done ends a stream that is complete, whether the target has said so or only why it stopped.
func (a *Answer) done() {
	switch {
	case a.assembly != nil:
		a.assembled()
		return
	case a.encoder != nil:
		a.held = a.encoder.Close(a.held, nil)
	case !a.ended:
		a.held = append(a.held, a.env.Client.StreamEnd()...)
	}
	switch {
	case !a.settle():
	case a.state != Streaming:
		a.refuse(a.empty())
	default:
		a.conclude()
	}
}

func (a *Answer) empty() *llm.Error { return a.problem("empty stream") }

// broken ends an answer that cannot go on: as a failed attempt while nothing is out, else in the
// client's own dialect. What comes behind the end of a stream is nobody's loss.
func (a *Answer) broken(e *llm.Error) {
	switch {
	case a.ended || !a.finished.IsZero():
		a.done()
	case a.state != Streaming:
		a.refuse(e)
	default:
		a.closeWith(a.fail(e, true))
	}
}

// closeWith ends a stream, part of which is out, with an error event of the client's schema.
func (a *Answer) closeWith(told *llm.Error) {
	if !a.settle() {
		return
	}
	encoder := a.encoder
	if encoder == nil {
		encoder = a.env.Client.NewStreamEncoder(a.env.Asked)
		if len(a.held) > 0 && !bytes.HasSuffix(a.held, []byte("\n\n")) { // the target's last event lacks its end
			a.held = append(a.held, "\n\n"...)
		}
	}
	a.held = encoder.Close(a.held, told)
	a.finally()
}

// giveUp ends a stream of which the client has a part, and tells why.
func (a *Answer) giveUp(e *llm.Error) {
	a.endStream(e)
	a.finally()
}
