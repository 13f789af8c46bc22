// Package answer is one attempt's answer as a state machine: what happens goes in (the target's
// head, a chunk, its end, a moment that has come, a stop), and what Envoy is to be told comes out.
// It knows nothing of gRPC and Envoy, takes no lock and reads no clock: every method is given the
// time.
//
//	         first released event              complete
//	Waiting ─────────────────────► Streaming ────────────► Concluded ── the target ends, or a second is over ──► Done
//	   │                               ├── failed: an error event, and the end ──────────────────────────────► Done
//	   │                               └── detached at once, where nobody has to read the rest (Env.Detach) ──► Done
//	   └─ a whole answer, or an error: at once ────────────────────────────────────────────────────────────────► Done
//
// The client hears nothing, not even the status, while the answer is Waiting: what fails until then
// can be asked of another target unseen. In Concluded it has everything but the end, which waits a
// moment for the target's (see Answer.conclude).
//
// What becomes of a stream's frame on its way to the client is one list: passage, in stream.go.
package answer

import (
	"net/http"
	"time"

	"millrace/extproc/llm"
	"millrace/internal/redact"
)

// State is how far an answer has come.
type State uint8

// The states. What leads from one to the other is in the package comment.
const (
	Waiting   State = iota // the client has nothing
	Streaming              // it has the head of a stream, and gets the rest as it comes
	Concluded              // it has all but the end, which waits a moment for the target's
	Done                   // nothing more is said
)

// Env is what an answer depends on beside what the target says.
type Env struct {
	Target  string           // the target's id, for the words of errors
	Client  llm.ClientCodec  // writes for the client
	Comment string           // what its clients skip in a stream
	Codec   llm.TargetCodec  // reads the target's errors
	Reader  llm.AnswerReader // reads the target's answer to the call
	Streams string           // the content type of the target's streams; "" for server-sent events
	Native  bool             // both speak one schema: bytes are relayed, not translated
	Asked   llm.Asked        // by the client

	MaxBytes  int64 // of what is collected of an answer
	AtHeaders bool  // the head of a stream goes out with the target's, before the first token
	Detach    bool  // nobody has to read more of a stream that goes on as it is than its first token
	Clock     Clock
	Alone     bool // there is no other target: it is not asked again for being late

	// Police looks at the answer on its way to the client; nil: nobody does.
	Police Police

	Secrets redact.Set // what must not be in errors
	Certain redact.Set // what must not be in answers either

	// Room is asked whether there is room for so many bytes that are collected of the answer, all
	// in all.
	Room func(bytes int64) bool
	// Status is the HTTP status that Envoy and the client get for an error.
	Status func(*llm.Error) int
	// Fail is asked what a failure means, before anybody hears of it. fault tells whether it is the
	// target's. It may change e.
	Fail func(e *llm.Error, fault bool) Verdict
}

// Verdict is what a failure means.
type Verdict struct {
	Told  *llm.Error // what the client is told
	Again bool       // another target is to be asked
}

// Head is the head of the target's answer.
type Head struct {
	Status                       int
	ContentType, ContentEncoding string
	Header                       func() http.Header // all of it; called for an error, once
	Bodiless                     bool               // it is all there is
}

// ok tells whether the status is an answer's. 204 and 205 promise that there is no body.
func (h Head) ok() bool {
	return h.Status >= 200 && h.Status < 300 && h.Status != http.StatusNoContent && h.Status != http.StatusResetContent
}

// Out is what an event has brought: what is known now, and what is to be said, in this order. The
// zero value is nothing.
type Out struct {
	Failed  *llm.Error // why the attempt has failed
	Instead *Reply     // an answer in the target's place; nothing else comes with it or after it
	Commit  *Start     // the head of the client's answer
	Detach  bool       // all of the body goes on as it comes; nothing is said after the head
	Body    []byte     // valid until the next event
	End     bool       // the body ends here
}

// Start is the head of the client's answer.
type Start struct {
	Status   int
	Length   int  // of the body; -1 for a stream
	Labelled bool // the target's head calls the answer a stream
	Retry    bool // another target is to be asked
	Blocked  bool // it is what policies say: nobody is to ask again
}

