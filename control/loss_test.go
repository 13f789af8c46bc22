package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/config/store"
	"millrace/engine"
	"millrace/extproc"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/xds"
)

// patience bounds every wait; nothing here is measured in it.
const patience = 20 * time.Second

const (
	file  = "providers: {targets: [{id: a, provider: openai}]}\n"
	keyed = file + "keys: [{name: k, hash: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]\n"
)

// site is a gateway's files, and what it is started with. There is no Envoy: what is applied is
// written by hand.
type site struct {
	t         *testing.T
	look      func()         // unless nil, is called before something is logged
	data, url string         // url is of an external store
	path      string         // of the configuration file
	engine    *engine.Engine // of the last start
	log       *strings.Builder
	eventsTo  func(*config.Config) error
	openLogs  func(*config.Config) error
	within    time.Duration // a start may take; 0: patience
}

func newSite(t *testing.T, document string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, data: filepath.Join(dir, "data"), path: filepath.Join(dir, "millrace.yaml"), log: &strings.Builder{}}
	s.write(document)
	return s
}

func (s *site) write(document string) {
	s.t.Helper()
	if err := os.WriteFile(s.path, []byte(document), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() (*Plane, error) {
	s.t.Helper()
	log := slog.New(looker{slog.NewTextHandler(s.log, nil), s})
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(s.within, patience))
	s.t.Cleanup(cancel)
	o := Options{
		Sidecar:  extproc.NewServer(extproc.Options{Log: log}),
		Envoy:    xds.NewServer(s.t.Context(), log),
		File:     s.path,
		DataDir:  s.data,
		Log:      log,
		Draining: func() bool { return false },
		Living:   func() map[string]bool { return nil },
		EventsTo: s.eventsTo,
		OpenLogs: s.openLogs,
	}
	s.engine = engine.New(engine.Options{DataDir: s.data, URL: s.url, Log: log})
	if s.data != "" || s.url != "" {
		o.OpenStore = func(ctx context.Context) (*store.Store, error) {
			return store.Open(ctx, s.engine, store.Options{Log: log})
		}
	}
	p, err := Start(ctx, o)
	if err != nil {
		s.engine.Close()
	}
	return p, err
}

// openStore opens a store beside those of the planes; end closes it.
func openStore(t *testing.T, at engine.Options) (opened *store.Store, end func()) {
	t.Helper()
	at.Log = slog.New(slog.DiscardHandler)
	e := engine.New(at)
	opened, err := store.Open(context.Background(), e, store.Options{Log: at.Log})
	if err != nil {
		e.Close()
		t.Fatal(err)
	}
	return opened, func() { opened.Close(); e.Close() } // twice is once
}

// mustStart starts the plane and ends it with the test, or before.
func (s *site) mustStart() (p *Plane, end func()) {
	s.t.Helper()
	p, err := s.start()
	if err != nil {
		s.t.Fatal(err)
	}
	ended, e := false, s.engine
	end = func() {
		if !ended {
			ended = true
			p.Sidecar.Close()
			p.Close()
			e.Close()
		}
	}
	s.t.Cleanup(end)
	return p, end
}

// change writes over REST and then, as Envoy would have said so, applies.
func change(t *testing.T, p *Plane, edit func(*millracev1.Document)) {
	t.Helper()
	if err := tryChange(p, edit); err != nil {
		t.Fatal(err)
	}
	applies(p)
}

// applies has the present version applied, as if Envoy had said so.
func applies(p *Plane) {
	p.settler.mu.Lock()
	defer p.settler.mu.Unlock()
	p.settler.take()
	p.settler.save(p.settler.applied)
}

func tryChange(p *Plane, edit func(*millracev1.Document)) error {
	_, err := p.Change(context.Background(), Change{Cause: "test", Wait: time.Millisecond, Edit: func(state *millracev1.State) error {
		if len(state.Documents) == 0 {
			state.Documents = append(state.Documents, &millracev1.Document{Gateway: &millracev1.Gateway{Id: "default", Name: "default"}})
		}
		edit(state.Documents[0])
		return nil
	}})
	return err
}

func addKey(name string) func(*millracev1.Document) {
	return func(d *millracev1.Document) {
		d.Keys = append(d.Keys, &millracev1.Key{Id: name, Name: name, Hash: strings.Repeat("0", 64-len(name)) + name})
	}
}

// filled is a site whose store has two keys, the second in its latest version, which was applied.
func filled(t *testing.T) *site {
	t.Helper()
	s := newSite(t, file)
	p, end := s.mustStart()
	for _, name := range []string{"1", "2"} {
		change(t, p, addKey(name))
	}
	end()
	return s
}

// keysOf are the names of the keys that let somebody in; it fails when anyone is let in without
// one.
func keysOf(t *testing.T, p *Plane) string {
	t.Helper()
	g := p.Config().Gateways[0]
	if !g.NeedsKey {
		t.Fatal("the gateway is open")
	}
	var names []string
	for _, k := range g.Keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, " ")
}

