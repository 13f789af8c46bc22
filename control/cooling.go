package control

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"millrace/config"
	"millrace/xds"
)

// cooling are the targets that are to be asked only when no other can serve: those that have said
// when to come back, and those that are out.
type cooling struct {
	envoy *xds.Server
	log   *slog.Logger
	out   *ejection
	now   atomic.Pointer[version] // what both halves were told last

	mu    sync.Mutex
	until map[string]time.Time // by the target's identity
	added chan struct{}        // of length 1: something is new
}

func newCooling(envoy *xds.Server, log *slog.Logger) *cooling {
	return &cooling{
		envoy: envoy, log: log, out: &ejection{accounts: map[string]*account{}},
		until: map[string]time.Time{}, added: make(chan struct{}, 1),
	}
}

// told forgets the targets that both halves, which were told of v, have no more.
func (c *cooling) told(v *version) {
	c.now.Store(v)
	c.out.keep(v.upstreams)
	c.wake()
}

// Cool has the target, by its identity, asked only when no other can serve, for so long. It returns
// at once.
func (c *cooling) Cool(target string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(d)
	if !until.After(c.until[target]) {
		return
	}
	if _, cools := c.until[target]; !cools {
		c.log.Info("target cools down", "target", config.NameOf(target), "for", d.Round(time.Millisecond).String())
	}
	c.until[target] = until
	c.wake()
}

// wake has coolDown look.
func (c *cooling) wake() {
	select {
	case c.added <- struct{}{}:
	default:
	}
}

// CoolUntil is when the target will be asked as usual again, the zero time when it is now.
func (c *cooling) CoolUntil(target string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until[target]
}

// run tells Envoy which targets cool or are out, until ctx ends.
func (c *cooling) run(ctx context.Context) {
	told := map[string]bool{}
	for {
		now, next := c.resting()
		if !maps.Equal(now, told) {
			if err := c.envoy.Cool(ctx, now); err != nil {
				c.log.Error("targets that cool down", "error", err)
			}
			told = now
		}
		select {
		case <-ctx.Done():
			return
		case <-c.added:
		case <-next:
		}
	}
}

// resting are the targets that cool or are out now, and when the first of them comes back; nil when
// there are none.
func (c *cooling) resting() (map[string]bool, <-chan time.Time) {
	now, rest := time.Now(), map[string]bool{}
	next := c.present(rest, now)
	out, back := c.out.present(rest, now)
	for _, target := range back {
		c.log.Info("target is asked again", "target", config.NameOf(target))
	}
	if next = sooner(next, out); next.IsZero() {
		return rest, nil
	}
	return rest, time.After(next.Sub(now))
}

// present adds to targets those that cool now. It returns when the first of them has done so, the
// zero time when none cools.
func (c *cooling) present(targets map[string]bool, now time.Time) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for target, until := range c.until {
		if !until.After(now) {
			delete(c.until, target)
			continue
		}
		targets[target] = true
		next = sooner(next, until)
	}
	return next
}

// sooner is the earlier of two times; the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
