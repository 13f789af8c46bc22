package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"millrace/internal/fakellm"
)

// checks answers health checks, over HTTP and gRPC. Until it is ill, only some of its answers are
// bad, never three in a row.
type checks struct {
	healthpb.UnimplementedHealthServer
	bad  atomic.Int64 // of three in a row
	n    atomic.Int64
	ill  atomic.Bool
	sick atomic.Int64 // bad answers since it is ill
}

func (c *checks) good() bool {
	if c.ill.Load() {
		c.sick.Add(1)
		return false
	}
	return c.n.Add(1)%3 >= c.bad.Load()
}

func (c *checks) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if c.good() {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
}

func (c *checks) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if !c.good() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// TestFall: a check that answers badly counts like one that does not answer: a target stays until
// fall of them have failed in a row (A18, A23, C18), over HTTP and gRPC.
func TestFall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		active string
		bad    int64
		least  int64 // of bad answers in a row
	}{
		"http": {"path: /up", 2, 3},
		"grpc": {`grpc: ""`, 1, 2}, // the pool looks as often as is checked, and may see one result twice
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), openAI("b")
			health := &checks{}
			calls := grpc.NewServer()
			healthpb.RegisterHealthServer(calls, health)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasPrefix(r.URL.Path, "/grpc."):
					calls.ServeHTTP(w, r)
				case r.URL.Path == "/up":
					health.ServeHTTP(w, r)
				default:
					a.ServeHTTP(w, r)
				}
			}))
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
			t.Cleanup(s.Close)
			_, urlB := withHealth(t, b, (*tls.Config)(nil))
			active := fmt.Sprintf("health_checks: {passive: false, active: {%s, interval: 0.2s, timeout: 5s, fall: 3, rise: 2}}", c.active)
			if name == "http" {
				up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/up" {
						b.ServeHTTP(w, r)
					}
				}))
				t.Cleanup(up.Close)
				urlB = up.URL
			}
			target := func(id, url string, p *fakellm.Provider, priority int) string {
				return fmt.Sprintf("{id: %s, provider: {base_url: %q, secret_key_ref: %s}, priority: %d}", id, url+"/v1", p.Key, priority)
			}
			g := start(t, "", pool(active, target("a", s.URL, a, 1), target("b", urlB, b, 2)))
			g.answeredBy("a")
			health.bad.Store(c.bad)
			for first := health.n.Load(); health.n.Load() < first+15; {
				g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
			}
			health.bad.Store(0) // the last answer before it is ill is good, or it would be one of the three
			for first := health.n.Load(); health.n.Load() < first+2; {
				g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "a")
			}
			health.ill.Store(true)
			g.eventually("a is out", func() error {
				if got := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-target"); got != "b" {
					return errors.New(got)
				}
				return nil
			})
			if n := health.sick.Load(); n < c.least {
				t.Errorf("out after %d bad answers, want %d", n, c.least)
			}
			health.ill.Store(false)
			health.bad.Store(0)
			g.answeredBy("a")
		})
	}
}
