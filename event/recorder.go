// Package event takes one record per request to where records go. Recording never blocks a request:
// records wait in a bounded queue for the goroutine that hands them on. Each destination has a
// goroutine of its own: what it cannot take waits for better times, up to a bound, and holds up no
// other destination. Every record that a destination does not get after all is counted as dropped.
// What waits longer, on disk, is package spool's.
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

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// queued bounds the records that wait for Run, and for each destination those that it has not
	// taken.
	queued = 4096
	// batch is about how many bytes are sent at once.
	batch = 256 << 10
	// retryEvery is how long a destination is left alone after it has failed.
	retryEvery = time.Second
	// lastWords bounds what a destination may take to get its last records.
	lastWords = 3 * time.Second
)

// Recorder takes records. The zero value and nil discard them for good.
type Recorder struct {
	source  string
	wake    chan struct{} // tells Run that something is queued; nil in the zero value
	dropped atomic.Int64
	unsent  atomic.Int64              // records that a destination has not taken yet
	full    atomic.Int64              // destinations that want requests refused
	outputs atomic.Pointer[[]*output] // nil until Run has the first

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
// destination. The source is what its records say about where they come from.
func NewRecorder(source string) *Recorder {
	return &Recorder{source: source, wake: make(chan struct{}, 1)}
}

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
		poke(r.wake)
	}
	return fits
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
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
// full, or what the destination could not take was too much; it refused it for good, or could not
// take it until Run ended; the record came after that; or it could not be encoded.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Waiting counts the records that a destination has not taken yet.
func (r *Recorder) Waiting() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.queue)) + r.unsent.Load()
}

// Full tells whether a destination wants requests refused until it has room.
func (r *Recorder) Full() bool { return r != nil && r.full.Load() > 0 }

