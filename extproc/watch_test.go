package extproc

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// paced is a stream whose messages come after the given waits, and then its end.
type paced struct {
	extprocv3.ExternalProcessor_ProcessServer
	waits []time.Duration
}

func (p *paced) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(p.waits) == 0 {
		return nil, io.EOF
	}
	time.Sleep(p.waits[0])
	p.waits = p.waits[1:]
	return &extprocv3.ProcessingRequest{}, nil
}

// TestWatch: what receive says, in order, of messages that come after 3 s, 5 s and 3 s.
func TestWatch(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		set  func(*watch)
		want []error
	}{
		"no limit":               {func(w *watch) { w.by(time.Time{}) }, []error{nil, nil, nil, io.EOF}},
		"silence within bounds":  {func(w *watch) { w.within(6*s, time.Time{}) }, []error{nil, nil, nil, io.EOF}},
		"silence":                {func(w *watch) { w.within(4*s, time.Time{}) }, []error{nil, errLate}},
		"a time":                 {func(w *watch) { w.by(time.Now().Add(7 * s)) }, []error{nil, errLate}},
		"a time in the past":     {func(w *watch) { w.by(time.Now().Add(-s)) }, []error{errLate}},
		"beats":                  {func(w *watch) { w.within(6*s, time.Time{}); w.beat = 2 * s }, []error{errQuiet, nil, errQuiet, errQuiet, nil, errQuiet, nil, io.EOF}},
		"beats, then the limit":  {func(w *watch) { w.within(4*s+s/2, time.Time{}); w.beat = 2 * s }, []error{errQuiet, nil, errQuiet, errQuiet, errLate}},
		"a beat beyond the time": {func(w *watch) { w.within(4*s, time.Time{}); w.beat = 5 * s }, []error{nil, errLate}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatch(&paced{waits: []time.Duration{3 * s, 5 * s, 3 * s}}, nil)
				defer time.Sleep(time.Minute) // until the goroutine that receives has ended
				defer w.stop()
				c.set(w)
				for i, want := range c.want {
					if _, err := w.receive(); !errors.Is(err, want) {
						t.Fatalf("receive %d: %v, want %v", i+1, err, want)
					}
				}
			})
		})
	}
}

// TestWatchPrefersMessages: what is there when the time is up is not late.
func TestWatchPrefersMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(&paced{waits: []time.Duration{time.Second}}, nil)
		defer w.stop()
		w.by(time.Now().Add(2 * time.Second))
		time.Sleep(time.Minute)
		if _, err := w.receive(); err != nil {
			t.Fatalf("the message that came in time: %v", err)
		}
	})
}
