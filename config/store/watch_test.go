package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/engine"
)

// startNATS runs an external server with storage on a port of its own, until the end of the test.
func startNATS(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.JetStream = true
	if opts.StoreDir == "" {
		opts.StoreDir = t.TempDir()
	}
	return runNATS(t, opts)
}

func plainNATS(t *testing.T) *server.Server {
	t.Helper()
	return runNATS(t, &server.Options{})
}

func runNATS(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host = "127.0.0.1"
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { stopNATS(srv) })
	if !srv.ReadyForConnections(waitFor) {
		t.Fatal("NATS is not ready")
	}
	return srv
}

func stopNATS(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

func watch(t *testing.T, s *Store) <-chan Version {
	t.Helper()
	versions, err := s.Watch(waiting(t))
	if err != nil {
		t.Fatal(err)
	}
	return versions
}

// until reads versions, whose revisions must go up, until the wanted one.
func until(t *testing.T, versions <-chan Version, revision uint64) Version {
	t.Helper()
	last := Version{}
	for v := range versions {
		if v.Err != nil {
			continue
		}
		if v.Revision < last.Revision || v.Revision == last.Revision && last.State != nil {
			t.Errorf("revision %d after %d", v.Revision, last.Revision)
		}
		if v.Revision == revision {
			return v
		}
		last = v
	}
	t.Fatalf("watch ended at revision %d, before %d", last.Revision, revision)
	return Version{}
}

func TestWatchSendsTheLatestFirst(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	if v := <-watch(t, s); v.Revision != 0 || v.State == nil {
		t.Errorf("never written: got %v", v)
	}
	first := put(t, s, 0, stateOf("a"))
	second := put(t, s, first, stateOf("b"))
	if v := <-watch(t, s); v.Revision != second || !cmp.Equal(ids(v.State), []string{"b"}) {
		t.Errorf("got %v, want revision %d", v, second)
	}
}

func TestSlowReaderGetsTheNewest(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	slow, quick := watch(t, s), watch(t, s)
	until(t, slow, 0)
	until(t, quick, 0)
	base := uint64(0)
	for i := range 100 {
		base = put(t, s, base, stateOf(fmt.Sprint(i)))
		until(t, quick, base)
	}
	seen := 0
	for v := range slow {
		seen++
		if v.Revision == base {
			break
		}
	}
	if seen > 3 {
		t.Errorf("a reader that had missed 100 versions was sent %d", seen)
	}
}

func TestWatchEnds(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	ctx, cancel := context.WithCancel(waiting(t))
	cancelled, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	taken, untaken := watch(t, s), watch(t, s)
	<-taken
	cancel()
	for range cancelled {
	}
	s.Close()
	for range taken {
	}
	for range untaken {
	}
}

// Two sidecars share a server, which is restarted while they are at it.
func TestServerRestart(t *testing.T) {
	t.Parallel() // it waits for five seconds
	opts := &server.Options{}
	srv := startNATS(t, opts)
	a, b := open(t, engine.Options{URL: srv.ClientURL()}), open(t, engine.Options{URL: srv.ClientURL()})
	versions := watch(t, b)
	until(t, versions, 0)
	base := put(t, a, 0, stateOf("a"))
	until(t, versions, base)
	if _, err := b.Put(waiting(t), 0, stateOf("b")); !errors.Is(err, ErrConflict) {
		t.Errorf("write on a stale base: got %v", err)
	}

	port := srv.Addr().(*net.TCPAddr).Port
	stopNATS(srv)
	began := time.Now()
	_, err := a.Get(waiting(t))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Get without a server: got %v", err)
	}
	if _, err := a.Put(waiting(t), base, stateOf("lost")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Put without a server: got %v", err)
	}
	if took := time.Since(began); took > 2*engine.AnswerWithin+time.Second {
		t.Errorf("took %s to fail", took)
	}
	if _, err := a.Put(waiting(t), base, stateOf("lost")); err == nil || !strings.HasSuffix(err.Error(), "write: unavailable: not connected") {
		t.Errorf("Put once the loss is known: got %v", err)
	}

	opts.Port = port
	startNATS(t, opts)
	// Whoever writes now is a client that was not there before, so that b alone has to find its way
	// back.
	c := open(t, engine.Options{URL: srv.ClientURL()})
	if got := get(t, c); got.Revision != base {
		t.Fatalf("got revision %d after the restart, want %d", got.Revision, base)
	}
	base = put(t, c, base, stateOf("c"))
	if v := until(t, versions, base); !cmp.Equal(ids(v.State), []string{"c"}) {
		t.Errorf("got %v", v)
	}
}

