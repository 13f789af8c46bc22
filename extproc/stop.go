package extproc

import (
	"errors"
	"sync"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/extproc/llm"
)

// Stop ends what is still under way, each in its client's schema: a stream that its client has a part of with an error event,
// everything else with a 503, which is also what requests get that come later. It does not wait; Busy tells when it is done. It
// may be called more than once.
func (s *Server) Stop() { s.stop() }

// stopped tells whether Stop was called.
func (s *Server) stopped() bool { return s.stopping.Err() != nil }

// errStopping is no end: the stream's goroutine has to end what its client has a part of.
var errStopping = errors.New("the gateway is shutting down")

func shuttingDown() *llm.Error { return llm.Errorf(llm.ErrUnavailable, "the gateway is shutting down") }

// interruptible is an attempt's stream, on which Stop can answer while the attempt's goroutine waits for Envoy.
type interruptible struct {
	extprocv3.ExternalProcessor_ProcessServer

	mu          sync.Mutex // guards what follows, and sending
	answered    bool       // Envoy has the answer's headers
	interrupted bool       // the answer was given by interrupt
}

// Send is for the attempt's goroutine.
func (s *interruptible) Send(m *extprocv3.ProcessingResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		return errAbandoned
	}
	s.answered = s.answered || m.GetResponseHeaders() != nil || m.GetImmediateResponse() != nil
	return s.ExternalProcessor_ProcessServer.Send(m)
}

// close is for the end of the attempt: from here on it is not interrupted any more.
func (s *interruptible) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = true
}

// interrupt is called by Stop, on a goroutine of its own, for an attempt that has begun: it sends an error in place of an answer
// if there is none yet. Once the client has a part of a stream, only the attempt's goroutine knows how it can end; it is told by
// its watch.
func (a *attempt) interrupt() {
	a.stream.mu.Lock()
	defer a.stream.mu.Unlock()
	if a.stream.answered {
		return
	}
	a.stream.interrupted = true
	e := shuttingDown()
	a.noteFailure(e)
	_ = a.stream.ExternalProcessor_ProcessServer.Send(refusal(a.x, e)) // fails when Envoy is gone: then there is nobody to tell
}

// stopped ends what the client has a part of; the rest is for interrupt.
func (a *attempt) stopped() error {
	if a.reader == nil || !a.reader.committed || a.phase == over {
		return nil
	}
	if a.phase == ends {
		return errAbandoned
	}
	return a.reader.abandon(shuttingDown())
}
