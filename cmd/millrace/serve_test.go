package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// watching is a health service whose handler takes its time at the end of its stream.
type watching struct {
	grpc_health_v1.UnimplementedHealthServer
	begun   chan struct{}
	stopped chan struct{} // closed when Stop has returned
	early   bool          // Stop has returned before the handler has
}

func (w *watching) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	close(w.begun)
	<-stream.Context().Done()
	select {
	case <-w.stopped:
		w.early = true
	case <-time.After(100 * time.Millisecond): // Stop, were it not to wait, would return at once
	}
	return nil
}

// TestStopWaitsForHandlers: what a handler does at the end of its stream is done when Stop returns.
// There the sidecar's handlers record how their attempts ended (B13).
func TestStopWaitsForHandlers(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{begun: make(chan struct{}), stopped: make(chan struct{})}
	server := newGRPCServer(slog.New(slog.DiscardHandler))
	grpc_health_v1.RegisterHealthServer(server, w)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	<-w.begun
	server.Stop()
	close(w.stopped)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if w.early {
		t.Error("Stop returned before the handler did")
	}
}
