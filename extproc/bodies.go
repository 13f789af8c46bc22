package extproc

import (
	"sync"
	"time"

	"millrace/extproc/llm"
)

// bodies counts what the bodies of all requests under way take. A body is counted from the moment
// its headers announce it, or as it comes where they do not, until the request is refused or has
// ended: for so long both Envoy and the exchange hold it.
type bodies struct {
	mu    sync.Mutex
	used  int64
	known map[string]body // by the request's id
}

type body struct {
	size  int64
	since time.Time
}

// hold counts size for the request, in place of what was counted for it before. It returns false,
// and changes nothing, where all of them would then take more than most; but one alone may always
// be as large as it is, or it could never be served.
func (b *bodies) hold(id string, size, most int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, again := b.known[id]
	if others := b.used - before.size; size > before.size && others > 0 && others+size > most {
		return false
	}
	if b.known == nil {
		b.known = map[string]body{}
	}
	if !again {
		before.since = time.Now()
	}
	b.used += size - before.size
	b.known[id] = body{size: size, since: before.since}
	return true
}

// release is for the end of a request; one of which nothing is counted is no mistake.
func (b *bodies) release(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= b.known[id].size
	delete(b.known, id)
}

// forget releases what was announced before the time, unless the request still lives.
func (b *bodies) forget(before time.Time, lives func(id string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, body := range b.known {
		if body.since.Before(before) && !lives(id) {
			b.used -= body.size
			delete(b.known, id)
		}
	}
}

// answers counts what is collected of answers, beyond the little that each may take, until the
// client has it.
type answers struct {
	mu   sync.Mutex
	used int64
}

const (
	// littleOfAnswer is what every answer may take. Most are smaller.
	littleOfAnswer = 256 << 10
	// stepOfAnswer is in what steps more is counted.
	stepOfAnswer = 1 << 20
)

// hold tells whether there is room for an answer of which now so much is collected. One alone
// always has room.
func (r *answers) hold(x *exchange, bytes, most int64) bool {
	if bytes <= littleOfAnswer {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes <= x.collected {
		return true
	}
	counted := (bytes + stepOfAnswer - 1) / stepOfAnswer * stepOfAnswer
	if others := r.used - x.collected; others > 0 && others+counted > most {
		return false
	}
	r.used += counted - x.collected
	x.collected = counted
	return true
}

// release is for the end of a request.
func (r *answers) release(x *exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= x.collected
	x.collected = 0
}

// room tells whether there is room for so much of an answer to be collected: what there is for the
// bodies of requests, once more.
func (s *Server) room(x *exchange, bytes int64) bool {
	s.memory.short() // which has garbage collected more often when there is less room
	return s.exchanges.answers.hold(x, bytes, min(x.runtime.maxBodies, s.memory.limit()/3))
}

// crowded is what a request is told that has to come again. What holds the room is answers under
// way and uploads, either of which may end any moment.
func crowded(why string) *llm.Error {
	e := llm.Errorf(llm.ErrUnavailable, "%s, try again shortly", why)
	e.RetryAfter = time.Second
	return e
}
