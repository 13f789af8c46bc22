package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdminTokenRotates: a new admin token in its file, and one written into the document, holds
// from the moment that it is applied on, and the one before is refused; the same for the metrics'
// own. What would only change with a restart is refused and not said to be applied (B6).
func TestAdminTokenRotates(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-token")
	address, apart := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g := prepare(t, fmt.Sprintf("admin: {listen: %q, token: {file: %s}, metrics: {listen: %q, token: first-metrics}}", address, secret, apart),
		pool("", to("a", a, provider(t, a))))
	g.exec("run", "--config", g.Config)
	g.waitReady()
	t.Cleanup(g.stop)

	ask := func(url, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got := g.read(response)
		return got.Status, got.Body
	}
	rest, metrics := "http://"+address+"/api/v1/status", "http://"+apart+"/metrics"
	rotated := func(url, from, to string) {
		t.Helper()
		g.eventually(to+" holds", func() error {
			if status, body := ask(url, to); status != 200 {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		})
		if status, body := ask(url, from); status != 401 {
			t.Errorf("%s still opens %s: %d %s", from, url, status, body)
		}
	}
	rotated(rest, "wrong", "first-token")
	rotated(metrics, "first-token", "first-metrics")

	write("second-token")
	rotated(rest, "first-token", "second-token")
	g.edit(func(s string) string {
		return strings.NewReplacer(fmt.Sprintf("{file: %s}", secret), "third-token", "first-metrics", "second-metrics").Replace(s)
	})
	rotated(rest, "second-token", "third-token")
	rotated(metrics, "first-metrics", "second-metrics")
	if _, body := ask(metrics, "second-metrics"); !strings.Contains(body, "millrace_admin_wrong_tokens_total ") || strings.Contains(body, "millrace_admin_wrong_tokens_total 0\n") {
		t.Errorf("the metrics do not count wrong tokens: %s", body)
	}
	if status, body := ask("http://"+address+"/metrics", "third-token"); status != 404 {
		t.Errorf("metrics beside REST, though they have an address of their own: %d %s", status, body)
	}

	for _, c := range []struct{ from, to, want string }{
		{address, fmt.Sprintf("127.0.0.1:%d", freePort(t)), "gateway.admin.listen: can only be changed by a restart"},
		{"token: third-token, ", "", "gateway.admin.token: can be replaced at any time, and taken away only by a restart"},
	} {
		var good string
		g.edit(func(s string) string { good = s; return strings.Replace(s, c.from, c.to, 1) })
		g.eventually("the status says "+c.want, func() error {
			if _, body := ask(rest, "third-token"); !strings.Contains(body, c.want) {
				return errors.New(body)
			}
			return nil
		})
		g.edit(func(string) string { return good })
	}
}

// TestMetricsWantTheToken: beside a REST API that has a token, /metrics is not open.
func TestMetricsWantTheToken(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g := prepare(t, fmt.Sprintf("admin: {listen: %q, token: the-token}", address), pool("", to("a", a, provider(t, a))))
	g.exec("run", "--config", g.Config)
	g.waitReady()
	t.Cleanup(g.stop)
	for token, want := range map[string]int{"": 401, "wrong": 401, "the-token": 200} {
		r, err := http.NewRequest("GET", "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.read(response); got.Status != want {
			t.Errorf("token %q: %d %s", token, got.Status, got.Body)
		}
	}
}
