package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/engine"
	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

var quiet = slog.New(slog.DiscardHandler)

// receiver is a sink that may be away, and has what it was sent, by id.
type receiver struct {
	name string

	mu     sync.Mutex // guards what follows
	err    error
	never  string // the id that it refuses for good
	has    map[string]int
	closed bool
}

func newReceiver(name string) *receiver { return &receiver{name: name, has: map[string]int{}} }

func (r *receiver) Name() string { return r.name }

func (r *receiver) Send(_ context.Context, records []event.Record) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, &event.Pause{Err: r.err, For: 10 * time.Millisecond}
	}
	var ids []string
	for _, record := range records {
		opened, err := record.Open()
		if err != nil || opened.ID == r.never {
			return 0, &event.Refused{Err: errors.New("I do not want it")}
		}
		ids = append(ids, opened.ID)
	}
	for _, id := range ids {
		r.has[id]++
	}
	return len(records), nil
}

func (r *receiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

func (r *receiver) fails(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.has))
}

func eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func wantIDs(t *testing.T, r *receiver, from, to int) {
	t.Helper()
	var want []string
	for i := from; i < to; i++ {
		want = append(want, id(i))
	}
	eventually(t, r.name+" has all", func() error {
		if got := r.ids(); !slices.Equal(got, want) {
			return fmt.Errorf("%d events, want %d: %.200v", len(got), len(want), got)
		}
		return nil
	})
}

func id(n int) string { return fmt.Sprintf("request-%06d", n) }

