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
		within time.Duration // of each wait; 0: no deadline
		want   []error
	}{
		"no limit":            {0, []error{nil, nil, nil, io.EOF}},
		"in time":             {6 * s, []error{nil, nil, nil, io.EOF}},
		"late, and goes on":   {4 * s, []error{nil, errLate, nil, nil, io.EOF}},
		"a time in the past":  {-s, []error{errLate, errLate}},
		"a short time, twice": {2 * s, []error{errLate, nil, errLate, errLate, nil, errLate, nil, io.EOF}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatch(&paced{waits: []time.Duration{3 * s, 5 * s, 3 * s}}, nil)
				defer time.Sleep(time.Minute) // until the goroutine that receives has ended
				defer w.stop()
				for i, want := range c.want {
					var deadline time.Time
					if c.within != 0 {
						deadline = time.Now().Add(c.within)
					}
					if _, err := w.receive(deadline); !errors.Is(err, want) {
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
		time.Sleep(time.Minute)
		if _, err := w.receive(time.Now().Add(-time.Second)); err != nil {
			t.Fatalf("the message that came in time: %v", err)
		}
	})
}

// TestWatchTellsOfStop: once.
func TestWatchTellsOfStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		close(stopping)
		w := newWatch(&paced{waits: []time.Duration{time.Second}}, stopping)
		defer w.stop()
		for i, want := range []error{errStopping, nil, io.EOF} {
			if _, err := w.receive(time.Time{}); !errors.Is(err, want) {
				t.Fatalf("receive %d: %v, want %v", i+1, err, want)
			}
		}
	})
}
