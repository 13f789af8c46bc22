package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/engine"
	millracev1 "millrace/proto/millrace/v1"
)

// writerEnv makes the test binary the writer that is killed; see TestKill.
const writerEnv = "MILLRACE_TEST_STORE_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		playWriter(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// waitFor is generous: it is only ever used up when a test fails.
const waitFor = 30 * time.Second

func waiting(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	tb.Cleanup(cancel)
	return ctx
}

func open(tb testing.TB, at engine.Options) *Store {
	tb.Helper()
	s, _ := opened(tb, at)
	return s
}

// opened is open, and end closes before the end of the test.
func opened(tb testing.TB, at engine.Options) (s *Store, end func()) {
	tb.Helper()
	s, end, err := openAt(waiting(tb), tb, at)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(end)
	return s, end
}

// openAt opens the store of an engine of its own; end closes both.
func openAt(ctx context.Context, tb testing.TB, at engine.Options) (s *Store, end func(), err error) {
	tb.Helper()
	at.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	e := engine.New(at)
	s, err = Open(ctx, e, Options{Log: at.Log})
	if err != nil {
		e.Close()
		return nil, nil, err
	}
	return s, func() { s.Close(); e.Close() }, nil
}

func put(tb testing.TB, s *Store, base uint64, state *millracev1.State) uint64 {
	tb.Helper()
	revision, err := s.Put(waiting(tb), base, state)
	if err != nil {
		tb.Fatal(err)
	}
	return revision
}