// TestDamagedStore: whatever byte of the store's files is flipped, and wherever one of them is cut,
// the gateway starts with the keys it had, or says why not. Where the store has lost them it is not
// written either, and status says so.
func TestDamagedStore(t *testing.T) {
	s := filled(t)
	const step = 17 // bytes between two flips
	intact := readLoss(t, filepath.Join(s.data, "nats"))
	damage := map[string]map[string][]byte{"every file is gone": {}}
	for name, content := range intact {
		for at := 0; at < len(content); at += step {
			flipped := slices.Clone(content)
			flipped[at] ^= 0x40
			damage[fmt.Sprintf("%s: byte %d is flipped", name, at)] = with(intact, name, flipped)
		}
		for _, kept := range []int{0, len(content) / 2, len(content) - 1} {
			damage[fmt.Sprintf("%s: cut to %d bytes", name, kept)] = with(intact, name, content[:kept])
		}
		damage[name+" is gone"] = without(intact, name)
	}
	var standing atomic.Int64
	var all sync.WaitGroup
	turns := make(chan struct{}, 8) // most of the time goes by in waiting for a server that does not come up
	for what, files := range damage {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			if s.startsDamaged(t, what, files) {
				standing.Add(1)
			}
		})
	}
	all.Wait()
	if n := standing.Load(); n < 10 {
		t.Errorf("only %d of %d damages were seen: this test shows nothing", n, len(damage))
	}
	t.Logf("%d damages, in %d what was applied last stood in", len(damage), standing.Load())
}

// startsDamaged starts a gateway on a copy of the site whose store has these files, and tells
// whether what was applied last stood in.
func (s *site) startsDamaged(t *testing.T, what string, files map[string][]byte) (stoodIn bool) {
	dir := t.TempDir()
	damaged := &site{t: t, data: dir, path: s.path, log: &strings.Builder{}, within: 5 * time.Second} // one of them hangs
	write(t, filepath.Join(dir, "nats"), files)
	write(t, dir, readLoss(t, s.data, "applied"))
	p, err := damaged.start()
	if err != nil {
		t.Errorf("%s: does not start: %v", what, err)
		return false
	}
	defer func() {
		p.Sidecar.Close()
		p.Close()
		damaged.engine.Close()
	}()
	if got := keysOf(t, p); got != "1 2" {
		t.Errorf("%s: keys %q", what, got)
	}
	if p.Status().Store == "" {
		return false
	}
	if !strings.Contains(damaged.log.String(), "serving what was applied last") {
		t.Errorf("%s: the log says\n%s", what, damaged.log)
	}
	if err := tryChange(p, addKey("3")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%s: a write: %v", what, err)
	}
	return true
}

