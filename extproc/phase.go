package extproc

import (
	"errors"
	"maps"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/config"
	"millrace/extproc/llm"
)

// phase is what an attempt waits for. Each has its own limit.
type phase uint8

const (
	begins   phase = iota // the request
	waits                 // the target's head, or a whole answer
	thinks                // the first token
	streams               // the rest of a stream
	finishes              // the usage of a stream that has said why it stopped, and its own end
	ends                  // the target's end, when all that counts has been said
	over                  // Envoy's leave: the last byte is out
)

// receive waits for Envoy's next message, no longer than the phase allows: errLate. The client has a stream that has been silent for
// keep_alive: errQuiet. Stop was called: errStopping.
func (a *attempt) receive() (*extprocv3.ProcessingRequest, error) {
	if now := a.nextPhase(); now != a.phase || now == finishes {
		a.phase = now
		a.limit()
	}
	if a.watch == nil {
		return a.stream.Recv()
	}
	a.watch.beat = 0
	if a.reader != nil && a.reader.streaming() && a.reader.begun {
		a.watch.beat = a.route.keepAlive
	}
	return a.watch.receive()
}

func (a *attempt) nextPhase() phase {
	switch r := a.reader; {
	case a.record == nil:
		return begins
	case r != nil && r.over:
		return over
	case r != nil && !r.finished.IsZero() && !r.ended && !r.told:
		return finishes
	case r == nil || (r.decoder == nil || r.assembly != nil) && !r.told:
		return waits
	case !r.spoke && !r.told:
		return thinks
	case r.told || r.ended:
		return ends
	default:
		return streams
	}
}

// limit sets the limit of the phase that has begun.
func (a *attempt) limit() {
	switch a.phase {
	case waits:
		if by := soonest(a.startedPlus(a.mostWait()), a.clientLeaves()); !by.IsZero() {
			a.watched().by(by)
		}
	case thinks:
		a.watched().within(a.target.first, soonest(a.startedPlus(a.target.firstToken), a.clientLeaves(), a.commitsAt()))
	case streams:
		a.watched().within(a.route.interChunk, time.Time{})
	case finishes:
		a.watched().by(a.reader.finished.Add(usageWithin))
	case ends:
		a.watched().by(time.Now().Add(a.mayLinger()))
		if a.withheld != nil {
			a.watched().by(time.Now())
		}
	case over:
		if a.watch != nil {
			a.watch.by(time.Time{})
		}
	}
}

func (a *attempt) watched() *watch {
	if a.watch == nil {
		a.watch = newWatch(a.stream, a.server.stopping.Done())
	}
	return a.watch
}

// endsWithin is how long a target may take to end a stream that has failed.
const endsWithin = time.Second

// usageWithin is how long a stream that has said why it stopped is waited for to tell its usage and its end. OpenAI tells them in the
// same moment; the client waits for it with a complete answer in its hands.
const usageWithin = 2 * time.Second

// mayLinger is how long a target may take to its end when the client has all it gets. A complete answer waits as long as for a next
// event: Envoy can end the client's stream before the target's only by cutting it.
func (a *attempt) mayLinger() time.Duration {
	if !a.reader.finished.IsZero() {
		return max(a.route.interChunk, endsWithin)
	}
	return endsWithin
}

// mostWait is how long the attempt may take to the target's head, or of a whole answer to its end,
// 0 where Envoy's own clock tells.
func (a *attempt) mostWait() time.Duration {
	switch rt := a.route; {
	case a.x.head.Stream && rt.queues:
		return min(a.target.first, a.target.firstToken) + queueTime
	case a.x.head.Stream:
		return min(a.target.first, a.target.firstToken)
	case a.target.whole < rt.clock.Request:
		return a.target.whole
	}
	return 0
}

// queueTime is how much longer than to its head a stream may take where connections are bounded:
// Envoy's clocks begin with the connection.
const queueTime = 5 * time.Second

