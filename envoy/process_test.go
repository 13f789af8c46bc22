package envoy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parentEnv makes the test binary play the parent that is killed; see TestEnvoyDiesWithItsParent.
const parentEnv = "MILLRACE_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		playParent(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// waitFor is generous: it is only ever used up when a test fails.
const waitFor = 20 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	t.Cleanup(cancel)
	return ctx
}

// realEnvoy fails the test when there is no Envoy: a skipped test would be one that nobody runs.
func realEnvoy(t *testing.T) string {
	t.Helper()
	bin, err := Find(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// proxyConfig is a bootstrap with a listener that forwards everything to upstream.
const proxyConfig = `
admin: {address: {pipe: {path: %q}}}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream, timeout: 0s}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]
`

// proxy is a started Envoy in front of upstream.
type proxy struct {
	*Process
	url string
	log *lockedBuffer
}

func startProxy(t *testing.T, upstream http.Handler) proxy {
	t.Helper()
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	_, upstreamPort, _ := net.SplitHostPort(server.Listener.Addr().String())
	port := freePort(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "admin.sock")
	p := proxy{url: fmt.Sprintf("http://127.0.0.1:%d", port), log: &lockedBuffer{}}
	p.Process = startEnvoy(t, p.log, dir, fmt.Sprintf(proxyConfig, socket, port, upstreamPort))
	if err := p.Ready(within(t)); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	return p
}

func startEnvoy(t *testing.T, log io.Writer, dir, bootstrap string) *Process {
	t.Helper()
	path := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(path, []byte(bootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Start(within(t), Config{
		Binary: realEnvoy(t), Bootstrap: path, AdminSocket: filepath.Join(dir, "admin.sock"),
		LogLevel: "warning", DrainTime: 1500 * time.Millisecond, Concurrency: 1, Stdout: log, Stderr: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(within(t)) })
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestDrainLetsAStreamFinish(t *testing.T) {
	finish := make(chan struct{})
	p := startProxy(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin ")
		if r.URL.Path == "/stream" {
			w.(http.Flusher).Flush()
			<-finish
		}
		io.WriteString(w, "end")
	}))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	stream := get(t, client, p.url+"/stream")
	defer stream.Body.Close()
	begin := make([]byte, len("begin "))
	if _, err := io.ReadFull(stream.Body, begin); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Admin.ActiveRequests(within(t)); n != 1 || err != nil {
		t.Fatalf("active requests during a stream: %d, %v", n, err)
	}

	drained := make(chan error, 1)
	if err := p.Admin.Drain(within(t)); err != nil {
		t.Fatal(err)
	}
	go func() { drained <- p.Idle(within(t)) }()
	// Draining shows in what Envoy tells clients; new ones are still served.
	for {
		resp := get(t, client, p.url+"/short")
		if body, err := io.ReadAll(resp.Body); string(body) != "begin end" || err != nil {
			t.Fatalf("request during the drain: %q, %v", body, err)
		}
		resp.Body.Close()
		if resp.Close {
			break
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a stream in flight: %v", err)
	default:
	}

	close(finish)
	if rest, err := io.ReadAll(stream.Body); string(rest) != "end" || err != nil {
		t.Errorf("rest of the stream: %q, %v", rest, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := p.Stop(within(t)); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	if p.log.String() == "" {
		t.Error("Envoy's log was not passed through: want at least its warning about SIGTERM")
	}
}

func TestDrainKeepsItsTimeout(t *testing.T) {
	finish := make(chan struct{})
	p := startProxy(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-finish
	}))
	defer close(finish)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	defer get(t, client, p.url).Body.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := p.Idle(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 requests in flight") {
		t.Errorf("got %v", err)
	}
}

func TestTwoEnvoysRunSideBySide(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	for _, p := range []proxy{startProxy(t, ok), startProxy(t, ok)} {
		if pgid, err := syscall.Getpgid(p.PID()); pgid != p.PID() || err != nil {
			t.Errorf("process group %d of %d, %v: Ctrl-C would reach it", pgid, p.PID(), err)
		}
		if err := p.Err(); err != nil {
			t.Errorf("%v\n%s", err, p.log)
		}
	}
}

func TestEndsNobodyAskedFor(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T) *Process
		want  string
	}{
		{"bootstrap that Envoy refuses", func(t *testing.T) *Process {
			return startEnvoy(t, io.Discard, t.TempDir(), "static_resources: {no_such_field: 1}")
		}, "exit status 1"},
		{"killed from outside", func(t *testing.T) *Process {
			p := startProxy(t, http.NotFoundHandler()).Process
			syscall.Kill(p.PID(), syscall.SIGKILL)
			return p
		}, "signal: killed"},
		{"stopped from outside", func(t *testing.T) *Process {
			p := startProxy(t, http.NotFoundHandler()).Process
			syscall.Kill(p.PID(), syscall.SIGTERM)
			return p
		}, "by itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.start(t)
			select {
			case <-p.Done():
			case <-within(t).Done():
				t.Fatal("Done is not closed")
			}
			for name, err := range map[string]error{"Err": p.Err(), "Ready": p.Ready(within(t))} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
				}
			}
			if err := p.Stop(within(t)); err != nil {
				t.Errorf("Stop of an ended Envoy: %v", err)
			}
		})
	}
}

func TestReadySaysWhatItWaitsFor(t *testing.T) {
	dir := t.TempDir()
	// The listener's configuration is to come from a server that does not exist.
	p := startEnvoy(t, io.Discard, dir, fmt.Sprintf(`
node: {id: test, cluster: test}
admin: {address: {pipe: {path: %q}}}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sidecar}}]}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: sidecar
    type: STATIC
    load_assignment: {cluster_name: sidecar, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %q}}}}]}]}
`, filepath.Join(dir, "admin.sock"), filepath.Join(dir, "none.sock")))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := p.Ready(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "INITIALIZING") {
		t.Errorf("got %v", err)
	}
}

func TestStopKillsAnEnvoyThatHangs(t *testing.T) {
	p := startProxy(t, http.NotFoundHandler())
	syscall.Kill(p.PID(), syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	_, err := Start(within(t), Config{Binary: filepath.Join(t.TempDir(), "envoy")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestEnvoyDiesWithItsParent kills a parent that has no chance to clean up: this test binary,
// started again.
func TestEnvoyDiesWithItsParent(t *testing.T) {
	realEnvoy(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	parent.Process.Kill()
	_ = parent.Wait()
	if err != nil {
		t.Fatalf("the parent said nothing: %v", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	for ctx := within(t); alive(child); {
		if ctx.Err() != nil {
			syscall.Kill(child, syscall.SIGKILL)
			t.Fatalf("envoy %d outlives its parent", child)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// playParent starts an Envoy, prints its process id and waits to be killed.
func playParent(dir string) {
	ctx := context.Background()
	bin, err := Find(ctx)
	socket, bootstrap := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "bootstrap.yaml")
	if err == nil {
		err = os.WriteFile(bootstrap, fmt.Appendf(nil, "admin: {address: {pipe: {path: %q}}}", socket), 0o600)
	}
	var p *Process
	if err == nil {
		p, err = Start(ctx, Config{Binary: bin, Bootstrap: bootstrap, AdminSocket: socket})
	}
	if err == nil {
		err = p.Ready(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Done()
}

// alive is false for a zombie too: an orphan's exit status may be collected late.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(state, []byte("Z"))
}

func get(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// lockedBuffer is a log that may be read while Envoy writes it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
