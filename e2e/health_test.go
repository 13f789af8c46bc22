package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

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

// TestActiveHealthCheck: targets are asked at their own path, host and credential (A18, C05, C18);
// one that fails so often is left without costing a request, the next priority serves, and it gets
// requests again when it has recovered (B32).
func TestActiveHealthCheck(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	sa, sb := provider(t, a), provider(t, b)
	g := start(t, "", pool("health_checks: {passive: false, active: {path: /v1/models, interval: 0.1s, fall: 3, rise: 2}}",
		to("a", a, sa, "priority: 1", "headers: {x-team: 100%, x-team-token: token-of-a}"), to("b", b, sb, "priority: 2", "default_model: m")))
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
	for _, secret := range []string{a.Key, b.Key, "token-of-a"} {
		if strings.Contains(dump, secret) {
			t.Errorf("Envoy's configuration dump shows %s", secret)
		}
	}
}

// TestActiveHealthCheckByTCP: without a path a connection is all that is asked for (C05). One that
// is refused takes the target out.
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
	s := providerTLS(t, p, conf)
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

// TestActiveHealthCheckByGRPC: a target that has grpc.health.v1 beside its API is asked for it, for
// one service or as a whole, in plain text and with TLS (C05).
func TestActiveHealthCheckByGRPC(t *testing.T) {
	t.Parallel()
	for name, encrypted := range map[string]bool{"plain text": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caFile, conf := certificate(t)
			if !encrypted {
				conf = nil
			}
			a, b := openAI("a"), openAI("b")
			healthA, urlA := withHealth(t, a, conf)
			healthB, urlB := withHealth(t, b, conf)
			target := "{id: %s, provider: {base_url: %q, secret_key_ref: %s}, priority: %d}"
			for _, service := range []string{"llm", ""} {
				t.Run(fmt.Sprintf("service %q", service), func(t *testing.T) {
					healthA.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
					healthB.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
					g := start(t, "ca_file: "+caFile, pool(fmt.Sprintf("health_checks: {passive: false, active: {grpc: %q, interval: 0.1s, fall: 2, rise: 1}}", service),
						fmt.Sprintf(target, "a", urlA+"/v1", a.Key, 1), fmt.Sprintf(target, "b", urlB+"/v1", b.Key, 2)))
					g.answeredBy("a")
					healthA.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
					g.answeredBy("b")
					healthA.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
					g.answeredBy("a")
				})
			}
			if a.Probes() != 0 {
				t.Errorf("%d requests were made to find out", a.Probes())
			}
		})
	}
}

// withHealth serves a provider's API and grpc.health.v1 at one address, with TLS where conf is
// given.
func withHealth(t *testing.T, p *fakellm.Provider, conf *tls.Config) (*health.Server, string) {
	t.Helper()
	state, calls := health.NewServer(), grpc.NewServer()
	healthpb.RegisterHealthServer(calls, state)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.") {
			calls.ServeHTTP(w, r)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	if conf == nil {
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		return state, s.URL
	}
	s.Config.Protocols.SetHTTP2(true)
	s.EnableHTTP2, s.TLS = true, conf
	s.StartTLS()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return state, "https://localhost:" + port
}

// TestActiveHealthCheckHeaders: a check has headers of its own, which Envoy shows to nobody; a new
// secret in their file is sent from then on (C05, A18).
func TestActiveHealthCheckHeaders(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "probe-key")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-secret")
	p := openAI("p")
	var seen sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			seen.Store(strings.Join(r.Header.Values("X-Probe"), ", ")+" "+r.Header.Get("X-Team")+" "+r.Header.Get("Authorization"), true)
		} else if r.Header.Get("X-Probe") != "" {
			t.Errorf("a request that is no check has X-Probe: %s", r.Header.Get("X-Probe"))
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	g := start(t, "", pool(fmt.Sprintf("health_checks: {active: {path: /v1/models, interval: 0.1s, headers: {x-probe: {file: %s}, X-Team: of-the-check}}}", file),
		fmt.Sprintf("{id: p, provider: {base_url: %q, secret_key_ref: %s}, headers: {x-team: of-the-target}}", s.URL+"/v1", p.Key)))
	g.answeredBy("p")
	for _, secret := range []string{"first-secret", "second-secret"} {
		write(secret)
		g.eventually(secret+" is sent", func() error {
			if _, ok := seen.Load(secret + " of-the-check Bearer " + p.Key); !ok {
				return errors.New("not yet")
			}
			return nil
		})
		dump, err := g.envoyAdmin("/config_dump?include_eds")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(dump, secret) || !strings.Contains(dump, "X-Probe") {
			t.Errorf("Envoy's configuration dump shows the secret, or no header")
		}
	}
	g.post("/v1/chat/completions", chatHello).want(200)
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
