// Package event takes one record per request to where records go. Recording never blocks a request:
// records wait in a bounded queue for the one goroutine that owns the destinations. What a
// destination cannot take waits for better times, up to a bound, and holds up no other destination.
// Every record that a destination does not get after all is counted as dropped.
package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// queued bounds the records that wait for Run, and for each destination those that it has not
	// taken.
	queued = 4096
	// batch is about how many bytes are sent at once.
	batch = 64 << 10
	// retryEvery is how long a destination is left alone after it has failed.
	retryEvery = time.Second
)

// Destination is where records go. One goroutine calls its methods, so they need no lock and should
// be quick: the other destinations wait meanwhile.
type Destination interface {
	// Name is for people, and tells destinations apart.
	Name() string
	// Send takes records, in order, and returns how many of them it has for good, from the first
	// on. The others it gets again, so it must not keep a part of one.
	Send(records []Record) (taken int, err error)
	// Close follows the last Send.
	Close() error
}

// Record is one event.
type Record struct {
	Event *millracev1.Event
	JSON  []byte // of the event, on one line
}

// Recorder takes records. The zero value and nil discard them for good.
type Recorder struct {
	wake    chan struct{} // tells Run that something is queued; nil in the zero value
	dropped atomic.Int64
	unsent  atomic.Int64          // records that a destination has not taken yet
	failure atomic.Pointer[error] // why; nil while all destinations take what they get

	mu    sync.Mutex // guards what follows
	queue []entry
	ended bool // Run has ended: nothing is queued any more
}

// entry is a record or, in its place among them, a change of the destinations.
type entry struct {
	event *millracev1.Event // nil: a change
	next  []Destination
}

// NewRecorder returns a recorder that queues what it takes until Run is called. It has no
// destination.
func NewRecorder() *Recorder { return &Recorder{wake: make(chan struct{}, 1)} }

// Record queues a record. The caller must not change it afterwards.
func (r *Recorder) Record(e *millracev1.Event) {
	if r == nil || r.wake == nil {
		return
	}
	if !r.add(entry{event: e}) {
		r.dropped.Add(1)
	}
}

// Use changes where records go: what was recorded before goes to the destinations until now, and
// what is recorded afterwards to these. One that stays is given again; one that goes is closed, and
// what it could not take goes to those that are new. Where none is new that is dropped. Without
// destinations records are discarded, and not counted as dropped. The recorder closes what it is
// given, also when Run has ended: then that is an error.
func (r *Recorder) Use(destinations ...Destination) error {
	if r.add(entry{next: destinations}) {
		return nil
	}
	errs := []error{errors.New("events: the recorder has ended")}
	for _, d := range destinations {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// add queues an entry. A change of the destinations has no bound: they are rare, and Run gets to
// them whatever fails.
func (r *Recorder) add(e entry) bool {
	r.mu.Lock()
	fits := !r.ended && (e.event == nil || len(r.queue) < queued)
	if fits {
		r.queue = append(r.queue, e)
	}
	r.mu.Unlock()
	if fits {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return fits
}

// take empties the queue; empty is what it goes on with.
func (r *Recorder) take(empty []entry) []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.queue
	r.queue = empty
	return taken
}

func (r *Recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// Dropped counts the records that were lost, once for each destination that lacks it: the queue was
// full, or what the destination could not take was too much; it could not take it until Run ended;
// the record came after that; or it could not be encoded.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Waiting counts the records that a destination has not taken yet.
func (r *Recorder) Waiting() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.queue)) + r.unsent.Load()
}

// Err is why records cannot be written; nil while they can.
func (r *Recorder) Err() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Run sends records until ctx ends, then those that are still queued, and closes the destinations.
// It sends whenever the queue is empty, so that a record is there as soon as its request is over. A
// destination that fails is tried again every second.
func (r *Recorder) Run(ctx context.Context, log *slog.Logger) {
	o := &outputs{recorder: r, log: log}
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	var entries []entry
	for ctx.Err() == nil {
		select {
		case <-r.wake:
			entries = o.takeAll(entries)
			o.send(false)
		case <-retry.C:
			o.send(true)
		case <-ctx.Done():
		}
	}
	r.end()
	o.takeAll(entries)
	o.send(true)
	o.swap(nil)
}

