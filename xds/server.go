package xds

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"millrace/envoy"
)

// Server serves one Envoy its snapshots over delta ADS. Its methods may be called at the same time.
type Server struct {
	cache cachev3.SnapshotCache
	ads   serverv3.Server
	acks  *acks

	mu      sync.Mutex // guards what follows, and the order of offers
	offered *Snapshot  // without what cools; nil before the first
	cools   map[string]bool
	closing bool                             // Envoy is told of no listener for clients
	leaving map[string]types.ResourceWithTTL // of the offer that Envoy had applied last
}

// NewServer returns a server that has nothing to offer yet. ctx ends its streams.
func NewServer(ctx context.Context, log *slog.Logger) *Server {
	s := &Server{cache: cachev3.NewSnapshotCache(true, oneNode{}, nil), acks: newAcks(log)}
	s.ads = serverv3.NewServer(ctx, s.cache, serverv3.CallbackFuncs{
		DeltaStreamClosedFunc:   s.acks.closed,
		StreamDeltaRequestFunc:  s.acks.request,
		StreamDeltaResponseFunc: s.acks.response,
	})
	return s
}

// oneNode gives every Envoy the same snapshot: a sidecar has one.
type oneNode struct{}

func (oneNode) ID(*corev3.Node) string { return envoy.NodeID }

// Register adds the ADS service to g.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s.ads)
}

// Offer makes s what Envoy is told from now on. It returns before Envoy has answered; see Status.
func (s *Server) Offer(ctx context.Context, snapshot *Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offered != nil && s.Status().Phase == Applied { // what Envoy has refused must not come again
		s.leaving = s.offered.leaving()
	}
	s.offered = snapshot
	return s.publish(ctx, s.acks.offer)
}

// Cool has Envoy ask these targets, by identity, only when no other can serve, until it is told of
// others. Those that no target has are ignored.
func (s *Server) Cool(ctx context.Context, targets map[string]bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cools = targets
	if s.offered == nil {
		return nil
	}
	return s.publish(ctx, s.acks.replace)
}

// StopListening has Envoy close the listener that clients connect to, whatever is offered later.
// Connections that are there go on, each until its request has ended.
func (s *Server) StopListening(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.offered == nil {
		return nil
	}
	return s.publish(ctx, s.acks.replace)
}

// publish tells Envoy. mu is held.
func (s *Server) publish(ctx context.Context, follow func(*Snapshot) *Snapshot) error {
	snapshot, err := s.offered.resting(s.cools)
	if err == nil {
		snapshot, err = snapshot.keeping(s.leaving)
	}
	if err == nil && s.closing {
		snapshot, err = snapshot.without(resource.ListenerType, envoy.Listener)
	}
	if err != nil {
		return err
	}
	snapshot = follow(snapshot)
	if err := s.cache.SetSnapshot(ctx, envoy.NodeID, snapshot.cache); err != nil {
		return fmt.Errorf("offer configuration %s: %w", snapshot.Version, err)
	}
	return nil
}

// Status tells what Envoy made of the latest offer.
func (s *Server) Status() Status {
	status, _ := s.acks.status()
	return status
}

// Watch is Status, and a channel that is closed once that may have changed.
func (s *Server) Watch() (Status, <-chan struct{}) { return s.acks.status() }