// Announcements may get lost, and a version may be unreadable.
func TestWatchLooksForItself(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	s.checkEvery = 10 * time.Millisecond
	cfg := s.stream.CachedInfo().Config
	cfg.RePublish = nil
	js, err := jetstream.New(s.conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.UpdateStream(waiting(t), cfg); err != nil {
		t.Fatal(err)
	}
	versions := watch(t, s)
	until(t, versions, 0)
	base := put(t, s, 0, stateOf("a"))
	until(t, versions, base)
	bad, err := s.kv.Put(waiting(t), key, []byte("?"))
	if err != nil {
		t.Fatal(err)
	}
	until(t, versions, put(t, s, bad, stateOf("b")))
}

// TestWatchOfAWipedStore: the watch says that the store cannot be read, and what it holds once it
// is there again; that this may not follow what there was is told by Continues.
func TestWatchOfAWipedStore(t *testing.T) {
	srv := startNATS(t, &server.Options{})
	s := open(t, engine.Options{URL: srv.ClientURL()})
	s.checkEvery = time.Millisecond
	put(t, s, put(t, s, 0, stateOf("a")), stateOf("b"))
	versions := watch(t, s)
	known := <-versions
	js, err := jetstream.New(s.conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(waiting(t), bucket); err != nil {
		t.Fatal(err)
	}
	if v := <-versions; !errors.Is(v.Err, ErrUnavailable) {
		t.Errorf("wiped: got %v", v)
	}
	open(t, engine.Options{URL: srv.ClientURL()})
	v := <-versions
	for ; v.Err != nil; v = <-versions { // there may be more than one reason on the way
	}
	if v.Revision != 0 || len(v.State.Documents) != 0 {
		t.Errorf("made again: got %v", v)
	}
	if err := s.Continues(waiting(t), known, v); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRepairsTheBucket(t *testing.T) {
	srv := startNATS(t, &server.Options{})
	s := open(t, engine.Options{URL: srv.ClientURL()})
	js, err := jetstream.New(s.conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(waiting(t), bucket); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(waiting(t), jetstream.KeyValueConfig{Bucket: bucket, Description: "ours"}); err != nil {
		t.Fatal(err)
	}
	s = open(t, engine.Options{URL: srv.ClientURL()})
	cfg := s.stream.CachedInfo().Config
	if cfg.MaxMsgsPerSubject != History || cfg.RePublish == nil || cfg.Description != "ours" {
		t.Errorf("got %+v", cfg)
	}
}

// In a cluster of three the bucket has three copies, and one node less changes nothing.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster takes seconds to elect its leaders")
	}
	t.Parallel()
	nodes := startCluster(t, 3)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.ClientURL())
	}
	a, b := open(t, engine.Options{URL: strings.Join(urls, ",")}), open(t, engine.Options{URL: urls[1]})
	info, err := a.stream.Info(waiting(t))
	if err != nil || info.Config.Replicas != 3 || info.Config.AllowDirect {
		t.Fatalf("got %+v, %v, want 3 replicas and no direct reads", info, err)
	}
	versions := watch(t, b)
	until(t, versions, 0)
	base := uint64(0)
	for range 20 { // each read follows the write at once, through another node
		base = put(t, a, base, stateOf("a"))
		if got := get(t, b); got.Revision != base {
			t.Errorf("got revision %d, want %d", got.Revision, base)
		}
	}
	until(t, versions, base)
	if _, err := b.Put(waiting(t), base-1, stateOf("b")); !errors.Is(err, ErrConflict) {
		t.Errorf("write on a stale base: got %v", err)
	}

	for _, n := range nodes {
		if n.Name() == info.Cluster.Leader {
			stopNATS(n)
		}
	}
	ctx := waiting(t)
	for {
		revision, err := a.Put(ctx, base, stateOf("b"))
		if errors.Is(err, ErrUnavailable) {
			continue // no leader yet; nothing was acknowledged
		}
		if errors.Is(err, ErrConflict) { // an earlier try was written, though never acknowledged
			v := get(t, a)
			revision, err = v.Revision, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		base = revision
		break
	}
	if v := until(t, versions, base); !cmp.Equal(ids(v.State), []string{"b"}) {
		t.Errorf("got %v", v)
	}
}

func startCluster(t *testing.T, n int) []*server.Server {
	t.Helper()
	var ports []int
	var routes []string
	var held []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l) // so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, "nats://"+l.Addr().String())
	}
	for _, l := range held {
		l.Close()
	}
	var nodes []*server.Server
	for i, port := range ports {
		opts := &server.Options{ServerName: fmt.Sprint("node-", i), Routes: server.RoutesFromStr(strings.Join(routes, ","))}
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
		nodes = append(nodes, startNATS(t, opts))
	}
	ctx := waiting(t)
	for !slices.ContainsFunc(nodes, func(n *server.Server) bool {
		return n.JetStreamIsLeader() && len(n.JetStreamClusterPeers()) == len(nodes)
	}) {
		select {
		case <-ctx.Done():
			t.Fatal("the cluster has no leader")
		case <-time.After(20 * time.Millisecond): // NATS has no event for it
		}
	}
	return nodes
}
