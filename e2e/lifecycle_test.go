package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"millrace/envoy"
	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// TestReady: readiness goes when no target is left that could serve, and comes back with one;
// liveness stays (A08).
func TestReady(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("retry: {attempts: 2}\nhealth_checks: {passive: true, threshold: 2, interval: 3}", to("a", a, provider(t, a)), to("b", b, provider(t, b))))
	a.Script(fakellm.Fail(500, "no"), fakellm.Fail(500, "no"))
	b.Script(fakellm.Fail(500, "no"), fakellm.Fail(500, "no"))
	for range 2 {
		g.post("/v1/chat/completions", chatHello).want(500)
	}
	for _, status := range []int{503, 200} {
		g.eventually("readiness changes", func() error {
			if r := g.get("/health/ready"); r.Status != status {
				return fmt.Errorf("status %d", r.Status)
			}
			return nil
		})
		g.get("/health").want(200, `"status":"ok"`, `"instance_id"`, `"uptime_seconds"`)
	}
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestSidecarKilled: without its sidecar Envoy says so at once, as JSON in the client's schema, and
// serves again within 2 s of the sidecar's return.
func TestSidecarKilled(t *testing.T) {
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	dir := shortTempDir(t)
	sidecar := []string{"serve", "--config", g.Config, "--socket-dir", dir}
	g.exec(sidecar...)
	startEnvoy(t, dir)
	g.waitReady()
	g.post("/v1/chat/completions", chatHello).want(200)

	g.cmd.Process.Kill()
	<-g.exited
	g.eventually("requests get a 503", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 503 {
			return fmt.Errorf("status %d", r.Status)
		}
		return nil
	})
	g.post("/v1/chat/completions", chatHello).want(503).openAIError("server_error")
	g.post("/v1/messages", claudeHello).want(503).anthropicError("overloaded_error")
	g.get("/health").want(503, `"status":"no sidecar"`)
	g.get("/health/ready").want(503, `"status":"not ready"`)

	g.exec(sidecar...)
	health := exec.Command(binary, "health", "--socket-dir", dir)
	g.eventually("the sidecar is healthy", func() error {
		health = exec.Command(binary, "health", "--socket-dir", dir)
		return health.Run()
	})
	back := time.Now()
	g.eventually("the gateway serves again", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 200 {
			return fmt.Errorf("status %d", r.Status)
		}
		return nil
	})
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("%s after the sidecar's return", took)
	}
	g.stop()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("millrace serve: exit status %d", code)
	}
}

// startEnvoy runs Envoy beside a sidecar that something else runs.
func startEnvoy(t *testing.T, dir string) *envoy.Process {
	t.Helper()
	bootstrap := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(bootstrap, envoy.Bootstrap(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &buffer{}
	p, err := envoy.Start(context.Background(), envoy.Config{
		Binary: envoyBinary, Bootstrap: bootstrap, AdminSocket: filepath.Join(dir, envoy.AdminSocket),
		LogLevel: "warning", Concurrency: 2, Stdout: log, Stderr: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("envoy says:\n%s", log)
		}
	})
	return p
}

// shortTempDir is t.TempDir within the 107 bytes that a Unix socket's path may have.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestEnvoyKilled: `millrace run` does not restart Envoy in silence: it ends, and its exit status
// and last words say why.
func TestEnvoyKilled(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	g.exec("run", "--config", g.Config)
	g.waitReady()
	if err := syscall.Kill(child(t, g.cmd.Process.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.exited:
	case <-time.After(patience):
		t.Fatal("millrace runs on without Envoy")
	}
	if code := g.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(g.log.String(), "envoy: ") {
		t.Errorf("exit status %d, said %s", code, g.log)
	}
}

// TestParentKilled: Envoy does not outlive `millrace run`.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	g.exec("run", "--config", g.Config)
	g.waitReady()
	pid := child(t, g.cmd.Process.Pid)
	g.cmd.Process.Kill()
	g.eventually("Envoy is gone", func() error {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(status), ") Z ") {
			return nil // dead, and nobody has collected it yet
		}
		return errors.New("alive")
	})
}

// TestLeftovers: the next run removes the folder that a killed one has left, and no living one's.
// It has a folder for temporary files of its own, for runs of other tests are killed too.
func TestLeftovers(t *testing.T) {
	t.Setenv("TMPDIR", shortTempDir(t))
	a := openAI("a")
	pool := pool("", to("a", a, provider(t, a)))
	killed, living := prepare(t, "", pool), start(t, "", pool)
	killed.exec("run", "--config", killed.Config)
	t.Cleanup(killed.stop)
	killed.waitReady()
	killed.cmd.Process.Kill()
	<-killed.exited
	if _, err := os.Stat(killed.sockets()); err != nil {
		t.Fatalf("a killed run has left nothing: %v", err)
	}
	next := start(t, "", pool)
	if _, err := os.Stat(killed.sockets()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed run's %s: %v", killed.sockets(), err)
	}
	for _, g := range []*gateway{living, next} {
		if _, err := os.Stat(filepath.Join(g.sockets(), envoy.SidecarSocket)); err != nil {
			t.Errorf("a living run's: %v", err)
		}
	}
}

