package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// retryEvery is how long a watch waits after it could not read.
const retryEvery = time.Second

// Watch sends the latest version first and then every later one, until ctx or the store ends and the channel is closed. A
// reader that is slower than the writers gets the newest and misses some in between. Its revisions only go up.
//
// The server announces a write once it is stored (the bucket's republish setting), and the watch then reads it. An
// announcement may get lost: the watch also looks after every reconnect, and every checkEvery. So it outlives lost
// connections and restarted servers and has no consumer at the server that would have to be made anew.
//
// A version that cannot be read is logged and skipped; Get says why. The first one is an error of Watch.
func (s *Store) Watch(ctx context.Context) (<-chan Version, error) {
	wake := make(chan struct{}, 1)
	announced, err := s.conn.Subscribe(changed, func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, s.failed(ctx, "watch", err)
	}
	connected := s.conn.StatusChanged(nats.CONNECTED)
	stop := func() {
		if err := announced.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			s.log.Debug("config store: unsubscribe", "error", err)
		}
		s.conn.RemoveStatusListener(connected)
	}
	// The server must know of the subscription before we read, or a write in between would go unseen.
	_, err = within(ctx, func(ctx context.Context) (any, error) { return nil, s.conn.FlushWithContext(ctx) })
	if err != nil {
		stop()
		return nil, s.failed(ctx, "watch", err)
	}
	first, err := s.Get(ctx)
	if err != nil {
		stop()
		return nil, err
	}

	out := make(chan Version)
	s.watches.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		defer stop()
		defer close(out)
		s.follow(ctx, first, out, wake, connected)
	})
	return out, nil
}

// follow offers the newest version, and looks for a newer one whenever something hints at it.
func (s *Store) follow(ctx context.Context, newest Version, out chan<- Version, wake <-chan struct{}, connected <-chan nats.Status) {
	offer := out // nil once newest was taken
	failing := false
	check := time.NewTimer(s.checkEvery)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case offer <- newest:
			offer = nil
			continue
		case <-wake:
		case <-connected:
		case <-check.C:
		}
		next, err := s.newer(ctx, newest.Revision)
		if err != nil {
			if ctx.Err() == nil && !failing {
				s.log.Warn("config store: watch: staying with the version at hand", "revision", newest.Revision, "error", err)
			}
			failing = true
			check.Reset(retryEvery)
			continue
		}
		if failing {
			s.log.Info("config store: watch: reading again", "revision", next.Revision)
			failing = false
		}
		if next.Revision > newest.Revision {
			newest, offer = next, out
		}
		check.Reset(s.checkEvery)
	}
}

// newer returns the latest version if it is newer than the given one, else just that number.
func (s *Store) newer(ctx context.Context, than uint64) (Version, error) {
	latest, err := s.latest(ctx)
	if err != nil {
		return Version{}, err
	}
	if latest < than {
		// Not a version to apply: taking a wiped store for an empty configuration would stop every sidecar that shares it.
		return Version{}, fmt.Errorf("%s: is at revision %d but was at %d: wiped or restored? restart to take it as it is", s.name, latest, than)
	}
	if latest == than {
		return Version{Revision: than}, nil
	}
	return s.Get(ctx)
}
