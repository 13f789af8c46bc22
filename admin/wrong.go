package admin

import (
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// mostWrong is how many different wrong tokens of one client are looked at within wrongWindow.
	mostWrong   = 10
	wrongWindow = time.Minute
	// mostClients bounds the clients that are remembered. Beyond it the oldest is forgotten.
	mostClients = 4096
	// wrongLogEvery is the least time from one line of the log to the next.
	wrongLogEvery = time.Second
)

// wrongTokens slows down whoever guesses tokens, and nobody else: a client that goes on sending the
// one token that was right before makes no guesses.
type wrongTokens struct {
	log  *slog.Logger
	seed maphash.Seed

	mu       sync.Mutex // guards what follows
	clients  map[netip.Prefix]*guesses
	total    int64
	unlogged int // wrong tokens since the last line of the log
	logged   time.Time
}

// guesses are the different wrong tokens of one client since its first one.
type guesses struct {
	since  time.Time
	tokens []uint64 // their hashes
}

func newWrongTokens(log *slog.Logger) *wrongTokens {
	return &wrongTokens{log: log, seed: maphash.MakeSeed(), clients: map[netip.Prefix]*guesses{}}
}

// look tells whether the token that a client sent is right. A wait above 0 says that it was not
// looked at, because the client has guessed too often, and for how long none will be.
func (w *wrongTokens) look(client netip.Prefix, token string, isRight func() bool) (right bool, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	g := w.clients[client]
	if g != nil && now.Sub(g.since) >= wrongWindow {
		delete(w.clients, client)
		g = nil
	}
	if g != nil && len(g.tokens) >= mostWrong {
		return false, g.since.Add(wrongWindow).Sub(now)
	}
	if isRight() {
		return true, 0
	}
	if g == nil {
		w.makeRoom(now)
		g = &guesses{since: now}
		w.clients[client] = g
	}
	if guess := maphash.String(w.seed, token); !slices.Contains(g.tokens, guess) {
		g.tokens = append(g.tokens, guess)
	}
	w.note(client, len(g.tokens), now)
	return false, 0
}

// makeRoom forgets clients whose time is over, and the oldest one when that is not enough.
func (w *wrongTokens) makeRoom(now time.Time) {
	if len(w.clients) < mostClients {
		return
	}
	var oldest netip.Prefix
	for client, g := range w.clients {
		if now.Sub(g.since) >= wrongWindow {
			delete(w.clients, client)
			continue
		}
		if o := w.clients[oldest]; o == nil || g.since.Before(o.since) {
			oldest = client
		}
	}
	if len(w.clients) >= mostClients {
		delete(w.clients, oldest)
	}
}

// note counts a wrong token and says so in the log: the first at once, more of them together.
func (w *wrongTokens) note(client netip.Prefix, different int, now time.Time) {
	w.total++
	w.unlogged++
	refused := different == mostWrong
	if !refused && now.Sub(w.logged) < wrongLogEvery {
		return
	}
	w.log.Warn("admin: wrong token", "client", client.Addr().String(), "different_ones", different,
		"refused_for_a_while", refused, "since_last_line", w.unlogged, "in_all", w.total)
	w.unlogged, w.logged = 0, now
}

// count is how many wrong tokens were looked at.
func (w *wrongTokens) count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}
