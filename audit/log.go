// Package audit keeps a log that shows what was done to it: records are lines of JSON in a chain,
// each with the hash of the one before, in files (segments) of a bounded size and age. Append
// returns when the record is on the disk; records that come together share one fsync. Verify finds
// a record that was changed, moved or taken out.
//
// There is no secret in it: who may write into the folder can write another log that is as right.
// The last record's hash, kept elsewhere, shows that (Report.Head). Nothing here knows what is
// recorded.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"millrace/internal/folder"
)

const (
	// waiting bounds the records that are not written yet.
	waiting = 4096
	// batch is about how many bytes are written at once.
	batch = 1 << 20
	// maxSegment is the size beyond which another segment is begun, in bytes.
	maxSegment = 16 << 20
	// maxAge is how long a segment may grow.
	maxAge = 24 * time.Hour
	// retryEvery is how long the disk is left alone after it has failed.
	retryEvery = time.Second
	// pruneEvery is how often segments are looked at that retention may remove.
	pruneEvery = time.Hour
)

// Settings are what may change while a log is open.
type Settings struct {
	Retention time.Duration // how long records are kept at least; 0: for ever
	ReadOnly  bool          // a segment is made read-only when it is closed
}

// Log is an open log. Its methods may be called at the same time.
type Log struct {
	dir      string
	log      *slog.Logger
	settings atomic.Pointer[Settings]
	lock     *os.File
	lost     atomic.Int64
	failure  atomic.Pointer[error] // of the last write; nil while records are written
	ended    sync.WaitGroup

	wake chan struct{} // tells run that something is queued

	mu     sync.Mutex // guards what follows
	queue  []*pending
	closed bool
}

// pending is a record that is not on the disk yet.
type pending struct {
	kind string
	data json.RawMessage
	done chan error // gets what came of the first try to write it; nil: nobody waits
}

// file is what run writes to; a test may put another in its place.
type file interface {
	Write([]byte) (int, error)
	Truncate(int64) error
	Sync() error
	Close() error
}

// Open opens the log of a folder, which it makes where it is not there. The folder must be our own,
// and belongs to this log until Close. What a crash has left of a last record is taken off; it was
// not on the disk when Append returned. A last segment that is damaged in another way is an error:
// to go on from it would hide that.
func Open(dir string, s Settings, log *slog.Logger) (*Log, error) {
	lock, err := folder.Hold(dir, log)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another gateway writes its audit log to %s", dir)
	}
	if err != nil {
		return nil, err
	}
	l := &Log{dir: dir, log: log, lock: lock, wake: make(chan struct{}, 1)}
	l.settings.Store(&s)
	w := &writer{log: l, open: openFile}
	if err := w.resume(); err != nil {
		lock.Close()
		return nil, err
	}
	l.start(w)
	return l, nil
}

func (l *Log) start(w *writer) { l.ended.Go(w.run) }

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Set changes the settings.
func (l *Log) Set(s Settings) {
	l.settings.Store(&s)
	l.signal()
}

// Settings are those that hold.
func (l *Log) Settings() Settings { return *l.settings.Load() }

// Err is why records cannot be written; nil while they can.
func (l *Log) Err() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Append records an entry and returns when it is on the disk. After an error it may still be
// written later, as one of Add.
func (l *Log) Append(ctx context.Context, e Entry) error {
	done := make(chan error, 1)
	if err := l.add(e, done); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the audit log is not written: %w", context.Cause(ctx))
	}
}

// Add records an entry as soon as it can be, and does not wait. What the disk does not take waits,
// up to a bound; beyond it records are lost, and a record says how many.
func (l *Log) Add(e Entry) error { return l.add(e, nil) }

func (l *Log) add(e Entry, done chan error) error {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	const frame = 512 // more than all else of a line
	if len(data)+len(e.Kind) > maxRecord-frame {
		return fmt.Errorf("audit: a record of %d bytes is too long", len(data))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errors.New("the audit log is closed")
	case len(l.queue) >= waiting:
		l.lost.Add(1)
		return errors.New("the audit log is not written: too many records wait for the disk")
	}
	l.queue = append(l.queue, &pending{kind: e.Kind, data: data, done: done})
	l.signal()
	return nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits and ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if was {
		return nil
	}
	l.signal()
	l.ended.Wait()
	return l.lock.Close()
}

// take is what is queued; done says that there will be no more.
func (l *Log) take() (queued []*pending, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue, l.closed
}

// written forgets the first of the queue.
func (l *Log) written(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.queue[:n])
	l.queue = l.queue[n:]
}

// isMissing tells whether the error is that of a file that is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
