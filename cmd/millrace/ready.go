package main

import (
	"context"
	"sync"
	"time"

	"millrace/envoy"
)

// servable knows whether, of the targets there are, one can serve. It asks Envoy at most once in every readyFor, however many
// probes come.
type servable struct {
	envoy *envoy.Admin

	mu     sync.Mutex // guards what follows
	asked  time.Time
	served bool
}

const (
	readyFor     = time.Second
	readyTimeout = time.Second
)

// now tells whether some target gets requests. Without any target there is nothing to wait for; without an answer from Envoy's
// admin socket, the configuration it has acknowledged is all there is to go by.
func (s *servable) now() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) < readyFor {
		return s.served
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	targets, err := s.envoy.Targets(ctx)
	s.asked, s.served = time.Now(), err != nil || len(targets) == 0
	for _, t := range targets {
		s.served = s.served || t.Healthy
	}
	return s.served
}