// outputs are the destinations with what they have not taken. Run's goroutine owns them.
type outputs struct {
	recorder *Recorder
	log      *slog.Logger
	list     []*output
	unsent   int // bytes that were added since the last send
}

type output struct {
	Destination
	waiting []Record
	failed  error // of the last Send
}

// takeAll takes what is queued. spare is a slice that is not in use any more.
func (o *outputs) takeAll(spare []entry) []entry {
	entries := o.recorder.take(spare[:0])
	for _, e := range entries {
		if e.event == nil {
			o.send(true)
			o.swap(e.next)
			continue
		}
		o.add(e.event)
		if o.unsent >= batch {
			o.send(false)
		}
	}
	clear(entries)
	return entries
}

var line = protojson.MarshalOptions{UseProtoNames: true}

func (o *outputs) add(e *millracev1.Event) {
	if len(o.list) == 0 {
		return
	}
	data, err := line.Marshal(e)
	if err != nil { // a string that is not UTF-8
		o.log.Error("events: encode", "id", e.Id, "error", err)
		o.recorder.dropped.Add(int64(len(o.list)))
		return
	}
	for _, out := range o.list {
		if len(out.waiting) >= queued {
			o.recorder.dropped.Add(1)
			continue
		}
		out.waiting = append(out.waiting, Record{e, data})
	}
	o.unsent += len(data)
}

// send gives the destinations what waits for them; to those that have failed only when it is time
// to try again.
func (o *outputs) send(again bool) {
	o.unsent = 0
	var errs []error
	waiting := 0
	for _, out := range o.list {
		if out.failed == nil || again {
			was := out.failed
			out.send()
			switch {
			case out.failed != nil && was == nil:
				o.log.Error("events cannot be written: they wait", "to", out.Name(), "at_most", queued, "error", out.failed)
			case out.failed == nil && was != nil:
				o.log.Info("events are written again", "to", out.Name(), "dropped_so_far", o.recorder.Dropped())
			}
		}
		if out.failed != nil {
			errs = append(errs, fmt.Errorf("events cannot be written: %w", out.failed))
		}
		waiting += len(out.waiting)
	}
	o.recorder.unsent.Store(int64(waiting))
	var failure *error
	if err := errors.Join(errs...); err != nil {
		failure = &err
	}
	o.recorder.failure.Store(failure)
}

func (out *output) send() {
	taken := 0
	for out.failed = nil; out.failed == nil && taken < len(out.waiting); {
		n := 0
		n, out.failed = out.Send(next(out.waiting[taken:]))
		taken += n
	}
	out.waiting = slices.Delete(out.waiting, 0, taken)
}

// next are the first of the records, about a batch of them.
func next(records []Record) []Record {
	bytes := 0
	for i, r := range records {
		if bytes += len(r.JSON); bytes >= batch {
			return records[:i+1]
		}
	}
	return records
}

// swap goes on with the next destinations. Those that are new begin with what the ones that go have
// not taken, the most that one of them has.
func (o *outputs) swap(next []Destination) {
	var left []Record
	var list []*output
	anyNew := false
	for _, d := range next {
		i := slices.IndexFunc(o.list, func(out *output) bool { return out.Destination == d })
		if i >= 0 {
			list = append(list, o.list[i])
			continue
		}
		list, anyNew = append(list, &output{Destination: d}), true
	}
	for _, out := range o.list {
		if slices.Contains(list, out) {
			continue
		}
		if lost := len(out.waiting); lost > 0 && !anyNew {
			o.recorder.dropped.Add(int64(lost))
			o.log.Error("events are lost: they could not be written until the end", "to", out.Name(), "events", lost, "error", out.failed)
		}
		if len(out.waiting) > len(left) {
			left = out.waiting
		}
		if err := out.Close(); err != nil {
			o.log.Error("events: close", "to", out.Name(), "error", err)
		}
	}
	for _, out := range list {
		if !slices.Contains(o.list, out) {
			out.waiting = slices.Clone(left)
		}
	}
	o.list = list
	o.send(true)
}