// sockets is the folder of the gateway's sockets, as its log says.
func (g *gateway) sockets() string {
	g.t.Helper()
	said := regexp.MustCompile(`"socket":"([^"]+)"`).FindStringSubmatch(g.log.String())
	if said == nil {
		g.t.Fatalf("no socket in the log: %s", g.log)
	}
	return filepath.Dir(said[1])
}

// TestWideFolders: a data directory and a folder of sockets that others could write into are made
// the gateway's own, and Envoy and the sidecar serve with them.
func TestWideFolders(t *testing.T) {
	t.Parallel()
	data, sockets := t.TempDir(), shortTempDir(t)
	for _, dir := range []string{data, sockets} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	g.exec("serve", "--config", g.Config, "--socket-dir", sockets, "--data-dir", data)
	t.Cleanup(g.stop)
	startEnvoy(t, sockets)
	g.waitReady()
	for _, dir := range []string{data, sockets} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if narrowed := fmt.Sprintf(`"folder":%q,"from":"0777","to":"0700"`, dir); info.Mode().Perm() != 0o700 || !strings.Contains(g.log.String(), narrowed) {
			t.Errorf("%s: mode %v, the log does not say %s", dir, info.Mode(), narrowed)
		}
	}
}

// child finds the only child process.
func child(t *testing.T, parent int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range tasks {
		data, err := os.ReadFile(name)
		if err == nil {
			all = append(all, strings.Fields(string(data))...)
		}
	}
	if len(all) != 1 {
		t.Fatalf("children of %d: %v", parent, all)
	}
	pid, err := strconv.Atoi(all[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestDrain: told to stop, the gateway is no longer ready, serves new requests for the drain delay
// without keeping their connections, then takes no connection any more, lets a running stream
// finish, and ends with exit status 0 (A30-A32).
func TestDrain(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "drain_delay: 8s", pool("", to("a", a, provider(t, a))))
	gate := make(chan struct{})
	a.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "one two three four"}, Each: fakellm.Pace{Gate: gate}})
	response := make(chan *http.Response, 1)
	go func() {
		r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
		if err != nil {
			t.Error(err)
		}
		response <- r
	}()
	gate <- struct{}{} // the preamble
	gate <- struct{}{} // the first token: the answer's headers are out
	r := <-response
	g.terminate()
	g.eventually("readiness is gone", func() error {
		probe, err := http.Get(g.URL + "/health/ready")
		if err != nil {
			return err
		}
		probe.Body.Close()
		if probe.StatusCode != 503 {
			return errors.New(probe.Status)
		}
		return nil
	})
	again, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello)))
	if err != nil {
		t.Fatal(err)
	}
	if g.read(again).want(200); !again.Close {
		t.Error("the connection is kept")
	}
	g.eventually("no connection is taken", func() error {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://")); err == nil {
			conn.Close()
			return errors.New("one is")
		}
		return nil
	})
	close(gate)
	if got := g.read(r).want(200, "four", "[DONE]"); strings.Contains(got.Body, "error") {
		t.Errorf("the stream was cut: %s", got.Body)
	}
}

