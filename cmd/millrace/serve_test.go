package main

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// TestListen: the folder of the sockets is made our own before there is a socket in it. One that
// was open to all is narrowed; where another user has put something, nothing listens.
func TestListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	wide := func() (dir, socket string) {
		dir = t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		return dir, filepath.Join(dir, "s")
	}
	dir, socket := wide()
	l, err := listen(socket, log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]fs.FileMode{dir: 0o700, socket: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %04o", path, info, err, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	_, socket = wide()
	if err := os.Symlink("/somewhere", socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(socket, 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if l, err := listen(socket, log); err == nil || !strings.Contains(err.Error(), socket+" belongs to user 54321") {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("what the other user has put there: %v", err)
	}
}
