// Package event writes one record per request. Recording never blocks a request: records wait in a
// bounded queue for the one goroutine that writes them. While they cannot be written they wait for
// better times. Every record that is not written after all is counted as dropped.
package event

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// queued bounds the records that wait to be written.
	queued = 4096
	// batch is about how many bytes are written at once.
	batch = 64 << 10
	// retryEvery is how long Run waits after it could not write.
	retryEvery = time.Second
)

// Recorder takes records. The zero value and nil discard them for good.
type Recorder struct {
	queue   chan *millracev1.Event
	dropped atomic.Int64
	unsaved atomic.Int64          // lines that Run has and the file has not
	failure atomic.Pointer[error] // of the last write; nil when it went well

	mu   sync.RWMutex
	ends ending // guarded by mu, so that nothing is queued after Run has emptied the queue
}

// ending says what becomes of a record when nothing reads the queue any more.
type ending int

const (
	open      ending = iota // it is queued
	discarded               // nobody wants it
	closed                  // it is counted as dropped
)

// NewRecorder returns a recorder that queues what it takes until Run or Discard is called.
func NewRecorder() *Recorder {
	return &Recorder{queue: make(chan *millracev1.Event, queued)}
}

// Record queues a record. The caller must not change it afterwards.
func (r *Recorder) Record(e *millracev1.Event) {
	if r == nil || r.queue == nil {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch r.ends {
	case discarded:
		return
	case closed:
		r.dropped.Add(1)
		return
	}
	select {
	case r.queue <- e:
	default:
		r.dropped.Add(1)
	}
}

// Discard makes the recorder take records for nothing, those that are queued included. It is for
// a process without a place for events, in which Run is not called.
func (r *Recorder) Discard() {
	r.end(discarded)
	for len(r.queue) > 0 {
		<-r.queue
	}
}

func (r *Recorder) end(as ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = as
}

// Dropped counts the records that were lost: the queue was full, they could not be encoded, they
// could not be written until Run ended, or they came after that.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Waiting counts the records that are not written yet.
func (r *Recorder) Waiting() int64 { return int64(len(r.queue)) + r.unsaved.Load() }

// Err is why records cannot be written; nil while they can.
func (r *Recorder) Err() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Run writes records to w until ctx ends, then those that are still queued, and closes w. It
// writes whenever the queue is empty, so that a line is there as soon as its request is over.
// Where w fails, Run keeps what is not written and tries again every second.
//
// w gets whole lines. When it fails it must not keep a part of a line: the number of bytes that
// it returns is where a line ends.
func (r *Recorder) Run(ctx context.Context, w io.WriteCloser, log *slog.Logger) {
	var lines []byte
	for ctx.Err() == nil {
		queue, retry := r.queue, (<-chan time.Time)(nil)
		if r.Err() != nil {
			queue, retry = nil, time.After(retryEvery)
		}
		select {
		case e := <-queue:
			lines = r.encode(lines, e, log)
			if len(r.queue) > 0 && len(lines) < batch {
				continue
			}
		case <-retry:
		case <-ctx.Done():
		}
		lines = r.write(w, lines, log)
	}
	r.end(closed)
	for len(r.queue) > 0 {
		lines = r.encode(lines, <-r.queue, log)
	}
	r.write(w, lines, log)
	if lost := r.unsaved.Swap(0); lost > 0 {
		r.dropped.Add(lost)
		log.Error("events are lost: they could not be written until the end", "events", lost, "error", r.Err())
	}
	if err := w.Close(); err != nil {
		log.Error("events: close", "error", err)
	}
}

// write returns the lines that w did not take.
func (r *Recorder) write(w io.Writer, lines []byte, log *slog.Logger) []byte {
	if len(lines) == 0 {
		return lines
	}
	n, err := w.Write(lines)
	lines = lines[:copy(lines, lines[n:])]
	r.unsaved.Store(int64(bytes.Count(lines, newline)))
	was := r.Err()
	switch {
	case err != nil && was == nil:
		log.Error("events cannot be written: they wait", "at_most", queued, "error", err)
	case err == nil && was != nil:
		log.Info("events are written again", "dropped_so_far", r.Dropped())
	}
	if err == nil {
		r.failure.Store(nil)
	} else {
		err = fmt.Errorf("events cannot be written: %w", err)
		r.failure.Store(&err)
	}
	return lines
}

var (
	line    = protojson.MarshalOptions{UseProtoNames: true}
	newline = []byte("\n")
)

func (r *Recorder) encode(lines []byte, e *millracev1.Event, log *slog.Logger) []byte {
	data, err := line.Marshal(e)
	if err != nil { // a string that is not UTF-8
		log.Error("events: encode", "id", e.Id, "error", err)
		r.dropped.Add(1)
		return lines
	}
	r.unsaved.Add(1)
	return append(append(lines, data...), newline...)
}
