package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/envoy"
	"millrace/internal/fakellm"
)

// container is deploy/envoy.sh with an Envoy, as compose.yaml and deploy/kubernetes.yaml start it.
type container struct {
	cmd    *exec.Cmd
	log    *buffer
	exited chan struct{}
}

// besides runs Envoy in its container's way, beside a sidecar with its socket in dir.
func besides(t *testing.T, dir string, env ...string) *container {
	t.Helper()
	bootstrap := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(bootstrap, envoy.Bootstrap(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &container{log: &buffer{}, exited: make(chan struct{})}
	c.cmd = exec.Command("../deploy/envoy.sh", envoyBinary, "-c", bootstrap, "--drain-strategy", "immediate", "--use-dynamic-base-id", "--log-level", "warning", "--concurrency", "2")
	c.cmd.Env = append(append(os.Environ(), "SOCKET_DIR="+dir), env...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-c.exited:
		default:
			syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // the script and its Envoy
			<-c.exited
		}
		if t.Failed() {
			t.Logf("envoy says:\n%s", c.log)
		}
	})
	return c
}

// ends waits for the container's end, and checks its exit status.
func (c *container) ends(t *testing.T) {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(patience):
		t.Fatal("Envoy does not end")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("Envoy's container: exit status %d", code)
	}
}

// TestBothAreTold: a pod's end, a SIGTERM to sidecar and Envoy in one moment, and the same by
// `millrace drain`: no connection is taken any more, every stream ends complete, and both end with
// exit status 0, Envoy last (A30-A32).
func TestBothAreTold(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"signals", "drain"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), anthropicAI("b")
			g := prepare(t, "", pool("algorithm: random", to("a", a, provider(t, a)), to("b", b, provider(t, b), "default_model: m")))
			dir := shortTempDir(t)
			g.exec("serve", "--config", g.Config, "--socket-dir", dir)
			c := besides(t, dir)
			g.waitReady()
			const streams, words = 12, "one two three four five six seven eight nine ten eleven twelve"
			var gates []chan struct{} // six steps of each stream come at once, the rest waits
			for range streams {
				for _, p := range []*fakellm.Provider{a, b} {
					gate := make(chan struct{}, 6)
					for range cap(gate) {
						gate <- struct{}{}
					}
					gates = append(gates, gate)
					p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: words}, Each: fakellm.Pace{Gate: gate}})
				}
			}
			began, ended := make(chan error, streams), make(chan error, streams)
			for i := range streams {
				path, body, last := "/v1/chat/completions", chatStream, "[DONE]"
				if i%2 == 1 {
					path, body, last = "/v1/messages", claudeStream, "message_stop"
				}
				go func() { ended <- wholeStream(g, path, body, words, last, began) }()
			}
			for range streams {
				if err := <-began; err != nil {
					t.Fatal(err)
				}
			}
			asked := exec.Command(binary, "drain", "--socket-dir", dir)
			if how == "drain" {
				if err := asked.Start(); err != nil {
					t.Fatal(err)
				}
			} else {
				g.terminate()
			}
			c.cmd.Process.Signal(syscall.SIGTERM)
			g.eventually("no connection is taken", func() error {
				if conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://")); err == nil {
					conn.Close()
					return errors.New("one is")
				}
				return nil
			})
			select {
			case <-c.exited:
				t.Fatal("Envoy did not wait for the streams")
			case <-g.exited:
				t.Fatal("the sidecar did not wait for the streams")
			case err := <-ended:
				t.Fatalf("a stream ended: %v", err)
			default:
			}
			for _, gate := range gates {
				close(gate)
			}
			for range streams {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			g.told = true
			g.stop()
			if code := g.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("millrace serve: exit status %d", code)
			}
			c.ends(t)
			if how == "drain" {
				if err := asked.Wait(); err != nil {
					t.Errorf("millrace drain: %v", err)
				}
			}
			if n := len(g.chatEvents()); n != streams/2 {
				t.Errorf("%d events of chats, want %d", n, streams/2)
			}
		})
	}
}

