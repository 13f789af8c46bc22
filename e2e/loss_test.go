package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// millrace runs a command to its end and returns what it said and its exit status. One that does
// not end is told to.
func millrace(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("millrace %s does not end", strings.Join(args, " "))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// TestLostStore: a gateway whose store is deleted starts with what it had applied: a request
// without a key is refused, one with the key is served. Log and status say so, nothing is written,
// and millrace store restore puts the store right.
func TestLostStore(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	data, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	admin := "http://" + address
	args := []string{"run", "--config", g.Config, "--data-dir", data, "--admin", address}
	g.exec(args...)
	t.Cleanup(func() { g.stop() })
	g.waitReady()
	key := must(t, "POST", admin+"/api/v1/gateways/default/keys", map[string]any{"name": "only"})["key"].(string)
	served := func() {
		t.Helper()
		g.post("/v1/chat/completions", chatHello).want(401)
		g.post("/v1/chat/completions", chatHello, "Authorization: Bearer "+key).want(200)
	}
	served()
	g.stop()

	if err := os.RemoveAll(filepath.Join(data, "nats")); err != nil {
		t.Fatal(err)
	}
	g.exec(args...)
	g.waitReady()
	served()
	g.said("serving what was applied last")
	if out, code := millrace(t, "status", "--admin", admin); code != 0 || !strings.Contains(out, "has lost what was applied") {
		t.Errorf("millrace status: %d\n%s", code, out)
	}
	if status, _, problem, err := api("POST", admin+"/api/v1/gateways/default/keys", map[string]any{"name": "more"}); err != nil || status != 503 || !strings.Contains(fmt.Sprint(problem), "millrace store restore") {
		t.Errorf("a write: %d %v %v", status, problem, err)
	}
	if out, code := millrace(t, "store", "restore", "--data-dir", data); code == 0 || !strings.Contains(out, "another sidecar uses") {
		t.Errorf("millrace store restore beside a gateway: %d\n%s", code, out)
	}
	g.stop()

	if out, code := millrace(t, "store", "show", "--data-dir", data); code == 0 || !strings.Contains(out, "revision 0, empty") || !strings.Contains(out, "1 gateways, 1 resources") {
		t.Errorf("millrace store show: %d\n%s", code, out)
	}
	if out, code := millrace(t, "store", "restore", "--data-dir", data); code != 0 {
		t.Errorf("millrace store restore: %d\n%s", code, out)
	}
	if out, code := millrace(t, "store", "show", "--data-dir", data); code != 0 {
		t.Errorf("millrace store show: %d\n%s", code, out)
	}
	g.exec(args...)
	g.waitReady()
	served()
	must(t, "POST", admin+"/api/v1/gateways/default/keys", map[string]any{"name": "more"})
	g.stop()

	// What was applied last is damaged: the store alone serves. Both are: nothing does, until a
	// person has chosen.
	applied := filepath.Join(data, "applied")
	if err := os.WriteFile(applied, []byte("mra?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := millrace(t, "store", "accept", "--data-dir", data); code != 0 || !strings.Contains(out, applied+".damaged") {
		t.Errorf("millrace store accept: %d\n%s", code, out)
	}
	g.exec(args...)
	g.waitReady()
	served()
	g.stop()
	if err := os.WriteFile(applied, []byte("mra?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(data, "nats")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{args, {"store", "accept", "--data-dir", data}} {
		if out, code := millrace(t, args...); code != 1 || !strings.Contains(out, "config store "+data) || !strings.Contains(out, applied) {
			t.Errorf("millrace %s: %d\n%s", args[0], code, out)
		}
	}
}

// TestFileThatLostItsKeys: a file that is emptied or cut changes nothing while the gateway runs,
// and does not start one that had keys. validate says the same.
func TestFileThatLostItsKeys(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a)))+fmt.Sprintf("keys: [{name: k, hash: %s}]\n", hashOf("secret")))
	data := t.TempDir()
	args := []string{"run", "--config", g.Config, "--data-dir", data, "--admin", fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	g.exec(args...)
	t.Cleanup(func() { g.stop() })
	g.waitReady()
	whole, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(document string) {
		t.Helper()
		if err := os.WriteFile(g.Config, []byte(document), 0o600); err != nil { // in place, as : > FILE does
			t.Fatal(err)
		}
	}
	beforeKeys, _, _ := strings.Cut(string(whole), "keys:")
	for words, document := range map[string]string{
		"holds no configuration": "",
		"1:1: keys: ":            beforeKeys,
	} {
		write(document)
		g.said(words)
		g.post("/v1/chat/completions", chatHello).want(401)
		g.post("/v1/chat/completions", chatHello, "X-Api-Key: secret").want(200)
		if out, code := millrace(t, "validate", g.Config, "--data-dir", data); code == 0 || !strings.Contains(out, words) {
			t.Errorf("millrace validate: %d\n%s", code, out)
		}
	}
	g.stop()

	write(beforeKeys)
	if out, code := millrace(t, args...); code != 1 || !strings.Contains(out, "gateway.auth: none") {
		t.Errorf("it starts without its keys: %d\n%s", code, out)
	}
	write(strings.Replace(beforeKeys, "gateway:\n", "gateway:\n  auth: none\n", 1))
	g.exec(args...)
	g.waitReady()
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestNothingToServe: without a file and a store there is nothing to run; with a store alone, REST
// says all, but not nothing.
func TestNothingToServe(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "serve"} {
		if out, code := millrace(t, command); code != 1 || !strings.Contains(out, "nothing to serve: give --config") || strings.Count(out, "\n") != 1 {
			t.Errorf("millrace %s: %d\n%s", command, code, out)
		}
	}
	g := prepare(t, "", "")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g.exec("serve", "--data-dir", t.TempDir(), "--admin", address, "--socket-dir", t.TempDir())
	t.Cleanup(func() { g.interrupt() })
	g.said("no --config: what is written over REST is served")
	g.said("127.0.0.1:41002")
	status, _, problem, err := api("POST", "http://"+address+"/api/v1/apply", map[string]any{})
	if err != nil || status != 422 || !strings.Contains(fmt.Sprint(problem), "holds no configuration") {
		t.Errorf("an empty document over REST: %d %v %v", status, problem, err)
	}
}
