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
	"millrace/envoy"
	"millrace/extproc"
)

const (
	// defaultAdmin is where the API listens when there is a store and nobody says where.
	defaultAdmin = "127.0.0.1:8080"
	// envAdminToken holds the token when the file does not say; the client commands read it too.
	envAdminToken = "MILLRACE_ADMIN_TOKEN"
	// adminTimeout bounds the reading of a request.
	adminTimeout = 30 * time.Second
)

// startAdmin serves the operator's API where the flags or the file say, and over the sidecar's own socket as gRPC.
func (s *sidecar) startAdmin(flags sidecarFlags, dir string) error {
	address := cmp.Or(flags.Admin, s.config.Admin.Listen)
	if address == "" && storeOpener(flags, s.log) != nil {
		address = defaultAdmin
	}
	token := cmp.Or(s.config.Admin.Token, os.Getenv(envAdminToken))
	host, _, err := net.SplitHostPort(address)
	if address != "" && err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	if ip, err := netip.ParseAddr(host); address != "" && token == "" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("admin address %s is not a loopback one: a token is needed (gateway.admin.token or %s)", address, envAdminToken)
	}
	api := admin.New(admin.Options{
		Plane:    s.plane,
		Clusters: targetHealth{envoy.NewAdmin(filepath.Join(dir, envoy.AdminSocket)), s.data, s.plane},
		Token:    token,
		Hosts:    []string{host},
		Release:  version,
		Log:      s.log,
	})
	api.Register(s.grpc)
	if address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", api)
	mux.Handle("GET /metrics", s.metrics())
	s.admin = &http.Server{Handler: mux, ReadTimeout: adminTimeout}
	go func() {
		if err := s.admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("admin: %w", err)
		}
	}()
	s.log.Info("admin API", "listen", listener.Addr().String())
	return nil
}

func (s *sidecar) stopAdmin() {
	if s.admin == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.admin.Shutdown(ctx); err != nil {
		s.log.Warn("admin: requests were cut", "error", err)
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
	var all []admin.TargetHealth
	for _, t := range targets {
		all = append(all, admin.TargetHealth{
			Name:           config.NameOf(t.Identity),
			Healthy:        t.Healthy,
			Ejected:        t.Ejected,
			Weight:         uint32(t.Weight),
			Priority:       uint32(t.Priority),
			ActiveRequests: uint32(t.ActiveRequests),
			Success:        t.Requests - t.Errors,
			Error:          t.Errors,
			CoolingUntil:   h.plane.CoolUntil(t.Identity),
			Recent:         h.data.Recent(t.Identity),
		})
	}
	return all, err
}
