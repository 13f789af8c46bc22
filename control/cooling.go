package control

import (
	"context"
	"maps"
	"sync"
	"time"

	"millrace/config"
)

// cooling are the targets that have said when to come back.
type cooling struct {
	mu    sync.Mutex
	until map[string]time.Time // by the target's identity
	added chan struct{}        // of length 1: something is new
}

func newCooling() *cooling {
	return &cooling{until: map[string]time.Time{}, added: make(chan struct{}, 1)}
}

// Cool has the target, by its identity, asked only when no other can serve, for so long. It returns at once.
func (p *Plane) Cool(target string, d time.Duration) {
	c := p.cooling
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(d)
	if !until.After(c.until[target]) {
		return
	}
	if _, cools := c.until[target]; !cools {
		p.Log.Info("target cools down", "target", config.NameOf(target), "for", d.Round(time.Millisecond).String())
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
func (p *Plane) CoolUntil(target string) time.Time {
	p.cooling.mu.Lock()
	defer p.cooling.mu.Unlock()
	return p.cooling.until[target]
}

// coolDown tells Envoy which targets cool or are out, until ctx ends.
func (p *Plane) coolDown(ctx context.Context) {
	told := map[string]bool{}
	for {
		now, next := p.resting()
		if !maps.Equal(now, told) {
			if err := p.Envoy.Cool(ctx, now); err != nil {
				p.Log.Error("targets that cool down", "error", err)
			}
			told = now
		}
		select {
		case <-ctx.Done():
			return
		case <-p.cooling.added:
		case <-next:
		}
	}
}

// resting are the targets that cool or are out now, and when the first of them comes back; nil when there are none.
func (p *Plane) resting() (map[string]bool, <-chan time.Time) {
	now, rest := time.Now(), map[string]bool{}
	next := p.cooling.present(rest, now)
	out, back := p.ejection.present(rest, now)
	for _, target := range back {
		p.Log.Info("target is asked again", "target", config.NameOf(target))
	}
	if next = sooner(next, out); next.IsZero() {
		return rest, nil
	}
	return rest, time.After(next.Sub(now))
}

// present adds to targets those that cool now. It returns when the first of them has done so, the zero time when none cools.
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
