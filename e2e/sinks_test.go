package e2e

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/fakellm"
)

// receiver is a sink of events: what control planes do at POST /v1/events, and what it checks.
type receiver struct {
	*httptest.Server
	t    *testing.T
	down atomic.Bool

	mu      sync.Mutex // guards what follows
	times   map[string]int
	batches int
	forgets int // batches that it takes and then does not say so
}

func newSink(t *testing.T) *receiver {
	r := &receiver{t: t, times: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	unpacked, err := gzip.NewReader(r.Body)
	if err != nil {
		s.t.Error(err)
		return
	}
	var batch []struct{ SpecVersion, ID, Source, Type, Subject string }
	if err := json.NewDecoder(unpacked).Decode(&batch); err != nil {
		s.t.Error(err)
	}
	if r.URL.Path != "/v1/events" || r.Header.Get("Authorization") != "Bearer sesame" || r.Header.Get("Idempotency-Key") == "" ||
		r.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
		s.t.Errorf("%s %v", r.URL, r.Header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, e := range batch {
		s.times[e.ID]++
		if e.SpecVersion != "1.0" || e.Type != "dev.millrace.request" || e.Source != "/millrace/one" || e.Subject != "default" && e.Subject != "" { // Envoy knows no gateway
			s.t.Errorf("a CloudEvent: %+v", e)
		}
	}
	if s.forgets > 0 {
		s.forgets--
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (s *receiver) has() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := map[string]int{}
	for id, times := range s.times {
		has[id] = times
	}
	return has
}

// kept are the ids of the events that a gateway keeps, each once.
func kept(t *testing.T, admin string) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for after := "0-0"; ; {
		var page struct {
			Events []struct{ ID string }
			Next   string
			More   bool
		}
		r, err := http.Get(admin + "/v1/events?limit=1000&after=" + after)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err == nil {
			err = json.Unmarshal(text, &page)
		}
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("GET /v1/events: %s %v: %.300s", r.Status, err, text)
		}
		for _, e := range page.Events {
			if ids[e.ID] {
				t.Errorf("%s is kept twice", e.ID)
			}
			ids[e.ID] = true
		}
		if after = page.Next; !page.More {
			return ids
		}
	}
}

// withSinks has a gateway's events go where the lines say, beside its file.
func (g *gateway) withSinks(lines string) {
	g.t.Helper()
	g.edit(func(s string) string {
		return strings.Replace(s, "events: {file: "+g.events+"}", "events:\n  file: "+g.events+"\n"+indent(lines), 1)
	})
}

// TestSinkDownAndKilled (A05, E06, C10): the sink is away, requests come, some of whose clients
// leave and whose targets fail, and the sidecar is killed while they do. What it had on disk by
// then, and all that comes after, reaches the sink once it is back; a sink that takes a batch and
// does not say so gets it again, and after its ids are looked at has each event once.
func TestSinkDownAndKilled(t *testing.T) {
	t.Parallel()
	n, workers := 200, 8
	if soak {
		n, workers = 34_000, 32
	}
	a := openAI("a")
	sink := newSink(t)
	sink.down.Store(true)
	g := prepare(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
	g.withSinks(fmt.Sprintf("retention: 1h\nsinks:\n  - {name: control, type: http, url: %q, token: sesame}", sink.URL))
	sockets, port := shortTempDir(t), freePort(t)
	admin := fmt.Sprintf("http://127.0.0.1:%d", port)
	serve := []string{"serve", "--config", g.Config, "--socket-dir", sockets, "--data-dir", t.TempDir(), "--admin", fmt.Sprintf("127.0.0.1:%d", port), "--instance", "one"}
	g.exec(serve...)
	startEnvoy(t, sockets)
	g.waitReady()

	before := g.requests(a, n, workers)
	before.wait()
	g.eventually("all of them are on disk", func() error { return includes(kept(t, admin), before.ids()) })
	if len(sink.has()) != 0 {
		t.Error("the sink is not down: this test shows nothing")
	}
	says := func(path, want string) {
		t.Helper()
		g.eventually(path+" says "+want, func() error {
			r, err := http.Get(admin + path)
			if err != nil {
				return err
			}
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			if err == nil && !strings.Contains(string(text), want) {
				err = fmt.Errorf("%.2000s", text)
			}
			return err
		})
	}
	says("/metrics", "millrace_event_sink_ok{sink=\"control\"} 0\n")
	says("/metrics", "millrace_events_ok 0\n")
	says("/api/v1/status", "events do not reach the sink control: they wait on disk: status 502")

	during := g.requests(a, n, workers)
	g.eventually("some more are on disk", func() error {
		if got := len(kept(t, admin)); got < len(before.ids())+n/10 {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	durable := kept(t, admin)
	g.cmd.Process.Kill()
	<-g.exited
	g.exec(serve...)
	during.wait()
	g.waitReady()

	after := g.requests(a, n, workers)
	after.wait()
	g.eventually("those of after the restart are on disk", func() error { return includes(kept(t, admin), after.ids()) })
	sink.mu.Lock()
	sink.forgets = 2
	sink.mu.Unlock()
	sink.down.Store(false)
	g.within(5*patience, "the sink has everything", func() error { // a sink that has long been away is asked every 30 s
		has := map[string]bool{}
		for id := range sink.has() {
			has[id] = true
		}
		return errors.Join(includes(has, durable), includes(has, before.ids()), includes(has, after.ids()), includes(has, kept(t, admin)))
	})
	says("/metrics", "millrace_event_sink_ok{sink=\"control\"} 1\n")
	says("/metrics", "millrace_event_sink_lost_total{sink=\"control\"} 0\n")
	twice := 0
	for _, times := range sink.has() {
		if times > 1 {
			twice++
		}
	}
	lost, has := 0, sink.has()
	for id := range during.ids() {
		if has[id] == 0 {
			lost++
		}
	}
	if twice == 0 {
		t.Error("nothing came twice: that the sink did not say what it had shows nothing")
	}
	t.Logf("%d events in %d batches, %d of them more than once; %d requests that were answered just before the sidecar was killed have none",
		len(has), sink.batches, twice, lost)
	g.stop()
}

func includes(has, wanted map[string]bool) error {
	missing := 0
	for id := range wanted {
		if !has[id] {
			missing++
		}
	}
	if missing > 0 || len(wanted) == 0 {
		return fmt.Errorf("%d of %d are missing", missing, len(wanted))
	}
	return nil
}

// requests are some that were made, and what is known of them.
type requests struct {
	all sync.WaitGroup

	mu       sync.Mutex
	answered map[string]bool // by id
}

func (r *requests) wait() { r.all.Wait() }

func (r *requests) ids() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[string]bool{}
	for id := range r.answered {
		ids[id] = true
	}
	return ids
}

// requests makes n of them. Of each fifty, one is a stream whose client leaves and one has a target
// that fails.
func (g *gateway) requests(a *fakellm.Provider, n, workers int) *requests {
	r := &requests{answered: map[string]bool{}}
	var next atomic.Int64
	for range workers {
		r.all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				body := chatHello
				if i%50 == 0 {
					body = chatStream
				}
				if i%50 == 1 {
					a.Script(fakellm.Reply{Status: 500})
				}
				answer, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(body)))
				if err != nil { // the sidecar is being killed
					continue
				}
				if i%50 != 0 {
					io.Copy(io.Discard, answer.Body)
				}
				answer.Body.Close()
				if id := answer.Header.Get("x-millrace-request-id"); id != "" && answer.StatusCode != http.StatusServiceUnavailable {
					r.mu.Lock()
					r.answered[id] = true
					r.mu.Unlock()
				}
			}
		})
	}
	return r
}

