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

// coolDown tells Envoy which targets cool until ctx ends.
func (p *Plane) coolDown(ctx context.Context) {
	told := map[string]bool{}
	for {
		now, next := p.cooling.present()
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

// present are the targets that cool now, and when the first of them has done so; nil when there are none.
func (c *cooling) present() (map[string]bool, <-chan time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	cools := map[string]bool{}
	var next time.Time
	for target, until := range c.until {
		if !until.After(now) {
			delete(c.until, target)
			continue
		}
		cools[target] = true
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	if next.IsZero() {
		return cools, nil
	}
	return cools, time.After(next.Sub(now))
}
