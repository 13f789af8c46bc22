package xds

import (
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// How browsers are answered, and why so, is in docs/rationale.md, "How may a web page use the
// gateway?".

const (
	corsFilter = "envoy.filters.http.cors"

	// allowedHeaders has a name beside the star because the star does not stand for this one.
	allowedHeaders = "authorization, *"
	// exposedHeaders names what the gateway itself says, for browsers that do not know the star.
	// The star stands for what providers say, and for gateway.response_headers.
	exposedHeaders = "x-selected-provider, x-millrace-target, x-millrace-attempts, x-millrace-dropped, x-millrace-estimated, " +
		"x-millrace-request-id, x-request-id, request-id, retry-after, x-should-retry, *"
	// preflightSeconds is how long a browser need not ask again. It bounds how long a page from
	// which the permission was taken goes on sending requests whose answers it cannot read.
	preflightSeconds = "600"
	// nowhere is the name of a cluster that does not exist.
	nowhere = "nowhere"
)

// corsFilters is the filter that answers preflights, where some gateway wants it. It is the first,
// so that no other asks a preflight for a key, and so that what others answer passes it.
func (b *builder) corsFilters() []*hcmv3.HttpFilter {
	if !slices.ContainsFunc(b.config.Gateways, func(g *config.Gateway) bool { return len(g.Origins) > 0 }) {
		return nil
	}
	return []*hcmv3.HttpFilter{filter("cors", &corsv3.Cors{})}
}

// browsers lets pages of the gateway's origins use the virtual host.
func browsers(g *config.Gateway, host *routev3.VirtualHost) {
	if len(g.Origins) == 0 {
		return
	}
	host.TypedPerFilterConfig = map[string]*anypb.Any{corsFilter: packed(&corsv3.CorsPolicy{
		AllowOriginStringMatch:    []*matcherv3.StringMatcher{origins(g)},
		AllowMethods:              "GET, HEAD, POST",
		AllowHeaders:              allowedHeaders,
		ExposeHeaders:             exposedHeaders,
		MaxAge:                    preflightSeconds,
		AllowPrivateNetworkAccess: wrapperspb.Bool(true),
	})}
	host.ResponseHeadersToAdd = append(host.ResponseHeadersToAdd, &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "vary", Value: "origin"}, // the filter answers each origin with its own name
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	})
	for _, r := range host.Routes {
		if r.GetDirectResponse() != nil {
			r.Action = toNowhere()
		}
	}
	host.Routes = slices.Insert(host.Routes, 0, preflight(g))
}

// preflight is the route of what the filter answers: rules choose by methods and headers that a
// preflight has not.
func preflight(g *config.Gateway) *routev3.Route {
	m := prefix("/")
	m.Headers = []*routev3.HeaderMatcher{
		headerIs(":method", exactly("OPTIONS")),
		headerIs("origin", origins(g)),
		has("access-control-request-method", true),
	}
	return &routev3.Route{Name: envoy.RoutePreflight, Match: m, Action: toNowhere()}
}

// toNowhere is the action of routes whose requests are answered before they go anywhere, but for a
// model that no rule takes, which is the 404 of a cluster that is not there. It is no direct
// response because the filter passes over routes with one.
func toNowhere() *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier:            &routev3.RouteAction_Cluster{Cluster: nowhere},
		ClusterNotFoundResponseCode: routev3.RouteAction_NOT_FOUND,
	}}
}

// origins matches what the operator has allowed.
func origins(g *config.Gateway) *matcherv3.StringMatcher {
	var allowed []string
	for _, o := range g.Origins {
		allowed = append(allowed, originPattern(o))
	}
	return expression(strings.Join(allowed, "|"))
}

// originPattern is the expression for an origin as config.Validate takes it: its star stands for
// any origin, for a port, or for a label of the host.
func originPattern(o string) string {
	if o == "*" {
		return ".*"
	}
	before, after, wild := strings.Cut(o, "*")
	switch {
	case !wild:
		return regexp.QuoteMeta(o)
	case strings.HasSuffix(before, "://"):
		return regexp.QuoteMeta(before) + "[A-Za-z0-9_-]+" + regexp.QuoteMeta(after)
	default: // a port; the scheme's own is not written
		return regexp.QuoteMeta(strings.TrimSuffix(before, ":")) + "(:[0-9]+)?"
	}
}
