// Package engine is the one NATS JetStream of this process: a server inside it (no port, files in
// the data directory), or an external one that several sidecars share. Whoever keeps state in it,
// the configuration's store first, gets the same Engine and makes a stream of its own there; what a
// stream holds is its owner's business.
//
// The engine owns the data directory: it is created, must be our own, and is locked from the first
// Connect to Close. That an engine cannot be reached is ErrUnavailable, which may pass; any other
// error of Connect is for a person to mend.
package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What callers tell apart.
var (
	ErrUnavailable = errors.New("unavailable")
	ErrTooLarge    = errors.New("too large")
)

const connectWithin = 5 * time.Second

// AnswerWithin bounds one call; a disk that takes longer to sync is not working.
const AnswerWithin = 5 * time.Second

// Options say where the engine is.
type Options struct {
	// DataDir holds the embedded server's files. It is created, and locked: two sidecars cannot
	// share one. With URL it may be empty; else it is locked all the same, for what else its
	// sidecar keeps there.
	DataDir string

	// URL of an external server, nats://host:4222 or several of one cluster with commas between.
	// The account needs JetStream.
	URL         string
	Credentials string      // a .creds file; "" where URL says all
	TLS         *tls.Config // nil: as the server wants it, with the system's certificates

	Log *slog.Logger // nil: slog.Default()
}

// Engine is a handle of it. Calls may overlap, but for Close.
type Engine struct {
	opts Options
	name string // for people, without passwords

	turn   chan struct{} // holds a value while a call uses what follows
	locked func()        // unlocks the data directory; nil until it is locked
	server *embedded     // nil: none has begun to start
	conn   *nats.Conn    // nil until it is connected; then it connects again by itself
}

// New returns an engine. It touches nothing before the first Connect.
func New(opts Options) *Engine {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	e := &Engine{opts: opts, name: opts.DataDir, turn: make(chan struct{}, 1)}
	if opts.URL != "" {
		e.name = redacted(opts.URL)
	}
	return e
}

// String names the engine by its URL, without passwords, or by its directory.
func (e *Engine) String() string { return e.name }

// External tells whether other processes may use it too.
func (e *Engine) External() bool { return e.opts.URL != "" }

// Connect returns the connection, the same for all callers and until Close. The first call locks
// the data directory, and starts the embedded server or connects to the external one. Where that
// fails the next call tries again; an embedded server that is still reading its files when ctx ends
// goes on with it, and the next call waits for the same one.
func (e *Engine) Connect(ctx context.Context) (*nats.Conn, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	if e.conn != nil {
		return e.conn, nil
	}
	if err := e.lock(); err != nil {
		return nil, err
	}
	var err error
	if e.External() {
		e.conn, err = e.dial()
	} else {
		e.conn, err = e.embed(ctx)
	}
	return e.conn, err
}

func (e *Engine) lock() (err error) {
	switch {
	case e.opts.DataDir == "" && e.opts.URL == "":
		return errors.New("needs a data directory or a URL")
	case e.opts.DataDir == "" || e.locked != nil:
		return nil
	}
	e.locked, err = lock(e.opts.DataDir, e.opts.Log)
	return err
}

// embed connects to the server in this process, and starts it where there is none yet.
func (e *Engine) embed(ctx context.Context) (*nats.Conn, error) {
	if e.server == nil {
		var err error
		if e.server, err = startEmbedded(filepath.Join(e.opts.DataDir, "nats"), e.opts.Log); err != nil {
			return nil, err
		}
	}
	if err := e.server.wait(ctx); err != nil {
		return nil, err
	}
	if err := e.server.failure(); err != nil {
		e.server.stop()
		e.server = nil
		return nil, err
	}
	return nats.Connect("", append(e.connection(), nats.InProcessServer(e.server.server))...)
}

// dial connects to an external server.
func (e *Engine) dial() (*nats.Conn, error) {
	servers := strings.Split(e.opts.URL, ",")
	options := append(e.connection(),
		nats.Timeout(connectWithin/time.Duration(len(servers))), // each is tried once
		nats.PingInterval(5*time.Second),                        // notice a dead peer in 15 s, not in 6 minutes
	)
	if e.opts.Credentials != "" {
		options = append(options, nats.UserCredentials(e.opts.Credentials))
	}
	if e.opts.TLS != nil {
		options = append(options, nats.Secure(e.opts.TLS))
	}
	for _, server := range servers {
		// nats.go would show the whole URL, password included.
		if u, err := url.Parse(strings.TrimSpace(server)); err != nil || u.Host == "" {
			return nil, errors.New("not a URL like nats://host:4222")
		}
	}
	conn, err := nats.Connect(e.opts.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w: %w", ErrUnavailable, err)
	}
	return conn, nil
}

// connection is how we connect to any server.
func (e *Engine) connection() []nats.Option {
	log := e.opts.Log.With("engine", e.name)
	return []nats.Option{
		nats.Name("millrace"),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a server that refuses us twice may know us again after its next reload
		nats.ReconnectWait(250 * time.Millisecond),
		// Fail while disconnected. By default a write would wait in a buffer and be done after its
		// caller had given up.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS: connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info("NATS: connected again", "server", c.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS", "error", err)
		}),
	}
}

// Close disconnects, stops the embedded server and unlocks the data directory. Whoever uses the
// engine must have ended. A server that is still reading its files cannot be stopped, and is not
// waited for: the directory stays locked until it has read them.
func (e *Engine) Close() {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	if e.conn != nil {
		e.conn.Close()
	}
	server, unlock := e.server, e.locked
	e.conn, e.server, e.locked = nil, nil, nil
	end := func() {
		if server != nil {
			server.stop()
		}
		if unlock != nil {
			unlock()
		}
	}
	if server != nil && !server.up() {
		go end()
		return
	}
	end()
}

// Within bounds one call.
func Within[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, AnswerWithin)
	defer cancel()
	return call(ctx)
}

// Failed words the error of a call: everything that the server did not do is ErrUnavailable or
// ErrTooLarge, unless it was the caller, whose ctx it is, who gave up.
func Failed(ctx context.Context, conn *nats.Conn, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case !conn.IsConnected():
		return fmt.Errorf("%w: not connected", ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s", ErrUnavailable, AnswerWithin)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// redacted is the URL for people.
func redacted(rawURL string) string {
	servers := strings.Split(rawURL, ",")
	for i, server := range servers {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil {
			servers[i] = "(unreadable URL)"
			continue
		}
		if u.User != nil { // a user name may be a token
			u.User = url.User("xxxxx")
		}
		servers[i] = u.String()
	}
	return strings.Join(servers, ",")
}