// startedPlus is a limit of the attempt's as a time, zero when there is none.
func (a *attempt) startedPlus(limit time.Duration) time.Time {
	if limit == 0 || limit == config.Unbounded {
		return time.Time{}
	}
	return a.started.Add(limit)
}

// clientLeaves is when a client that has nothing of its answer leaves, by its own word; zero when
// it has not said so, or has got something.
func (a *attempt) clientLeaves() time.Time {
	if a.x.waits == 0 || a.reader != nil && a.reader.committed {
		return time.Time{}
	}
	return a.x.started.Add(a.x.waits)
}

// commitsAt is when the client gets the head of a stream that has one and lives; zero: with its
// first token, or it has it.
func (a *attempt) commitsAt() time.Time {
	if a.reader.committed {
		return time.Time{}
	}
	return a.startedPlus(a.route.commitBy)
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

// passed tells whether the time, if it is one, is over.
func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// late gives up what has taken too long: unseen, while the client has nothing of it, else in words.
func (a *attempt) late() error {
	if a.withheld != nil {
		return a.stillHeld()
	}
	if a.phase == finishes {
		return a.reader.done()
	}
	if a.phase == ends {
		if a.reader.refusal != nil {
			return a.reader.cutOff(a.reader.refusal)
		}
		return errAbandoned
	}
	gone := passed(a.clientLeaves())
	if a.phase == thinks && !gone && passed(a.commitsAt()) && time.Since(a.watch.last) < a.target.first {
		if err := a.reader.commit(a.reader.status, -1); err != nil {
			return err
		}
		a.limit()
		return a.reader.flush()
	}
	a.impatient = gone
	e := a.lateness()
	final := gone || a.last() || a.target.alone
	switch {
	case a.reader != nil && a.reader.committed:
		return a.reader.abandon(e)
	case a.route.hedge > 0 && !gone:
		a.fail(e)
		if a.holds(e) {
			return a.stillHeld()
		}
		return a.giveUp(e)
	case final, a.reader == nil && a.route.queues:
		a.fail(e)
		return a.giveUp(e)
	case a.reader != nil:
		a.fail(e)
		return a.reader.cutOff(e)
	default: // Envoy retries what a target answers, and resets; what a filter answers it does not
		a.watch.by(a.clientLeaves())
		return nil
	}
}

// lateness says what has taken too long.
func (a *attempt) lateness() *llm.Error {
	late := func(format string, args ...any) *llm.Error {
		return llm.Errorf(llm.ErrTimeout, "target %q: "+format, append([]any{a.record.Target}, args...)...)
	}
	switch {
	case a.phase == streams:
		return late("the stream was silent for %s", a.route.interChunk)
	case passed(a.clientLeaves()):
		return late("no answer within the time that the client waits")
	case a.phase == thinks && passed(a.startedPlus(a.target.firstToken)):
		return late("no first token within %s", a.target.firstToken)
	case a.phase == thinks:
		return late("silent for %s before its first token", a.target.first)
	}
	return late("no answer within %s", a.mostWait())
}

// last tells whether Envoy makes no attempt after this one.
func (a *attempt) last() bool { return a.number >= a.route.attempts }

// giveUp ends an attempt that has failed, whatever the target still says, and the request with it.
func (a *attempt) giveUp(e *llm.Error) error {
	if err := a.stream.Send(a.instead(a.status(e), "application/json", a.x.client.Client.EncodeError(e))); err != nil {
		return err
	}
	return errAnswered
}

// errAnswered ends the stream of an attempt that has its answer.
var errAnswered = errors.New("answered")

// instead is an answer that the sidecar gives in the target's place.
func (a *attempt) instead(status int, contentType string, body []byte) *extprocv3.ProcessingResponse {
	a.answered(status)
	headers := a.provenance()
	headers["content-type"] = contentType
	var set []*corev3.HeaderValueOption
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		set = append(set, header(name, headers[name]))
	}
	return answer(status, body, set...)
}