// TestLostStore: what a store can look like that has lost versions without being damaged.
func TestLostStore(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, s *site, open func() (*store.Store, func())){
		"written anew, further than it was": func(t *testing.T, s *site, open func() (*store.Store, func())) {
			wipe(t, s)
			opened, _ := open()
			state := &millracev1.State{}
			for base := uint64(0); base < 5; base++ {
				store.Stamp(state, state, "another sidecar")
				put(t, opened, base, state)
			}
		},
		"put back from a copy, and written": func(t *testing.T, s *site, open func() (*store.Store, func())) {
			opened, end := open()
			first, err := opened.At(context.Background(), 1)
			if err != nil {
				t.Fatal(err)
			}
			end()
			wipe(t, s)
			opened, _ = open()
			for base := uint64(0); base < 3; base++ {
				state := proto.CloneOf(first.State)
				store.Stamp(state, first.State, "another sidecar")
				state.Documents[0].Keys = nil
				put(t, opened, base, state)
			}
		},
		"gone": func(t *testing.T, s *site, open func() (*store.Store, func())) { wipe(t, s) },
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			var ends []func()
			lose(t, s, func() (*store.Store, func()) {
				opened, end := openStore(t, engine.Options{DataDir: s.data})
				ends = append(ends, end)
				return opened, end
			})
			for _, end := range ends {
				end()
			}
			p, end := s.mustStart()
			if got := keysOf(t, p); got != "1 2" {
				t.Errorf("keys %q", got)
			}
			if told := p.Status().Store; !strings.Contains(told, "has lost what was applied") || !strings.Contains(told, "millrace store restore") {
				t.Errorf("status: %q", told)
			}
			end()
		})
	}
}

