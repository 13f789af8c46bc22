// Command bench measures what the gateway costs beside a bare Envoy, in one run on one machine: CPU time and latency per
// request. Compare the ratios; the absolute figures are the machine's. `make overhead` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"millrace/envoy"
)

func main() {
	requests := flag.Int("n", 4000, "requests per case")
	workers := flag.Int("c", 8, "requests at once")
	binary := flag.String("millrace", "bin/millrace", "the binary to measure")
	flag.Parse()
	if err := run(*binary, *requests, *workers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(binary string, n, workers int) error {
	dir, err := os.MkdirTemp("", "mrbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	envoyBinary, err := envoy.Find(context.Background())
	if err != nil {
		return err
	}
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { fmt.Fprintln(os.Stderr, http.Serve(upstream, http.HandlerFunc(provide))) }()

	bare, err := startBare(envoyBinary, dir, upstream.Addr().String())
	if err != nil {
		return err
	}
	defer bare.stop()
	gateway, err := startGateway(binary, envoyBinary, dir, upstream.Addr().String())
	if err != nil {
		return err
	}
	defer gateway.stop()

	fmt.Printf("%d requests a case, %d at once; per request\n\n", n, workers)
	fmt.Printf("%-34s %10s %12s %12s %10s %8s\n", "", "p50", "p99", "envoy cpu", "sidecar", "cpu ×")
	for _, c := range cases {
		base, err := measure(bare, "/v1/chat/completions", c.body, n, workers)
		if err != nil {
			return fmt.Errorf("bare envoy, %s: %w", c.name, err)
		}
		base.print("bare envoy: "+c.name, base)
		for _, path := range []struct{ prefix, name string }{{"/native", "same schema"}, {"/translated", "translated"}} {
			m, err := measure(gateway, path.prefix+"/v1/chat/completions", c.body, n, workers)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", path.name, c.name, err)
			}
			m.print("millrace: "+path.name, base)
		}
		fmt.Println()
	}
	return nil
}

var cases = []struct{ name, body string }{
	{"1 KB, plain", body(1_000, false)},
	{"20 KB, plain", body(20_000, false)},
	{"1 KB, stream of 100", body(1_000, true)},
}

func body(size int, stream bool) string {
	return fmt.Sprintf(`{"model":"m","max_tokens":100,"stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, strings.Repeat("word ", size/5))
}

// provide is a provider that costs next to nothing: a fixed answer in the schema of the path.
func provide(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	say := func(s string) {
		if _, err := io.WriteString(w, s); err != nil {
			panic(http.ErrAbortHandler) // the client has gone: its own error tells
		}
	}
	anthropic := strings.HasSuffix(r.URL.Path, "/messages")
	if !strings.Contains(string(request), `"stream":true`) {
		w.Header().Set("content-type", "application/json")
		if anthropic {
			say(`{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`)
		} else {
			say(`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
		}
		return
	}
	w.Header().Set("content-type", "text/event-stream")
	chunks := openAIStream
	if anthropic {
		chunks = anthropicStream
	}
	for _, c := range chunks {
		say(c)
		w.(http.Flusher).Flush()
	}
}

var openAIStream, anthropicStream = streams()

func streams() (openAI, anthropic []string) {
	anthropic = append(anthropic,
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n")
	for range 100 {
		openAI = append(openAI, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}`+"\n\n")
		anthropic = append(anthropic, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word \"}}\n\n")
	}
	openAI = append(openAI, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n", "data: [DONE]\n\n")
	anthropic = append(anthropic, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":100}}\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
	return openAI, anthropic
}

// subject is what is measured: one Envoy, and a sidecar or none.
type subject struct {
	url     string
	envoy   int // process ids
	sidecar int // 0 for none
	stop    func()
}

const bareConfig = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: p, timeout: 0s}}]}]}
          http_filters:
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: p
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: p, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`

func startBare(binary, dir, upstream string) (*subject, error) {
	_, port, _ := net.SplitHostPort(upstream)
	own, err := freePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "bare.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, bareConfig, own, port), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "-c", file, "--use-dynamic-base-id", "-l", "error", "--concurrency", "2")
	return launch(cmd, own, "/", false)
}

func startGateway(binary, envoyBinary, dir, upstream string) (*subject, error) {
	own, err := freePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "millrace.yaml")
	document := fmt.Sprintf(`
gateway: {listen_address: 127.0.0.1, listen_port: %[1]d, drain_delay: 0s}
upstreams:
- {name: native, targets: [{id: o, provider: {type: openai, base_url: "http://%[2]s/v1", secret_key_ref: key}}]}
- {name: translated, targets: [{id: a, provider: {type: anthropic, base_url: "http://%[2]s/v1", secret_key_ref: key}}]}
services: [{name: native, upstream: native}, {name: translated, upstream: translated}]
rules: [{path: /native, service: native, strip_path: true}, {path: /translated, service: translated, strip_path: true}]
`, own, upstream)
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "run", "--config", file, "--concurrency", "2", "--log-level", "error", "--envoy-log-level", "error")
	cmd.Env = append(os.Environ(), "ENVOY_BIN="+envoyBinary)
	return launch(cmd, own, "/health/ready", true)
}

// launch starts a command and waits until it answers on the port.
func launch(cmd *exec.Cmd, port int, probe string, withSidecar bool) (*subject, error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &subject{url: fmt.Sprintf("http://127.0.0.1:%d", port), envoy: cmd.Process.Pid, stop: func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get(s.url + probe)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == 200 {
				break
			}
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, errors.Join(errors.New("not ready in time"), err)
		}
	}
	if withSidecar {
		s.sidecar = s.envoy
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.sidecar))
		for _, t := range tasks {
			if data, _ := os.ReadFile(t); len(strings.Fields(string(data))) > 0 {
				s.envoy, _ = strconv.Atoi(strings.Fields(string(data))[0])
			}
		}
	}
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// figures are per request.
type figures struct{ p50, p99, envoy, sidecar time.Duration }

func (f figures) print(name string, base figures) {
	fmt.Printf("%-34s %10s %12s %12s %10s %8.2f\n", name, f.p50.Round(time.Microsecond), f.p99.Round(time.Microsecond),
		f.envoy.Round(time.Microsecond), f.sidecar.Round(time.Microsecond), float64(f.envoy+f.sidecar)/float64(base.envoy))
}

// measure sends n requests and reads the answers whole. A few go first, unmeasured.
func measure(s *subject, path, body string, n, workers int) (figures, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	if _, err := load(client, s.url+path, body, n/10, workers); err != nil {
		return figures{}, err
	}
	envoyBefore, sidecarBefore := cpu(s.envoy), cpu(s.sidecar)
	times, err := load(client, s.url+path, body, n, workers)
	if err != nil {
		return figures{}, err
	}
	per := time.Duration(n)
	slices.Sort(times)
	return figures{
		p50: times[n/2], p99: times[n*99/100],
		envoy:   (cpu(s.envoy) - envoyBefore) / per,
		sidecar: (cpu(s.sidecar) - sidecarBefore) / per,
	}, nil
}

func load(client *http.Client, url, body string, n, workers int) ([]time.Duration, error) {
	times := make([]time.Duration, n)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				begin := time.Now()
				errs[w] = one(client, url, body)
				times[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	return times, errors.Join(errs...)
}

func one(client *http.Client, url, body string) error {
	r, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", r.Status, answer)
	}
	return err
}

// cpu is the time a process has had so far; 0 for pid 0.
func cpu(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick
}
