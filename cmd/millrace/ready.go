package main

import (
	"context"
	"sync"
	"time"

	"millrace/envoy"
)

// living knows which targets can serve, as Envoy sees it. It asks Envoy at most once in every
// readyFor, however many probes come.
type living struct {
	envoy *envoy.Admin

	mu      sync.Mutex // guards what follows
	asked   time.Time
	targets map[string]bool
}

const (
	readyFor     = time.Second
	readyTimeout = time.Second
)

// now are the targets, by identity, that pass their checks and are not draining; nil when Envoy's
// admin socket does not answer. It must not be changed.
func (l *living) now() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.asked) < readyFor {
		return l.targets
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	all, err := l.envoy.Targets(ctx)
	l.asked, l.targets = time.Now(), nil
	if err != nil {
		return nil
	}
	l.targets = map[string]bool{}
	for _, t := range all {
		l.targets[t.Identity] = l.targets[t.Identity] || t.Healthy
	}
	return l.targets
}