// Err is why records cannot be written; nil while they can.
func (r *Recorder) Err() error {
	outputs := r.outputs.Load()
	if outputs == nil {
		return nil
	}
	var errs []error
	for _, o := range *outputs {
		if err := o.failure(); err != nil {
			errs = append(errs, fmt.Errorf("events cannot be written: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Run hands records on until ctx ends, then those that are still queued, and closes the
// destinations. A record is sent as soon as its request is over and its destination is free; what
// gathers meanwhile is sent together.
func (r *Recorder) Run(ctx context.Context, log *slog.Logger) {
	d := &dispatcher{recorder: r, log: log}
	var entries []entry
	for ctx.Err() == nil {
		select {
		case <-r.wake:
			entries = d.takeAll(entries)
		case <-ctx.Done():
		}
	}
	r.end()
	d.takeAll(entries)
	d.swap(nil)
}

// dispatcher gives each record to all destinations. Run's goroutine owns it.
type dispatcher struct {
	recorder *Recorder
	log      *slog.Logger
	outputs  []*output
}

// takeAll takes what is queued. spare is a slice that is not in use any more.
func (d *dispatcher) takeAll(spare []entry) []entry {
	entries := d.recorder.take(spare[:0])
	for _, e := range entries {
		if e.event == nil {
			d.swap(e.next)
			continue
		}
		d.add(e.event)
	}
	clear(entries)
	return entries
}

func (d *dispatcher) add(e *millracev1.Event) {
	if len(d.outputs) == 0 {
		return
	}
	record, err := NewRecord(d.recorder.source, e)
	if err != nil { // a string that is not UTF-8
		d.log.Error("events: encode", "id", e.Id, "error", err)
		d.recorder.dropped.Add(int64(len(d.outputs)))
		return
	}
	for _, o := range d.outputs {
		if !o.add(record) {
			d.recorder.dropped.Add(1)
		}
	}
}

// swap goes on with the next destinations. Those that are new begin with what the ones that go have
// not taken, the most that one of them has.
func (d *dispatcher) swap(next []Destination) {
	var outputs, fresh []*output
	for _, to := range next {
		i := slices.IndexFunc(d.outputs, func(o *output) bool { return o.Destination == to })
		if i >= 0 {
			outputs = append(outputs, d.outputs[i])
			continue
		}
		o := &output{
			Destination: to, recorder: d.recorder, log: d.log,
			wake: make(chan struct{}, 1), ending: make(chan struct{}), gone: make(chan struct{}),
		}
		if g, ok := to.(Gatherer); ok {
			o.gather = g.Gather()
		}
		outputs, fresh = append(outputs, o), append(fresh, o)
	}
	left := d.endAllBut(outputs, len(fresh) > 0)
	for _, o := range fresh {
		for _, record := range left {
			o.add(record)
		}
		go o.run()
	}
	d.outputs = outputs
	d.recorder.outputs.Store(&outputs)
}

// endAllBut ends the outputs that are not among those that stay, all at the same time, and returns
// the most that one of them has left.
func (d *dispatcher) endAllBut(stay []*output, kept bool) []Record {
	var left []Record
	for _, o := range d.outputs {
		if !slices.Contains(stay, o) {
			close(o.ending)
		}
	}
	for _, o := range d.outputs {
		if slices.Contains(stay, o) {
			continue
		}
		<-o.gone
		if lost := len(o.waiting); lost > 0 && !kept {
			d.recorder.dropped.Add(int64(lost))
			d.log.Error("events are lost: they could not be written until the end", "to", o.Name(), "events", lost, "error", o.failed)
		}
		if len(o.waiting) > len(left) {
			left = o.waiting
		}
		if err := o.Close(); err != nil {
			d.log.Error("events: close", "to", o.Name(), "error", err)
		}
	}
	return left
}

// output is a destination with what it has not taken.
type output struct {
	Destination
	recorder *Recorder
	log      *slog.Logger
	gather   time.Duration // how long what waits is gathered
	wake     chan struct{} // tells run that something waits
	ending   chan struct{} // closed: try once more, and end
	gone     chan struct{} // closed by run; what follows is the dispatcher's then

	mu      sync.Mutex // guards what follows
	waiting []Record
	failed  error // of the last Send
}

func (o *output) add(r Record) bool {
	o.mu.Lock()
	fits := len(o.waiting) < queued
	if fits {
		o.waiting = append(o.waiting, r)
	}
	o.mu.Unlock()
	if fits {
		o.recorder.unsent.Add(1)
		poke(o.wake)
	}
	return fits
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// run sends what waits until it is told to end.
func (o *output) run() {
	defer close(o.gone)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-o.ending:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lastWords):
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		wake, again := o.wake, (<-chan time.Time)(nil)
		if err := o.failure(); err != nil { // it is asked again when it is time, whatever comes
			wake, again = nil, time.After(PauseAfter(err))
		}
		select {
		case <-wake:
			o.linger()
		case <-again:
		case <-o.ending:
			o.send(ctx)
			o.recorder.unsent.Add(-int64(len(o.waiting)))
			if errors.Is(o.failed, ErrFull) {
				o.recorder.full.Add(-1)
			}
			return
		}
		o.send(ctx)
	}
}

// linger lets what waits gather.
func (o *output) linger() {
	if o.gather == 0 {
		return
	}
	select {
	case <-time.After(o.gather):
	case <-o.ending:
	}
}

// send gives the destination what waits for it.
func (o *output) send(ctx context.Context) {
	for {
		o.mu.Lock()
		records := Batch(o.waiting)
		o.mu.Unlock()
		if len(records) == 0 {
			return
		}
		done, err := Give(ctx, o.Destination, records, o.refused)
		o.mu.Lock()
		o.waiting = slices.Delete(o.waiting, 0, done)
		o.mu.Unlock()
		o.recorder.unsent.Add(-int64(done))
		if o.says(err); err != nil {
			return
		}
	}
}

// refused counts a record that the destination will never take.
func (o *output) refused(r Record, err error) {
	o.recorder.dropped.Add(1)
	o.log.Error("an event is lost: it is refused for good", "to", o.Name(), "id", r.ID, "error", err)
}

// says notes what the last Send said.
func (o *output) says(err error) {
	o.mu.Lock()
	was := o.failed
	o.failed = err
	o.mu.Unlock()
	switch {
	case err != nil && was == nil:
		o.log.Error("events cannot be written: they wait", "to", o.Name(), "at_most", queued, "error", err)
	case err == nil && was != nil:
		o.log.Info("events are written again", "to", o.Name(), "dropped_so_far", o.recorder.Dropped())
	}
	if is := errors.Is(err, ErrFull); is != errors.Is(was, ErrFull) {
		if is {
			o.recorder.full.Add(1)
		} else {
			o.recorder.full.Add(-1)
		}
	}
}

// Batch are the first of the records: as many as are sent at once.
func Batch(records []Record) []Record {
	bytes := 0
	for i, r := range records {
		if bytes += len(r.JSON) + len(r.sealed); bytes >= batch {
			return records[:i+1]
		}
	}
	return records
}
