package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"millrace/envoy"
)

// bench is the provider and the subjects, all running.
type bench struct {
	dir      string
	provider *exec.Cmd
	subjects []*subject
	stops    []func()
}

// subject is what is measured: processes that answer on a port.
type subject struct {
	name  string
	url   string
	roots []int // the processes that it is, with all that they start
	paths []path
}

// path is one way through a subject.
type path struct {
	subject *subject
	says    string // what it does; "" where there is one way only
	prefix  string // of the URL's path
	model   string
}

func (p path) name() string { return strings.TrimSuffix(p.subject.name+", "+p.says, ", ") }

const (
	bareName   = "bare Envoy"
	sameSchema = "same schema"
	translated = "OpenAI to Anthropic"
	// Of the gateway alone, with inspect: first-token, and headers; and with policies that read
	// all.
	detached = "until the first token"
	unread   = "no body read"
	keyed    = "keys, no body read"
	policed  = "same schema, policies"
)

// start starts everything. A Bifrost that cannot be built is left out, and that is said.
func start(ctx context.Context, o options) (_ *bench, err error) {
	b := &bench{}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "mrbench"); err != nil {
		return nil, err
	}
	envoyBinary, err := envoy.Find(ctx)
	if err != nil {
		return nil, err
	}
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	provider := fmt.Sprintf("127.0.0.1:%d", port)
	b.provider = exec.Command(own, "provider", provider)
	if err := b.launch(b.provider, "http://"+provider); err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	wanted := func(name string) bool { return len(o.subjects) == 0 || slices.Contains(o.subjects, name) }
	if err := b.bare(envoyBinary, provider); err != nil {
		return nil, fmt.Errorf("bare Envoy: %w", err)
	}
	if wanted("floor") {
		if err := b.floor(own, envoyBinary, provider); err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
	}
	if wanted("millrace") {
		for _, build := range o.builds {
			if err := b.gateway(build.name, build.binary, envoyBinary, documentOf(provider), sameSchema, translated); err != nil {
				return nil, fmt.Errorf("%s: %w", build.name, err)
			}
		}
	}
	if last := len(o.builds) - 1; wanted("plans") {
		build := o.builds[last]
		for _, plan := range []struct{ says, inspect, more string }{
			{detached, "first-token", ""}, {unread, "headers", ""}, {keyed, "headers", clientsKey}, {policed, "everything", threePolicies},
		} {
			if err := b.gateway(build.name, build.binary, envoyBinary, planOf(provider, plan.inspect)+plan.more, plan.says); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", build.name, plan.says, err)
			}
		}
	}
	if wanted("bifrost") {
		if err := b.bifrost(ctx, provider); err != nil {
			fmt.Fprintln(os.Stderr, "bench: Bifrost is left out:", err)
		}
	}
	return b, nil
}

func (b *bench) paths() []path {
	var all []path
	for _, s := range b.subjects {
		all = append(all, s.paths...)
	}
	return all
}

func (b *bench) stop() {
	for _, stop := range slices.Backward(b.stops) {
		stop()
	}
	os.RemoveAll(b.dir)
}

// bare is an Envoy that only forwards. All others are compared with it.
func (b *bench) bare(envoyBinary, provider string) error {
	return b.envoy(envoyBinary, bareName, bareConfig(provider), nil)
}

// floor is an Envoy with an ext_proc server that does the least that each message needs.
func (b *bench) floor(own, envoyBinary, provider string) error {
	socket := filepath.Join(b.dir, "floor.sock")
	server := exec.Command(own, "floor", socket)
	if err := b.launch(server, ""); err != nil {
		return err
	}
	return b.envoy(envoyBinary, "floor", floorConfig(provider, socket), server)
}

// envoy starts an Envoy with this configuration, whose listener is on the port that %d stands for.
func (b *bench) envoy(binary, name, config string, sidecar *exec.Cmd) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, strings.ReplaceAll(name, " ", "-")+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, port), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(binary, "-c", file, "--use-dynamic-base-id", "-l", "error", "--concurrency", "2")
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := b.launch(cmd, url+"/ready"); err != nil {
		return err
	}
	s := &subject{name: name, url: url, roots: []int{cmd.Process.Pid}}
	if sidecar != nil {
		s.roots = append(s.roots, sidecar.Process.Pid)
	}
	s.paths = []path{{subject: s, model: "gpt-4o-mini"}}
	b.subjects = append(b.subjects, s)
	return nil
}

