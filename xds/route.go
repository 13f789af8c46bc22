package xds

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// routes has a virtual host per gateway and two routes per rule: streams live by other timeouts
// than plain requests, and only the body says which one it is, so the router stream sets a header
// and has the route chosen again.
func (b *builder) routes() {
	routes := &routev3.RouteConfiguration{
		Name:                           envoy.Routes,
		InternalOnlyHeaders:            []string{envoy.HeaderStream, envoy.HeaderModel, envoy.HeaderPromptHash, envoy.HeaderCluster, envoy.HeaderRoute, envoy.HeaderRead, envoy.HeaderPath, envoy.HeaderDetach},
		MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(4 << 10),
		ResponseHeadersToRemove:        []string{envoy.HeaderRetry, envoy.HeaderWhy},
	}
	for _, g := range b.config.Gateways {
		host := &routev3.VirtualHost{
			Name: g.Name, Domains: g.Domains, ResponseHeadersToAdd: overwriting(g.ResponseHeaders),
			IncludeRequestAttemptCount: true,
			RequestBodyBufferLimit:     wrapperspb.UInt64(maxBody(b.config)), // each attempt starts from it
		}
		for _, level := range levels(g.Rules) {
			for _, r := range level {
				host.Routes = append(host.Routes, b.bareRoutes(g, r, config.BareAlways)...)
				if r.Plan.Joined {
					host.Routes = append(host.Routes, joinedRoute(g, r), plainRoute(g, r)) // the second for what is no POST
					continue
				}
				host.Routes = append(host.Routes, b.detachedRoutes(g, r)...)
				host.Routes = append(host.Routes, streamRoute(g, r))
				host.Routes = append(host.Routes, b.bareRoutes(g, r, config.BareFallback)...)
				host.Routes = append(host.Routes, b.detached(plainRoute(g, r), r))
			}
			host.Routes = append(host.Routes, leftOver(g, level)...)
		}
		host.Routes = append(host.Routes, refusal(envoy.RouteNone, prefix("/"), http.StatusNotFound))
		browsers(g, host)
		host.Routes = slices.Concat(loops(g), host.Routes)
		routes.VirtualHosts = append(routes.VirtualHosts, host)
	}
	b.add(resource.RouteType, routes)
}

// overwriting sets headers, in place of those there are. A % is no command of Envoy's.
func overwriting(headers map[string]string) []*corev3.HeaderValueOption {
	var options []*corev3.HeaderValueOption
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		options = append(options, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: strings.ReplaceAll(headers[name], "%", "%%")},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return options
}

// loops are the routes of requests that come back to the gateway, and of those that have passed too
// many: the sidecar, or in its absence Envoy, answers 508.
func loops(g *config.Gateway) []*routev3.Route {
	var routes []*routev3.Route
	for _, l := range []struct{ name, list string }{
		{envoy.RouteLoop, envoy.ViaPassed(envoy.ViaID(g.Via))},
		{envoy.RouteHops, envoy.ViaFull},
	} {
		route := refusal(l.name, prefix("/"), http.StatusLoopDetected)
		route.Match.Headers = []*routev3.HeaderMatcher{headerIs(envoy.HeaderVia, expression(l.list))}
		route.TypedPerFilterConfig = map[string]*anypb.Any{extProc: withoutSidecar()}
		route.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-should-retry", Value: "false"}}}
		routes = append(routes, route)
	}
	return routes
}

// levels groups the rules, which come longest path first, by path.
func levels(rules []*config.Rule) [][]*config.Rule {
	var l [][]*config.Rule
	for i, r := range rules {
		if i == 0 || rules[i-1].Path != r.Path {
			l = append(l, nil)
		}
		l[len(l)-1] = append(l[len(l)-1], r)
	}
	return l
}

// leftOver are the routes for what has the path of these rules and is taken by none of them: it may
// become one's once the body has told the model, or it has a method that none takes.
func leftOver(g *config.Gateway, level []*config.Rule) []*routev3.Route {
	path := level[0].Path
	var routes []*routev3.Route
	byModel, byMethod := level[0].Plan.Choice.Rule, true
	for _, r := range level {
		byMethod = byMethod && len(r.Methods) > 0
	}
	if byModel {
		routes = append(routes, refusal(envoy.RouteModel+g.Name+" "+path, prefix(path), http.StatusNotFound))
	}
	if byMethod && !byModel {
		routes = append(routes, refusal(envoy.RouteMethod+g.Name+" "+path, prefix(path), http.StatusMethodNotAllowed))
	}
	return routes
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
		m.Headers = append(m.Headers, headerIs(":method", oneOf(r.Methods)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		m.Headers = append(m.Headers, headerIs(strings.ToLower(name), exactly(r.Headers[name])))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Query)) {
		m.QueryParameters = append(m.QueryParameters, &routev3.QueryParameterMatcher{
			Name:                         name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: exactly(r.Query[name])},
		})
	}
	if len(r.Models) > 0 {
		m.Headers = append(m.Headers, headerIs(envoy.HeaderModel, oneOf(r.Models)))
	}
	return m
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func oneOf(words []string) *matcherv3.StringMatcher {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = regexp.QuoteMeta(w)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(quoted, "|")},
	}}
}

func expression(re string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: re}}}
}

func headerIs(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

// plainRoute is for requests for a whole answer.
func plainRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	route := ruleRoute(g, r)
	clocked(route.GetRoute(), r.Plan.Whole)
	hedge(route.GetRoute(), r.Plan.Attempts)
	return route
}