// TestEventsOfAnotherGateway (E31, C32, D21): a gateway is the sink of another one. It takes what
// the other sends, and gives it back: by time, key, target, status and model, page by page, and to
// `millrace events tail`. What is sent again it knows, and without the token it takes nothing.
func TestEventsOfAnotherGateway(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	planePort := freePort(t)
	plane := prepare(t, "admin: {token: sesame}", pool("", to("a", a, provider(t, a))))
	plane.withSinks("retention: 1h")
	admin := fmt.Sprintf("127.0.0.1:%d", planePort)
	plane.exec("run", "--config", plane.Config, "--data-dir", t.TempDir(), "--admin", admin)
	plane.waitReady()
	t.Cleanup(plane.stop)

	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	g.withSinks(fmt.Sprintf("sinks: [{name: plane, type: http, url: %q, token: sesame}]", "http://"+admin))
	g.exec("run", "--config", g.Config, "--data-dir", t.TempDir(), "--admin", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	g.waitReady()
	t.Cleanup(g.stop)
	for range 3 {
		g.post("/v1/chat/completions", chatHello).want(200)
	}
	g.post("/v1/chat/completions", "{").want(400)

	read := func(query string) (events []map[string]any, next string) {
		t.Helper()
		status, _, page, err := api("GET", "http://"+admin+"/v1/events?since=1h&"+query, nil, "Authorization: Bearer sesame")
		if err != nil || status != 200 {
			t.Fatalf("%d %v %v", status, page, err)
		}
		for _, e := range page["events"].([]any) {
			events = append(events, e.(map[string]any))
		}
		return events, page["next"].(string)
	}
	g.eventually("the plane has them", func() error {
		if events, _ := read(""); len(events) != 4 {
			return fmt.Errorf("%d", len(events))
		}
		return nil
	})
	for query, want := range map[string]int{
		"status=200": 3, "status=4xx": 1, "status=5xx": 0, "target=a": 3, "target=b": 0, "model=gpt-4o": 3, "key=nobody": 0, "limit=2": 2,
		"until=1h": 0, "status=400&status=200": 4,
	} {
		if events, _ := read(query); len(events) != want {
			t.Errorf("%s: %d events, want %d: %v", query, len(events), want, events)
		}
	}
	first, next := read("limit=3")
	rest, end := read("after=" + next)
	if len(first) != 3 || len(rest) != 1 || rest[0]["id"] == first[0]["id"] {
		t.Errorf("pages: %v, %v", first, rest)
	}
	if more, again := read("after=" + end); len(more) != 0 || again != end {
		t.Errorf("after the end: %v, %s", more, again)
	}

	send := func(body any, contentType, token string, status int, said string) {
		t.Helper()
		got, _, answer, err := api("POST", "http://"+admin+"/v1/events", body, "Content-Type: "+contentType, "Authorization: Bearer "+token)
		if err != nil || got != status || !strings.Contains(fmt.Sprint(answer), said) {
			t.Errorf("%d %v %v, want %d and %s", got, answer, err, status, said)
		}
	}
	again := map[string]any{"specversion": "1.0", "id": "mine", "source": "/me", "type": "dev.millrace.request", "data": first[0]}
	send([]any{again, again}, "application/cloudevents-batch+json", "sesame", 202, "known:1 taken:1")
	send(again, "application/cloudevents+json", "sesame", 202, "known:1 taken:0")
	send(first, "application/json", "sesame", 202, "known:0 taken:3")
	send(first, "application/json", "sesame", 202, "known:3 taken:0")
	send(again, "application/cloudevents+json", "", 401, "token")
	send(again, "text/plain", "sesame", 415, "application/json")
	send([]any{map[string]any{"status": 200}}, "application/json", "sesame", 400, "id is needed")
	send([]any{map[string]any{"specversion": "0.3"}}, "application/cloudevents-batch+json", "sesame", 400, "[0]")

	tail := exec.Command(binary, "events", "tail", "--admin", "http://"+admin, "--token", "sesame", "--since", "1h", "--status", "4xx")
	out, err := tail.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "  400  POST /v1/chat/completions  ") {
		t.Errorf("millrace events tail: %v\n%s", err, out)
	}
	follow := exec.Command(binary, "events", "tail", "--admin", "http://"+admin, "--token", "sesame", "-o", "json", "--follow", "-n", "1")
	lines := &buffer{}
	follow.Stdout, follow.Stderr = lines, lines
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer follow.Wait()
	defer follow.Process.Kill()
	g.eventually("the tail begins", func() error { return atLeast(lines, 1) })
	refused, err := exec.Command(binary, "events", "tail", "--admin", "http://"+admin, "--token", "sesame", "--refused").CombinedOutput()
	if err != nil || len(refused) > 0 {
		t.Errorf("nothing was refused: %v\n%s", err, refused)
	}
	id := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-request-id")
	g.eventually("the tail follows", func() error {
		if !strings.Contains(lines.String(), id) {
			return fmt.Errorf("%s", lines)
		}
		return nil
	})
}

