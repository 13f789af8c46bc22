package main

import (
	"context"
	"errors"
	"os"
	"time"
)

const (
	// lastWords bounds the wait for the last endings to reach their clients.
	lastWords = 3 * time.Second
	// settleTimeout is a few times what Envoy takes to tell of a request's end.
	settleTimeout = time.Second
	// hardStop is what the end of a process may take beside its drain.
	hardStop = 10 * time.Second
	// drainPoll is how often a drain looks whether it is done.
	drainPoll = 20 * time.Millisecond
)

// beginDrain takes readiness away. ctx ends with the drain timeout, whole when the last endings
// must have reached their clients.
func (s *sidecar) beginDrain(signalled context.Context) (ctx, whole context.Context, cancel context.CancelFunc) {
	s.draining.Store(true)
	c := s.plane.Config()
	s.log.Info("draining", "new_requests_for", s.drainDelay(signalled).String(), "at_most", c.DrainTimeout.String())
	whole, endWhole := context.WithTimeout(context.WithoutCancel(signalled), c.DrainTimeout+lastWords)
	ctx, end := context.WithTimeout(whole, c.DrainTimeout)
	return ctx, whole, func() { end(); endWhole() }
}

// endsWithin ends the process, with exit status 1, if it still runs then. Every step of the end has
// a limit of its own; this is for what nobody has thought of.
func (s *sidecar) endsWithin(d time.Duration) {
	time.AfterFunc(d, func() {
		go s.log.Error("the end takes too long: ending at once") // not waited for: it may be what hangs
		time.Sleep(drainPoll)
		os.Exit(1)
	})
}

// drainDelay is how long new requests are still served; not at all when the signal was Ctrl-C:
// somebody waits at a terminal.
func (s *sidecar) drainDelay(signalled context.Context) time.Duration {
	if errors.Is(context.Cause(signalled), errInterrupt) {
		return 0
	}
	return s.plane.Config().DrainDelay
}

// awaitNotice gives balancers the drain delay to notice that the gateway is not ready; new requests
// are served meanwhile. It returns early when Envoy is gone.
func (s *sidecar) awaitNotice(ctx, signalled context.Context, gone func() bool) {
	ctx, cancel := context.WithTimeout(ctx, s.drainDelay(signalled))
	defer cancel()
	until(ctx, gone)
}

// awaitSettled waits until Envoy has told of the end of every request, which is when events are
// written.
func (s *sidecar) awaitSettled() {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	until(ctx, func() bool { return !s.data.Unsettled() })
}

// drain is the drain of a sidecar whose Envoy somebody else starts and stops.
func (s *sidecar) drain(signalled context.Context) {
	ctx, whole, cancel := s.beginDrain(signalled)
	defer cancel()
	alone := func() bool { return !s.xds.Status().Connected }
	done := func() bool { return !s.data.Busy() || alone() }
	s.awaitNotice(ctx, signalled, alone)
	if !s.plane.Config().Open() {
		if err := s.xds.StopListening(whole); err != nil {
			s.log.Warn("close the listener", "error", err)
		}
	}
	if !until(ctx, done) {
		s.data.Stop()
		until(whole, done)
	}
	s.awaitSettled()
}

// until polls; it returns false when ctx ends before the state is there.
func until(ctx context.Context, state func() bool) bool {
	for tick := time.NewTicker(drainPoll); ; {
		if state() {
			tick.Stop()
			return true
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return false
		case <-tick.C:
		}
	}
}
