package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRollingRestart: two gateways behind a real balancer, with its file in deploy/, are restarted
// in turn by SIGTERM while requests and streams run. No request fails, no stream is cut (A08, A09,
// A18, A21, A23, A29-A33).
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	rate, streams, rounds := 30, 20, 1
	if soak {
		rate, streams, rounds = 100, 100, 3
	}
	for _, b := range []struct {
		name, file string
		args       func(file string) []string
	}{
		{"haproxy", "../deploy/haproxy.cfg", func(file string) []string { return []string{"-db", "-f", file} }},
		{"nginx", "../deploy/nginx.conf", func(file string) []string {
			return []string{"-p", filepath.Dir(file), "-c", file, "-g", "daemon off; error_log stderr; pid " + file + ".pid;"}
		}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			p := loaded("a")
			target := to("a", p, provider(t, p))
			var pair [2]*gateway
			for i := range pair {
				pair[i] = prepare(t, "drain_delay: 3s", pool("", target))
				pair[i].exec("run", "--config", pair[i].Config, "--concurrency", "1", "--instance", fmt.Sprintf("gw%d", i+1))
				t.Cleanup(pair[i].interrupt)
			}
			for _, g := range pair {
				g.waitReady()
			}
			balancer := balance(t, b.name, b.file, b.args, pair[0].URL, pair[1].URL)
			l := startLoad(t, balancer, rate, streams)
			for range rounds {
				for i, g := range pair {
					behind(t, l, 2) // never restart one while the balancer has no other
					g.terminate()
					<-g.exited
					if code := g.cmd.ProcessState.ExitCode(); code != 0 {
						t.Fatalf("gateway %d: exit status %d", i+1, code)
					}
					g.exec("run", "--config", g.Config, "--concurrency", "1", "--instance", fmt.Sprintf("gw%d", i+1))
					g.waitReady()
				}
			}
			behind(t, l, 2)
			shots := l.stop()
			t.Log(tally(shots))
			served := map[bool]int{}
			for _, s := range shots {
				served[s.stream]++
				if s.ending != answered {
					t.Error(s)
				}
			}
			if served[false] < rate || served[true] < streams {
				t.Errorf("there was no load: %s", tally(shots))
			}
			events := map[string]bool{}
			for _, g := range pair {
				g.interrupt() // nobody has to notice
				for id := range g.oneEventAtMost() {
					events[id] = true
				}
			}
			for _, s := range shots {
				if !events[s.id] {
					t.Errorf("no event for %s", s)
				}
			}
		})
	}
}

// balance runs a balancer in front of two gateways, with the project's own file but for addresses
// and certificate, and checks that are as much more frequent as the notice that the gateways give
// is shorter. It returns the balancer's address.
func balance(t *testing.T, name, file string, args func(file string) []string, gateways ...string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + name)
	}
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing, and without a real balancer this shows nothing; Debian: apt-get install %s", name, name)
	default: // make test has said so
		t.Skipf("%s is missing; Debian: apt-get install %s", name, name)
	}
	dir := t.TempDir()
	cert, key, both := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "tls.pem")
	writePair(t, cert, key)
	write(t, both, read(t, cert)+read(t, key))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	var lines []string
	for line := range strings.Lines(read(t, file)) {
		if !strings.Contains(line, "10.0.0.12") { // there are two here
			lines = append(lines, line)
		}
	}
	text := strings.NewReplacer(
		"10.0.0.10:41002", strings.TrimPrefix(gateways[0], "http://"),
		"10.0.0.11:41002", strings.TrimPrefix(gateways[1], "http://"),
		"bind :443", "bind "+address,
		"listen 443", "listen "+address,
		"127.0.0.1:8404", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"/etc/ssl/gateway.pem", both, "/etc/ssl/gateway.crt", cert, "/etc/ssl/gateway.key", key,
		"inter 5s", "inter 300ms",
	).Replace(strings.Join(lines, ""))
	changed := filepath.Join(dir, filepath.Base(file))
	write(t, changed, text)

	log := &buffer{}
	cmd := exec.Command(program, args(changed)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("%s does not stop", name)
			cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("%s says:\n%s", name, log)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return "https://" + address
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// behind waits until the balancer sends requests to so many gateways, which tell their names on
// /health (A33).
func behind(t *testing.T, l *load, gateways int) {
	t.Helper()
	seen := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := errors.New("not asked")
	for ; len(seen) < gateways && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		r, failed := l.client.Get(l.url + "/health")
		if err = failed; err != nil {
			continue
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if _, rest, ok := strings.Cut(string(body), `"instance_id":"`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			seen[name] = true
		}
	}
	if len(seen) < gateways {
		t.Fatalf("the balancer knows %d gateways, want %d (%v)", len(seen), gateways, err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