// TestBothDamaged: with nothing left to compare, the gateway does not start, and names both.
func TestBothDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *site){
		"store gone": wipe,
		"store not readable": func(t *testing.T, s *site) {
			t.Helper()
			cut(t, filepath.Join(s.data, "nats"), ".blk")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			damage(t, s)
			flip(t, filepath.Join(s.data, "applied"))
			_, err := s.start()
			if err == nil || !strings.Contains(err.Error(), "config store "+s.data) || !strings.Contains(err.Error(), filepath.Join(s.data, "applied")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAppliedDamaged: an intact store serves without what was applied last, and the log says what
// could not be compared.
func TestAppliedDamaged(t *testing.T) {
	s := filled(t)
	flip(t, filepath.Join(s.data, "applied"))
	p, _ := s.mustStart()
	if got := keysOf(t, p); got != "1 2" {
		t.Errorf("keys %q", got)
	}
	if !strings.Contains(s.log.String(), "what was applied last cannot be read") {
		t.Errorf("the log says\n%s", s.log)
	}
}

// TestSayingYes: restore and accept are followed by a gateway that starts, in either case without
// opening.
func TestSayingYes(t *testing.T) {
	for name, c := range map[string]struct {
		decide func(*store.Store, store.Applied) error
		want   string // keys
	}{
		"restore": {func(s *store.Store, last store.Applied) error {
			_, err := s.Restore(context.Background(), last)
			return err
		}, "1 2"},
		"accept": {func(s *store.Store, last store.Applied) error {
			_, _, err := s.Accept(context.Background(), last)
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			wipe(t, s)
			last, err := store.LoadApplied(s.data)
			if err != nil {
				t.Fatal(err)
			}
			opened, end := openStore(t, engine.Options{DataDir: s.data})
			err = c.decide(opened, last)
			end()
			if err != nil {
				t.Fatal(err)
			}
			p, _ := s.mustStart()
			if got := keysOf(t, p); got != c.want {
				t.Errorf("keys %q, want %q", got, c.want)
			}
			if told := p.Status().Store; told != "" {
				t.Errorf("status: %q", told)
			}
			if c.want == "" && !strings.Contains(s.log.String(), "gateways without a key are closed") {
				t.Errorf("the log says\n%s", s.log)
			}
			change(t, p, addKey("3"))
			if got := keysOf(t, p); got != strings.TrimSpace(c.want+" 3") {
				t.Errorf("after a write keys %q", got)
			}
		})
	}
}

// TestWipedExternalStore: a gateway that runs stays with what it has, one that starts serves what
// was applied last, both say so and refuse writes; with a yes both follow. A rollback is no step
// back.
func TestWipedExternalStore(t *testing.T) {
	s := newSite(t, file)
	nats := startNATS(t, t.TempDir(), 0)
	s.url = nats.ClientURL()
	p, _ := s.mustStart()
	change(t, p, addKey("1"))
	then := proto.CloneOf(p.current().state)
	change(t, p, addKey("2"))
	change(t, p, func(d *millracev1.Document) { proto.Reset(d); proto.Merge(d, then.Documents[0]) }) // as a rollback does
	change(t, p, addKey("2"))
	if told := p.Status().Store; told != "" {
		t.Errorf("status: %q", told)
	}
	last, err := store.LoadApplied(s.data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { p.Run(ctx) })

	port := nats.Addr().(*net.TCPAddr).Port
	nats.Shutdown()
	nats.WaitForShutdown()
	startNATS(t, t.TempDir(), port)
	other := &site{t: t, data: filepath.Join(t.TempDir(), "data"), url: s.url, path: s.path, log: &strings.Builder{}}
	if err := store.SaveApplied(other.data, last); err != nil {
		t.Fatal(err)
	}
	q, _ := other.mustStart()
	running.Go(func() { q.Run(ctx) })
	for _, x := range []*Plane{p, q} {
		until(t, "the loss is said", func() bool { return strings.Contains(x.Status().Store, "has lost what was applied") })
		if got := keysOf(t, x); got != "1 2" {
			t.Errorf("keys %q", got)
		}
		if err := tryChange(x, addKey("3")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a write: %v", err)
		}
	}
	admin, endAdmin := openStore(t, engine.Options{URL: s.url})
	defer endAdmin()
	if _, err := admin.Restore(ctx, last); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Plane{p, q} {
		until(t, "the store is well again", func() bool { return x.Status().Store == "" })
		if got := keysOf(t, x); got != "1 2" {
			t.Errorf("keys %q", got)
		}
	}
	if err := tryChange(p, addKey("3")); err != nil {
		t.Error(err)
	}
	until(t, "the other follows", func() bool { return keysOf(t, q) == "1 2 3" })
}

// TestDeletedByHand: nats kv del makes a version, and is no wish to serve nothing.
func TestDeletedByHand(t *testing.T) {
	s := newSite(t, file)
	s.url = startNATS(t, t.TempDir(), 0).ClientURL()
	p, end := s.mustStart()
	change(t, p, addKey("1"))
	conn, err := nats.Connect(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), "millrace-config")
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), "state"); err != nil {
		t.Fatal(err)
	}
	if err := p.catchUp(t.Context()); !errors.Is(err, store.ErrLost) {
		t.Errorf("while it runs: %v", err)
	}
	end()
	p, _ = s.mustStart()
	if got := keysOf(t, p); got != "1" {
		t.Errorf("keys %q", got)
	}
}

// TestFileThatLostItsKeys: such a file is refused while the gateway runs and when it starts, and
// taken once it says who may enter.
func TestFileThatLostItsKeys(t *testing.T) {
	s := newSite(t, "gateway: {auth: required}\n"+keyed)
	p, end := s.mustStart()
	applies(p)
	for name, lost := range map[string]string{
		"empty": "", "comments": "# keys: [a]\n", "a name alone": "gateway:\n", "cut before keys": file, "cut before anything else": "gateway: {name: default}\n",
	} {
		s.write(lost)
		p.reload()
		if told := p.Status().File.Error; !strings.Contains(told, "auth: none") && !strings.Contains(told, "holds no configuration") {
			t.Errorf("%s: status: %q", name, told)
		}
		if got := keysOf(t, p); got != "k" {
			t.Errorf("%s: keys %q", name, got)
		}
		doc, err := config.Load(s.path, []byte(lost))
		if err == nil {
			err = LoadLast(s.data).CheckFile(s.path, doc) // as validate does
		}
		if err == nil {
			t.Errorf("%s: validate takes it", name)
		}
	}
	end()
	if _, err := s.start(); err == nil {
		t.Error("it starts with a file that has lost its keys")
	}
	s.write("gateway: {auth: required}\n" + file)
	p, end = s.mustStart()
	if got := keysOf(t, p); got != "" {
		t.Errorf("keys %q", got)
	}
	applies(p)
	end()
	s.write(file)
	if _, err := s.start(); err == nil || !strings.Contains(err.Error(), "gateway.auth: none") {
		t.Errorf("auth: required is lost: %v", err)
	}
	s.write("gateway: {auth: none}\n" + file)
	p, _ = s.mustStart()
	if p.Config().Gateways[0].NeedsKey {
		t.Error("closed, though it says auth: none")
	}
}

