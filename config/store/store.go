// Package store keeps everything that was written over REST: one value, the State, in numbered versions. A write names the
// version it is based on and is refused when that is no longer the latest, so that no change is lost; readers see whole
// versions only, and an acknowledged one survives kill -9 and loss of power.
//
// It is a key of a NATS JetStream bucket, kept by a server inside this process (no port, files in the data directory) or by
// a cluster that several sidecars share; the code is the same. Beside it, SaveApplied and LoadApplied keep the last
// configuration that ran, for a start without any store. What a State means is config's business, when to apply it the
// caller's.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	millracev1 "millrace/proto/millrace/v1"
)

// History is how many versions can be gone back to, the latest included. It is the most a NATS bucket keeps.
const History = jetstream.KeyValueMaxHistory

// What callers tell apart. Every error also says which store and what it was doing.
var (
	ErrConflict    = errors.New("another version was written since")
	ErrNotFound    = errors.New("no such version")
	ErrTooLarge    = errors.New("too large")
	ErrUnavailable = errors.New("unavailable")
	// ErrNewer: only a newer Millrace can read it. Do not write over it.
	ErrNewer   = errors.New("written by a newer Millrace")
	ErrCorrupt = errors.New("corrupt")
)

const (
	openWithin    = 25 * time.Second // all of Open; most of it is for an embedded server that reads its files on a slow disk
	connectWithin = 5 * time.Second
	answerWithin  = 5 * time.Second // one call; a disk that takes longer to sync is not working
)

// Options say where the store is.
type Options struct {
	// DataDir holds the embedded server's files. It is created, and locked until Close: two sidecars cannot share one. With
	// URL it may be empty; else it is locked all the same, for the sake of the last applied configuration in it.
	DataDir string

	// URL of an external server, nats://host:4222 or several of one cluster with commas between. The account needs JetStream
	// and the subject millrace-config.changed.
	URL         string
	Credentials string      // a .creds file; "" where URL says all
	TLS         *tls.Config // nil: as the server wants it, with the system's certificates
	// Replicas of the bucket in a cluster. 0 leaves a bucket as it is and makes a new one with 3, or 1 where the cluster has
	// fewer than 3 nodes.
	Replicas int

	Log *slog.Logger // nil: slog.Default()
}

// Version is one version of the State. Versions are numbered upwards, not necessarily without gaps.
type Version struct {
	Revision uint64            // 0: nothing was ever written
	State    *millracev1.State // never nil, and the receiver's own
	Err      error             // Watch alone: the latest version cannot be read, and State is empty
}

// Change is what the list of versions shows of one.
type Change struct {
	Revision uint64
	Time     time.Time
	Cause    string
	Err      error // why this version cannot be read; nil when it can
}

// Store keeps versions of the State. Calls may overlap, but for Close.
type Store struct {
	name       string // for people, without passwords
	log        *slog.Logger
	conn       *nats.Conn
	stream     jetstream.Stream
	kv         jetstream.KeyValue
	checkEvery time.Duration // see Watch

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	watches sync.WaitGroup
	closers []func() // last one first
}

// Open opens the store and creates what is not there yet. It reads no version: an unreadable one is an error of Get and
// Watch, not of Open. With a URL that does not answer it fails in a few seconds with ErrUnavailable; the caller can serve
// what LoadApplied returns and try again.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	s := &Store{name: "config store " + opts.DataDir, log: opts.Log, checkEvery: 10 * time.Second}
	if opts.URL != "" {
		s.name = "config store " + redacted(opts.URL)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if err := s.open(ctx, opts); err != nil {
		if ctx.Err() != nil {
			go s.Close() // the embedded server may be reading files yet; it keeps their lock until it has stopped
		} else {
			s.Close()
		}
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, opts Options) error {
	if opts.DataDir == "" && opts.URL == "" {
		return errors.New("needs a data directory or a URL")
	}
	if opts.DataDir != "" {
		unlock, err := lock(opts.DataDir, opts.Log)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, unlock)
	}
	var err error
	if opts.URL != "" {
		s.conn, err = s.dial(opts)
	} else {
		s.conn, err = s.embed(ctx, filepath.Join(opts.DataDir, "nats"))
	}
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.conn.Close)

	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	s.stream, err = s.bucket(ctx, js, opts)
	if err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucket, ErrUnavailable, err)
	}
	s.kv, err = js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucket, ErrUnavailable, err)
	}
	return nil
}