// streamRoute has no limit on the whole. What bounds the wait for the first token, and silence, is
// for the sidecar to watch; Envoy's clock for an attempt runs a little longer.
func streamRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	route := ruleRoute(g, r)
	route.Match.Headers = append(route.Match.Headers, headerIs(envoy.HeaderStream, exactly("1")))
	clocked(route.GetRoute(), r.Plan.Stream)
	hedge(route.GetRoute(), r.Plan.Attempts)
	return route
}

// joinedRoute is for requests that the first attempt reads: nobody knows yet whether a stream is
// wanted, and the clocks are the sidecar's.
func joinedRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	route := ruleRoute(g, r)
	route.Match.Headers = append(route.Match.Headers, headerIs(":method", exactly("POST")))
	route.RequestHeadersToAdd = append(route.RequestHeadersToAdd, overwriting(map[string]string{envoy.HeaderRead: "1"})...)
	route.TypedPerFilterConfig = map[string]*anypb.Any{
		extProc: packed(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true}}),
	}
	clocked(route.GetRoute(), config.Clock{Attempt: r.Plan.Attempts.Hedge, Idle: max(r.Plan.Stream.Idle, r.Plan.Request+time.Minute)})
	hedge(route.GetRoute(), r.Plan.Attempts)
	return route
}

// detachedRoutes are those of streams that the sidecar may detach from: posts to the conversation
// of the schema that all targets speak.
func (b *builder) detachedRoutes(g *config.Gateway, r *config.Rule) []*routev3.Route {
	if !r.Plan.Detaches {
		return nil
	}
	var routes []*routev3.Route
	for _, path := range operationPaths(r, r.BareSchema()) {
		route := b.detached(streamRoute(g, r), r)
		route.Match.PathSpecifier = &routev3.RouteMatch_Path{Path: path}
		route.RequestHeadersToAdd = append(route.RequestHeadersToAdd, overwriting(map[string]string{envoy.HeaderDetach: "1"})...)
		routes = append(routes, route)
	}
	return routes
}

// detached has the usage of streams told that the sidecar detaches from. Whether a request has a
// filter depends on the route that it is on before its body is read, so the rule's other route has
// it too.
func (b *builder) detached(route *routev3.Route, r *config.Rule) *routev3.Route {
	if r.Plan.Detaches {
		b.tells(route)
	}
	return route
}

func clocked(action *routev3.RouteAction, c config.Clock) {
	action.Timeout = seconds(c.Request)
	if c.Attempt > 0 {
		action.RetryPolicy.PerTryTimeout = seconds(c.Attempt)
	}
	if c.Idle > 0 {
		action.IdleTimeout = seconds(c.Idle)
	}
}

// hedge has another target asked when an attempt is late, and both awaited: Envoy's clock for an
// attempt then tells when it is late. One that fails meanwhile is retried like any, or left out
// while the other may answer.
func hedge(action *routev3.RouteAction, a config.Attempts) {
	if a.Hedge > 0 {
		action.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}
}

func ruleRoute(g *config.Gateway, r *config.Rule) *routev3.Route {
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: r.Shares[0].Upstream.Name},
		RetryPolicy:      retryPolicy(r.Shares, r.Plan.Attempts),
		HashPolicy:       routePolicies(r.Shares),
	}
	if len(r.Shares) > 1 {
		weighted := &routev3.WeightedCluster{}
		for _, s := range r.Shares {
			weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{
				Name:   s.Upstream.Name,
				Weight: wrapperspb.UInt32(s.Weight),
			})
		}
		action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
	return &routev3.Route{
		Name: r.RouteName(g), Match: match(r), Action: &routev3.Route_Route{Route: action},
		RequestHeadersToAdd: overwriting(map[string]string{envoy.HeaderRoute: r.RouteName(g)}),
	}
}

// hashedPicks is how often a pool that hashes is asked for a target that was not tried. Each pick
// is as good as random, by weight, and costs a look into a table.
const hashedPicks = 1000

// retryPolicy sends a failed attempt to a target that was not tried, of this priority and then of
// the next. Which answers are failures of that kind is for the sidecar to tell, by a header: it
// knows what they say.
func retryPolicy(shares []config.Share, a config.Attempts) *routev3.RetryPolicy {
	picks := 0
	for _, s := range shares {
		picks = max(picks, 2*len(s.Upstream.Targets)+3)
		if s.Upstream.Algorithm.Hashes() {
			picks = max(picks, hashedPicks)
		}
	}
	back, limited := backOff(a)
	return &routev3.RetryPolicy{
		RetryBackOff:            back,
		RateLimitedRetryBackOff: limited,

		RetryOn:          retryOn(a) + ",retriable-headers",
		RetriableHeaders: retriable(a),
		NumRetries:       wrapperspb.UInt32(uint32(a.Most - 1)),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: packed(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}},
		HostSelectionRetryMaxAttempts: int64(picks),
		RetryPriority: &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: packed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: int32(a.PerPriority)}),
			},
		},
	}
}

// refusal is a route for what no rule takes. The sidecar answers it; Envoy's own answer is for when
// it is gone.
func refusal(name string, m *routev3.RouteMatch, status uint32) *routev3.Route {
	return &routev3.Route{
		Name:  name,
		Match: m,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: status,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: http.StatusText(int(status))}},
		}},
	}
}
