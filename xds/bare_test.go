package xds

import (
	"regexp"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"millrace/envoy"
)

func TestOthers(t *testing.T) {
	names := []string{":*", "accept", "accept-language", "te", "x-rate-*", "x-request-id"}
	re := regexp.MustCompile("^" + others(names) + "$")
	for _, kept := range []string{":path", ":", "accept", "accept-language", "te", "x-rate-", "x-rate-limit", "x-request-id"} {
		if re.MatchString(kept) {
			t.Errorf("%s is removed", kept)
		}
	}
	for _, removed := range []string{"a", "accep", "accept-", "accept-languages", "acceptor", "authorization", "cookie", "t", "tea", "x-rate", "x-request-id2", "x-request-ie", "y"} {
		if !re.MatchString(removed) {
			t.Errorf("%s is kept", removed)
		}
	}
}

// TestOpenAndPreferred: which model is preferred is for the sidecar to read, so an open upstream
// has one pool for its absence, and no rule that is there for models alone leads to it.
func TestOpenAndPreferred(t *testing.T) {
	s := build(t, `
upstreams: [{name: u, targets: [{id: a, provider: openai, models: [x]}, {id: b, provider: openai, models: [y]}]}]
services: [{name: u, upstream: u, failure: open}]
rules: [{path: /v1, service: u}]
`)
	pools, preferred := 0, 0
	for name := range s.cache.GetResources(resource.ClusterType) {
		if strings.HasPrefix(name, envoy.PoolBare) {
			pools++
		}
		if strings.HasPrefix(name, envoy.PoolPrefer) {
			preferred++
		}
	}
	if pools != 1 || preferred != 2 {
		t.Errorf("%d pools for a dead sidecar, %d for models", pools, preferred)
	}
	for _, r := range s.cache.GetResources(resource.RouteType)[envoy.Routes].(*routev3.RouteConfiguration).VirtualHosts[0].Routes {
		if strings.HasSuffix(r.Name, envoy.RouteBare) && strings.Contains(r.String(), envoy.HeaderModel) {
			t.Errorf("route %s", r)
		}
	}
}