// Reply is a whole answer, in JSON.
type Reply struct {
	Status int
	Body   []byte
	Retry  bool // another target is to be asked
}

// Answer is the answer of one attempt. Its methods must not overlap.
type Answer struct {
	env   Env
	state State
	clock clock
	out   Out

	head    Head
	content content
	begun   bool // something of the body has come
	closed  bool // the target's last byte is in

	decoder  llm.StreamDecoder // nil: the answer is read whole
	encoder  llm.StreamEncoder // nil: the client speaks the target's schema and gets its bytes
	assembly *llm.Assembly     // of a stream for a client that wants a whole answer; nil: it wants a stream
	whole    pieces            // of an answer that is read whole, what has come so far
	held     []byte            // what the client is to get next
	cleared  []byte            // what of it comes before held: policies have let it pass
	said     bool              // both have been said, in the last event
	passed   bool              // something meaningful is among what has been let pass
	settled  bool              // policies have no more to say
	blocked  bool              // they have said that the client does not get it

	spoke    bool      // a meaningful event has come; policies may keep it back
	ended    bool      // the stream has said that it is complete, or failed
	finished time.Time // when the stream had all but its usage and its end; zero: it goes on, or has failed
	good     bool      // the client gets an answer of the target's, not an error
	again    bool      // another target is to be asked
	detached bool      // Envoy passes the rest on by itself
	faulty   bool      // the attempt has failed for a reason that is the target's, and no want of time

	headAt time.Time // when the head came; zero: it has not
	count  counter
}

// New returns an answer whose target has been asked at env.Clock.Started.
func New(env Env) *Answer {
	return &Answer{env: env, clock: clock{Clock: env.Clock, heard: env.Clock.Started, lastSaid: env.Clock.Started}}
}

// State is how far it has come.
func (a *Answer) State() State { return a.state }

// Torn tells whether the client has a part of a stream and lacks the rest.
func (a *Answer) Torn() bool { return a.state == Streaming && !a.ended }

// Close lets go of what the answer holds. No event may come afterwards.
func (a *Answer) Close() {
	a.content.close()
	if a.env.Police != nil && a.good {
		a.env.Police.Close()
	}
}

// Head takes the head of the target's answer.
func (a *Answer) Head(h Head, now time.Time) Out {
	a.clock.hear(now)
	return a.event(now, func() {
		a.headAt = now
		a.head, a.content = h, newContent(h.ContentType, h.ContentEncoding, a.env.Streams)
		switch {
		case h.Bodiless:
			a.end()
		case a.reads() && h.ok() && a.env.Asked.Stream && a.content.labelled: // the first bytes may say otherwise
			a.decode()
		}
	})
}

// Push takes the next bytes of the target's answer, as they came.
func (a *Answer) Push(chunk []byte, now time.Time) Out {
	a.clock.hear(now)
	return a.event(now, func() {
		a.begun = true
		if a.reads() {
			a.unpacked(a.content.push(chunk, a.take))
		}
	})
}

// End takes the end of the target's answer.
func (a *Answer) End(now time.Time) Out {
	a.clock.hear(now)
	return a.event(now, a.end)
}

// Stop ends the answer, with e as far as the client is to get anything yet.
func (a *Answer) Stop(e *llm.Error, now time.Time) Out {
	return a.event(now, func() {
		switch a.state {
		case Done:
		case Concluded:
			a.finally()
		case Streaming:
			a.giveUp(e)
		default:
			_ = a.fail(e, false)
			a.again = false
			a.instead(e)
		}
	})
}

// Lost is for a target that is not there to answer: e says why. Envoy would answer in its place.
func (a *Answer) Lost(e *llm.Error, now time.Time) Out {
	return a.event(now, func() {
		if a.state == Waiting {
			a.instead(a.fail(e, true))
		}
	})
}

