package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/engine"
)

// retryEvery is how long a watch waits after it could not read.
const retryEvery = time.Second

// Watch sends the latest version first and then every later one, until ctx or the store ends and
// the channel is closed. A reader that is slower than the writers gets the newest and misses some
// in between. Revisions go up, unless the store has lost some: whether a version may follow another
// is what Continues tells.
//
// The server announces a write once it is stored (the bucket's republish setting), and the watch
// then reads it. An announcement may get lost: the watch also looks after every reconnect, and
// every checkEvery. So it outlives lost connections and restarted servers and has no consumer at
// the server that would have to be made anew.
//
// While the latest version cannot be read, the watch says so once, by a Version with an Err, and
// sends it when it can be read again. That the first one cannot be read is an error of Watch.
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
	// The server must know of the subscription before we read, or a write in between would go
	// unseen.
	_, err = engine.Within(ctx, func(ctx context.Context) (any, error) { return nil, s.conn.FlushWithContext(ctx) })
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

// follow offers the latest version, and looks for another whenever something hints at it.
func (s *Store) follow(ctx context.Context, latest Version, out chan<- Version, wake <-chan struct{}, connected <-chan nats.Status) {
	offer := out // nil once latest was taken
	check := time.NewTimer(s.checkEvery)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case offer <- latest:
			offer = nil
			continue
		case <-wake:
		case <-connected:
		case <-check.C:
		}
		next, err := s.after(ctx, latest)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if latest.Err == nil || latest.Err.Error() != err.Error() {
				latest, offer = Version{Revision: latest.Revision, State: empty(), Err: err}, out
			}
			check.Reset(retryEvery)
			continue
		case next.Revision != latest.Revision || latest.Err != nil:
			latest, offer = next, out
		}
		check.Reset(s.checkEvery)
	}
}

// after returns the version that is the latest now, which may be the given one.
func (s *Store) after(ctx context.Context, latest Version) (Version, error) {
	if latest.Err == nil {
		switch revision, err := s.latest(ctx); {
		case err != nil:
			return Version{}, err
		case revision == latest.Revision:
			return latest, nil
		}
	}
	return s.Get(ctx)
}