func atLeast(b *buffer, lines int) error {
	if got := strings.Count(b.String(), "\n"); got < lines {
		return fmt.Errorf("%d lines", got)
	}
	return nil
}

// TestSharedEvents (A05, E06): two gateways share a store, and with it the events that wait for
// sinks: one is killed while the sink is away, and the other sends what it has left. Each
// gateway's file has its own events alone. A sink of the type nats has them in a stream, each
// once. What comes while the store is away waits in memory.
func TestSharedEvents(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	server := natsServer(t, dir, port)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	bus, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "llm", Subjects: []string{"llm.>"}})
	if err != nil {
		t.Fatal(err)
	}
	a := openAI("a")
	var has [2]map[string]bool
	sink := newSink(t)
	sink.down.Store(true)
	var pairs []*gateway
	for range 2 {
		g := prepare(t, "", pool("", to("a", a, provider(t, a))))
		g.withSinks(fmt.Sprintf("sinks:\n  - {name: control, type: http, url: %q, token: sesame}\n  - {name: bus, type: nats, subject: llm.events}", sink.URL))
		g.exec("run", "--config", g.Config, "--store", url, "--admin", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--instance", "one")
		g.waitReady()
		t.Cleanup(g.stop)
		pairs = append(pairs, g)
	}
	for i, g := range pairs {
		asked := g.requests(a, 60, 4)
		asked.wait()
		has[i] = asked.ids()
	}
	all := map[string]bool{}
	for _, ids := range has {
		for id := range ids {
			all[id] = true
		}
	}
	pairs[0].eventually("the stream has all", func() error {
		info, err := bus.Info(t.Context())
		if err != nil {
			return err
		}
		if info.State.Msgs < 120 {
			return fmt.Errorf("%d", info.State.Msgs)
		}
		return nil
	})
	pairs[0].cmd.Process.Kill()
	<-pairs[0].exited
	sink.down.Store(false)
	pairs[1].within(3*patience, "the sink has all, of both", func() error {
		got := map[string]bool{}
		for id := range sink.has() {
			got[id] = true
		}
		return includes(got, all)
	})
	times := map[string]int{}
	info, err := bus.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := bus.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ ID, Type string }
		if err := json.Unmarshal(m.Data, &e); err != nil || e.Type != "dev.millrace.request" {
			t.Fatalf("%v: %s", err, m.Data)
		}
		if times[e.ID]++; times[e.ID] > 1 {
			t.Errorf("%s is in the stream twice", e.ID)
		}
	}
	for i, g := range pairs {
		for _, e := range g.readEvents() {
			if all[e.Id] && !has[i][e.Id] {
				t.Errorf("the file of one gateway has an event of the other: %s", e.Id)
			}
		}
	}
	server.Shutdown()
	server.WaitForShutdown()
	more := pairs[1].requests(a, 20, 4)
	more.wait()
	natsServer(t, dir, port)
	pairs[1].within(3*patience, "the sink has what came while the store was away", func() error {
		got := map[string]bool{}
		for id := range sink.has() {
			got[id] = true
		}
		return includes(got, more.ids())
	})
	pairs[1].stop()
}
