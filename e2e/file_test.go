package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
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

// TestFileIsFollowed: an edit of the file is applied while requests run; one that is wrong, and one
// that only Envoy can refuse, change nothing and are said in the log, and the next good one is
// applied.
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

// TestFileIsFollowedInABusyFolder: the events file and a log are beside the configuration and are
// written all the time, and an edit is applied nevertheless.
func TestFileIsFollowedInABusyFolder(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "", pool("algorithm: weighted-round-robin", to("a", a, provider(t, a)), to("b", b, provider(t, b), "weight: 0")))
	if filepath.Dir(g.events) != filepath.Dir(g.Config) {
		t.Fatal("the events file is not beside the configuration")
	}
	log, err := os.Create(filepath.Join(filepath.Dir(g.Config), "other.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	done := make(chan struct{})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(done)
	busy.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				if _, err := log.WriteString("busy\n"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	g.answers("a")

	g.edit(func(s string) string {
		return strings.NewReplacer("id: a,", "id: a, weight: 0,", "weight: 0}", "weight: 1}").Replace(s)
	})
	g.answers("b")
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
	g.post("/v1/chat/completions", chatHello).want(502, "does not accept the gateway")
	write("key-a")
	g.answers("a")
}

// TestBadEditIsSeen: a bad edit, and a pipe in the place of the file, show in the status and in a
// metric, and go away with a good one.
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

	if err := os.Rename(g.Config, g.Config+".away"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(g.Config, 0o600); err != nil {
		t.Fatal(err)
	}
	metric("millrace_config_file_ok 0\n")
	const said = "is a pipe, expected a regular file"
	g.said(said)
	out, err := exec.Command(binary, "status", "--admin", admin).CombinedOutput()
	if err != nil || !strings.Contains(string(out), said) {
		t.Errorf("millrace status: %v\n%s", err, out)
	}
	g.answers("a")
	if err := os.Rename(g.Config+".away", g.Config); err != nil {
		t.Fatal(err)
	}
	metric("millrace_config_file_ok 1\n")
	metric("millrace_config_applied 1\n")
}