func get(tb testing.TB, s *Store) Version {
	tb.Helper()
	v, err := s.Get(waiting(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// stateOf has one gateway per id.
func stateOf(ids ...string) *millracev1.State {
	state := &millracev1.State{SchemaVersion: SchemaVersion}
	for _, id := range ids {
		state.Documents = append(state.Documents, &millracev1.Document{Gateway: &millracev1.Gateway{Id: id}})
	}
	return state
}

func ids(state *millracev1.State) []string {
	var ids []string
	for _, d := range state.Documents {
		ids = append(ids, d.Gateway.Id)
	}
	return ids
}

// targets is a state of so many upstreams with 10 targets each.
func targets(upstreams int) *millracev1.State {
	doc := &millracev1.Document{Gateway: &millracev1.Gateway{Id: "default", Name: "default"}}
	for u := range upstreams {
		upstream := &millracev1.Upstream{Id: fmt.Sprintf("0192-%08x", u), Name: fmt.Sprintf("upstream-%d", u),
			Algorithm: "weighted-round-robin", HealthChecks: &millracev1.HealthChecks{Passive: proto.Bool(true), Threshold: 3, Interval: 60}}
		for t := range 10 {
			weight := uint32(t)
			upstream.Targets = append(upstream.Targets, &millracev1.Target{
				Id: fmt.Sprintf("target-%d-%d", u, t), Provider: &millracev1.Provider{Name: "openai"},
				Host: fmt.Sprintf("t%d.u%d.example.com", t, u), Weight: &weight, Priority: uint32(t % 2),
				Models: []string{"gpt-4o", "gpt-4o-mini", "o3"}, DefaultModel: "gpt-4o",
				ModelMap: map[string]string{"fast": "gpt-4o-mini", "best": "o3"},
				Headers:  map[string]string{"OpenAI-Organization": fmt.Sprintf("org-%d", u)},
				Credentials: &millracev1.Credentials{HeaderName: "Authorization", HeaderValue: &millracev1.Secret{
					Source: &millracev1.Secret_Literal{Literal: "Bearer sk-" + noise(160)}}},
			})
		}
		doc.Upstreams = append(doc.Upstreams, upstream)
	}
	return &millracev1.State{SchemaVersion: SchemaVersion, Documents: []*millracev1.Document{doc}, Cause: "benchmark"}
}

// noise is text of which s2 saves nothing: it finds repetitions, and has no code for frequent
// letters.
func noise(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

func TestNeverWritten(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	want := Version{Revision: 0, State: stateOf()}
	if diff := cmp.Diff(want, get(t, s), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	changes, err := s.Versions(waiting(t))
	if err != nil || len(changes) != 0 {
		t.Errorf("got %v, %v, want no versions", changes, err)
	}
	if _, err := s.At(waiting(t), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("At(0): got %v, want ErrNotFound", err)
	}
	if _, err := s.Put(waiting(t), 7, stateOf("a")); !errors.Is(err, ErrConflict) {
		t.Errorf("Put on a revision that is not there: got %v, want ErrConflict", err)
	}
}

func TestVersions(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	const writes = History + 6
	when := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	var revisions []uint64
	base := uint64(0)
	for i := range writes {
		state := stateOf(strconv.Itoa(i))
		state.Time = timestamppb.New(when.Add(time.Duration(i) * time.Minute))
		state.Cause = fmt.Sprint("write ", i)
		base = put(t, s, base, state)
		revisions = append(revisions, base)
	}

	got, err := s.Versions(waiting(t))
	if err != nil {
		t.Fatal(err)
	}
	var want []Change
	for i := writes - 1; i >= writes-History; i-- {
		want = append(want, Change{Revision: revisions[i], Time: when.Add(time.Duration(i) * time.Minute), Cause: fmt.Sprint("write ", i)})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions (-want +got)\n%s", diff)
	}
	oldest, err := s.At(waiting(t), revisions[writes-History])
	if diff := cmp.Diff([]string{strconv.Itoa(writes - History)}, ids(oldest.State)); err != nil || diff != "" {
		t.Errorf("oldest: %v (-want +got)\n%s", err, diff)
	}
	for _, revision := range []uint64{revisions[writes-History-1], base + 1} {
		if _, err := s.At(waiting(t), revision); !errors.Is(err, ErrNotFound) {
			t.Errorf("At(%d): got %v, want ErrNotFound", revision, err)
		}
	}
}

// Writers that read, add their own document and write must never lose one another's.
func TestNoLostUpdate(t *testing.T) {
	for range 3 { // stores without a first version: who writes it is part of the race
		noLostUpdate(t)
	}
}

func noLostUpdate(t *testing.T) {
	t.Helper()
	s := open(t, engine.Options{DataDir: t.TempDir()})
	const writers, each = 8, History / 8
	ctx := waiting(t)
	var mu sync.Mutex
	acknowledged := map[uint64]string{} // guarded by mu
	conflicts := 0                      // guarded by mu
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < each; {
				v, err := s.Get(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				id := fmt.Sprintf("%d-%d", w, i)
				v.State.Documents = append(v.State.Documents, stateOf(id).Documents...)
				v.State.Cause = id
				revision, err := s.Put(ctx, v.Revision, v.State)
				mu.Lock()
				switch {
				case err == nil:
					if other, twice := acknowledged[revision]; twice {
						t.Errorf("revision %d acknowledged for %s and %s", revision, other, id)
					}
					acknowledged[revision] = id
					i++
				case errors.Is(err, ErrConflict):
					conflicts++
				default:
					t.Error(err)
					i = each
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if conflicts == 0 {
		t.Error("no writer ever met another: this test shows nothing")
	}
	if got := len(get(t, s).State.Documents); got != writers*each {
		t.Errorf("got %d documents, want %d", got, writers*each)
	}
	changes, err := s.Versions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	history := map[uint64]string{}
	for _, c := range changes {
		history[c.Revision] = c.Cause
	}
	if diff := cmp.Diff(acknowledged, history); diff != "" {
		t.Errorf("history (-acknowledged +kept)\n%s", diff)
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, end := opened(t, engine.Options{DataDir: dir})
	revision := put(t, s, 0, stateOf("a", "b"))
	end()
	for _, path := range []string{dir, filepath.Join(dir, "nats")} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: got mode %v, %v, want 0700", path, info.Mode(), err)
		}
	}
	s = open(t, engine.Options{DataDir: dir})
	if diff := cmp.Diff(Version{Revision: revision, State: stateOf("a", "b")}, get(t, s), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSize(t *testing.T) {
	external := startNATS(t, &server.Options{}) // with NATS's default max_payload of 1 MiB
	tests := map[string]struct {
		opts  engine.Options
		bytes int
		want  string // in the error; "" for none
	}{
		"embedded, 2 MB":                         {engine.Options{DataDir: t.TempDir()}, 2 << 20, ""},
		"embedded, just under a message":         {engine.Options{DataDir: t.TempDir()}, engine.MaxPayload - 64<<10, ""},
		"embedded, more than a message":          {engine.Options{DataDir: t.TempDir()}, engine.MaxPayload + 64<<10, "the server's max_payload leaves 8388352: too large"},
		"embedded, more than a state":            {engine.Options{DataDir: t.TempDir()}, maxBytes, "more than 33554432: too large"},
		"external, just under its message":       {engine.Options{URL: external.ClientURL()}, 1<<20 - 8<<10, ""},
		"external, more than its message":        {engine.Options{URL: external.ClientURL()}, 1 << 20, "the server's max_payload leaves 1048320: too large"},
		"external, more, but it compresses well": {engine.Options{URL: external.ClientURL()}, -4 << 20, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, test.opts)
			before := get(t, s)
			state := stateOf("big")
			if test.bytes > 0 {
				state.Cause = noise(test.bytes)
			} else {
				state.Cause = strings.Repeat("x", -test.bytes)
			}
			_, err := s.Put(waiting(t), before.Revision, state)
			if test.want != "" {
				if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
				state = before.State
			} else if err != nil {
				t.Fatal(err)
			}
			if !cmp.Equal(state, get(t, s).State, protocmp.Transform()) {
				t.Error("what is read differs from what was written")
			}
		})
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	open(t, engine.Options{DataDir: dir})
	out, err := writer(dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another sidecar uses "+dir) {
		t.Errorf("got %v\n%s", err, out)
	}
	// With an external store the directory still holds the last applied configuration.
	_, _, err = openAt(waiting(t), t, engine.Options{DataDir: dir, URL: "nats://127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "another sidecar uses "+dir) {
		t.Errorf("with a URL: got %v", err)
	}
}

// An acknowledged version survives kill -9, and no kill leaves half a one.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		cmd := writer(dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged uint64
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); n++ {
			acknowledged, err = strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if n == 20+7*round {
				cmd.Process.Kill() // lines still in the pipe were acknowledged too: read on
			}
		}
		cmd.Wait()

		s, end := opened(t, engine.Options{DataDir: dir})
		got := get(t, s)
		if got.Revision < acknowledged || acknowledged == 0 {
			t.Fatalf("latest is revision %d, %d was acknowledged", got.Revision, acknowledged)
		}
		if len(got.State.Documents[0].Upstreams) != killed {
			t.Errorf("half a state: %d upstreams", len(got.State.Documents[0].Upstreams))
		}
		changes, err := s.Versions(waiting(t))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			if c.Err != nil || c.Revision != got.Revision-uint64(i) || c.Cause != fmt.Sprint("on top of ", c.Revision-1) {
				t.Errorf("round %d: version %+v at place %d from revision %d", round, c, i, got.Revision)
			}
		}
		end()
	}
}

const killed = 20 // upstreams of what the killed writer writes

func writer(dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	return cmd
}

// playWriter writes versions until it is killed and prints each acknowledged revision.
func playWriter(dir string) {
	fatal := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := Open(context.Background(), engine.New(engine.Options{DataDir: dir}), Options{})
	if err != nil {
		fatal(err)
	}
	v, err := s.Get(context.Background())
	if err != nil {
		fatal(err)
	}
	state := targets(killed)
	for base := v.Revision; ; {
		state.Cause = fmt.Sprint("on top of ", base)
		if base, err = s.Put(context.Background(), base, state); err != nil {
			fatal(err)
		}
		fmt.Println(base)
	}
}

// TestAccept: what a person takes in place of what was applied is the newest version that can be
// read; it replaces both histories, and gateways that were keyed by either still are.
func TestAccept(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	state := stateOf("a")
	state.Keyed = []string{"a"}
	Stamp(state, nil, "test")
	good := put(t, s, 0, state)
	if _, err := s.kv.Put(waiting(t), key, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	last := Applied{Revision: 9, State: &millracev1.State{History: "other", Keyed: []string{"b"}}}
	if _, err := s.Get(waiting(t)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	taken, revision, err := s.Accept(waiting(t), last)
	if err != nil || taken.Revision != good {
		t.Fatalf("took revision %d, %v", taken.Revision, err)
	}
	now := get(t, s)
	if now.Revision != revision || !cmp.Equal(ids(now.State), []string{"a"}) || !cmp.Equal(now.State.Keyed, []string{"a", "b"}) {
		t.Errorf("got %v", now)
	}
	for _, known := range []Version{{Revision: last.Revision, State: last.State}, {Revision: good, State: state}, now} {
		if err := s.Continues(waiting(t), known, now); err != nil {
			t.Errorf("from revision %d: %v", known.Revision, err)
		}
	}
	unknown := Version{Revision: 1, State: &millracev1.State{History: "unknown"}}
	if err := s.Continues(waiting(t), unknown, now); !errors.Is(err, ErrLost) {
		t.Errorf("from a history that nobody spoke of: %v", err)
	}
}

// Whatever stands in the bucket is an error of those who read it, and can be written over on
// purpose.
func TestUnreadable(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	good := put(t, s, 0, stateOf("good"))
	bad, err := s.kv.Put(waiting(t), key, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(waiting(t)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("revision %d", bad)) {
		t.Errorf("Get: got %v", err)
	}
	if _, err := s.Watch(waiting(t)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Watch: got %v", err)
	}
	changes, err := s.Versions(waiting(t))
	if err != nil || len(changes) != 2 || !errors.Is(changes[0].Err, ErrCorrupt) || changes[1].Err != nil {
		t.Errorf("Versions: got %v, %v", changes, err)
	}
	v, err := s.At(waiting(t), good)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, bad, v.State)
	if diff := cmp.Diff([]string{"good"}, ids(get(t, s).State)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDeletedByHand(t *testing.T) {
	s := open(t, engine.Options{DataDir: t.TempDir()})
	put(t, s, 0, stateOf("a"))
	if err := s.kv.Delete(waiting(t), key); err != nil {
		t.Fatal(err)
	}
	v := get(t, s)
	if diff := cmp.Diff(stateOf(), v.State, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	put(t, s, v.Revision, stateOf("b"))
	if diff := cmp.Diff([]string{"b"}, ids(get(t, s).State)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestDirectoryIsOurOwn: a data directory that was open to all is narrowed, and one into which
// another user has put something is not used: not for a store in it, nor for what was applied last
// beside an external one. Only root can make the latter; others test the first.
func TestDirectoryIsOurOwn(t *testing.T) {
	wide := func() string {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir := wide()
	open(t, engine.Options{DataDir: dir})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	for _, url := range []string{"", "nats://127.0.0.1:1"} {
		dir := wide()
		theirs := filepath.Join(dir, appliedFile)
		if err := os.WriteFile(theirs, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(theirs, 54321, 54321); err != nil {
			t.Fatal(err)
		}
		_, end, err := openAt(waiting(t), t, engine.Options{DataDir: dir, URL: url})
		if err == nil {
			end()
			t.Fatal("opened")
		}
		if !strings.Contains(err.Error(), theirs+" belongs to user 54321") || errors.Is(err, ErrUnavailable) { // which would serve what is there
			t.Errorf("%v", err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("written into it: %v, %v", entries, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	occupied := t.TempDir()
	if err := os.MkdirAll(filepath.Join(occupied, "nats"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(occupied, "nats", "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	tests := map[string]struct {
		opts engine.Options
		want string
		is   error
	}{
		"nothing given":          {engine.Options{}, "needs a data directory or a URL", nil},
		"directory is a file":    {engine.Options{DataDir: file}, "not a directory", nil},
		"store cannot start":     {engine.Options{DataDir: occupied}, "embedded NATS server: Can't start JetStream", ErrUnavailable},
		"nobody there":           {engine.Options{URL: "nats://u:secret@127.0.0.1:1"}, "config store nats://xxxxx@127.0.0.1:1: connect", ErrUnavailable},
		"nobody answers":         {engine.Options{URL: "nats://" + silent.Addr().String()}, "connect: unavailable", ErrUnavailable},
		"no URL":                 {engine.Options{URL: "nats://u:secret@%zz"}, "not a URL", nil},
		"server without storage": {engine.Options{URL: plainNATS(t).ClientURL()}, "bucket millrace-config: unavailable", ErrUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, end, err := openAt(waiting(t), t, test.opts)
			if took := time.Since(began); took > bucketWithin+time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil {
				end()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("password shown: %v", err)
			}
		})
	}
}

func TestLastApplied(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadApplied(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing saved: got %v", err)
	}
	for _, want := range []Applied{
		{Revision: 3, State: stateOf("a"), File: []byte("gateway: {name: a}\n")},
		{Revision: 4, State: stateOf("a", "b")},
		{State: stateOf()},
	} {
		if err := SaveApplied(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := LoadApplied(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	path := filepath.Join(dir, appliedFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadApplied(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("first %d of %d bytes: got %v", n, len(whole), err)
		}
	}
	entries, _ := os.ReadDir(dir)
	if names := slices.Collect(func(yield func(string) bool) {
		for _, e := range entries {
			yield(e.Name())
		}
	}); !slices.Equal(names, []string{appliedFile}) {
		t.Errorf("left behind: %v", names)
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, engine.Options{DataDir: b.TempDir()})
	state, base := targets(100), uint64(0)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		base = put(b, s, base, state)
		took = append(took, time.Since(began))
	}
	report(b, took)
	value, err := encodeState(state)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(proto.Size(state))/1024, "KiB")
	b.ReportMetric(float64(len(value))/1024, "KiB-stored")
}

func BenchmarkPutWatch(b *testing.B) {
	s := open(b, engine.Options{DataDir: b.TempDir()})
	versions, err := s.Watch(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	state, base := targets(100), (<-versions).Revision
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		base = put(b, s, base, state)
		for v := range versions {
			if v.Revision == base {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkGet(b *testing.B) {
	s := open(b, engine.Options{DataDir: b.TempDir()})
	put(b, s, 0, targets(100))
	for b.Loop() {
		get(b, s)
	}
}

func BenchmarkDecode(b *testing.B) {
	value, err := encodeState(targets(100))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := decodeState(value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSaveApplied(b *testing.B) {
	dir, applied := b.TempDir(), Applied{Revision: 1, State: targets(100)}
	for b.Loop() {
		if err := SaveApplied(dir, applied); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store with a full history and reads the latest version.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, end := opened(b, engine.Options{DataDir: dir})
	state, base := targets(100), uint64(0)
	for range 2 * History {
		base = put(b, s, base, state)
	}
	end()
	for b.Loop() {
		s, end := opened(b, engine.Options{DataDir: dir})
		get(b, s)
		end()
	}
}

func BenchmarkVersions(b *testing.B) {
	s := open(b, engine.Options{DataDir: b.TempDir()})
	state, base := targets(100), uint64(0)
	for range History {
		base = put(b, s, base, state)
	}
	for b.Loop() {
		if _, err := s.Versions(waiting(b)); err != nil {
			b.Fatal(err)
		}
	}
}
