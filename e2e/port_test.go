package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnePortOneGateway: a port that another gateway, or another program, has is refused, in one
// line and before anything else is said. With Envoy's default a second gateway would get a share of
// the requests.
func TestOnePortOneGateway(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	targets := pool("", to("a", a, provider(t, a)))
	g := start(t, "", targets)
	address := strings.TrimPrefix(g.URL, "http://")
	samePort := filepath.Join(t.TempDir(), "other.yaml")
	port := address[strings.LastIndexByte(address, ':')+1:]
	for _, listen := range []string{"127.0.0.1", "0.0.0.0"} {
		document := fmt.Sprintf("gateway: {listen_address: %s, listen_port: %s}\n%s", listen, port, targets)
		if err := os.WriteFile(samePort, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := millrace(t, "run", "--config", samePort)
		if code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, listen+":"+port+" is taken") {
			t.Errorf("a second gateway on %s: exit status %d, %q", listen, code, out)
		}
	}
	if out, code := millrace(t, "validate", samePort); code != 0 { // it may be the running gateway's own file
		t.Errorf("validate: %d %s", code, out)
	}
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestOnePortTwoProcesses: where Envoy is a process of its own, it is Envoy that refuses; the
// sidecar says so, in the log and by readiness. The same goes for a port that a running gateway is
// told to move to: it stays where it is.
func TestOnePortTwoProcesses(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	first, second := prepare(t, "", pool("", to("a", a, provider(t, a)))), prepare(t, "", pool("", to("b", b, provider(t, b))))
	port := func(g *gateway) string { return "listen_port: " + g.URL[strings.LastIndexByte(g.URL, ':')+1:] }
	taken, free := port(first), port(second)

	twoProcesses(t, first)
	t.Cleanup(first.stop)
	dir := shortTempDir(t)
	second.edit(func(s string) string { return strings.Replace(s, free, taken, 1) })
	second.exec("serve", "--config", second.Config, "--socket-dir", dir)
	t.Cleanup(second.stop)
	startEnvoy(t, dir)
	second.said("Address already in use")
	for range 20 { // each on a connection of its own
		r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(first.request("POST", "/v1/chat/completions", strings.NewReader(chatHello)))
		if err != nil {
			t.Fatal(err)
		}
		first.read(r).want(200).header("x-millrace-target", "a")
	}

	second.edit(func(s string) string { return strings.Replace(s, taken, free, 1) })
	second.waitReady()
	second.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
	second.edit(func(s string) string { return strings.Replace(s, free, taken, 1) })
	second.said("configuration rejected")
	second.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
	first.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
}

// TestChecksOfAGatewayThatListensEverywhere: the listener of health checks does not need the port
// that the gateway itself has there.
func TestChecksOfAGatewayThatListensEverywhere(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("health_checks: {active: {path: /v1/models, interval: 0.2s}}", to("a", a, provider(t, a))))
	g.edit(func(s string) string { return strings.Replace(s, "127.0.0.1", "0.0.0.0", 1) })
	g.run()
	g.answeredBy("a")
}

// TestValidateIsRun: what run refuses validate refuses in the same words, each in lines that name
// the field or file, and without the usage of the command.
func TestValidateIsRun(t *testing.T) {
	t.Parallel()
	const one = "providers: {targets: [{provider: openai}]}\n"
	for name, c := range map[string]struct{ document, says string }{
		"an unset secret": {"providers: {targets: [{provider: {name: openai, secret_key_ref: {env: MILLRACE_NO_SUCH_KEY}}}]}\n",
			"provider.secret_key_ref: environment variable MILLRACE_NO_SUCH_KEY is not set"},
		"a secret's file that is not there": {"providers: {targets: [{provider: {name: openai, secret_key_ref: {file: /no/such/key}}}]}\n", "/no/such/key"},
		"a policy that is not there":        {one + "pack: {name: p, version: 1.0.0, enabled: true}\npolicies: {chain: [dpl]}\n", "policies.chain[0]: there is no policy \"dpl\""},
		"an empty file":                     {"", "holds no configuration"},
		"comments":                          {"# later\n", "holds no configuration"},
		"listed without models": {"upstreams: [{name: u, model_choice: listed, targets: [{provider: openai}]}]\nservices: [{name: s, upstream: u}]\nrules: [{path: /v1, service: s}]\n",
			"upstreams[0].targets[0].models: needed with model_choice: listed"},
		"limits of keys":                 {one + "keys: [{name: k, hash: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, limits: {requests: 1/1m}}]\n", "keys[0].limits: "},
		"a certificate that is missing":  {one + "gateway: {tls: {cert_file: /no/such.crt, key_file: /no/such.key}}\n", "gateway.tls: open /no/such.crt: no such file"},
		"authorities that are missing":   {one + "gateway: {ca_file: /no/such.pem}\n", "gateway.ca_file: open /no/such.pem: no such file"},
		"authorities that are none":      {one + "gateway: {ca_file: /etc/hostname}\n", "gateway.ca_file: /etc/hostname holds no certificate"},
		"a folder for events that is no": {one + "events: {file: /no/such/events.jsonl}\n", "events.file: stat /no/such: no such file"},
		"a second document":              {one + "---\n" + one, "a second document begins here"},
	} {
		t.Run(name, func(t *testing.T) {
			file, document := filepath.Join(t.TempDir(), "c.yaml"), c.document
			port := fmt.Sprintf("gateway: {listen_port: %d", freePort(t)) // the default one may be another test's
			switch {
			case strings.Contains(document, "gateway: {"):
				document = strings.Replace(document, "gateway: {", port+", ", 1)
			case strings.Contains(document, "targets:"):
				document = port + "}\n" + document
			}
			if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
				t.Fatal(err)
			}
			validated, status := millrace(t, "validate", file)
			if status != 1 || !strings.Contains(validated, c.says) {
				t.Errorf("validate: exit status %d, %q, want %q", status, validated, c.says)
			}
			if ran, status := millrace(t, "run", "--config", file); status != 1 || ran != validated {
				t.Errorf("run: exit status %d, %q, validate says %q", status, ran, validated)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for _, args := range [][]string{{"run", "--config", missing}, {"serve", "--config", missing}, {"validate", missing}, {"store", "show", "--data-dir", missing}} {
		out, status := millrace(t, args...)
		if status != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, missing+": no such file or directory") {
			t.Errorf("%v: exit status %d, %q", args, status, out)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere.yaml")
	document := "gateway: {tls: {cert_file: /no/such.crt, key_file: /no/such.key}}\nproviders: {targets: [{provider: {name: openai, secret_key_ref: {env: MILLRACE_NO_SUCH_KEY}}}]}\n"
	if err := os.WriteFile(elsewhere, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := millrace(t, "validate", "--elsewhere", elsewhere); status != 0 || !strings.Contains(out, "env: MILLRACE_NO_SUCH_KEY") {
		t.Errorf("validate --elsewhere: exit status %d, %s", status, out)
	}
}
