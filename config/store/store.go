// Package store keeps everything that was written over REST: one value, the State, in numbered
// versions. A write names the version it is based on and is refused when that is no longer the
// latest, so that no change is lost; readers see whole versions only, and an acknowledged one
// survives kill -9 and loss of power.
//
// It is a key of a NATS JetStream bucket in the process's engine. Beside it, in the data directory,
// SaveApplied and LoadApplied keep the last configuration that ran, for a start without any store.
// What a State means is config's business, when to apply it the caller's.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
	millracev1 "millrace/proto/millrace/v1"
)

// History is how many versions can be gone back to, the latest included. It is the most a NATS
// bucket keeps.
const History = jetstream.KeyValueMaxHistory

// What callers tell apart. Every error also says which store and what it was doing.
var (
	ErrConflict    = errors.New("another version was written since")
	ErrNotFound    = errors.New("no such version")
	ErrTooLarge    = engine.ErrTooLarge
	ErrUnavailable = engine.ErrUnavailable
	// ErrNewer: only a newer Millrace can read it. Do not write over it.
	ErrNewer   = errors.New("written by a newer Millrace")
	ErrCorrupt = errors.New("corrupt")
)

const (
	openWithin   = 25 * time.Second // all of Open; most of it is for an embedded server that reads its files on a slow disk
	bucketWithin = 5 * time.Second
)

// Options say what is wanted of the store.
type Options struct {
	// Replicas of the bucket in a cluster. 0 leaves a bucket as it is and makes a new one with 3,
	// or 1 where the cluster has fewer than 3 nodes.
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
}

// Open opens the store in the engine, which must stay until the store is closed, and creates what
// is not there yet. It reads no version: an unreadable one is an error of Get and Watch, not of
// Open. Where the engine does not answer it fails in a few seconds with ErrUnavailable; the caller
// can serve what LoadApplied returns and try again.
func Open(ctx context.Context, e *engine.Engine, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	s := &Store{name: "config store " + e.String(), log: opts.Log, checkEvery: 10 * time.Second}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if err := s.open(ctx, e, opts.Replicas); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Store) open(ctx context.Context, e *engine.Engine, replicas int) (err error) {
	if s.conn, err = e.Connect(ctx); err != nil {
		return err
	}
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketWithin)
	defer cancel()
	s.stream, err = engine.Stream{Name: streamName, Replicas: replicas, Shape: shape}.Open(ctx, e, js)
	if err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucket, ErrUnavailable, err)
	}
	s.kv, err = js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucket, ErrUnavailable, err)
	}
	return nil
}

// Close ends all watches and waits for them. It must not overlap with other calls.
func (s *Store) Close() {
	s.cancel()
	s.watches.Wait()
}

// String names the store, without passwords.
func (s *Store) String() string { return s.name }

// Get returns the latest version. A store that was never written has revision 0 and an empty State.
func (s *Store) Get(ctx context.Context) (Version, error) {
	msg, err := engine.Within(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
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

// At returns one version. It is ErrNotFound when there never was one, or later ones have pushed it
// out.
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
	msg, err := engine.Within(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return s.stream.GetMsg(ctx, revision) })
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

// deletion tells whether the message only marks that somebody deleted the key by hand (nats kv
// del).
func deletion(msg *jetstream.RawStreamMsg) bool { return msg.Header.Get("KV-Operation") != "" }

// latest returns the number of the latest version without reading it.
func (s *Store) latest(ctx context.Context) (uint64, error) {
	info, err := engine.Within(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return s.stream.Info(ctx) })
	if err != nil {
		return 0, s.failed(ctx, "read", err)
	}
	return info.State.LastSeq, nil
}

// Put writes the next version and returns its revision, once it is on disk. It is ErrConflict when
// base is not the latest; base 0 is for a store that was never written. After ErrUnavailable the
// version may or may not have been written: Get tells. The state is not changed; the version's
// schema_version is this Millrace's.
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
	revision, err := engine.Within(ctx, func(ctx context.Context) (uint64, error) { return put(ctx, value) })
	if err != nil {
		return 0, s.failed(ctx, "write", err)
	}
	return revision, nil
}

// Versions lists the versions that At can return, newest first, at most History of them. It reads
// each: with a thousand targets that takes a good tenth of a second.
func (s *Store) Versions(ctx context.Context) ([]Change, error) {
	info, err := engine.Within(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return s.stream.Info(ctx) })
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

// failed names the store and what it was doing.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	return fmt.Errorf("%s: %s: %w", s.name, doing, engine.Failed(ctx, s.conn, err))
}
