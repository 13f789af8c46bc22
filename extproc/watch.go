package extproc

import (
	"errors"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// errLate and errQuiet are no ends: the stream may be received from again.
var (
	errLate  = errors.New("nothing came in time")
	errQuiet = errors.New("nothing came for a while")
)

// watch receives from a stream with a limit on the wait, which gRPC has not. Only one goroutine may use it.
type watch struct {
	messages chan received
	over     chan struct{} // closed by stop
	timer    *time.Timer
	stopping <-chan struct{}

	deadline time.Time     // zero: there is none
	silence  time.Duration // each message moves the deadline to so long after it; 0: it is fixed
	most     time.Time     // which the deadline is not moved beyond; zero: there is no such time
	last     time.Time     // when the latest message came, or the limits were set
	beat     time.Duration // a wait of so long is told of; 0: none is
}

type received struct {
	message *extprocv3.ProcessingRequest
	err     error
}

// newWatch takes the stream over: nobody else may receive from it any more. The goroutine that does ends by stop and the return
// of the stream's handler, which ends its Recv.
func newWatch(stream extprocv3.ExternalProcessor_ProcessServer, stopping <-chan struct{}) *watch {
	w := &watch{messages: make(chan received, 4), over: make(chan struct{}), timer: time.NewTimer(time.Hour), stopping: stopping}
	go func() {
		for {
			m, err := stream.Recv()
			select {
			case w.messages <- received{m, err}:
			case <-w.over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return w
}

// by sets a time by which all must have come; the zero time sets none.
func (w *watch) by(deadline time.Time) { w.deadline, w.silence, w.most = deadline, 0, time.Time{} }

// within sets how long the wait for each message may be, and by when all must have come; the zero
// time sets no such limit.
func (w *watch) within(silence time.Duration, most time.Time) {
	w.silence, w.most = silence, most
	w.heard()
}

// heard moves the deadline.
func (w *watch) heard() {
	w.last = time.Now()
	w.deadline = w.last.Add(w.silence)
	if !w.most.IsZero() && w.most.Before(w.deadline) {
		w.deadline = w.most
	}
}

// receive returns the next message; errQuiet when none came for a beat; errLate when none came by the deadline; errStopping once.
func (w *watch) receive() (*extprocv3.ProcessingRequest, error) {
	select { // a message that is there is never late
	case r := <-w.messages:
		return w.got(r)
	default:
	}
	if w.deadline.IsZero() {
		return w.got(<-w.messages)
	}
	wait, late := time.Until(w.deadline), true
	if w.beat > 0 && w.beat < wait {
		wait, late = w.beat, false
	}
	w.timer.Reset(wait)
	select {
	case r := <-w.messages:
		return w.got(r)
	case <-w.stopping:
		w.stopping = nil
		return nil, errStopping
	case <-w.timer.C:
	}
	if late {
		return nil, errLate
	}
	return nil, errQuiet
}

func (w *watch) got(r received) (*extprocv3.ProcessingRequest, error) {
	if w.silence > 0 {
		w.heard()
	}
	return r.message, r.err
}

// stop is to be called once, when nothing more will be received.
func (w *watch) stop() {
	w.timer.Stop()
	close(w.over)
}
