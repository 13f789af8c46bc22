package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
	"millrace/event"
)

// scanned bounds the messages that are looked at for one page.
const scanned = 5000

// cursor is a place in the stream: after so many events of a message.
type cursor struct {
	message uint64
	events  int
}

func (c cursor) String() string { return fmt.Sprintf("%d-%d", c.message, c.events) }

func parseCursor(text string) (c cursor, err error) {
	if _, err = fmt.Sscanf(text, "%d-%d", &c.message, &c.events); err != nil || c.String() != text {
		return cursor{}, event.ErrCursor
	}
	return c, nil
}

// Read returns events that are kept.
func (s *Spool) Read(ctx context.Context, q event.Query) (event.Page, error) {
	js, stream, err := s.open(ctx)
	if err != nil {
		return event.Page{}, err
	}
	if q.Refused {
		if stream, err = js.Stream(ctx, deadName); err != nil {
			return event.Page{}, engine.Failed(ctx, js.Conn(), err)
		}
	}
	page, err := read(ctx, stream, q)
	if err != nil && !errors.Is(err, event.ErrCursor) {
		s.reopen(err)
		err = engine.Failed(ctx, js.Conn(), err)
	}
	return page, err
}

func read(ctx context.Context, stream jetstream.Stream, q event.Query) (event.Page, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return event.Page{}, err
	}
	r := reader{stream, q, info.State}
	switch {
	case q.After != "":
		from, err := parseCursor(q.After)
		if err != nil {
			return event.Page{}, err
		}
		return r.forward(ctx, from)
	case !q.Since.IsZero(): // an event is recorded after its request has begun
		first, err := firstSince(ctx, stream, info.State, q.Since)
		if err != nil {
			return event.Page{}, err
		}
		return r.forward(ctx, cursor{message: first})
	}
	return r.last(ctx)
}

type reader struct {
	stream jetstream.Stream
	event.Query
	state jetstream.StreamState
}

func (r *reader) forward(ctx context.Context, at cursor) (event.Page, error) {
	if first := max(r.state.FirstSeq, 1); at.message < first {
		at = cursor{message: first}
	}
	var page event.Page
	for looked := 0; at.message <= r.state.LastSeq; looked++ {
		if looked == scanned {
			page.More = true
			break
		}
		records, err := r.message(ctx, at.message)
		if err != nil {
			return event.Page{}, err
		}
		for ; at.events < len(records) && len(page.Records) < r.Limit; at.events++ {
			if r.wants(&records[at.events]) {
				page.Records = append(page.Records, records[at.events])
			}
		}
		if at.events < len(records) {
			page.More = true
			break
		}
		if at.message == r.state.LastSeq { // what comes next has another number
			break
		}
		at = cursor{message: at.message + 1}
	}
	page.Next = at.String()
	return page, nil
}

// last reads backwards.
func (r *reader) last(ctx context.Context) (event.Page, error) {
	page := event.Page{Next: cursor{message: r.state.LastSeq + 1}.String()}
	for seq, looked := r.state.LastSeq, 0; seq >= r.state.FirstSeq && seq > 0 && looked < scanned && len(page.Records) < r.Limit; seq, looked = seq-1, looked+1 {
		records, err := r.message(ctx, seq)
		if err != nil {
			return event.Page{}, err
		}
		for i := len(records) - 1; i >= 0 && len(page.Records) < r.Limit; i-- {
			if r.wants(&records[i]) {
				page.Records = append(page.Records, records[i])
			}
		}
	}
	slices.Reverse(page.Records)
	return page, nil
}

// message are the events of one; none when it is gone.
func (r *reader) message(ctx context.Context, seq uint64) ([]event.Record, error) {
	m, err := r.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []event.Record
	for _, line := range lines(m.Data) {
		record, err := event.ReadCloudEvent(line)
		if err != nil { // written by another version
			continue
		}
		record.Sink, record.Reason = m.Header.Get(headerSink), m.Header.Get(headerReason)
		records = append(records, record)
	}
	return records, nil
}

func (r *reader) wants(record *event.Record) bool {
	return r.Filter.Has(&record.Facts) &&
		(r.Since.IsZero() || !record.Time.Before(r.Since)) && (r.Until.IsZero() || record.Time.Before(r.Until))
}
