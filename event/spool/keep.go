package spool

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
	"millrace/event"
)

// keep deletes what is not needed any more, until ctx ends.
func (s *Spool) keep(ctx context.Context) {
	forget := time.After(forgetAfter)
	for ctx.Err() == nil {
		err := s.sweep(ctx)
		select {
		case <-forget:
			err = errors.Join(err, s.forgetOthers(ctx))
		case <-time.After(keepEvery):
		case <-ctx.Done():
			return
		}
		if err != nil && !errors.Is(err, engine.ErrUnavailable) {
			s.options.Log.Warn("events: what all sinks have cannot be deleted", "error", err)
		}
	}
}

// sweep deletes what all sinks have and nobody wants to read any more.
func (s *Spool) sweep(ctx context.Context) error {
	_, stream, err := s.open(ctx)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		s.reopen(err)
		return err
	}
	s.bytes.Store(int64(info.State.Bytes))
	floors, err := floorsOf(ctx, stream)
	if err != nil {
		return err
	}
	first := info.State.LastSeq + 1
	for _, floor := range floors { // those of sinks that are gone too: they may come back
		first = min(first, floor+1)
	}
	if s.options.Retention > 0 {
		young, err := firstSince(ctx, stream, info.State, time.Now().Add(-s.options.Retention))
		if err != nil {
			return err
		}
		first = min(first, young)
	}
	if first <= info.State.FirstSeq || info.State.Msgs == 0 {
		return nil
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(first))
}

// floorsOf are, for each sink, by its consumer's name, the message up to which it has everything.
func floorsOf(ctx context.Context, stream jetstream.Stream) (map[string]uint64, error) {
	floors := map[string]uint64{}
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		floors[info.Name] = info.AckFloor.Stream
		if info.NumPending == 0 && info.NumAckPending == 0 {
			floors[info.Name] = max(info.AckFloor.Stream, info.Delivered.Stream)
		}
	}
	return floors, consumers.Err()
}

// forgetOthers deletes the positions of sinks that are no longer there.
func (s *Spool) forgetOthers(ctx context.Context) error {
	_, stream, err := s.open(ctx)
	if err != nil || s.options.Engine.External() {
		return err
	}
	floors, err := floorsOf(ctx, stream)
	if err != nil {
		return err
	}
	for _, k := range s.sinks {
		delete(floors, k.durable())
	}
	for name := range floors {
		if err := stream.DeleteConsumer(ctx, name); err != nil {
			return err
		}
		s.options.Log.Info("events: a sink is gone, and its position with it", "consumer", name)
	}
	return nil
}

// firstSince is the first message that was stored at a time or later: the one after the last when
// there is none.
func firstSince(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState, since time.Time) (uint64, error) {
	low, high := max(state.FirstSeq, 1), state.LastSeq+1 // no message has the number 0
	for low < high {
		middle := low + (high-low)/2
		m, err := stream.GetMsg(ctx, middle)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound): // only the first are ever deleted
			low = middle + 1
		case err != nil:
			return 0, err
		case m.Time.Before(since):
			low = middle + 1
		default:
			high = middle
		}
	}
	return low, nil
}

// makeRoom deletes the oldest messages: for so many bytes, and some more, so that it is not asked
// for with every message. What sinks lack it drops only if it may.
func (s *Spool) makeRoom(ctx context.Context, need uint64) error {
	_, stream, err := s.open(ctx)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	floors, err := floorsOf(ctx, stream)
	if err != nil {
		return err
	}
	bound := uint64(s.options.MaxBytes)
	goal, freed, dropped := max(2*need, bound/16), uint64(0), int64(0)
	if info.State.Bytes > bound { // it was larger before
		goal += info.State.Bytes - bound
	}
	seq := info.State.FirstSeq
	for ; freed < goal && seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		lacking := slices.DeleteFunc(slices.Clone(s.sinks), func(k *sink) bool { return floors[k.durable()] >= seq })
		if len(lacking) > 0 && s.options.RefuseWhenFull {
			break
		}
		dropped += lose(lacking, m)
		freed += uint64(len(m.Data))
	}
	if freed == 0 {
		return event.ErrFull
	}
	if dropped > 0 {
		s.options.Log.Error("events are lost: sinks were away too long, and there is no more room on disk", "events", dropped, "max_bytes", s.options.MaxBytes)
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(seq))
}

// lose counts the events of a message at the sinks that lack it.
func lose(lacking []*sink, m *jetstream.RawStreamMsg) int64 {
	n, err := strconv.ParseInt(m.Header.Get(headerEvents), 10, 64)
	if err != nil {
		n = int64(len(lines(m.Data)))
	}
	for _, k := range lacking {
		k.count(func(state *SinkState) { state.Lost += n })
	}
	return n * int64(len(lacking))
}
