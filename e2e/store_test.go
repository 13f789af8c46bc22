package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"millrace/internal/fakellm"
)

// natsServer runs a real server with its files in dir.
func natsServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// TestSharedStore: a write through one sidecar is applied by every other that shares the store;
// with the store gone both go on serving, refuse writes, start again with what was applied last,
// and follow the store once it is back.
func TestSharedStore(t *testing.T) {
	t.Parallel()
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	dir, port := t.TempDir(), freePort(t)
	nats := natsServer(t, dir, port)

	type pair struct {
		*gateway
		admin string
		args  []string
	}
	var pairs []*pair
	for range 2 {
		g := prepare(t, "", "")
		admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		x := &pair{g, "http://" + admin, []string{"run", "--config", g.Config, "--data-dir", t.TempDir(), "--store", fmt.Sprintf("nats://127.0.0.1:%d", port), "--admin", admin}}
		x.exec(x.args...)
		x.waitReady()
		t.Cleanup(x.stop)
		pairs = append(pairs, x)
	}
	one, two := pairs[0], pairs[1]
	newPool(t, one.admin+"/api/v1/gateways/default", "chat", "/v1", target("a", s, nil))
	two.answers("a")
	must(t, "PATCH", two.admin+"/api/v1/gateways/default/upstreams/chat", map[string]any{"targets": []any{target("b", s, nil)}})
	one.answers("b")

	nats.Shutdown()
	nats.WaitForShutdown()
	one.answers("b")
	if status, _, problem, err := api("PATCH", one.admin+"/api/v1/gateways/default/upstreams/chat", map[string]any{"algorithm": "random"}); err != nil || status != 503 {
		t.Errorf("a write without the store: %d %v %v", status, problem, err)
	}
	one.answers("b")

	two.stop()
	two.exec(two.args...)
	two.waitReady()
	two.answers("b")

	natsServer(t, dir, port)
	one.eventually("a write is applied again", func() error {
		status, _, problem, err := api("PATCH", one.admin+"/api/v1/gateways/default/upstreams/chat", map[string]any{"targets": []any{target("c", s, nil)}})
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%d %v %v", status, problem, err)
		}
		return nil
	})
	one.answers("c")
	two.answers("c")
}

// TestFileOwned: what the file says cannot be changed over REST, what REST says lives beside it.
func TestFileOwned(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	s := provider(t, a)
	g, admin := withAdmin(t, "", pool("", to("a", a, s)))
	base := admin + "/api/v1/gateways/default"
	if got := must(t, "GET", base+"/upstreams/chat", nil); got["name"] != "chat" {
		t.Errorf("the file's upstream is not shown: %v", got)
	}
	for _, c := range []struct{ method, path string }{
		{"PATCH", "/upstreams/chat"}, {"DELETE", "/upstreams/chat"}, {"PATCH", "/upstreams/chat/targets/a"}, {"DELETE", "/services/chat"},
	} {
		if status, _, problem, err := api(c.method, base+c.path, map[string]any{"description": "x"}); err != nil || status != 409 || !strings.Contains(fmt.Sprint(problem), "file") {
			t.Errorf("%s %s: %d %v %v", c.method, c.path, status, problem, err)
		}
	}
	newPool(t, base, "more", "/more", target("b", s, map[string]any{"provider": map[string]any{"type": "openai", "base_url": s.URL() + "/v1", "secret_key_ref": "key-a"}}))
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
	g.post("/more/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")

	g.edit(func(s string) string { return strings.Replace(s, "id: a,", "id: renamed,", 1) })
	g.eventually("the file's new target answers", func() error {
		if got := g.post("/v1/chat/completions", chatHello).Header.Get("x-millrace-target"); got != "renamed" {
			return errors.New(got)
		}
		return nil
	})
	g.post("/more/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
}
