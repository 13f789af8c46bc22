package xds

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"millrace/config"
	"millrace/envoy"
)

// TestOriginPattern: a star stands for what it says, and for no more.
func TestOriginPattern(t *testing.T) {
	for _, c := range []struct {
		origins []string
		yes, no []string
	}{
		{[]string{"*"}, []string{"https://a", "null", "app://x"}, nil},
		{[]string{"https://a.example"}, []string{"https://a.example"}, []string{"https://a.example:8443", "https://axexample", "http://a.example", "https://b.a.example", "https://a.example.evil", "xhttps://a.example"}},
		{[]string{"https://*.a.example"}, []string{"https://b.a.example", "https://b-1.a.example"}, []string{"https://a.example", "https://c.b.a.example", "https://.a.example", "https://ba.example", "https://b.a.example:1", "https://evil.com/.a.example", "https://b@c.a.example"}},
		{[]string{"http://localhost:*"}, []string{"http://localhost", "http://localhost:1"}, []string{"http://localhost:", "http://localhost:1x", "http://localhost:1.evil.example", "http://localhostx", "https://localhost"}},
		{[]string{"https://*.a.example:8443"}, []string{"https://b.a.example:8443"}, []string{"https://b.a.example", "https://b.a.example:84430"}},
		{[]string{"http://[::1]:*"}, []string{"http://[::1]:80", "http://[::1]"}, []string{"http://[::2]:80", "http://:"}},
		{[]string{"vscode-webview://*"}, []string{"vscode-webview://0a-1b"}, []string{"vscode-webview://", "vscode-webview://a.b"}},
		{[]string{"https://a.example", "https://b.example"}, []string{"https://a.example", "https://b.example"}, []string{"https://a.examplehttps://b.example", "https://a.example|https://b.example"}},
	} {
		re := regexp.MustCompile("^(?:" + origins(&config.Gateway{Origins: c.origins}).GetSafeRegex().Regex + ")$") // as Envoy reads it: the whole
		for _, o := range slices.Concat(c.yes, c.no) {
			if want := slices.Contains(c.yes, o); re.MatchString(o) != want {
				t.Errorf("%q lets in %s: %t, want %t", c.origins, o, !want, want)
			}
		}
	}
}

// TestCORSIsPaidForWhereItIsUsed: without origins there is no trace of it at Envoy. With them the
// filter is the first, and of the gateway that has them alone; no route there is a direct response,
// which the filter passes over, but for requests that no browser sends.
func TestCORSIsPaidForWhereItIsUsed(t *testing.T) {
	const resources = "upstreams: [{name: a, targets: [{provider: openai, models: [m]}]}]\nservices: [{name: a, upstream: a}]\n" +
		"rules: [{path: /v1, service: a, methods: [POST]}, {path: /m, service: a, models: [m]}]\n"
	filters := func(s *Snapshot) []*hcmv3.HttpFilter {
		l := s.cache.GetResources(resource.ListenerType)[envoy.Listener].(*listenerv3.Listener)
		m := &hcmv3.HttpConnectionManager{}
		if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		return m.HttpFilters
	}
	host := func(s *Snapshot) *routev3.VirtualHost {
		return s.cache.GetResources(resource.RouteType)[envoy.Routes].(*routev3.RouteConfiguration).VirtualHosts[0]
	}
	without, with := build(t, resources), build(t, "gateway: {cors: {allowed_origins: [https://a.example]}}\n"+resources)
	if text := host(without).String(); strings.Contains(text, "cors") || strings.Contains(text, "preflight") || strings.Contains(text, "vary") {
		t.Errorf("without origins: %s", text)
	}
	if n := len(filters(with)) - len(filters(without)); n != 1 || filters(with)[0].Name != corsFilter {
		t.Errorf("%d filters more, the first is %s", n, filters(with)[0].Name)
	}
	if host(with).TypedPerFilterConfig[corsFilter] == nil {
		t.Error("the gateway has no policy")
	}
	for _, r := range host(with).Routes {
		if loop := r.Name == envoy.RouteLoop || r.Name == envoy.RouteHops; (r.GetDirectResponse() != nil) != loop {
			t.Errorf("route %s: %s", r.Name, r)
		}
	}
}
