package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"millrace/envoy"
	"millrace/internal/fakellm"
)

// TestEveryRequestHasOneEvent: a gateway that is told to end right after its last answers has
// written one event for each of them: for those that targets answered, for those that the sidecar
// refused, and for those that Envoy refused before the sidecar saw them.
func TestEveryRequestHasOneEvent(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 64KB", pool("", to("a", a, provider(t, a))))
	ask := func(status int, method, path, body string) {
		t.Helper()
		response, err := http.DefaultClient.Do(g.request(method, path, strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		g.read(response).want(status)
	}
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{200, "POST", "/v1/chat/completions", chatHello},
		{400, "POST", "/v1/chat/completions", "{"},
		{413, "POST", "/v1/chat/completions", strings.Repeat(" ", 200<<10)},
		{404, "GET", "/nowhere", ""},
	} {
		for range 10 {
			ask(c.status, c.method, c.path, c.body)
		}
	}
	g.stop()
	got := map[int]int{}
	for _, e := range g.readEvents() {
		if e.Path == "/health/ready" {
			continue
		}
		got[int(e.Status)]++
		if e.Protocol != "HTTP/1.1" || e.Phases == nil || e.ReceivedBytes == 0 || e.SentBytes == 0 || e.Rule != map[bool]string{true: "/v1"}[e.Path != "/nowhere"] {
			t.Errorf("event %v", e) // C10: what Envoy alone knows
		}
	}
	if fmt.Sprint(got) != "map[200:10 400:10 404:10 413:10]" {
		t.Errorf("events by status: %v", got)
	}
}

// TestEventsOfCutAttempts: a sidecar that ends while its Envoy does not answer any more has written
// one event for each request that it was asked to serve.
func TestEventsOfCutAttempts(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "drain_timeout: 1s", pool("", to("a", a, provider(t, a))))
	dir := shortTempDir(t)
	g.exec("serve", "--config", g.Config, "--socket-dir", dir)
	p := startEnvoy(t, dir)
	g.waitReady()
	const n = 20
	for range n {
		a.Script(fakellm.Reply{NoHead: true, End: fakellm.Hang})
		go func() {
			if r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello))); err == nil {
				r.Body.Close()
			}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := a.WaitArrived(ctx, n); err != nil {
		t.Fatal(err)
	}
	freeze(t, p)
	g.stop()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("millrace serve: exit status %d", code)
	}
	ids := map[string]int{}
	for _, e := range g.readEvents() {
		if e.Path == "/v1/chat/completions" {
			ids[e.Id]++
		}
	}
	if len(ids) != n {
		t.Errorf("%d requests have an event, want %d", len(ids), n)
	}
	for id, times := range ids {
		if times != 1 {
			t.Errorf("%s: %d events", id, times)
		}
	}
}

// freeze stops a process in its tracks until the end of the test.
func freeze(t *testing.T, p *envoy.Process) {
	t.Helper()
	process, err := os.FindProcess(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
}