// TestDrainTimeout: what has not ended when the drain timeout is over gets an end in the client's
// schema: an error event where the client has a part of a stream, else a 503. There is an event for
// each, and the exit status is 0.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	silent := fakellm.Reply{NoHead: true, End: fakellm.Hang}
	begun := fakellm.Reply{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 3, End: fakellm.Hang}
	preamble := fakellm.Reply{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 1, End: fakellm.Hang}
	half := fakellm.Reply{Header: http.Header{"Content-Type": {"application/json"}}, Steps: fakellm.Chunks(`{"id":`), End: fakellm.Hang}
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "drain_timeout: 2s\ntimeouts: {first_byte_timeout: 60s}", pool("", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2", "default_model: m")))
	type ending struct {
		name   string
		status int
		body   string
		err    error
	}
	endings := make(chan ending)
	var cases []string
	for _, c := range []struct {
		name  string
		reply fakellm.Reply
		ask   []string
	}{
		{"begun", begun, []string{chatStream, claudeStream}},
		{"preamble", preamble, []string{chatStream, claudeStream}},
		{"silent", silent, []string{chatStream, claudeStream, chatHello, claudeHello}},
		{"half", half, []string{chatHello, claudeHello}},
	} {
		for _, body := range c.ask {
			path := "/v1/chat/completions"
			if body == claudeStream || body == claudeHello {
				path = "/v1/messages"
			}
			name := c.name + path
			cases = append(cases, name)
			a.Script(c.reply)
			go func() {
				r, err := http.DefaultClient.Do(g.request("POST", path, strings.NewReader(body)))
				if err != nil {
					endings <- ending{name: name, err: err}
					return
				}
				defer r.Body.Close()
				got, err := io.ReadAll(r.Body)
				endings <- ending{name, r.StatusCode, string(got), err}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, err := a.WaitArrived(ctx, len(cases)); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
	}
	g.terminate()
	for range cases {
		e := <-endings
		kind, claude := strings.CutSuffix(e.name, "/v1/messages")
		kind, _ = strings.CutSuffix(kind, "/v1/chat/completions")
		answer := &answer{t: t, Status: e.status, Body: e.body}
		switch {
		case kind == "begun":
			event := `data: {"error":{"message":"the gateway is shutting down"`
			if claude {
				event = "event: error\ndata: {\"type\":\"error\""
			}
			if e.status != 200 || e.err != nil || !strings.Contains(e.body, "one") || !strings.Contains(e.body, event) || !strings.Contains(e.body, "shutting down") ||
				strings.Contains(e.body, "[DONE]") || strings.Contains(e.body, "message_stop") {
				t.Errorf("%s: %d, %v, %s", e.name, e.status, e.err, e.body)
			}
		case e.err != nil:
			t.Errorf("%s: %v", e.name, e.err)
		case claude:
			answer.want(503, "shutting down").anthropicError("overloaded_error")
		default:
			answer.want(503, "shutting down").openAIError("server_error")
		}
	}
	if got := len(a.Requests()) + len(b.Requests()); got != len(cases) {
		t.Errorf("%d requests went to providers for %d of clients: retries at the end", got, len(cases))
	}
	g.stop()
	events := g.readEvents()
	for _, e := range events {
		if !strings.Contains(e.Error, "shutting down") {
			t.Errorf("event: %v", e)
		}
	}
	if len(events) != len(cases) {
		t.Errorf("%d events for %d requests", len(events), len(cases))
	}
}

// TestSecondSignal: the first signal drains, the second ends the gateway at once, Envoy included.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			a := openAI("a")
			gate := make(chan struct{})
			t.Cleanup(func() { close(gate) })
			a.Always(fakellm.Reply{Answer: fakellm.Usual().Answer, Head: fakellm.Pace{Gate: gate}})
			g := prepare(t, "", pool("", to("a", a, provider(t, a))))
			g.exec("run", "--config", g.Config)
			g.waitReady()
			go http.Post(g.URL+"/v1/chat/completions", "application/json", strings.NewReader(chatHello))
			g.eventually("a request is under way", func() error {
				if len(a.Requests()) == 0 {
					return errors.New("not there")
				}
				return nil
			})
			g.cmd.Process.Signal(signal)
			g.eventually("it drains", func() error {
				if !strings.Contains(g.log.String(), `"draining"`) {
					return errors.New("not said")
				}
				return nil
			})
			select {
			case <-g.exited:
				t.Fatal("the first signal ended it with a request under way")
			default:
			}
			g.cmd.Process.Signal(signal)
			<-g.exited
			g.eventually("the port is free", func() error {
				l, err := net.Listen("tcp", strings.TrimPrefix(g.URL, "http://"))
				if err == nil {
					l.Close()
				}
				return err
			})
		})
	}
}

// TestHardStop: a process that hangs while it ends is ended all the same. Here it hangs because
// nobody reads what it logs.
func TestHardStop(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary, "run", "--config", g.Config)
	cmd.Env = append(os.Environ(), "ENVOY_BIN="+envoyBinary)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.cmd, g.exited = cmd, make(chan struct{})
	go func() {
		cmd.Wait()
		close(g.exited)
	}()
	g.waitReady()
	size, err := unix.FcntlInt(r.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	go w.Write(make([]byte, size)) // what does not go in fails when the reader is closed
	g.eventually("the pipe is full", func() error {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}, 0); n != 0 || err != nil {
			return fmt.Errorf("it takes more, %v", err)
		}
		return nil
	})
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.exited:
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Fatal("it hangs")
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d", code)
	}
}

// TestDrainBesideEnvoy: a sidecar whose Envoy somebody else runs ends streams the same way.
func TestDrainBesideEnvoy(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
	dir := shortTempDir(t)
	g.exec("serve", "--config", g.Config, "--socket-dir", dir)
	startEnvoy(t, dir)
	g.waitReady()
	a.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 3, End: fakellm.Hang})
	r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	g.stop()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("millrace serve: exit status %d", code)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(body), "one") || !strings.Contains(string(body), `data: {"error":{"message":"the gateway is shutting down"`) {
		t.Errorf("%v, %s", err, body)
	}
	g.event("of the stream", func(e *millracev1.Event) bool { return e.Stream && strings.Contains(e.Error, "shutting down") })
}

