package event

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATS is a destination: a subject that a JetStream stream takes. Each record is a message, a
// CloudEvent, and has its identity as Nats-Msg-Id: the stream takes none twice within its window.
type NATS struct {
	Sink    string // its name
	Subject string
	Connect func(context.Context) (*nats.Conn, error)
	End     func() // closes the connection; nil where it is somebody else's

	js jetstream.JetStream
}

// natsWithin bounds the wait for the stream's word.
const natsWithin = 5 * time.Second

// Name is the name that the operator gave it.
func (n *NATS) Name() string { return n.Sink }

// Send publishes the records, and waits until the stream has them.
func (n *NATS) Send(ctx context.Context, records []Record) (taken int, err error) {
	ctx, cancel := context.WithTimeout(ctx, natsWithin)
	defer cancel()
	if n.js == nil {
		conn, err := n.Connect(ctx)
		if err != nil {
			return 0, err
		}
		if n.js, err = jetstream.New(conn); err != nil {
			return 0, err
		}
	}
	var acks []jetstream.PubAckFuture
	for _, r := range records {
		r, opened := r.Open()
		if opened != nil {
			err = &Refused{opened}
			break
		}
		m := nats.NewMsg(n.Subject)
		m.Header.Set("Nats-Msg-Id", r.Source+" "+r.ID)
		m.Header.Set("Content-Type", "application/cloudevents+json")
		m.Data = r.AppendCloudEvent(nil)
		ack, failed := n.js.PublishMsgAsync(m)
		if failed != nil {
			err = failed
			break
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
			taken++
		case err := <-ack.Err():
			return taken, err
		case <-ctx.Done():
			return taken, ctx.Err()
		}
	}
	return taken, err
}

// Close ends its connection, if it is its own.
func (n *NATS) Close() error {
	if n.End != nil {
		n.End()
	}
	return nil
}
