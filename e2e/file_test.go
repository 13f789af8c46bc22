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

// edit replaces the configuration file as editors do.
func (g *gateway) edit(change func(string) string) {
	g.t.Helper()
	data, err := os.ReadFile(g.Config)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.Config+".new", []byte(change(string(data))), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(g.Config+".new", g.Config); err != nil {
		g.t.Fatal(err)
	}
}

// answers waits until the gateway's answers come from this target.
func (g *gateway) answers(target string) {
	g.t.Helper()
	g.eventually("answers come from "+target, func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 200 || r.Header.Get("x-millrace-target") != target {
			return fmt.Errorf("%d from %q", r.Status, r.Header.Get("x-millrace-target"))
		}
		return nil
	})
}

// TestFileIsFollowed: an edit of the file is applied while requests run; one that is wrong, and one that only Envoy can
// refuse, change nothing and are said in the log, and the next good one is applied.
func TestFileIsFollowed(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("algorithm: weighted-round-robin", to("a", a, provider(t, a)), to("b", b, provider(t, b), "weight: 0")))
	g.answers("a")

	g.edit(func(s string) string {
		return strings.NewReplacer("id: a,", "id: a, weight: 0,", "weight: 0}", "weight: 1}").Replace(s)
	})
	g.answers("b")

	g.edit(func(s string) string { return s + "colour: blue\n" })
	g.said("colour: unknown field")
	g.answers("b")

	g.edit(func(s string) string {
		s = strings.Replace(s, "colour: blue\n", "", 1)
		return strings.NewReplacer("gateway:\n", "gateway:\n  ca_file: /no/such/file.pem\n",
			"  targets:\n", "  targets:\n  - {id: tls, host: localhost, protocol: https}\n").Replace(s)
	})
	g.said("configuration rejected")
	g.said("/no/such/file.pem")
	g.answers("b")

	g.edit(func(s string) string {
		return strings.NewReplacer("  ca_file: /no/such/file.pem\n", "", "  - {id: tls, host: localhost, protocol: https}\n", "",
			"id: a, weight: 0,", "id: a, weight: 1,", "weight: 1}", "weight: 0}").Replace(s)
	})
	g.answers("a")
}

// said waits for words in the log.
func (g *gateway) said(words string) {
	g.t.Helper()
	g.eventually("the log says "+words, func() error {
		if !strings.Contains(g.log.String(), words) {
			return errors.New("not yet")
		}
		return nil
	})
}

// TestSecretFileIsFollowed: a key in a file can be rotated.
func TestSecretFileIsFollowed(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	s := provider(t, a)
	secret := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old-key")
	g := start(t, "", pool("retry: {attempts: 1}", fmt.Sprintf("{id: a, provider: {base_url: %q, secret_key_ref: {file: %s}}}", s.URL()+"/v1", secret)))
	g.post("/v1/chat/completions", chatHello).want(401)
	write("key-a")
	g.answers("a")
}

// TestBadEditIsSeen: a bad edit shows in the status and in a metric, and goes away with a good one.
func TestBadEditIsSeen(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g, admin := withAdmin(t, "", pool("", to("a", a, provider(t, a))))
	metric := func(want string) {
		t.Helper()
		g.eventually(want, func() error {
			r, err := http.Get(admin + "/metrics")
			if err != nil {
				return err
			}
			if body := g.read(r).want(200).Body; !strings.Contains(body, want) {
				return errors.New(body)
			}
			return nil
		})
	}
	metric("millrace_config_file_ok 1\n")
	g.edit(func(s string) string { return s + "colour: blue\n" })
	metric("millrace_config_file_ok 0\n")
	if status := fmt.Sprint(must(t, "GET", admin+"/api/v1/status", nil)); !strings.Contains(status, "colour: unknown field") {
		t.Errorf("status: %s", status)
	}
	g.edit(func(s string) string { return strings.Replace(s, "colour: blue\n", "", 1) })
	metric("millrace_config_file_ok 1\n")
	metric("millrace_config_applied 1\n")
}
