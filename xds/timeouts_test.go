package xds

import (
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestTimeouts: every timeout that an operator writes is where Envoy keeps it (A14, A20, C14, E08,
// E09, E10, E21, E33).
func TestTimeouts(t *testing.T) {
	s := build(t, `
gateway:
  timeouts: {request_timeout: 700s, connect_timeout: 10s, first_byte_timeout: 400s, first_token_timeout: 500s}
  streaming: {inter_chunk_timeout: 300s}
upstreams: [{name: a, targets: [{id: t, provider: openai}]}, {name: h, algorithm: prompt-hash, targets: [{id: t, provider: openai}]}]
services: [{name: a, upstream: a}, {name: h, upstream: h}]
rules: [{path: /v1/joined, service: a}, {path: /v1, service: h}]
`)
	want := func(what string, got *durationpb.Duration, want time.Duration) {
		t.Helper()
		if got.AsDuration() != want {
			t.Errorf("%s: %s, want %s", what, got.AsDuration(), want)
		}
	}
	items := func(kind resource.Type) map[string]any {
		found := map[string]any{}
		for name, item := range s.cache.GetResources(kind) {
			found[name] = item
		}
		return found
	}
	want("connect", clusters(s)["default/a/t"].ConnectTimeout, 10*time.Second)

	routes := items(resource.RouteType)["ingress"].(*routev3.RouteConfiguration).VirtualHosts[0].Routes
	for routes[0].GetRoute() == nil { // the first ones refuse
		routes = routes[1:]
	}
	joined, stream, plain := routes[0].GetRoute(), routes[2].GetRoute(), routes[3].GetRoute()
	want("a request that nobody has read", joined.Timeout, 0)
	want("the client's wait for its answer", joined.IdleTimeout, time.Hour)
	want("a stream", stream.Timeout, 0)
	want("its first token", stream.RetryPolicy.PerTryTimeout, 501*time.Second)
	want("the client's wait for it", stream.IdleTimeout, time.Hour)
	want("a whole answer", plain.Timeout, 701*time.Second)

	manager := &hcmv3.HttpConnectionManager{}
	chain := items(resource.ListenerType)["ingress"].(*listenerv3.Listener).FilterChains[0]
	if err := chain.Filters[0].GetTypedConfig().UnmarshalTo(manager); err != nil {
		t.Fatal(err)
	}
	want("a client's silence", manager.StreamIdleTimeout, 761*time.Second)
}