// Close ends all watches and waits for them, and stops the embedded server. It must not overlap with other calls.
func (s *Store) Close() {
	s.cancel()
	s.watches.Wait()
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

// String names the store, without passwords.
func (s *Store) String() string { return s.name }

// Get returns the latest version. A store that was never written has revision 0 and an empty State.
func (s *Store) Get(ctx context.Context) (Version, error) {
	msg, err := within(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.stream.GetLastMsgForSubject(ctx, subject)
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Version{State: empty()}, nil
	}
	if err != nil {
		return Version{}, s.failed(ctx, "read", err)
	}
	if deletion(msg) { // the next write builds on it
		return Version{Revision: msg.Sequence, State: empty()}, nil
	}
	return s.version(msg)
}

// At returns one version. It is ErrNotFound when there never was one, or later ones have pushed it out.
func (s *Store) At(ctx context.Context, revision uint64) (Version, error) {
	msg, err := s.at(ctx, revision)
	if err != nil {
		return Version{}, err
	}
	return s.version(msg)
}

func (s *Store) at(ctx context.Context, revision uint64) (*jetstream.RawStreamMsg, error) {
	doing := fmt.Sprintf("read revision %d", revision)
	if revision == 0 { // no message has it, and NATS would call it a bad request
		return nil, fmt.Errorf("%s: %s: %w", s.name, doing, ErrNotFound)
	}
	msg, err := within(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return s.stream.GetMsg(ctx, revision) })
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && (msg.Subject != subject || deletion(msg)) {
		return nil, fmt.Errorf("%s: %s: %w", s.name, doing, ErrNotFound)
	}
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	return msg, nil
}

func (s *Store) version(msg *jetstream.RawStreamMsg) (Version, error) {
	state, err := decodeState(msg.Data)
	if err != nil {
		return Version{}, fmt.Errorf("%s: revision %d: %w", s.name, msg.Sequence, err)
	}
	return Version{Revision: msg.Sequence, State: state}, nil
}

func empty() *millracev1.State { return &millracev1.State{SchemaVersion: SchemaVersion} }

// deletion tells whether the message only marks that somebody deleted the key by hand (nats kv del).
func deletion(msg *jetstream.RawStreamMsg) bool { return msg.Header.Get("KV-Operation") != "" }

// latest returns the number of the latest version without reading it.
func (s *Store) latest(ctx context.Context) (uint64, error) {
	info, err := within(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return s.stream.Info(ctx) })
	if err != nil {
		return 0, s.failed(ctx, "read", err)
	}
	return info.State.LastSeq, nil
}

// Put writes the next version and returns its revision, once it is on disk. It is ErrConflict when base is not the latest;
// base 0 is for a store that was never written. After ErrUnavailable the version may or may not have been written: Get
// tells. The state is not changed; the version's schema_version is this Millrace's.
func (s *Store) Put(ctx context.Context, base uint64, state *millracev1.State) (uint64, error) {
	revision, err := s.write(ctx, state, func(ctx context.Context, value []byte) (uint64, error) { return s.kv.Update(ctx, key, value, base) })
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, fmt.Errorf("%s: write on top of revision %d: %w", s.name, base, ErrConflict)
	}
	return revision, err
}

func (s *Store) write(ctx context.Context, state *millracev1.State, put func(context.Context, []byte) (uint64, error)) (uint64, error) {
	value, err := encodeState(state)
	if err != nil {
		return 0, fmt.Errorf("%s: write: %w", s.name, err)
	}
	if most := s.conn.MaxPayload() - headerBytes; int64(len(value)) > most {
		return 0, fmt.Errorf("%s: write: state takes %d bytes compressed, the server's max_payload leaves %d: %w",
			s.name, len(value), most, ErrTooLarge)
	}
	revision, err := within(ctx, func(ctx context.Context) (uint64, error) { return put(ctx, value) })
	if err != nil {
		return 0, s.failed(ctx, "write", err)
	}
	return revision, nil
}

// Versions lists the versions that At can return, newest first, at most History of them. It reads each: with a thousand
// targets that takes a good tenth of a second.
func (s *Store) Versions(ctx context.Context) ([]Change, error) {
	info, err := within(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return s.stream.Info(ctx) })
	if err != nil {
		return nil, s.failed(ctx, "list", err)
	}
	var changes []Change
	for revision := info.State.LastSeq; revision >= max(info.State.FirstSeq, 1); revision-- {
		msg, err := s.at(ctx, revision)
		if errors.Is(err, ErrNotFound) {
			continue // pushed out while we were listing, or a deletion
		}
		if err != nil {
			return nil, err
		}
		change := Change{Revision: revision, Time: msg.Time}
		if state, err := describe(msg.Data); err != nil {
			change.Err = err
		} else {
			change.Cause = state.Cause
			if state.Time != nil {
				change.Time = state.Time.AsTime()
			}
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// within bounds one call.
func within[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return call(ctx)
}

// failed names the store and makes everything that the server did not do ErrUnavailable, unless it was the caller who gave up.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %s: %w", s.name, doing, ctx.Err())
	case errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%s: %s: %w: %w", s.name, doing, ErrTooLarge, err)
	case !s.conn.IsConnected():
		return fmt.Errorf("%s: %s: %w: not connected", s.name, doing, ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %s: %w: no answer within %s", s.name, doing, ErrUnavailable, answerWithin)
	}
	return fmt.Errorf("%s: %s: %w: %w", s.name, doing, ErrUnavailable, err)
}
