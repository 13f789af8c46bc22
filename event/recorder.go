// Package event writes one record per request. Recording never blocks a request: records wait in a bounded queue for the one
// goroutine that writes them, and what does not fit is counted as dropped.
package event

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

// queued bounds the records that wait to be written.
const queued = 4096

// Recorder takes records. The zero value and nil discard them for good.
type Recorder struct {
	queue   chan *millracev1.Event
	running atomic.Bool
	dropped atomic.Int64
}

// NewRecorder returns a recorder that discards what it takes until Run runs.
func NewRecorder() *Recorder {
	return &Recorder{queue: make(chan *millracev1.Event, queued)}
}

// OpenFile opens the file that gets a line of JSON per record, at its end. It is created with mode 0600 when it is not there.
func OpenFile(path string) (io.WriteCloser, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("events file: %w", err)
	}
	return f, nil
}

// Record queues a record. The caller must not change it afterwards.
func (r *Recorder) Record(e *millracev1.Event) {
	if r == nil || !r.running.Load() {
		return
	}
	select {
	case r.queue <- e:
	default:
		r.dropped.Add(1)
	}
}

// Dropped counts the records that found the queue full.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Run writes records to w until ctx ends, then those that are still queued, and closes w. It flushes whenever the queue is
// empty, so that a line is there as soon as its request is over.
func (r *Recorder) Run(ctx context.Context, w io.WriteCloser, log *slog.Logger) {
	r.running.Store(true)
	out := bufio.NewWriterSize(w, 64<<10)
	defer func() {
		if err := out.Flush(); err != nil {
			log.Error("events: write", "error", err)
		}
		w.Close()
	}()
	for {
		select {
		case e := <-r.queue:
			r.write(out, e, log)
			continue
		default:
		}
		if err := out.Flush(); err != nil {
			log.Error("events: write", "error", err)
			out.Reset(w)
		}
		select {
		case e := <-r.queue:
			r.write(out, e, log)
		case <-ctx.Done():
			for len(r.queue) > 0 {
				r.write(out, <-r.queue, log)
			}
			return
		}
	}
}

var line = protojson.MarshalOptions{UseProtoNames: true}

func (r *Recorder) write(out *bufio.Writer, e *millracev1.Event, log *slog.Logger) {
	data, err := line.Marshal(e)
	if err != nil { // a string that is not UTF-8
		log.Error("events: encode", "id", e.Id, "error", err)
		r.dropped.Add(1)
		return
	}
	out.Write(data) // the writer keeps its error for Flush
	out.WriteByte('\n')
}
