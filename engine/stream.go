package engine

import (
	"context"
	"errors"
	"reflect"

	"github.com/nats-io/nats.go/jetstream"
)

// Stream is what an owner wants of its stream.
type Stream struct {
	Name string
	// Replicas in a cluster. 0 leaves a stream as it is and makes a new one with 3, or 1 where the
	// cluster has fewer than 3 nodes.
	Replicas int
	// Shape fills in what makes a stream the owner's and leaves the rest (replicas, placement)
	// alone.
	Shape func(jetstream.StreamConfig) jetstream.StreamConfig
}

// Open returns the stream. It makes the stream, or changes an existing one, as Shape wants it.
func (want Stream) Open(ctx context.Context, e *Engine, js jetstream.JetStream) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = want.create(ctx, e, js)
	}
	if err != nil {
		return nil, err
	}
	is := stream.CachedInfo().Config
	replicas := is.Replicas
	if want.Replicas > 0 {
		replicas = want.Replicas
	}
	if next := want.config(is, replicas); !reflect.DeepEqual(is, next) {
		return js.UpdateStream(ctx, next)
	}
	return stream, nil
}

func (want Stream) create(ctx context.Context, e *Engine, js jetstream.JetStream) (jetstream.Stream, error) {
	replicas := want.Replicas
	if replicas == 0 {
		replicas = 1
		if e.External() {
			replicas = 3
		}
	}
	stream, err := js.CreateStream(ctx, want.config(jetstream.StreamConfig{}, replicas))
	var refused *jetstream.APIError
	if errors.As(err, &refused) && want.Replicas == 0 && replicas > 1 {
		// Only the server knows how many nodes can hold it. Whatever else it may have meant, it
		// will say again.
		stream, err = js.CreateStream(ctx, want.config(jetstream.StreamConfig{}, 1))
		if err == nil && js.Conn().ConnectedClusterName() != "" {
			e.opts.Log.Warn("NATS: the cluster could not hold 3 copies of a stream, there is 1", "engine", e.name, "stream", want.Name, "reason", refused)
		}
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another sidecar was faster
		return js.Stream(ctx, want.Name)
	}
	return stream, err
}

func (want Stream) config(cfg jetstream.StreamConfig, replicas int) jetstream.StreamConfig {
	cfg.Name, cfg.Replicas = want.Name, replicas
	return want.Shape(cfg)
}
