package answer

import (
	"time"

	"millrace/extproc/llm"
)

// Clock is how long what may take. A limit of 0 is none.
type Clock struct {
	Started    time.Time
	Answer     time.Duration // from Started to a stream's head, or to the end of a whole answer
	Silence    time.Duration // of a stream before its first token: any byte ends it
	FirstToken time.Duration // from Started, whatever comes before it
	InterChunk time.Duration // of silence behind the first token
	KeepAlive  time.Duration // of silence until the client of a stream gets a comment
	Ends       time.Time     // when the time of the whole request is over; zero: never
	Leaves     time.Time     // when a client that has nothing leaves, by its own word; zero: it does not say
}

const (
	// endsWithin is how long the end of a complete answer waits for the target's.
	endsWithin = time.Second
	// usageWithin is how long a stream that has said why it stopped is waited for to tell its usage
	// and its end. OpenAI tells them in the same moment; the client waits for it with a complete
	// answer in its hands.
	usageWithin = 2 * time.Second
)

type clock struct {
	Clock
	now      time.Time // of the event
	heard    time.Time // when the target last said something
	lastSaid time.Time // when it did, or the client got a comment
	unread   int64     // an estimate of what the client has not read, in bytes, at counted
	counted  time.Time
	endBy    time.Time // of Concluded: until when the target may end
}

func (c *clock) hear(now time.Time) { c.heard, c.lastSaid = now, now }

const (
	// leastRead is how fast a client reads at least, in bytes a second: faster than tokens come, as
	// a rule.
	leastRead = 16 << 10
	// buffered is what a client may have unread before Envoy stops reading the target (xds).
	buffered = 128 << 10
)

// tell counts what the client gets.
func (c *clock) tell(bytes int) {
	read := int64(c.now.Sub(c.counted).Seconds() * leastRead)
	c.unread, c.counted = max(0, c.unread-read)+int64(bytes), c.now
}

// behind is how long the target may be silent because the client is slow: Envoy does not read it
// then, and nobody says so.
func (c *clock) behind() time.Duration {
	return time.Duration(max(0, c.unread-buffered)/leastRead) * time.Second
}

// passed tells whether the time, if it is one, is over.
func (c *clock) passed(t time.Time) bool { return !t.IsZero() && !c.now.Before(t) }

// after is a time so long after another; zero for no limit.
func after(t time.Time, limit time.Duration) time.Time {
	if limit == 0 {
		return time.Time{}
	}
	return t.Add(limit)
}

// soonest is the earliest of the times that are not zero.
func soonest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// Deadline is when Tick is to be called, unless something happens before; zero: not at all.
func (a *Answer) Deadline() time.Time { return soonest(a.lateAt(), a.commentAt()) }

// lateAt is when what is waited for is late.
func (a *Answer) lateAt() time.Time {
	c := &a.clock
	switch {
	case a.state == Done:
		return time.Time{}
	case a.state == Concluded:
		return c.endBy
	case !a.finished.IsZero():
		return a.finished.Add(usageWithin)
	case !a.streams():
		return soonest(after(c.Started, c.Answer), c.Ends, c.Leaves)
	case a.spoke && a.state == Waiting: // policies keep back what it has said
		return soonest(after(c.heard, c.InterChunk), after(c.Started, c.FirstToken))
	case a.spoke:
		return after(c.heard.Add(c.behind()), c.InterChunk)
	case a.state == Streaming:
		return soonest(after(c.heard, c.Silence), after(c.Started, c.FirstToken))
	}
	return soonest(after(c.heard, c.Silence), after(c.Started, c.FirstToken), c.Leaves)
}

// commentAt is when the client gets a comment, because its stream is silent. Envoy takes nothing
// for it before some of the target's body has come.
func (a *Answer) commentAt() time.Time {
	if !a.Torn() || !a.begun {
		return time.Time{}
	}
	return after(a.clock.lastSaid, a.clock.KeepAlive)
}

// Tick is for a moment that has come. It may be called at any time.
func (a *Answer) Tick(now time.Time) Out {
	return a.event(now, func() {
		switch {
		case a.clock.passed(a.lateAt()):
			a.late()
		case a.clock.passed(a.commentAt()):
			a.comment()
		}
	})
}

// late gives up what has taken too long: unseen, while the client has nothing of it, else in words.
func (a *Answer) late() {
	switch {
	case a.state == Concluded:
		a.finally()
	case !a.finished.IsZero():
		a.done()
	case a.state == Streaming:
		a.giveUp(a.lateness())
	case a.spoke && !a.clock.passed(after(a.clock.heard, a.clock.InterChunk)):
		a.begin() // Envoy waits no longer for the head; a block now ends the stream
	case a.state == Waiting:
		a.lateHead()
	}
}

// lateHead is late for a client that has nothing.
func (a *Answer) lateHead() {
	gone := a.clock.passed(a.clock.Leaves)
	told := a.fail(a.lateness(), !gone)
	a.again = a.again && !gone && !a.clock.passed(a.clock.Ends) && !a.env.Alone
	a.instead(told)
}

// comment says something that means nothing: clients skip comments
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes).
func (a *Answer) comment() {
	a.held = append(a.held, a.env.Comment...)
	a.clock.lastSaid = a.clock.now
}

// lateness says what has taken too long.
func (a *Answer) lateness() *llm.Error {
	c := &a.clock
	late := func(format string, args ...any) *llm.Error {
		return llm.Errorf(llm.ErrTimeout, "target %q: "+format, append([]any{a.env.Target}, args...)...)
	}
	switch {
	case a.spoke:
		return late("the stream was silent for %s", c.InterChunk)
	case a.state == Waiting && c.passed(c.Leaves):
		return late("no answer within the time that the client waits")
	case c.passed(c.Ends):
		return late("no answer in time")
	case a.streams() && c.passed(after(c.Started, c.FirstToken)):
		return late("no first token within %s", c.FirstToken)
	case a.streams():
		return late("silent for %s before its first token", c.Silence)
	}
	return late("no answer within %s", c.Answer)
}
