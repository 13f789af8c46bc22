package extproc

import (
	"errors"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// errSilent is no end: the stream may be received from again.
var errSilent = errors.New("silent for too long")

// watch receives from a stream with a limit on silence, which gRPC has not. Only one goroutine may use it.
type watch struct {
	messages chan received
	limit    time.Duration
	timer    *time.Timer
	last     bool          // the limit is on all that is left
	over     chan struct{} // closed by stop
	stopping <-chan struct{}
}

type received struct {
	message *extprocv3.ProcessingRequest
	err     error
}

// newWatch takes the stream over: nobody else may receive from it any more. The goroutine that does ends by stop and the return
// of the stream's handler, which ends its Recv.
func newWatch(stream extprocv3.ExternalProcessor_ProcessServer, limit time.Duration, stopping <-chan struct{}) *watch {
	w := &watch{messages: make(chan received, 4), limit: limit, timer: time.NewTimer(limit), over: make(chan struct{}), stopping: stopping}
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

// receive returns the next message, errSilent once when the limit has passed since the last one, or errStopping once.
func (w *watch) receive() (*extprocv3.ProcessingRequest, error) {
	select {
	case r := <-w.messages:
		return w.got(r)
	case <-w.stopping:
		w.stopping = nil
		return nil, errStopping
	case <-w.timer.C:
	}
	select { // both were there
	case r := <-w.messages:
		return w.got(r)
	default:
		return nil, errSilent
	}
}

// finish limits all that is left, not silence: errSilent comes after the time at the latest.
func (w *watch) finish(in time.Duration) {
	if !w.last {
		w.last = true
		w.timer.Reset(in)
	}
}

func (w *watch) got(r received) (*extprocv3.ProcessingRequest, error) {
	if !w.last {
		w.timer.Reset(w.limit)
	}
	return r.message, r.err
}

// stop is to be called once, when nothing more will be received.
func (w *watch) stop() {
	w.timer.Stop()
	close(w.over)
}
