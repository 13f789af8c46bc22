package extproc

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/extproc/llm"
)

// phase is what an attempt waits for. Each has its own limit.
type phase uint8

const (
	begins   phase = iota // the request
	waits                 // the first token, or a whole answer
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
		a.watch.beat = a.x.route.keepAlive
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
	case r == nil || !r.spoke && !r.told:
		return waits
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
		if most := a.mostWait(); most > 0 {
			a.watched().by(a.started.Add(most))
		}
	case streams:
		a.watched().within(a.x.route.interChunk)
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
		return max(a.x.route.interChunk, endsWithin)
	}
	return endsWithin
}

// mostWait is how long the attempt may take to its first token, or of a whole answer to its end, 0 where Envoy's own clock tells.
func (a *attempt) mostWait() time.Duration {
	switch rt := a.x.route; {
	case a.x.head.Stream && (a.target.first < rt.clock.FirstByte || rt.atHeaders):
		return a.target.first
	case a.x.head.Stream && rt.queues:
		return a.target.first + queueTime
	case !a.x.head.Stream && a.target.whole < rt.clock.Request:
		return a.target.whole
	}
	return 0
}

// queueTime is how much longer than to its first token a stream may take where connections are bounded: Envoy's clock begins with the
// connection.
const queueTime = 5 * time.Second

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
	e := llm.Errorf(llm.ErrTimeout, "target %q: no answer within %s", a.record.Target, a.mostWait())
	if a.phase == streams {
		e = llm.Errorf(llm.ErrTimeout, "target %q: the stream was silent for %s", a.record.Target, a.x.route.interChunk)
	}
	switch {
	case a.reader != nil && a.reader.committed:
		return a.reader.abandon(e)
	case a.holds(e):
		a.fail(e)
		return a.stillHeld()
	case a.reader != nil:
		a.fail(e)
		return a.reader.cutOff(e)
	case a.last() || a.x.route.queues:
		a.fail(e)
		return a.giveUp(e)
	default: // Envoy retries what a target answers, and resets; what a filter answers it does not
		a.watch.by(time.Time{})
		return nil
	}
}

// last tells whether Envoy makes no attempt after this one.
func (a *attempt) last() bool { return a.number >= a.x.route.attempts }

// retried tells whether Envoy, for an answer of this status, asks another target (retryPolicy in xds).
func retried(status int) bool { return status >= 500 || status == http.StatusTooManyRequests }

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
