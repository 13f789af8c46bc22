package envoy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// adminPoll is how often a state of Envoy's is asked for while waiting for it.
const adminPoll = 20 * time.Millisecond

// Admin is the admin interface of an Envoy, on its Unix socket. Methods may be called at the same
// time.
type Admin struct {
	// Client reaches the socket whatever the URL's host says: http://envoy/config_dump.
	Client *http.Client
}

// NewAdmin does not connect yet; the socket need not exist.
func NewAdmin(socket string) *Admin {
	var dialer net.Dialer
	return &Admin{Client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		// A kept connection would be one that Envoy has to close when it stops, and the calls are
		// few.
		DisableKeepAlives: true,
	}}}
}

// Ready is nil once Envoy has its first complete configuration and listens. It asks once.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodGet, "/ready")
	return err
}

// Drain makes Envoy end client connections as their requests end: every answer says "connection:
// close" (HTTP/2: GOAWAY), running streams are left alone, and new connections are still accepted.
// Accepting on is what a rolling restart needs: the load balancer in front learns from
// /health/ready, through the same listener, that it should go elsewhere. Without skip_exit Envoy
// would also close the internal listener, and with it the way of retries to their next target.
func (a *Admin) Drain(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners?skip_exit")
	return err
}

// StopAccepting closes the listeners that clients connect to. Connections that are there go on.
func (a *Admin) StopAccepting(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners?inboundonly")
	return err
}

// ActiveRequests counts the client requests in flight on all listeners.
func (a *Admin) ActiveRequests(ctx context.Context) (int, error) {
	const name = ".downstream_rq_active"
	filter := url.QueryEscape(`^http\.[^.]+\` + name + `$`)
	body, err := a.do(ctx, http.MethodGet, "/stats?filter="+filter)
	if err != nil {
		return 0, err
	}
	active := 0
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		stat, value, _ := strings.Cut(lines.Text(), ": ")
		if stat == "http.admin"+name { // this very request
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return 0, fmt.Errorf("envoy admin: stat %q: %w", lines.Text(), err)
		}
		active += n
	}
	return active, nil
}

// Prometheus asks for all that Envoy has counted, in Prometheus's text format: what was never
// counted is not in it. The caller closes it.
func (a *Admin) Prometheus(ctx context.Context) (io.ReadCloser, error) {
	resp, err := a.get(ctx, http.MethodGet, "/stats/prometheus?usedonly")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (a *Admin) do(ctx context.Context, method, target string) (string, error) {
	resp, err := a.get(ctx, method, target)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("envoy admin: %s %s: %w", method, target, err)
	}
	return string(body), nil
}

// get returns a good answer, whose body the caller closes.
func (a *Admin) get(ctx context.Context, method, target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("envoy admin: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what has come is enough to say
		return nil, fmt.Errorf("envoy admin: %s %s: %s: %s", method, target, resp.Status, strings.TrimSpace(string(said)))
	}
	return resp, nil
}
