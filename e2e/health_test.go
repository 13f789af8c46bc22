package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// answeredBy waits until requests are answered by this target, ten in a row.
func (g *gateway) answeredBy(target string) {
	g.t.Helper()
	g.eventually("requests go to "+target, func() error {
		for range 10 {
			a := g.post("/v1/chat/completions", chatHello)
			if got := a.Header.Get("x-millrace-target"); a.Status != 200 || got != target {
				return fmt.Errorf("%d by %q", a.Status, got)
			}
		}
		return nil
	})
}

// TestActiveHealthCheck: targets are asked at their own path, host and credential (A18, C05, C18); one that fails so often is
// left without costing a request, the next priority serves, and it gets requests again when it has recovered (B32).
func TestActiveHealthCheck(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	sa, sb := provider(t, a), provider(t, b)
	g := start(t, "", pool("health_checks: {passive: false, active: {path: /v1/models, interval: 0.1s, fall: 3, rise: 2}}",
		to("a", a, sa, "priority: 1", "headers: {x-team: 100%}"), to("b", b, sb, "priority: 2", "default_model: m")))
	g.answeredBy("a")

	b.Probe(fakellm.Fail(500, "ill"))
	a.Probe(fakellm.Fail(500, "ill"))
	g.eventually("a and b are out", func() error {
		if answer := g.post("/v1/chat/completions", chatHello); answer.Status != 503 {
			return errors.New(answer.Header.Get("x-millrace-target"))
		}
		return nil
	})
	before := len(a.Requests()) + len(b.Requests())
	g.post("/v1/chat/completions", chatHello).want(503)
	if got := len(a.Requests()) + len(b.Requests()); got != before {
		t.Errorf("a target that is out got %d requests", got-before)
	}
	b.Reset()
	g.answeredBy("b")
	a.Reset()
	g.answeredBy("a")
	if a.Probes() < 10 || b.Probes() < 10 {
		t.Errorf("probes: %d and %d", a.Probes(), b.Probes())
	}

	dump, err := g.envoyAdmin("/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(dump, "probe:default/chat/a") {
		t.Errorf("not a configuration: %.300s", dump)
	}
	for _, secret := range []string{a.Key, b.Key} {
		if strings.Contains(dump, secret) {
			t.Errorf("Envoy's configuration dump shows %s", secret)
		}
	}
}

// TestActiveHealthCheckByTCP: without a path a connection is all that is asked for (C05). One that is refused takes the target out.
func TestActiveHealthCheckByTCP(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	sa := provider(t, a)
	g := start(t, "", pool("retry: {attempts: 1}\nhealth_checks: {passive: false, active: {interval: 0.1s, fall: 2, rise: 1}}",
		to("a", a, sa, "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	g.answeredBy("a")
	sa.Close()
	g.answeredBy("b")
	again, err := fakellm.Start(a, sa.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	g.answeredBy("a")
	if a.Probes() != 0 {
		t.Errorf("%d requests were made to find out", a.Probes())
	}
}

// TestActiveHealthCheckByTLS: the probe's handshake is the target's own.
func TestActiveHealthCheckByTLS(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	p := openAI("p")
	s, err := fakellm.StartTLS(p, "", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, "ca_file: "+caFile, pool("health_checks: {passive: false, active: {path: /v1/models, interval: 0.1s, expected_status: [200, 204]}}",
		fmt.Sprintf("{id: p, provider: {base_url: %q, secret_key_ref: %s}}", "https://localhost:"+port+"/v1", p.Key)))
	g.answeredBy("p")
	if p.Probes() == 0 {
		t.Error("answered without having been asked")
	}
}

// envoyAdmin reads a page of Envoy's own administration interface.
func (g *gateway) envoyAdmin(page string) (string, error) {
	before, _, found := strings.Cut(g.log.String(), "/millrace.sock")
	if !found {
		return "", errors.New("the log does not say where the sockets are")
	}
	socket := before[strings.LastIndexByte(before, '"')+1:] + "/envoy-admin.sock"
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := client.Get("http://envoy" + page)
	if err != nil {
		return "", err
	}
	return g.read(r).Body, nil
}
