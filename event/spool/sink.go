package spool

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
	"millrace/event"
)

const (
	// ackWait is when what a dead process held is sent again. A living one says in time that it
	// still holds it.
	ackWait = 6 * time.Second
	// linger is how long the first event waits for others to be sent with it.
	linger = 250 * time.Millisecond
	// held is how many messages a sink has in hand at once.
	held = 64
)

// SinkState is how a sink does, since the spool was started.
type SinkState struct {
	Name    string
	Sent    int64 // events
	Refused int64 // events that it will never take; they are among the dead
	Lost    int64 // events that were dropped before it had them, as there was no more room
	Err     error // why it does not get what waits for it; nil while it does
}

// sink is one sink and its goroutine.
type sink struct {
	event.Destination
	spool    *Spool
	log      *slog.Logger
	consumer jetstream.Consumer // guarded by Spool.mu

	mu  sync.Mutex // guards what follows
	now SinkState
}

// States tells how the sinks do.
func (s *Spool) States() []SinkState {
	var all []SinkState
	for _, k := range s.sinks {
		all = append(all, k.state())
	}
	return all
}

func (k *sink) state() SinkState {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now
	now.Name = k.Name()
	return now
}

func (k *sink) count(change func(*SinkState)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.now)
}

// durable is the name of its consumer. NATS allows few characters.
func (k *sink) durable() string { return "sink-" + hex.EncodeToString([]byte(k.Name())) }

func (k *sink) open(ctx context.Context, stream jetstream.Stream) (err error) {
	c := jetstream.ConsumerConfig{
		Durable: k.durable(), Description: "the sink " + k.Name(),
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 16 * held,
	}
	if k.spool.options.Engine.External() {
		c.InactiveThreshold = forgetSharedAfter
	}
	k.consumer, err = stream.CreateOrUpdateConsumer(ctx, c)
	return err
}

// position is its consumer; nil before it was opened.
func (k *sink) position() jetstream.Consumer {
	k.spool.mu.Lock()
	defer k.spool.mu.Unlock()
	return k.consumer
}

// run hands on until ctx ends.
func (k *sink) run(ctx context.Context) {
	for ctx.Err() == nil {
		messages, err := k.fetch(ctx)
		if err != nil && ctx.Err() == nil {
			k.spool.reopen(err)
			k.says(err)
			sleep(ctx, event.PauseAfter(err))
		}
		if len(messages) > 0 {
			(&hand{sink: k, left: messages}).give(ctx)
		}
	}
}

// fetch waits for a message, and a moment longer for others.
func (k *sink) fetch(ctx context.Context) ([]jetstream.Msg, error) {
	if _, _, err := k.spool.open(ctx); err != nil {
		return nil, err
	}
	consumer := k.position()
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	first, err := consumer.Fetch(1, jetstream.FetchContext(waiting))
	messages, err := all(first, err)
	if len(messages) == 0 || err != nil {
		return messages, err
	}
	sleep(ctx, linger)
	more, err := all(consumer.FetchNoWait(held - 1))
	return append(messages, more...), err
}

func all(batch jetstream.MessageBatch, err error) ([]jetstream.Msg, error) {
	if err != nil {
		return nil, err
	}
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return messages, err
	}
	return messages, nil
}

// hand is what a sink has in hand.
type hand struct {
	*sink
	records []event.Record
	ends    []int // after how many of the records each message in left is done

	mu   sync.Mutex // guards what follows
	left []jetstream.Msg
}

// give sends all of it, however long that takes, unless ctx ends: then the rest is given back.
func (h *hand) give(ctx context.Context) {
	for _, m := range h.left {
		for _, line := range lines(m.Data()) {
			h.records = append(h.records, event.Sealed(line))
		}
		h.ends = append(h.ends, len(h.records))
	}
	holding, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() { h.beat(holding) })
	defer beating.Wait()
	defer cancel()
	for done := 0; ; {
		h.acknowledge(done)
		if done == len(h.records) {
			return
		}
		n, err := event.Give(ctx, h.Destination, h.records[done:], func(r event.Record, reason error) { h.bury(ctx, r, reason) })
		if ctx.Err() != nil { // it may have cut a burial
			h.giveBack()
			return
		}
		done += n
		h.count(func(s *SinkState) { s.Sent += int64(n) })
		h.says(err)
		if err != nil {
			sleep(ctx, event.PauseAfter(err))
		}
	}
}

// beat says that the messages are still in hand.
func (h *hand) beat(ctx context.Context) {
	for beats := time.NewTicker(ackWait / 3); ; {
		select {
		case <-ctx.Done():
			beats.Stop()
			return
		case <-beats.C:
			h.mu.Lock()
			for _, m := range h.left {
				_ = m.InProgress() // else it is sent again
			}
			h.mu.Unlock()
		}
	}
}

// acknowledge tells the engine which messages are done.
func (h *hand) acknowledge(done int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.left) > 0 && h.ends[0] <= done {
		_ = h.left[0].Ack() // else it is sent again
		h.left, h.ends = h.left[1:], h.ends[1:]
	}
}

func (h *hand) giveBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.left {
		_ = m.Nak() // else it is sent again, later
	}
}

// bury keeps an event that the sink will never take, with the reason, for people to look at.
func (k *sink) bury(ctx context.Context, r event.Record, reason error) {
	opened, _ := r.Open() // for its id alone
	k.log.Error("the sink refuses an event for good: it is in the stream "+deadName, "id", opened.ID, "error", reason)
	m := nats.NewMsg(deadSubject)
	m.Header.Set(headerSink, k.Name())
	m.Header.Set(headerReason, strings.ToValidUTF8(strings.NewReplacer("\r", " ", "\n", " ").Replace(reason.Error()), "�"))
	m.Data = r.AppendCloudEvent(nil)
	for ctx.Err() == nil {
		js, _, err := k.spool.open(ctx)
		if err == nil {
			_, err = engine.Within(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return js.PublishMsg(ctx, m) })
		}
		if err == nil {
			k.count(func(s *SinkState) { s.Refused++; s.Sent-- })
			return
		}
		k.spool.reopen(err)
		k.log.Error("events: an event that is refused cannot be kept", "error", err)
		sleep(ctx, event.PauseAfter(err))
	}
}

// says notes whether the sink gets what waits for it.
func (k *sink) says(err error) {
	was := k.state().Err
	k.count(func(s *SinkState) { s.Err = err })
	switch {
	case err != nil && was == nil:
		k.log.Error("events do not reach the sink: they wait on disk", "error", err)
	case err == nil && was != nil:
		k.log.Info("events reach the sink again")
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
