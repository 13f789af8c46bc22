package answer

import (
	"time"

	"millrace/extproc/llm"
)

// Clock is how long what may take. A limit of 0 is none.
type Clock struct {
	Started    time.Time
	Answer     time.Duration // from Started to a stream's head, or to the end of a whole answer; Envoy's own clock tells where it is 0
	Silence    time.Duration // of a stream before its first token: any byte ends it
	FirstToken time.Duration // from Started, whatever comes before it
	CommitBy   time.Duration // from Started until the client gets the head of a stream that lives and has said nothing
	InterChunk time.Duration // of silence behind the first token
	KeepAlive  time.Duration // of silence until the client of a stream gets a comment
	Leaves     time.Time     // when a client that has nothing leaves, by its own word; zero: it does not say
}

const (
	// endsWithin is how long a target may take to end what has failed.
	endsWithin = time.Second
	// usageWithin is how long a stream that has said why it stopped is waited for to tell its usage and its end. OpenAI tells them in
	// the same moment; the client waits for it with a complete answer in its hands.
	usageWithin = 2 * time.Second
	// holdTick is how often an attempt that has failed looks whether a rival may still answer.
	holdTick = 20 * time.Millisecond
)

type clock struct {
	Clock
	now     time.Time // of the event
	heard   time.Time // when the target last said something
	said    time.Time // when it did, or the client got a comment
	endBy   time.Time // of Failing and Concluded: until when the target may end; of Withheld: when to look again
	expired bool      // Answer has passed: Envoy's clock ends the attempt
}

func (c *clock) hear(now time.Time) { c.heard, c.said = now, now }

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
	case a.state == Failing, a.state == Concluded, a.state == Withheld:
		return c.endBy
	case !a.finished.IsZero():
		return a.finished.Add(usageWithin)
	case !a.streams():
		if c.expired {
			return c.Leaves
		}
		return soonest(after(c.Started, c.Answer), c.Leaves)
	case a.spoke:
		return after(c.heard, c.InterChunk)
	case a.state == Streaming:
		return soonest(after(c.heard, c.Silence), after(c.Started, c.FirstToken))
	}
	return soonest(after(c.heard, c.Silence), after(c.Started, c.FirstToken), after(c.Started, c.CommitBy), c.Leaves)
}

// commentAt is when the client gets a comment, because its stream is silent. Envoy takes nothing for it before some of the target's
// body has come.
func (a *Answer) commentAt() time.Time {
	if !a.Torn() || !a.begun {
		return time.Time{}
	}
	return after(a.clock.said, a.clock.KeepAlive)
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
	case a.state == Withheld:
		a.lookAgain()
	case a.state == Failing:
		a.cutOff(a.failure)
	case a.state == Concluded:
		a.abandon()
	case !a.finished.IsZero():
		a.done()
	case a.state == Streaming:
		a.giveUp(a.lateness())
	case a.state == Waiting:
		a.lateHead()
	}
}

// lateHead is late for a client that has nothing.
func (a *Answer) lateHead() {
	c, retry := &a.clock, a.env.Retry
	gone := c.passed(c.Leaves)
	switch {
	case a.streams() && !gone && c.passed(after(c.Started, c.CommitBy)) && !c.passed(after(c.heard, c.Silence)):
		a.begin()
	case retry.Hedged && !gone:
		e := a.fail(a.lateness(), true)
		if !a.again {
			a.instead(e)
			return
		}
		a.failure, a.tardy = e, true
		a.withhold()
	case gone, retry.Last, retry.Alone, a.head.Status == 0 && retry.Queued:
		a.instead(a.fail(a.lateness(), !gone))
	case a.head.Status != 0:
		a.cutOff(a.fail(a.lateness(), true))
	default: // Envoy retries what a target answers, and resets; what a filter answers it does not
		c.expired = true
	}
}

// lookAgain says why the attempt has failed once no other may answer.
func (a *Answer) lookAgain() {
	switch {
	case a.env.Rival():
		a.clock.endBy = a.clock.now.Add(holdTick)
	case a.closed:
		a.completeError(a.failure)
	default:
		a.instead(a.failure)
	}
}

// comment says something that means nothing: clients skip comments
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes).
func (a *Answer) comment() {
	a.held = append(a.held, a.env.Comment...)
	a.clock.said = a.clock.now
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
	case a.streams() && c.passed(after(c.Started, c.FirstToken)):
		return late("no first token within %s", c.FirstToken)
	case a.streams():
		return late("silent for %s before its first token", c.Silence)
	}
	return late("no answer within %s", c.Answer)
}
