// Package spool keeps events on disk until every sink has them: a NATS JetStream file stream in the
// process's engine, and for each sink a durable consumer, which remembers how far the sink has
// come. So what was taken survives kill -9, and with the embedded engine loss of power; it is sent
// again until the sink has it, which may be after a restart or, with a shared engine, by another
// sidecar. A sink can get an event twice, with the same id and source.
//
// The spool is one of the recorder's destinations. What the sinks have is kept for Read as long as
// Retention says. The stream has a bound; at the bound the oldest events are dropped and counted,
// or requests are refused.
package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
	"millrace/event"
)

// Where the events are: nats stream info millrace-events.
const (
	streamName  = "millrace-events"
	subject     = "millrace.events"
	deadName    = "millrace-events-dead" // what sinks refuse for good
	deadSubject = "millrace.events-dead"
	maxDead     = 64 << 20 // bytes; then the oldest go

	// A message is a batch of events, as CloudEvents, a line each.
	headerEvents = "Millrace-Events" // how many
	headerSink   = "Millrace-Sink"   // of a dead event
	headerReason = "Millrace-Reason"
)

const (
	keepEvery = 10 * time.Second
	gather    = 50 * time.Millisecond
	// forgetAfter is when a sink that is not among the spool's is forgotten: by then it is known
	// that the configuration holds which has taken it away.
	forgetAfter = 10 * time.Minute
	// forgetSharedAfter is the same for a shared engine, where others may have it; then it is the
	// engine that forgets a sink which nobody asks for.
	forgetSharedAfter = 30 * 24 * time.Hour
)

// Options say what is kept and who gets it.
type Options struct {
	Engine *engine.Engine
	// MaxBytes bounds the stream on disk.
	MaxBytes int64
	// RefuseWhenFull has Send fail with event.ErrFull at the bound. Else the oldest are dropped.
	RefuseWhenFull bool
	// Retention is how long events are kept that all sinks have; 0: not at all.
	Retention time.Duration
	// Sinks get the events. The spool closes them. A sink that keeps its name keeps its position; a
	// new one begins with what comes.
	Sinks []event.Destination
	Log   *slog.Logger
}

// Spool is a destination of events. Send and Close are the recorder's; the other methods may be
// called at any time before Close.
type Spool struct {
	options Options
	end     context.CancelFunc
	running sync.WaitGroup
	sinks   []*sink
	seen    seen
	bytes   atomic.Int64
	taking  sync.Mutex // held by Take, so that two do not take the same

	mu     sync.Mutex       // guards what follows
	stream jetstream.Stream // nil: not open
	js     jetstream.JetStream
}

// Start returns a spool that hands on what it holds from now on. An engine that cannot be reached
// is tried again.
func Start(o Options) *Spool {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Spool{options: o, end: cancel}
	for _, d := range o.Sinks {
		s.sinks = append(s.sinks, &sink{Destination: d, spool: s, log: o.Log.With("sink", d.Name())})
	}
	for _, k := range s.sinks {
		s.running.Go(func() { k.run(ctx) })
	}
	s.running.Go(func() { s.keep(ctx) })
	return s
}

// Name is what it is for people.
func (s *Spool) Name() string { return "the spool in " + s.options.Engine.String() }

// Close ends the handing on, and closes the sinks. What they lack stays.
func (s *Spool) Close() error {
	s.end()
	s.running.Wait()
	var errs []error
	for _, k := range s.sinks {
		errs = append(errs, k.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.js != nil {
		_ = s.js.Conn().FlushTimeout(time.Second) // acknowledgements; without them events are sent twice
	}
	return errors.Join(errs...)
}

// Err is why sinks do not get their events; nil while they do.
func (s *Spool) Err() error {
	var errs []error
	for _, k := range s.sinks {
		if err := k.state().Err; err != nil {
			errs = append(errs, fmt.Errorf("events do not reach the sink %s: they wait on disk: %w", k.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Bytes is what the stream has on disk, as of the last sweep.
func (s *Spool) Bytes() int64 { return s.bytes.Load() }

// open returns the stream. The first call makes what is not there, sinks before events.
func (s *Spool) open(ctx context.Context) (jetstream.JetStream, jetstream.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		return s.js, s.stream, nil
	}
	ctx, cancel := context.WithTimeout(ctx, engine.AnswerWithin)
	defer cancel()
	conn, err := s.options.Engine.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, nil, err
	}
	dead := engine.Stream{Name: deadName, Shape: func(c jetstream.StreamConfig) jetstream.StreamConfig {
		c.Subjects, c.MaxBytes, c.Discard = []string{deadSubject}, maxDead, jetstream.DiscardOld
		return c
	}}
	if _, err := dead.Open(ctx, s.options.Engine, js); err != nil {
		return nil, nil, fmt.Errorf("stream %s: %w", deadName, err)
	}
	live := engine.Stream{Name: streamName, Shape: func(c jetstream.StreamConfig) jetstream.StreamConfig {
		c.Subjects, c.MaxBytes, c.Discard = []string{subject}, s.options.MaxBytes, jetstream.DiscardNew
		return c
	}}
	stream, err := live.Open(ctx, s.options.Engine, js)
	if err != nil {
		return nil, nil, fmt.Errorf("stream %s, of %d bytes (events.spool.max_bytes) on a disk that the engine fills to three quarters: %w", streamName, s.options.MaxBytes, err)
	}
	for _, k := range s.sinks {
		if err := k.open(ctx, stream); err != nil {
			return nil, nil, fmt.Errorf("sink %s: %w", k.Name(), err)
		}
	}
	s.js, s.stream = js, stream
	return js, stream, nil
}

// reopen has the next call of open look for everything again: somebody has deleted it.
func (s *Spool) reopen(err error) {
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, nats.ErrNoResponders) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stream = nil
	}
}

// Gather says how long records are gathered for a Send: each is a write that the disk has to sync.
// It is as much later that they are safe.
func (s *Spool) Gather() time.Duration { return gather }

// Send puts the records on disk, as one message.
func (s *Spool) Send(ctx context.Context, records []event.Record) (taken int, err error) {
	if err := s.append(ctx, records); err != nil {
		return 0, err
	}
	s.seen.add(records)
	return len(records), nil
}

func (s *Spool) append(ctx context.Context, records []event.Record) error {
	js, _, err := s.open(ctx)
	if err != nil {
		return err
	}
	m := nats.NewMsg(subject)
	m.Header.Set(headerEvents, strconv.Itoa(len(records)))
	for _, r := range records {
		m.Data = append(r.AppendCloudEvent(m.Data), '\n')
	}
	for range 3 { // another sidecar may take the room that was made
		_, err = engine.Within(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return js.PublishMsg(ctx, m) })
		if !isFull(err) {
			break
		}
		if err := s.makeRoom(ctx, uint64(m.Size())); err != nil {
			return err
		}
	}
	if err == nil {
		return nil
	}
	s.reopen(err)
	if err = engine.Failed(ctx, js.Conn(), err); errors.Is(err, engine.ErrTooLarge) {
		return &event.Refused{Err: err}
	}
	return err
}

// isFull tells whether the stream has reached its bound.
func isFull(err error) bool {
	const storeFailed = 10077
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == storeFailed && refused.Description == "maximum bytes exceeded"
}

// lines are the events of a message.
func lines(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}