// TestKeyedGatewayStaysClosed: revoking the last key closes the gateway, for this process and the
// next one, with and without a file, until somebody says auth: none. Without a data directory the
// store remembers.
func TestKeyedGatewayStaysClosed(t *testing.T) {
	for name, prepare := range map[string]func(s *site){
		"data directory": func(*site) {},
		"no file":        func(s *site) { s.path = "" },
		"external store alone": func(s *site) {
			s.data = ""
			s.url = startNATS(s.t, s.t.TempDir(), 0).ClientURL()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, file)
			prepare(s)
			p, end := s.mustStart()
			if p.Config().Gateways[0].NeedsKey {
				t.Error("a gateway that never had a key is closed")
			}
			change(t, p, addKey("1"))
			change(t, p, func(d *millracev1.Document) { d.Keys = nil })
			if got := keysOf(t, p); got != "" {
				t.Errorf("keys %q", got)
			}
			end()
			p, end = s.mustStart()
			keysOf(t, p)
			end()
			if s.path == "" {
				return
			}
			s.write("gateway: {auth: none}\n" + file)
			p, _ = s.mustStart()
			if p.Config().Gateways[0].NeedsKey {
				t.Error("closed, though it says auth: none")
			}
		})
	}
}

// TestOvertakenVersion: a version that the watch brings after a write of our own has overtaken it
// is no loss.
func TestOvertakenVersion(t *testing.T) {
	s := newSite(t, file)
	p, _ := s.mustStart()
	change(t, p, addKey("1"))
	early, err := p.session.opened.Get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	change(t, p, addKey("2"))
	if err := p.watched(context.Background(), early); err != nil || keysOf(t, p) != "1 2" {
		t.Errorf("%v, keys %q", err, keysOf(t, p))
	}
}

func startNATS(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func put(t *testing.T, s *store.Store, base uint64, state *millracev1.State) {
	t.Helper()
	if _, err := s.Put(context.Background(), base, state); err != nil {
		t.Fatal(err)
	}
}

func wipe(t *testing.T, s *site) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(s.data, "nats")); err != nil {
		t.Fatal(err)
	}
}

// flip changes a byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0x40
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cut empties every file below dir with this ending.
func cut(t *testing.T, dir, ending string) {
	t.Helper()
	files := readLoss(t, dir)
	n := 0
	for name := range files {
		if strings.HasSuffix(name, ending) {
			files[name] = nil
			n++
		}
	}
	if n == 0 {
		t.Fatalf("no %s in %s", ending, dir)
	}
	write(t, dir, files)
}

// read reads the files below dir, all or the named ones.
func readLoss(t *testing.T, dir string, names ...string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || len(names) > 0 && !slices.Contains(names, name) {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func with(files map[string][]byte, name string, content []byte) map[string][]byte {
	changed := without(files, name)
	changed[name] = content
	return changed
}

func without(files map[string][]byte, name string) map[string][]byte {
	changed := map[string][]byte{}
	for other, content := range files {
		if other != name {
			changed[other] = content
		}
	}
	return changed
}
