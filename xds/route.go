package xds

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// routes has a virtual host per gateway and two routes per rule: streams live by other timeouts than plain requests, and
// only the body says which one it is, so the router stream sets a header and has the route chosen again.
func (b *builder) routes() {
	routes := &routev3.RouteConfiguration{
		Name:                           envoy.Routes,
		InternalOnlyHeaders:            []string{envoy.HeaderStream},
		MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(4 << 10),
	}
	for _, g := range b.config.Gateways {
		host := &routev3.VirtualHost{Name: g.Name, Domains: domains(g)}
		for _, r := range g.Rules {
			host.Routes = append(host.Routes, streamRoute(g, r), plainRoute(g, r))
		}
		for _, path := range paths(g.Rules) {
			host.Routes = append(host.Routes, refusal(envoy.RouteMethod+path, prefix(path), http.StatusMethodNotAllowed))
		}
		host.Routes = append(host.Routes, refusal(envoy.RouteNone, prefix("/"), http.StatusNotFound))
		routes.VirtualHosts = append(routes.VirtualHosts, host)
	}
	b.add(resource.RouteType, routes)
}

// domains are the hosts a gateway answers to; one that names none answers to all that no other does.
func domains(g *config.Gateway) []string {
	var d []string
	if g.Subdomain != "" {
		d = append(d, g.Subdomain+".*")
	}
	if d = append(d, g.Hosts...); len(d) == 0 {
		d = []string{"*"}
	}
	return d
}

func paths(rules []*config.Rule) []string {
	var p []string
	for _, r := range rules {
		if len(r.Methods) > 0 {
			p = append(p, r.Path)
		}
	}
	return slices.Compact(p) // rules come longest path first
}

func prefix(path string) *routev3.RouteMatch {
	if path == "/" {
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}}
}

func match(r *config.Rule) *routev3.RouteMatch {
	m := prefix(r.Path)
	if len(r.Methods) > 0 {
		m.Headers = append(m.Headers, headerIs(":method", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(r.Methods, "|")}},
		}))
	}
	return m
}

func headerIs(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

func plainRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	route := ruleRoute(g, r)
	route.GetRoute().Timeout = seconds(g.Timeouts.Request)
	return route
}

// streamRoute has no limit on the whole: the first token has one (per attempt, for the answer's headers are held until it
// comes), and so has silence between chunks.
func streamRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	route := ruleRoute(g, r)
	route.Match.Headers = append(route.Match.Headers, headerIs(envoy.HeaderStream, &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "1"},
	}))
	action := route.GetRoute()
	action.Timeout = &durationpb.Duration{}
	action.RetryPolicy.PerTryTimeout = seconds(g.Timeouts.FirstByte)
	// Envoy's idle timer runs from the attempt's start: it must not end the wait for the first token early.
	action.RetryPolicy.PerTryIdleTimeout = seconds(max(g.Timeouts.InterChunk, g.Timeouts.FirstByte))
	return route
}

func ruleRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	return &routev3.Route{
		Name:  r.RouteName(g),
		Match: match(r),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: r.Upstream.Name},
			RetryPolicy:      retryPolicy(r.Upstream),
		}},
	}
}

// retryPolicy sends a failed attempt to a target that was not tried, of this priority and then of the next. It lists no
// status that is the client's fault.
func retryPolicy(u *config.Upstream) *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:              "5xx,reset,connect-failure,refused-stream,retriable-status-codes",
		RetriableStatusCodes: []uint32{http.StatusTooManyRequests},
		NumRetries:           wrapperspb.UInt32(u.Attempts - 1),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: packed(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}},
		HostSelectionRetryMaxAttempts: int64(2*len(u.Targets) + 3),
		RetryPriority: &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: packed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		},
	}
}

// refusal is a route for what no rule takes. The sidecar answers it; Envoy's own answer is for when it is gone.
func refusal(name string, m *routev3.RouteMatch, status uint32) *routev3.Route {
	return &routev3.Route{
		Name:  name,
		Match: m,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: status,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: fmt.Sprint(http.StatusText(int(status)))}},
		}},
	}
}
