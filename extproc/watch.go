package extproc

import (
	"errors"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// errLate and errStopping are no ends: the stream may be received from again.
var (
	errLate     = errors.New("nothing came in time")
	errStopping = errors.New("the gateway is shutting down")
)

// watch receives from a stream until a given time, which gRPC cannot. Only one goroutine may use
// it.
type watch struct {
	messages chan received
	over     chan struct{} // closed by stop
	timer    *time.Timer
	stopping <-chan struct{} // nil once it was told of
}

type received struct {
	message *extprocv3.ProcessingRequest
	err     error
}

// newWatch takes the stream over: nobody else may receive from it any more. The goroutine that does
// ends by stop and the return of the stream's handler, which ends its Recv.
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

// receive returns the next message; errLate when none came by the deadline, if there is one;
// errStopping once.
func (w *watch) receive(deadline time.Time) (*extprocv3.ProcessingRequest, error) {
	select { // a message that is there is never late
	case r := <-w.messages:
		return r.message, r.err
	default:
	}
	var late <-chan time.Time
	if !deadline.IsZero() {
		w.timer.Reset(time.Until(deadline))
		late = w.timer.C
	}
	select {
	case r := <-w.messages:
		return r.message, r.err
	case <-w.stopping:
		w.stopping = nil
		return nil, errStopping
	case <-late:
		return nil, errLate
	}
}

// stop is to be called once, when nothing more will be received.
func (w *watch) stop() {
	w.timer.Stop()
	close(w.over)
}