// wholeStream reads a stream to its end. It tells when the first word is there.
func wholeStream(g *gateway, path, body, words, last string, began chan<- error) error {
	request, err := http.NewRequest("POST", g.URL+path, strings.NewReader(body))
	if err != nil {
		began <- err
		return err
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		began <- err
		return err
	}
	defer r.Body.Close()
	var all strings.Builder
	lines := bufio.NewReader(r.Body)
	first, _, _ := strings.Cut(words, " ")
	for !strings.Contains(all.String(), first) {
		line, err := lines.ReadString('\n')
		if err != nil {
			began <- fmt.Errorf("%d, %w: %s", r.StatusCode, err, all.String())
			return err
		}
		all.WriteString(line)
	}
	began <- nil
	rest, err := io.ReadAll(lines)
	all.Write(rest)
	if err != nil || !strings.Contains(all.String(), last) || !strings.Contains(all.String(), "twelve") || strings.Contains(all.String(), `"error"`) {
		return fmt.Errorf("%s: %w: %s", path, err, all.String())
	}
	return nil
}

// TestBothAreToldAndHang: what does not end is ended. A stream beyond drain_timeout gets the
// sidecar's words; should the sidecar hang, Envoy ends by itself when the grace period is over.
func TestBothAreToldAndHang(t *testing.T) {
	t.Parallel()
	for _, hangs := range []string{"stream", "sidecar"} {
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			a := openAI("a")
			g := prepare(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
			dir := shortTempDir(t)
			g.exec("serve", "--config", g.Config, "--socket-dir", dir)
			grace := "60"
			if hangs == "sidecar" {
				grace = "1"
			}
			c := besides(t, dir, "GRACE_SECONDS="+grace)
			g.waitReady()
			a.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 3, End: fakellm.Hang})
			r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if hangs == "sidecar" {
				g.cmd.Process.Signal(syscall.SIGSTOP)
				t.Cleanup(func() { g.cmd.Process.Kill() })
			}
			g.terminate()
			c.cmd.Process.Signal(syscall.SIGTERM)
			body, err := io.ReadAll(r.Body)
			if told := strings.Contains(string(body), "the gateway is shutting down"); (err == nil) != told || told != (hangs == "stream") {
				t.Errorf("%v: %s", err, body)
			}
			c.ends(t)
		})
	}
}

// TestSidecarRestarts: a sidecar that is told to end closes Envoy's listener, and the next one
// opens it again. An open service is served meanwhile.
func TestSidecarRestarts(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"closed", "open"} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			a := openAI("a")
			document := strings.Replace(pool("", to("a", a, provider(t, a))), "{name: chat, upstream: chat}", "{name: chat, upstream: chat, failure: "+failure+"}", 1)
			g := prepare(t, "auth: none", document)
			dir := shortTempDir(t)
			g.exec("serve", "--config", g.Config, "--socket-dir", dir)
			c := besides(t, dir)
			g.waitReady()
			g.post("/v1/chat/completions", chatHello).want(200)
			g.stop()
			http.DefaultClient.CloseIdleConnections()
			if failure == "open" {
				g.post("/v1/chat/completions", chatHello).want(200)
			} else if conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://")); err == nil {
				conn.Close()
				t.Error("a connection is taken, and nobody serves")
			}
			g.exec("serve", "--config", g.Config, "--socket-dir", dir)
			g.waitReady()
			g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
			g.stop()
			c.cmd.Process.Signal(syscall.SIGTERM)
			c.ends(t)
		})
	}
}

// TestDrainCommandAlone: where there is no sidecar, `millrace drain` says so; `millrace run` is
// ended by it as well.
func TestDrainCommandAlone(t *testing.T) {
	t.Parallel()
	dir := shortTempDir(t)
	if out, err := exec.Command(binary, "drain", "--socket-dir", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "sidecar at "+dir) {
		t.Errorf("%v: %s", err, out)
	}
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	g.exec("run", "--config", g.Config)
	g.waitReady()
	socket, _, _ := strings.Cut(g.log.String(), "/millrace.sock")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, binary, "drain", "--socket-dir", socket[strings.LastIndexByte(socket, '"')+1:]).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	g.told = true
	g.stop()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