func records(t testing.TB, from, to int) []event.Record {
	t.Helper()
	var all []event.Record
	for i := from; i < to; i++ {
		r, err := event.NewRecord("test", &millracev1.Event{Id: id(i), Gateway: "default", Status: 200, Model: "gpt-5"})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func newEngine(t testing.TB, dir string) *engine.Engine {
	e := engine.New(engine.Options{DataDir: dir, Log: quiet})
	t.Cleanup(e.Close)
	return e
}

func startSpool(t testing.TB, o Options) *Spool {
	t.Helper()
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	o.Log = quiet
	s := Start(o)
	t.Cleanup(func() { s.Close() })
	return s
}

func send(t testing.TB, s *Spool, from, to int) {
	t.Helper()
	if taken, err := s.Send(context.Background(), records(t, from, to)); err != nil || taken != to-from {
		t.Fatalf("%d taken, %v", taken, err)
	}
}

// TestSinksHavePositions (E06): a sink that is away holds up no other, and gets everything once it
// is back, in another spool too; one that has everything gets nothing again.
func TestSinksHavePositions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := newReceiver("a"), newReceiver("b")
	b.fails(errors.New("away"))
	e := engine.New(engine.Options{DataDir: dir, Log: quiet})
	s := Start(Options{Engine: e, MaxBytes: 64 << 20, Sinks: []event.Destination{a, b}, Log: quiet})
	send(t, s, 0, 300)
	send(t, s, 300, 301)
	wantIDs(t, a, 0, 301)
	eventually(t, "the spool says that b is away", func() error {
		if err := s.Err(); err == nil {
			return errors.New("it does not")
		}
		return nil
	})
	s.Close()
	e.Close()
	if got := b.ids(); len(got) != 0 || !b.closed {
		t.Fatalf("b has %v, closed: %v", got, b.closed)
	}

	again, back := newReceiver("a"), newReceiver("b")
	s = startSpool(t, Options{Engine: newEngine(t, dir), Sinks: []event.Destination{again, back}})
	wantIDs(t, back, 0, 301)
	send(t, s, 301, 302)
	wantIDs(t, again, 301, 302)
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// TestRefusedForGood (E06): an event that a sink will never take goes to the dead, with the sink's
// reason, and the others beside it to the sink, each once.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	a := newReceiver("a")
	a.never = id(7)
	s := startSpool(t, Options{Engine: newEngine(t, t.TempDir()), Sinks: []event.Destination{a}})
	send(t, s, 0, 50)
	eventually(t, "all but one are there", func() error {
		if got := a.ids(); len(got) != 49 || slices.Contains(got, id(7)) {
			return fmt.Errorf("%d", len(got))
		}
		return nil
	})
	eventually(t, "it is counted", func() error {
		if now := s.States()[0]; now.Refused != 1 || now.Sent != 49 || now.Lost != 0 || now.Err != nil {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	js, _, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), deadName)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dead.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := event.ReadCloudEvent(m.Data)
	if err != nil || r.ID != id(7) || m.Header.Get(headerSink) != "a" || m.Header.Get(headerReason) != "I do not want it" {
		t.Errorf("%v %v %q", err, m.Header, m.Data)
	}
	page, err := s.Read(t.Context(), event.Query{Refused: true, Limit: 10})
	if err != nil || len(page.Records) != 1 || page.Records[0].ID != id(7) || page.Records[0].Sink != "a" || page.Records[0].Reason != "I do not want it" {
		t.Errorf("%+v, %v", page, err)
	}
	for id, times := range a.has {
		if times != 1 {
			t.Errorf("%s came %d times", id, times)
		}
	}
}

// TestFull (E06): at the bound the oldest are dropped, and counted for each sink that lacks them;
// or none is, and the spool says that it is full until a sink has taken some.
func TestFull(t *testing.T) {
	t.Parallel()
	const each, bound = 500, 1 << 20
	t.Run("drop-oldest", func(t *testing.T) {
		gone, here := newReceiver("gone"), newReceiver("here")
		gone.fails(errors.New("away"))
		s := startSpool(t, Options{Engine: newEngine(t, t.TempDir()), MaxBytes: bound, Sinks: []event.Destination{gone, here}})
		const n = 20
		for i := range n {
			send(t, s, i*each, (i+1)*each)
			wantIDs(t, here, 0, (i+1)*each)
		}
		gone.fails(nil)
		eventually(t, "each event is at the sink or counted", func() error {
			now := s.States()[0]
			if got := int64(len(gone.ids())) + now.Lost; got < n*each || now.Lost == 0 {
				return fmt.Errorf("%d there, %d lost", len(gone.ids()), now.Lost)
			}
			return nil
		})
		if now := s.States()[1]; now.Lost != 0 {
			t.Errorf("%+v", now)
		}
	})
	t.Run("refuse-requests", func(t *testing.T) {
		a := newReceiver("a")
		a.fails(errors.New("away"))
		s := startSpool(t, Options{Engine: newEngine(t, t.TempDir()), MaxBytes: bound, RefuseWhenFull: true, Sinks: []event.Destination{a}})
		n := 0
		for ; n < 100; n++ {
			taken, err := s.Send(t.Context(), records(t, n*each, (n+1)*each))
			if errors.Is(err, event.ErrFull) && taken == 0 {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n == 0 || n == 100 {
			t.Fatalf("full after %d", n)
		}
		a.fails(nil)
		wantIDs(t, a, 0, n*each)
		eventually(t, "there is room again", func() error {
			_, err := s.Send(t.Context(), records(t, n*each, (n+1)*each))
			return err
		})
		wantIDs(t, a, 0, (n+1)*each)
		if now := s.States()[0]; now.Lost != 0 {
			t.Errorf("%+v", now)
		}
	})
}

// TestBoundIsLowered: a bound that is lowered below what there is holds from the next event on.
func TestBoundIsLowered(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir())
	s := Start(Options{Engine: e, MaxBytes: 64 << 20, Retention: time.Hour, Log: quiet})
	for i := range 20 {
		send(t, s, i*500, (i+1)*500)
	}
	s.Close()
	s = startSpool(t, Options{Engine: e, MaxBytes: 1 << 20, Retention: time.Hour})
	send(t, s, 10_000, 10_500)
	if err := s.sweep(t.Context()); err != nil || s.Bytes() > 1<<20 {
		t.Errorf("%d bytes, %v", s.Bytes(), err)
	}
	if page, err := s.Read(t.Context(), event.Query{Limit: 1}); err != nil || page.Records[0].ID != id(10_499) {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestSweep: what all sinks have is deleted, unless it is to be kept, and what one of them lacks is
// not.
func TestSweep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retention time.Duration
		away      bool
		want      uint64 // messages
	}{
		"all have it":        {0, false, 0},
		"one lacks it":       {0, true, 2},
		"it is to be kept":   {time.Hour, false, 2},
		"it was kept enough": {time.Nanosecond, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newReceiver("a"), newReceiver("b")
			if c.away {
				b.fails(errors.New("away"))
			}
			s := startSpool(t, Options{Engine: newEngine(t, t.TempDir()), Retention: c.retention, Sinks: []event.Destination{a, b}})
			send(t, s, 0, 10)
			send(t, s, 10, 20)
			wantIDs(t, a, 0, 20)
			if !c.away {
				wantIDs(t, b, 0, 20)
			}
			eventually(t, "the stream", func() error {
				if err := s.sweep(t.Context()); err != nil {
					return err
				}
				_, stream, err := s.open(t.Context())
				if err != nil {
					return err
				}
				info, err := stream.Info(t.Context())
				if err == nil && info.State.Msgs != c.want {
					err = fmt.Errorf("%d messages, want %d", info.State.Msgs, c.want)
				}
				return err
			})
		})
	}
}

// TestSinkIsNew: a sink that is new begins with what comes, and one that was taken away for long
// and comes back is new.
func TestSinkIsNew(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir())
	a, b := newReceiver("a"), newReceiver("b")
	with := func(from, to int, sinks ...event.Destination) {
		t.Helper()
		s := Start(Options{Engine: e, MaxBytes: 64 << 20, Retention: time.Hour, Sinks: sinks, Log: quiet})
		defer s.Close()
		send(t, s, from, to)
		wantIDs(t, sinks[0].(*receiver), 0, to)
	}
	with(0, 10, a)
	with(10, 20, a, b)
	with(20, 30, a)
	gone := Start(Options{Engine: e, MaxBytes: 64 << 20, Retention: time.Hour, Sinks: []event.Destination{a}, Log: quiet})
	if err := gone.forgetOthers(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	s := Start(Options{Engine: e, MaxBytes: 64 << 20, Retention: time.Hour, Sinks: []event.Destination{a, b}, Log: quiet})
	defer s.Close()
	send(t, s, 30, 40)
	wantIDs(t, a, 0, 40)
	eventually(t, "b has the last", func() error {
		if got := b.ids(); !slices.Contains(got, id(39)) || slices.Contains(got, id(5)) || slices.Contains(got, id(25)) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// TestSinkComesBack: a sink that a configuration has taken away, and the next gives back, has all
// that came meanwhile: what it lacks is not deleted at once.
func TestSinkComesBack(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir())
	a, b := newReceiver("a"), newReceiver("b")
	with := func(from, to int, sinks ...event.Destination) {
		t.Helper()
		s := Start(Options{Engine: e, MaxBytes: 64 << 20, Sinks: sinks, Log: quiet})
		defer s.Close()
		send(t, s, from, to)
		for _, k := range sinks {
			wantIDs(t, k.(*receiver), 0, to)
		}
		if err := s.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	with(0, 10, a, b)
	with(10, 20, a)
	with(20, 30, a, b)
}

// TestTakeKnowsAgain (E31): an event of another process is taken once: in one batch, in the next,
// after a restart, and when it came from here.
func TestTakeKnowsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := engine.New(engine.Options{DataDir: dir, Log: quiet})
	s := Start(Options{Engine: e, MaxBytes: 64 << 20, Retention: time.Hour, Log: quiet})
	take := func(want int, all []event.Record) {
		t.Helper()
		if got, err := s.Take(t.Context(), all); err != nil || got != want {
			t.Fatalf("%d taken, %v; want %d", got, err, want)
		}
	}
	send(t, s, 0, 5)
	take(10, append(records(t, 0, 15), records(t, 0, 15)...))
	take(5, records(t, 0, 20))
	send(t, s, 20, 25)
	take(0, records(t, 0, 25))
	other := records(t, 3, 4)
	other[0].Source = "another"
	take(1, other)
	s.Close()
	e.Close()
	s = startSpool(t, Options{Engine: newEngine(t, dir), Retention: time.Hour})
	take(1, append(records(t, 0, 26), other...))
}

// TestRead (E31): pages, in either direction, without gaps or repetitions, whatever their size.
func TestRead(t *testing.T) {
	t.Parallel()
	s := startSpool(t, Options{Engine: newEngine(t, t.TempDir()), Retention: time.Hour})
	if page, err := s.Read(t.Context(), event.Query{Limit: 10}); err != nil || len(page.Records) != 0 || page.More {
		t.Fatalf("of nothing: %+v, %v", page, err)
	}
	empty, err := s.Read(t.Context(), event.Query{Limit: 10, Since: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		send(t, s, i*7, (i+1)*7)
	}
	for limit := 1; limit < 80; limit++ {
		var got []string
		for after, more := empty.Next, true; more; {
			page, err := s.Read(t.Context(), event.Query{Limit: limit, After: after})
			if err != nil || len(page.Records) > limit {
				t.Fatalf("%d records, %v", len(page.Records), err)
			}
			for _, r := range page.Records {
				got = append(got, r.ID)
			}
			after, more = page.Next, page.More
		}
		last, err := s.Read(t.Context(), event.Query{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 70 {
			if len(got) != 70 || got[i] != id(i) {
				t.Fatalf("pages of %d: %v", limit, got)
			}
		}
		if first := last.Records[0].ID; first != id(max(0, 70-limit)) {
			t.Errorf("the last %d begin with %s", limit, first)
		}
	}
	if _, err := s.Read(t.Context(), event.Query{Limit: 1, After: "7"}); !errors.Is(err, event.ErrCursor) {
		t.Errorf("%v", err)
	}
	page, err := s.Read(t.Context(), event.Query{Limit: 10, After: "0-0", Filter: event.Filter{Status: []string{"5xx"}}})
	if err != nil || len(page.Records) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestKilled (A05, E06): what Send has returned for is there after kill -9, whenever that comes.
func TestKilled(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("MILLRACE_TEST_SPOOL"); dir != "" {
		s := startSpool(t, Options{Engine: newEngine(t, dir), Retention: time.Hour})
		for i := 0; ; i += 3 {
			send(t, s, i, i+3)
			fmt.Printf("taken %d\n", i+3)
		}
	}
	for _, after := range []int{1, 50, 333} {
		dir := t.TempDir()
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		c.Env = append(os.Environ(), "MILLRACE_TEST_SPOOL="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		taken, killed := 0, false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Sscanf(lines.Text(), "taken %d", &taken)
			if taken >= after && !killed {
				c.Process.Kill()
				killed = true
			}
		}
		c.Wait()
		s := startSpool(t, Options{Engine: newEngine(t, dir), Retention: time.Hour})
		got := 0
		for next := "0-0"; ; {
			page, err := s.Read(t.Context(), event.Query{Limit: 1000, After: next})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				if r.ID != id(got) {
					t.Fatalf("%s, want %s", r.ID, id(got))
				}
				got++
			}
			if next = page.Next; !page.More {
				break
			}
		}
		if !killed || got < taken {
			t.Errorf("%d were taken, and %d are there", taken, got)
		}
	}
}

// BenchmarkEvents is what the events of 1,000 requests a second cost, in processor time of all
// goroutines, from the request to the sink: recorded, put on disk, read back and packed for HTTP.
func BenchmarkEvents(b *testing.B) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer sink.Close()
	to, err := event.NewHTTP(event.HTTPOptions{Name: "sink", URL: sink.URL, Gzip: true, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	s := Start(Options{Engine: newEngine(b, b.TempDir()), MaxBytes: 1 << 30, Sinks: []event.Destination{to}, Log: quiet})
	recorder := event.NewRecorder("/millrace/bench")
	if err := recorder.Use(s); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { recorder.Run(ctx, quiet) })
	eventually(b, "the spool is open", func() error { _, _, err := s.open(ctx); return err })
	began := processorTime(b)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if i%10 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		recorder.Record(usual(i))
	}
	eventually(b, "the sink has them", func() error {
		if sent := s.States()[0].Sent; sent < int64(b.N) {
			return fmt.Errorf("%d of %d", sent, b.N)
		}
		return nil
	})
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
	cancel()
	running.Wait()
	if dropped := recorder.Dropped(); dropped > 0 {
		b.Errorf("%d dropped", dropped)
	}
}

// usual is an event as requests have them.
func usual(n int) *millracev1.Event {
	return &millracev1.Event{
		Id: id(n), Time: timestamppb.Now(), DurationMs: 812.25, FirstByteMs: 401.5, Gateway: "default", Method: "POST", Path: "/v1/chat/completions",
		Schema: "openai.chat", Model: "gpt-5", Stream: true, Status: 200, Target: "openai", Provider: "openai", Key: "team-a",
		Attempts: []*millracev1.Attempt{
			{Target: "azure", Provider: "azure", Model: "gpt-5", Status: 429, Error: "rate limited", DurationMs: 31.5},
			{Target: "openai", Provider: "openai", Model: "gpt-5", Status: 200, DurationMs: 780, Usage: &millracev1.Usage{Input: 1200, Output: 350}},
		},
		Usage: &millracev1.Usage{Input: 1200, Output: 350}, RequestBytes: 4096, ResponseBytes: 16384,
		ClientAddress: "10.1.2.3:51234", Details: "via_upstream",
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
