package webhook

import (
	"sync"
	"time"
)

// breaker keeps questions away from a service that fails.
type breaker struct {
	failures int // in a row; 0: it lets everything pass
	pause    time.Duration

	mu     sync.Mutex // guards what follows
	failed int        // in a row
	until  time.Time  // when the pause ends, once failed has reached failures
	trying bool       // the pause is over, and one question is out to see
}

// state is what a question says of the service.
type state int

const (
	unknown state = iota // nothing: its client has left
	up
	down
)

// enter tells whether a question may be put; leave must follow when it may.
func (b *breaker) enter() bool {
	if b.failures == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < b.failures {
		return true
	}
	if b.trying || time.Now().Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

func (b *breaker) leave(s state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch s {
	case up:
		b.failed = 0
	case down:
		b.failed++
		b.until = time.Now().Add(b.pause)
	}
}