// documentOf has a rule for each path through the gateway that every build has.
func documentOf(provider string) string {
	return fmt.Sprintf(`
upstreams:
- {name: same, targets: [{id: o, provider: {type: openai, base_url: "http://%[1]s/v1", secret_key_ref: key}}]}
- {name: translated, targets: [{id: a, provider: {type: anthropic, base_url: "http://%[1]s/v1", secret_key_ref: key}}]}
services: [{name: same, upstream: same}, {name: translated, upstream: translated}]
rules: [{path: /same, service: same, strip_path: true}, {path: /translated, service: translated, strip_path: true}]
`, provider)
}

// planOf has a rule of which no more is read than that.
func planOf(provider, inspect string) string {
	return fmt.Sprintf(`
upstreams: [{name: same, targets: [{id: o, provider: {type: openai, base_url: "http://%s/v1", secret_key_ref: key}}]}]
services: [{name: same, upstream: same, inspect: %s}]
rules: [{path: /v1, service: same}]
`, provider, inspect)
}

// clientsKey lets in the key that every request has: client.
const clientsKey = "keys: [{name: bench, hash: 948fe603f61dc036b5c596dc09fe3ce3f3d30dc90f024c85f3c82db2ccab679d}]\n"

// threePolicies look for some 490 patterns in every text, of requests and of answers.
const threePolicies = "policies: {chain: [dlp, content-filter, prompt-injection]}\n"

// gateway starts a build with this document; says has a word for each path through it, in the order
// of its rules.
func (b *bench) gateway(name, binary, envoyBinary, document string, says ...string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	document += fmt.Sprintf("gateway: {listen_address: 127.0.0.1, listen_port: %d, drain_delay: 0s}\n", port)
	file := filepath.Join(b.dir, fmt.Sprintf("millrace-%d.yaml", port))
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(binary, "run", "--config", file, "--concurrency", "2", "--log-level", "error", "--envoy-log-level", "error")
	cmd.Env = append(os.Environ(), "ENVOY_BIN="+envoyBinary, "MILLRACE_QUIET=true") // by the environment, for builds that have no such flag
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := b.launch(cmd, url+"/health/ready"); err != nil {
		return err
	}
	s := &subject{name: name, url: url, roots: []int{cmd.Process.Pid}}
	for _, way := range says {
		p := path{subject: s, says: way, model: "gpt-4o-mini"}
		switch way {
		case sameSchema:
			p.prefix = "/same"
		case translated:
			p.prefix, p.model = "/translated", "claude-sonnet-4-5"
		}
		s.paths = append(s.paths, p)
	}
	b.subjects = append(b.subjects, s)
	return nil
}

// bifrost builds and starts the front of Bifrost's library, a module of its own (bench/bifrost).
func (b *bench) bifrost(ctx context.Context, provider string) error {
	binary := filepath.Join(b.dir, "bifrost")
	build := exec.CommandContext(ctx, "go", "build", "-C", "bench/bifrost", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(out))
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(binary, address, "http://"+provider)
	if err := b.launch(cmd, "http://"+address); err != nil {
		return err
	}
	s := &subject{name: "Bifrost core", url: "http://" + address, roots: []int{cmd.Process.Pid}}
	s.paths = []path{
		{subject: s, says: sameSchema, model: "openai/gpt-4o-mini"},
		{subject: s, says: translated, model: "anthropic/claude-sonnet-4-5"},
	}
	b.subjects = append(b.subjects, s)
	return nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// launch starts a command and waits until the URL answers 200; with none, it does not wait.
func (b *bench) launch(cmd *exec.Cmd, url string) error {
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the bench, which ends them in order
	if err := cmd.Start(); err != nil {
		return err
	}
	var how error
	ended := make(chan struct{})
	go func() {
		how = cmd.Wait()
		close(ended)
	}()
	b.stops = append(b.stops, func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err == nil {
			<-ended
		}
	})
	if url == "" {
		return nil
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get(url)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("ended at once: %w", how)
		default:
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("not ready in time"), err)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
