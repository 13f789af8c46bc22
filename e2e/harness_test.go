// Package e2e shows the promises of the gateway against the real thing: the millrace binary as a
// user starts it, the real Envoy, official SDKs as clients, and providers that refuse what the real
// ones refuse.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"millrace/envoy"
	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// patience bounds every wait; nothing here is measured in it.
const patience = 20 * time.Second

var binary, envoyBinary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if envoyBinary, err = envoy.Find(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err) // an absent Envoy fails the run: without it nothing here shows anything
		return 1
	}
	binary = filepath.Join(dir, "millrace")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "millrace/cmd/millrace")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// dependOnSources looks at every source file, so that the go command does not repeat a result from
// before a change: it does not see what the tests build, and notes what they look at only while one
// runs.
var dependOnSources = sync.OnceValue(func() error {
	return filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir // .git, .cache
		}
		if filepath.Ext(name) == ".go" || filepath.Ext(name) == ".yaml" {
			_, err = os.Stat(name)
		}
		return err
	})
})

// provider starts a fake provider that lives as long as the test.
func provider(t *testing.T, p *fakellm.Provider) *fakellm.Server {
	t.Helper()
	return providerTLS(t, p, nil)
}

// providerTLS is provider for one that speaks TLS; with a nil conf it does not.
func providerTLS(t *testing.T, p *fakellm.Provider, conf *tls.Config) *fakellm.Server {
	t.Helper()
	s, err := fakellm.StartTLS(p, "", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// gateway is `millrace run` with a configuration.
type gateway struct {
	t      *testing.T
	URL    string
	Config string // path of the file
	events string // path of the file
	dir    string // that the process works in; "": that of the tests
	log    *buffer
	stdout io.Writer // nil: log
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	told   bool          // the process was told to end
}

// preamble goes in front of every configuration: where to listen and where events go.
const preamble = `gateway:
  listen_address: 127.0.0.1
  listen_port: %d
%s
events: {file: %s}
`

// start runs a gateway and waits until it is ready. settings are lines below `gateway:`, resources
// the rest of the document. At the end of the test it is told to stop, and must do so with exit
// status 0.
func start(t *testing.T, settings, resources string) *gateway {
	t.Helper()
	g := prepare(t, settings, resources)
	g.run()
	return g
}

func (g *gateway) run() {
	g.t.Helper()
	g.exec("run", "--config", g.Config, "--concurrency", "2")
	g.waitReady()
	g.t.Cleanup(func() {
		g.stop()
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			g.t.Errorf("millrace run: exit status %d", code)
		}
	})
}

// prepare writes the configuration and picks a port.
func prepare(t *testing.T, settings, resources string) *gateway {
	t.Helper()
	if err := dependOnSources(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g := &gateway{t: t, Config: filepath.Join(dir, "config.yaml"), events: filepath.Join(dir, "events.jsonl"), log: &buffer{}}
	port := freePort(t)
	g.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	if !strings.Contains(settings, "drain_delay:") {
		settings += "\ndrain_delay: 0s" // most tests have no balancer that has to notice
	}
	document := fmt.Sprintf(preamble, port, indent(settings), g.events) + resources
	if err := os.WriteFile(g.Config, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("millrace says:\n%s", g.log)
		}
	})
	return g
}

func indent(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		b.WriteString("  " + line)
	}
	return b.String()
}

func (g *gateway) exec(args ...string) {
	g.t.Helper()
	g.cmd = exec.Command(binary, args...)
	g.cmd.Env = append(os.Environ(), "ENVOY_BIN="+envoyBinary)
	g.cmd.Dir = g.dir
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if g.stdout != nil {
		g.cmd.Stdout = g.stdout
	}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	exited := make(chan struct{})
	g.exited, g.told = exited, false
	cmd := g.cmd
	go func() {
		cmd.Wait()
		close(exited)
	}()
	g.t.Cleanup(func() { // of a test that failed before it stopped it
		cmd.Process.Kill()
		<-exited
	})
}

// terminate tells the process to end. A second signal would end it at once, so there is only one.
func (g *gateway) terminate() { g.signal(syscall.SIGTERM) }

func (g *gateway) signal(s os.Signal) {
	if !g.told {
		g.told = true
		g.cmd.Process.Signal(s)
	}
}

// interrupt is Ctrl-C, and waits: stop for a gateway that would give balancers time to notice.
func (g *gateway) interrupt() {
	g.t.Helper()
	g.signal(syscall.SIGINT)
	g.stop()
}

// stop is terminate, and waits.
func (g *gateway) stop() {
	g.t.Helper()
	g.terminate()
	select {
	case <-g.exited:
	case <-time.After(patience):
		g.t.Errorf("millrace does not stop")
		g.cmd.Process.Kill()
		<-g.exited
	}
}

