package engine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func waiting(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newEngine(t *testing.T, o Options) *Engine {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	e := New(o)
	t.Cleanup(e.Close)
	return e
}

// TestOneEngineForAll: whoever connects, also at the same time, gets the same connection, and the
// streams of each are its own.
func TestOneEngineForAll(t *testing.T) {
	e := newEngine(t, Options{DataDir: t.TempDir()})
	names := []string{"a", "b", "c"}
	conns := make([]*nats.Conn, len(names))
	var users sync.WaitGroup
	for i, name := range names {
		users.Go(func() {
			conn, err := e.Connect(waiting(t))
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = conn
			js, err := jetstream.New(conn)
			if err != nil {
				t.Error(err)
				return
			}
			stream, err := Stream{Name: name, Shape: func(c jetstream.StreamConfig) jetstream.StreamConfig {
				c.Subjects = []string{name}
				return c
			}}.Open(waiting(t), e, js)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := js.Publish(waiting(t), name, nil); err != nil {
				t.Error(err)
			}
			if info, err := stream.Info(waiting(t)); err != nil || info.State.Msgs != 1 {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
		})
	}
	users.Wait()
	for i, c := range conns {
		if c == nil || c != conns[0] {
			t.Errorf("%s has a connection of its own", names[i])
		}
	}
}

// TestConnectAgain: a server that could not start is started by a later call, once what was in its
// way is gone; the directory stays ours in between, and is free after Close.
func TestConnectAgain(t *testing.T) {
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "nats", "jetstream")
	if err := os.MkdirAll(filepath.Dir(inTheWay), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, Options{DataDir: dir})
	if _, err := e.Connect(waiting(t)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("with a file in the way: %v", err)
	}
	wantInUse(t, dir)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Connect(waiting(t)); err != nil {
		t.Fatal(err)
	}
	wantInUse(t, dir)
	e.Close()
	if _, err := newEngine(t, Options{DataDir: dir}).Connect(waiting(t)); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// TestLockedWhileAway: with an external server that does not answer the directory is ours all the
// same; the same engine connects when the server is there.
func TestLockedWhileAway(t *testing.T) {
	srv := runNATS(t, server.RANDOM_PORT)
	url := srv.ClientURL()
	port := srv.Addr().(*net.TCPAddr).Port
	stopNATS(srv)
	dir := t.TempDir()
	e := newEngine(t, Options{DataDir: dir, URL: url})
	if _, err := e.Connect(waiting(t)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("nobody is there: %v", err)
	}
	wantInUse(t, dir)
	runNATS(t, port)
	if _, err := e.Connect(waiting(t)); err != nil {
		t.Error(err)
	}
}

// TestStillReading: a server that has not started when the caller gives up is the one that the next
// call gets.
func TestStillReading(t *testing.T) {
	e := newEngine(t, Options{DataDir: t.TempDir()})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Connect(gone); err != nil && !errors.Is(err, ErrUnavailable) { // it may have been quick
		t.Fatal(err)
	}
	started := e.server
	if _, err := e.Connect(waiting(t)); err != nil {
		t.Fatal(err)
	}
	if started != nil && e.server != started {
		t.Error("a second server was started in the same directory")
	}
}

func wantInUse(t *testing.T, dir string) {
	t.Helper()
	other := newEngine(t, Options{DataDir: dir})
	if _, err := other.Connect(waiting(t)); err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "another sidecar uses "+dir) {
		t.Errorf("another engine: %v", err)
	}
}

func runNATS(t *testing.T, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { stopNATS(srv) })
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	return srv
}

func stopNATS(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}