// event runs one, and says what has come of it.
func (a *Answer) event(now time.Time, happen func()) Out {
	a.out, a.clock.now = Out{}, now
	if a.said {
		a.held, a.cleared, a.said = a.held[:0], a.cleared[:0], false
	}
	happen()
	body := a.held
	if a.env.Police != nil {
		a.cleared = append(a.cleared, a.held...)
		a.held, body = a.held[:0], a.cleared
	}
	if a.state != Waiting && len(body) > 0 {
		a.out.Body, a.said = a.env.Certain.Events(body), true
		a.clock.tell(len(body))
	}
	return a.out
}

// reads tells whether what the target says still matters: in Concluded the record may lack the
// usage yet.
func (a *Answer) reads() bool { return a.state != Done }

// begin says the head of a stream. The attempt is then the one that the client hears.
func (a *Answer) begin() {
	a.state, a.good = Streaming, true
	a.out.Commit = &Start{Status: a.head.Status, Length: -1, Labelled: a.content.labelled}
}

// detach follows begin where the rest of the stream is the client's as it comes, and nobody has to
// read it.
func (a *Answer) detach() {
	if a.env.Detach && a.relays() && a.content.untouched() {
		a.state, a.held, a.out.Detach, a.detached = Done, a.held[:0], true, true
	}
}

// complete says a whole answer, without the credentials that the target may have quoted.
func (a *Answer) complete(status int, body []byte) {
	secrets := a.env.Certain
	if status >= 400 {
		secrets = a.env.Secrets
	}
	a.held, a.cleared = a.held[:0], a.cleared[:0]
	a.good = status < 300
	a.out.Body = secrets.JSON(body)
	a.out.Commit = &Start{Status: status, Length: len(a.out.Body), Labelled: a.content.labelled, Retry: status >= 400 && a.again, Blocked: a.blocked}
	a.conclude()
}

// conclude follows the last byte for the client. The end of a good answer waits a moment for the
// target's: its connection is used again when it has ended by itself, and closed otherwise.
func (a *Answer) conclude() {
	if a.closed || !a.good {
		a.finally()
		return
	}
	a.state, a.clock.endBy = Concluded, a.clock.now.Add(endsWithin)
}

// finally says the end. Envoy closes the connection to a target that goes on.
func (a *Answer) finally() { a.state, a.out.End = Done, true }

// end takes the target's last byte.
func (a *Answer) end() {
	a.closed = true
	if a.reads() {
		a.unpacked(a.content.end(a.take))
	}
	switch a.state {
	case Concluded:
		a.finally()
	case Waiting, Streaming:
		switch {
		case !a.reads():
		case a.decoder == nil || a.content.form == formWhole:
			a.endWhole()
		default:
			a.endStream(a.problem("the stream broke off"))
		}
	}
}

// refuse ends an attempt of which the client has nothing. Should Envoy ask another target, none of
// it is seen.
func (a *Answer) refuse(e *llm.Error) { a.tell(a.fail(e, true)) }

// tell says an error: as the target's answer where it has given one, for its headers may matter to
// the client.
func (a *Answer) tell(told *llm.Error) {
	a.held = a.held[:0]
	if a.head.Status == 0 {
		a.instead(told)
		return
	}
	a.complete(a.env.Status(told), a.env.Client.EncodeError(told))
}

// instead ends the attempt with an error in the target's place.
func (a *Answer) instead(told *llm.Error) {
	a.state, a.held, a.cleared = Done, a.held[:0], a.cleared[:0]
	a.out.Instead = &Reply{Status: a.env.Status(told), Body: a.env.Client.EncodeError(told), Retry: a.again}
}

// fail notes the failure, and returns what the client is told of it.
func (a *Answer) fail(e *llm.Error, fault bool) *llm.Error {
	v := a.env.Fail(e, fault)
	a.out.Failed, a.again = e, v.Again
	a.faulty = fault && e.Type != llm.ErrTimeout
	return v.Told
}

// problem is a failure of the target's that is known by what it does.
func (a *Answer) problem(format string, args ...any) *llm.Error {
	return llm.Errorf(llm.ErrBadGateway, "target %q: "+format, append([]any{a.env.Target}, args...)...)
}