func (g *gateway) waitReady() {
	g.t.Helper()
	g.eventually("the gateway is ready", func() error {
		select {
		case <-g.exited:
			g.t.Fatalf("millrace ended: %v\n%s", g.cmd.ProcessState, g.log)
		default:
		}
		r, err := http.Get(g.URL + "/health/ready")
		if err != nil {
			return err
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != 200 && !strings.Contains(string(body), noTarget) { // the test adds its targets over REST
			return errors.New(r.Status)
		}
		return nil
	})
}

// noTarget is what /health/ready says of a gateway that has nothing to serve with yet.
const noTarget = "no rule leads to a target"

// eventually polls until f has no error; the state is what counts, not the time it takes.
func (g *gateway) eventually(what string, f func() error) {
	g.t.Helper()
	g.within(patience, what, f)
}

// within is eventually for what takes longer.
func (g *gateway) within(patience time.Duration, what string, f func() error) {
	g.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	g.t.Fatalf("%s: %v", what, err)
}

// post sends a body and returns the whole answer.
func (g *gateway) post(path, body string, header ...string) *answer {
	g.t.Helper()
	r := g.request("POST", path, strings.NewReader(body), header...)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.read(response)
}

func (g *gateway) get(path string, header ...string) *answer {
	g.t.Helper()
	response, err := http.DefaultClient.Do(g.request("GET", path, nil, header...))
	if err != nil {
		g.t.Fatal(err)
	}
	return g.read(response)
}

// request makes a request; header holds "Name: value" lines.
func (g *gateway) request(method, path string, body io.Reader, header ...string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequest(method, g.URL+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (g *gateway) read(r *http.Response) *answer {
	g.t.Helper()
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatalf("read the answer: %v (so far %q)", err, body)
	}
	return &answer{t: g.t, Status: r.StatusCode, Header: r.Header, Body: string(body)}
}

// answer is a whole HTTP answer.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// want checks the status and that the body holds every text.
func (a *answer) want(status int, texts ...string) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d; body: %s", a.Status, status, a.Body)
	}
	for _, text := range texts {
		if !strings.Contains(a.Body, text) {
			a.t.Fatalf("the body lacks %q: %s", text, a.Body)
		}
	}
	return a
}

// openAIError and anthropicError check that the body is an error of that schema, and return its
// message.
func (a *answer) openAIError(kind string) string {
	a.t.Helper()
	var e struct {
		Error struct{ Message, Type string }
	}
	if err := json.Unmarshal([]byte(a.Body), &e); err != nil || e.Error.Type != kind || e.Error.Message == "" {
		a.t.Fatalf("want an OpenAI error of type %q, got %d %s", kind, a.Status, a.Body)
	}
	return e.Error.Message
}

func (a *answer) anthropicError(kind string) string {
	a.t.Helper()
	var e struct {
		Type  string
		Error struct{ Message, Type string }
	}
	if err := json.Unmarshal([]byte(a.Body), &e); err != nil || e.Type != "error" || e.Error.Type != kind || e.Error.Message == "" {
		a.t.Fatalf("want an Anthropic error of type %q, got %d %s", kind, a.Status, a.Body)
	}
	return e.Error.Message
}

// header checks one header of the answer.
func (a *answer) header(name, want string) *answer {
	a.t.Helper()
	if got := a.Header.Get(name); got != want {
		a.t.Fatalf("%s: %q, want %q", name, got, want)
	}
	return a
}

// event waits for the one event that fits, and checks that it stays the only one.
func (g *gateway) event(what string, fits func(*millracev1.Event) bool) *millracev1.Event {
	g.t.Helper()
	var found *millracev1.Event
	g.eventually("event: "+what, func() error {
		found = nil
		for _, e := range g.readEvents() {
			if fits(e) {
				if found != nil {
					g.t.Fatalf("two events for one request: %v and %v", found, e)
				}
				found = e
			}
		}
		if found == nil {
			return errors.New("not there")
		}
		return nil
	})
	return found
}

func (g *gateway) readEvents() []*millracev1.Event {
	g.t.Helper()
	data, err := os.ReadFile(g.events)
	if err != nil && !os.IsNotExist(err) {
		g.t.Fatal(err)
	}
	var events []*millracev1.Event
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		e := &millracev1.Event{}
		if err := protojson.Unmarshal(s.Bytes(), e); err != nil {
			continue // a line that is being written
		}
		events = append(events, e)
	}
	return events
}

// byID finds the event of an answer.
func (g *gateway) byID(id string) *millracev1.Event {
	g.t.Helper()
	return g.event(id, func(e *millracev1.Event) bool { return e.Id == id })
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// given are the ports that tests have been given.
var given sync.Map

// freePort returns a port that nothing listens on right now and no test was given before, below
// those that the system gives to outgoing connections: one of them could take it before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		if _, before := given.LoadOrStore(port, true); before {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// pool writes a document with one upstream behind /v1.
func pool(upstream string, targets ...string) string {
	var b strings.Builder
	b.WriteString("upstreams:\n- name: chat\n")
	for line := range strings.Lines(strings.TrimSpace(upstream)) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	b.WriteString("  targets:\n")
	for _, t := range targets {
		b.WriteString("  - " + t + "\n")
	}
	b.WriteString("services: [{name: chat, upstream: chat}]\nrules:\n- {path: /v1, service: chat}\n")
	return b.String()
}

// to writes a target of a fake provider; more are further fields.
func to(id string, p *fakellm.Provider, s *fakellm.Server, more ...string) string {
	kind, _, _ := strings.Cut(p.Schema, ".")
	fields := []string{
		"id: " + id,
		fmt.Sprintf("provider: {type: %s, base_url: %q, secret_key_ref: %s}", kind, s.URL()+"/v1", p.Key),
	}
	return "{" + strings.Join(append(fields, more...), ", ") + "}"
}
