package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"millrace/admin"
	"millrace/config"
	"millrace/control"
	"millrace/dashboard"
	"millrace/envoy"
	"millrace/extproc"
	"millrace/metrics"
)

const (
	// defaultAdmin is where the API listens when there is a store and nobody says where.
	defaultAdmin = "127.0.0.1:8080"
	// envAdminToken holds the token when the file does not say; the client commands read it too.
	envAdminToken = "MILLRACE_ADMIN_TOKEN"
	// adminTimeout bounds the reading of a request.
	adminTimeout = 30 * time.Second
)

// startAdmin serves the operator's API where the flags or the file say, and over the sidecar's own
// socket as gRPC; and the metrics, beside it or at an address of their own. The tokens are the
// present configuration's at any time.
func (s *sidecar) startAdmin(flags sidecarFlags, dir string) error {
	address := adminAddress(flags, s.config.Admin.Listen)
	fromEnvironment := os.Getenv(envAdminToken) // cannot change while the process runs
	token := func() string { return cmp.Or(s.plane.Config().Admin.Token, fromEnvironment) }
	metricsToken := func() string { return s.plane.Config().Admin.MetricsToken }
	host, _, err := net.SplitHostPort(address)
	if address != "" && err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	if address != "" && token() == "" && !isLoopback(host) {
		return fmt.Errorf("admin address %s is not a loopback one: a token is needed (gateway.admin.token or %s)", address, envAdminToken)
	}
	envoys := envoy.NewAdmin(filepath.Join(dir, envoy.AdminSocket))
	health := targetHealth{envoys, s.data, s.plane}
	api := admin.New(admin.Options{
		Plane:    s.plane,
		Clusters: health,
		Token:    token,
		Hosts:    []string{host},
		Release:  version,
		Events:   s.events.kept,
		Log:      s.log,
	})
	api.Register(s.grpc)
	const metricsPath = "GET /metrics"
	rest, alone := http.NewServeMux(), http.NewServeMux()
	rest.Handle("/", api)
	served := s.metrics(s.registry(api, health), metrics.Envoy{Fetch: envoys.Prometheus, Config: s.present})
	if s.config.Admin.MetricsListen == "" {
		rest.Handle(metricsPath, api.Beside(served, metricsToken))
	} else {
		alone.Handle(metricsPath, api.Apart(served, metricsToken))
	}
	digest := api.Beside(s.digest(health), metricsToken)
	for _, path := range []string{statsPath, statsPath + ";csv", statsPath + ";csv;norefresh"} { // as HAProxy's tools ask
		rest.Handle("GET "+path, digest)
	}
	s.dashboard = dashboard.NewFeed(dashboard.Options{
		Recent:   s.recent,
		Digest:   func(ctx context.Context) (*metrics.Digest, error) { return s.requests.Digest(statesOf(ctx, health)) },
		Status:   s.plane.Status,
		Versions: s.plane.Versions,
		Release:  version,
		Log:      s.log,
	})
	s.dashboard.Register(rest, func(next http.Handler) http.Handler { return api.Beside(next) })
	if err := s.serveHTTP("admin API", address, rest); err != nil {
		return err
	}
	return s.serveHTTP("metrics", s.config.Admin.MetricsListen, alone)
}

// adminAddress is where REST listens when the file says listen, "" when it does not.
func adminAddress(flags sidecarFlags, listen string) string {
	address := cmp.Or(flags.Admin, listen)
	if address == "" && (flags.DataDir != "" || flags.Store != "") {
		address = defaultAdmin
	}
	return address
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// serveHTTP serves at an address, or nowhere when that is "".
func (s *sidecar) serveHTTP(what, address string, h http.Handler) error {
	if address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	server := &http.Server{Handler: h, ReadTimeout: adminTimeout}
	s.admin = append(s.admin, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", what, err)
		}
	}()
	s.log.Info(what, "listen", listener.Addr().String())
	return nil
}

func (s *sidecar) stopAdmin() {
	s.dashboard.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, server := range s.admin {
		if err := server.Shutdown(ctx); err != nil {
			s.log.Warn("admin: requests were cut", "error", err)
		}
	}
}

// targetHealth words what Envoy and the sidecar know for the API.
type targetHealth struct {
	envoy *envoy.Admin
	data  *extproc.Server
	plane *control.Plane
}

func (h targetHealth) Clusters(ctx context.Context) ([]admin.TargetHealth, error) {
	targets, err := h.envoy.Targets(ctx)
	troubles := h.data.Troubles()
	var all []admin.TargetHealth
	for _, t := range targets {
		until, why := h.plane.Out(t.Identity)
		all = append(all, admin.TargetHealth{
			Name:           config.NameOf(t.Identity),
			Healthy:        t.Healthy && until.IsZero(),
			EjectedUntil:   until,
			EjectedBecause: why,
			Weight:         uint32(t.Weight),
			Priority:       uint32(t.Priority),
			ActiveRequests: uint32(t.ActiveRequests),
			Connections:    uint32(t.Connections),
			Success:        t.Requests - t.Errors,
			Error:          t.Errors,
			CoolingUntil:   h.plane.CoolUntil(t.Identity),
			Recent:         h.data.Recent(t.Identity),
			Trouble:        troubles[t.Identity],
		})
	}
	return all, err
}
