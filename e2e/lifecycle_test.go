package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/envoy"
	"millrace/internal/fakellm"
)

// TestReady: readiness goes when no target is left that could serve, and comes back with one; liveness stays (A08).
func TestReady(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("retry: {attempts: 1}\nhealth_checks: {passive: true, threshold: 2, interval: 1}", to("a", a, provider(t, a))))
	a.Script(fakellm.Fail(500, "no"), fakellm.Fail(500, "no"))
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

// TestSidecarKilled: without its sidecar Envoy says so at once, as JSON in the client's schema, and serves again within 2 s of
// the sidecar's return.
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

// TestEnvoyKilled: `millrace run` does not restart Envoy in silence: it ends, and its exit status and last words say why.
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

// TestDrain: told to stop, the gateway is no longer ready, lets a running stream finish, and ends with exit status 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
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
	close(gate)
	if got := g.read(r).want(200, "four", "[DONE]"); strings.Contains(got.Body, "error") {
		t.Errorf("the stream was cut: %s", got.Body)
	}
}

// TestDrainTimeout: a stream that does not end is cut when the drain timeout is over.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
	a.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 2, End: fakellm.Hang})
	r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
	if err != nil {
		t.Fatal(err)
	}
	g.stop()
	if _, err := io.ReadAll(r.Body); err == nil {
		t.Error("the stream ended as if it were complete")
	}
}

// TestSlowClient: answers much larger than any buffer, to clients that read late or leave, do not hurt Envoy
// (docs/rationale.md, "Why can no buffer on the way of an answer fill up?").
func TestSlowClient(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 100KB", pool("", to("a", a, provider(t, a))))
	event := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 2000) + `"}}]}` + "\n\n"
	whole := strings.Repeat(event, 10_000) + "data: [DONE]\n\n"
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for i, c := range []struct {
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
		if _, err := a.WaitEnded(ctx, i+1); err != nil { // the provider is done before the client reads
			t.Fatalf("%s: the provider is held up: %v", c.name, err)
		}
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

// TestListenerTLS: the listener speaks TLS with HTTP/2 by ALPN, and takes a new certificate without a restart.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, cert, key)
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
	before := serial()
	writePair(t, cert, key)
	g.eventually("the new certificate is served", func() error {
		if serial() == before {
			return errors.New("still the old one")
		}
		return nil
	})
}

// TestValidateCommand: errors with file, line and column and exit status 1; the effective document and 0 otherwise.
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
	if err != nil || !strings.Contains(string(out), "request_timeout: 120s") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestRefusesWhatItCannotKeep: a configuration that asks for checks this version does not make is not served.
func TestRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a)))+"policies: {chain: [dlp], policy: {dlp: {action: redact}}}\n")
	g.exec("run", "--config", g.Config)
	<-g.exited
	if g.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(g.log.String(), "policies.chain") {
		t.Errorf("exit status %d: %s", g.cmd.ProcessState.ExitCode(), g.log)
	}
}