// TestSlowClient: answers much larger than any buffer, to clients that read late or leave, arrive
// whole and hurt nobody: the provider is not read meanwhile, and that is not taken for silence
// (docs/rationale.md, "How is a slow client told from a silent target?").
func TestSlowClient(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 100KB\nstreaming: {inter_chunk_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	event := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 2000) + `"}}]}` + "\n\n"
	whole := strings.Repeat(event, 10_000) + "data: [DONE]\n\n"
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	for _, c := range []struct {
		name   string
		client *http.Client
		leave  bool
	}{
		{"HTTP/1.1", http.DefaultClient, false},
		{"HTTP/1.1, leaves", http.DefaultClient, true},
		{"HTTP/2", h2, false},
		{"HTTP/2, leaves", h2, true},
	} {
		a.Script(fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: whole, CutEvery: 64 << 10})
		r, err := c.client.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		time.Sleep(2500 * time.Millisecond) // nothing is heard of the provider meanwhile, which has more to say
		if !c.leave {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != whole {
				t.Fatalf("%s: %d bytes of %d, %v", c.name, len(body), len(whole), err)
			}
		}
		r.Body.Close()
	}
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestTwoSidecarsOnOneSocket: the second refuses, the first goes on.
func TestTwoSidecarsOnOneSocket(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	dir := shortTempDir(t)
	g.exec("serve", "--config", g.Config, "--socket-dir", dir)
	g.eventually("the first serves", func() error { return exec.Command(binary, "health", "--socket-dir", dir).Run() })
	out, err := exec.Command(binary, "serve", "--config", g.Config, "--socket-dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another sidecar") {
		t.Errorf("the second: %v, %s", err, out)
	}
	if err := exec.Command(binary, "health", "--socket-dir", dir).Run(); err != nil {
		t.Errorf("the first: %v", err)
	}
	g.stop()
}

// TestListenerTLS: the listener speaks TLS with HTTP/2 by ALPN, and takes a new certificate without
// a restart, in the steps in which Kubernetes changes a volume and in those in which others replace
// files.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	volume := func(name string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		writePair(t, filepath.Join(at, "tls.crt"), filepath.Join(at, "tls.key"))
		link(name, "..data")
	}
	volume("..2026_01")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")
	g := prepare(t, fmt.Sprintf("tls: {cert_file: %s, key_file: %s}", cert, key), pool("", to("a", a, provider(t, a))))
	g.URL = strings.Replace(g.URL, "http:", "https:", 1)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	g.exec("run", "--config", g.Config)
	defer g.stop()
	g.eventually("a chat over TLS", func() error {
		r, err := client.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello)))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != 200 || r.ProtoMajor != 2 {
			return fmt.Errorf("%s over %s", r.Status, r.Proto)
		}
		return nil
	})
	serial := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(g.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	for _, change := range []func(){func() { volume("..2026_02") }, func() { writePair(t, cert, key) }} {
		before := serial()
		change()
		g.eventually("the new certificate is served", func() error {
			if serial() == before {
				return errors.New("still the old one")
			}
			return nil
		})
	}
}

// TestValidateCommand: errors with file, line and column and exit status 1; the effective document
// and 0 otherwise.
func TestValidateCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yaml")
	os.WriteFile(file, []byte("providers:\n  targets:\n  - {provider: opnai}\ncolour: blue\n"), 0o600)
	out, err := exec.Command(binary, "validate", file).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), file+":4:1: colour: unknown field") {
		t.Errorf("%v: %s", err, out)
	}
	os.WriteFile(file, []byte("providers:\n  targets:\n  - {provider: openai}\n"), 0o600)
	out, err = exec.Command(binary, "validate", file).Output()
	if err != nil || !strings.Contains(string(out), "request_timeout: 600s") {
		t.Errorf("%v: %s", err, out)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{pipe, "/dev/zero", t.TempDir()} { // none has an end, and none is waited for
		out, err := exec.Command(binary, "validate", file).CombinedOutput()
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "expected a regular file") {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
}

// TestRefusesWhatItCannotKeep: a configuration that asks for checks this version does not make is
// not served.
func TestRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a)))+"keys: [{name: k, hash: \"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\", limits: {rpm: 3}}]\n")
	g.exec("run", "--config", g.Config)
	<-g.exited
	if g.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(g.log.String(), "keys[0].limits: limits are not kept by this version") {
		t.Errorf("exit status %d: %s", g.cmd.ProcessState.ExitCode(), g.log)
	}
}
