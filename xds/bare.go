package xds

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jsonparserv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/content_parsers/json/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	jsonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/json_to_metadata/v3"
	ssev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/sse_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3" // unfitAnswers'
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
	"millrace/schema"
)

// What Envoy serves by itself has routes and pools of its own. Of a service that is open for a dead
// sidecar, a request is on such a route until the router stream has set envoy.HeaderStream; where
// that stream fails, it stays there. Of one whose bodies nobody reads it stays there always. See
// docs/rationale.md, "When may a service stay open without the sidecar?".

// bareRoutes take what Envoy may send on by itself, if that is now: posts to the one operation of
// the targets, as the sidecar knows it.
func (b *builder) bareRoutes(g *config.Gateway, r *config.Rule, now config.Bare) []*routev3.Route {
	if r.Plan.Bare != now || r.Derived || !r.Takes("POST") {
		return nil
	}
	own, base := r.BareSchema(), strings.TrimSuffix(r.Path, "/")
	var routes []*routev3.Route
	for _, path := range operationPaths(r, own) {
		routes = append(routes, b.bareRoute(g, r, path))
	}
	if r.Strip && base != "" { // the rule's own path: a client that was told one URL and no operation
		if headers, may := sniffed(own, base); may {
			route := b.bareRoute(g, r, base)
			route.Match.Headers = append(route.Match.Headers, headers...)
			routes = append(routes, route)
		}
	}
	return routes
}

// operationPaths are the paths of the rule at which a client of the schema holds a conversation.
func operationPaths(r *config.Rule, own *schema.Schema) []string {
	base, operation := strings.TrimSuffix(r.Path, "/"), own.Conversation()
	paths := []string{base + operation, base + own.Version + operation}
	for _, path := range []string{operation, own.Version + operation} {
		if strings.HasPrefix(path+"/", base+"/") && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// sniffed says, as schema.Guess does, which headers a request for the path has where it is of the
// schema; false: none can be.
func sniffed(own *schema.Schema, path string) ([]*routev3.HeaderMatcher, bool) {
	var headers []*routev3.HeaderMatcher
	for _, s := range schema.All() {
		switch {
		case s.Sniff.InPath(path):
			return headers, s == own
		case s.Sniff.Header == "":
		case s == own:
			return append(headers, has(s.Sniff.Header, true)), true
		default:
			headers = append(headers, has(s.Sniff.Header, false))
		}
	}
	return headers, own == schema.Usual()
}

func has(header string, present bool) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: present}}
}

func (b *builder) bareRoute(g *config.Gateway, r *config.Rule, path string) *routev3.Route {
	route := ruleRoute(g, r)
	route.Name += envoy.RouteBare
	route.Match.PathSpecifier = &routev3.RouteMatch_Path{Path: path}
	route.Match.Headers = append(route.Match.Headers, headerIs(":method", exactly("POST")), headerIs(":path", safeQuery),
		&routev3.HeaderMatcher{Name: envoy.HeaderVia, HeaderMatchSpecifier: headerIs("", expression(envoy.ViaSound)).HeaderMatchSpecifier, TreatMissingHeaderAsEmpty: true})
	route.RequestHeadersToAdd = []*corev3.HeaderValueOption{{ // here it is done once, and not again by every attempt
		Header:       &corev3.HeaderValue{Key: envoy.HeaderVia, Value: envoy.ViaID(g.Via)},
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}, {
		Header:       &corev3.HeaderValue{Key: envoy.HeaderPath, Value: "%REQ(:PATH)%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}
	action := route.GetRoute()
	bareRetry(action.RetryPolicy, r.Plan.Attempts)
	action.PathRewrite = strings.ReplaceAll(r.BarePath(), "%", "%%") // it is every target's
	action.HostRewriteSpecifier = &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)}
	switch to := action.ClusterSpecifier.(type) {
	case *routev3.RouteAction_Cluster:
		to.Cluster = barePool(r.Shares[0].Upstream)
	case *routev3.RouteAction_WeightedClusters:
		for i, c := range to.WeightedClusters.Clusters {
			c.Name = barePool(r.Shares[i].Upstream)
		}
	}
	action.Timeout = &durationpb.Duration{} // nobody has read whether it is a stream: the listener's idle timeout is what there is
	route.TypedPerFilterConfig = map[string]*anypb.Any{"envoy.filters.http.custom_response": packed(unfitAnswers())}
	b.tells(route)
	bareStreams(route, r.Plan)
	return route
}

// bareStreams are those of the sidecar's that a request has all the same.
func bareStreams(route *routev3.Route, p *config.Plan) {
	filters := route.TypedPerFilterConfig
	switch {
	case p.Bare == config.BareFallback:
		route.Match.Headers = append(route.Match.Headers, has(envoy.HeaderStream, false))
		filters[extProc] = withoutSidecar()
	case len(p.Keys) > 0:
		filters[extProc] = overridden(&extprocv3.ExtProcOverrides{ProcessingMode: processingMode(config.KeyMessages)})
	default:
		for _, name := range []string{extProc, admission, announced} {
			filters[name] = packed(&routev3.FilterConfig{Disabled: true})
		}
	}
}

// withoutSidecar is for routes that Envoy may go on with when the router stream fails.
func withoutSidecar() *anypb.Any {
	return overridden(&extprocv3.ExtProcOverrides{FailureModeAllow: wrapperspb.Bool(true)})
}

func overridden(o *extprocv3.ExtProcOverrides) *anypb.Any {
	return packed(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{Overrides: o}})
}

// safeQuery is none, or the one that SDKs send: Envoy cannot take a query off, and people put keys
// into it.
var safeQuery = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
	SafeRegex: &matcherv3.RegexMatcher{Regex: `[^?]*(\?beta=true)?`},
}}

// barePool is the name of the pool that serves the upstream without the sidecar. It is of the
// upstream's content: its credential comes with the cluster and its hosts with the endpoints, and
// Envoy takes the two at different moments.
func barePool(u *config.Upstream) string { return envoy.PoolBare + u.Identity }

// barePools are the upstream's once more, with Envoy's own filters in place of the upstream stream.
func (b *builder) barePools(g *config.Gateway, u *config.Upstream) {
	bare := *u
	bare.Name = barePool(u)
	filters := []*hcmv3.HttpFilter{filter("header_mutation", &headerv3.HeaderMutation{Mutations: bareMutations(u)})}
	filters = append(filters, b.credentials(bare.Name, targetSecrets(u.Targets[0]))...) // they are every target's
	b.pools(g, &bare, filters...)
}

// bareMutations do what the upstream stream does with headers, on every attempt: what is not on the
// lists goes, whoever put it there, and what the target is to get comes.
func bareMutations(u *config.Upstream) *headerv3.Mutations {
	spoken := schema.Of(u.Targets[0].Schema)
	sent := []string{":*", "content-length", envoy.HeaderScheme, envoy.HeaderPath} // what is Envoy's own goes at the listener "bare"
	if !slices.ContainsFunc(u.Targets, func(t *config.Target) bool { return t.HideVia }) {
		sent = append(sent, envoy.HeaderVia)
	}
	for _, name := range envoy.RequestHeaders {
		if spoken.Takes(name) {
			sent = append(sent, name)
		}
	}
	request := []*mutationv3.HeaderMutation{removeOthers(sent), set("content-type", "application/json"), set("accept-encoding", "identity")}
	own := map[string]bool{}
	for _, t := range u.Targets {
		for name := range targetHeaders(t) {
			own[name] = true
		}
	}
	request = append(request, remove(envoy.HeaderCluster), set(envoy.HeaderCluster, fmt.Sprintf("%%UPSTREAM_METADATA(%s:%s)%%", envoy.Metadata, envoy.MetadataTarget)))
	for _, name := range slices.Sorted(maps.Keys(own)) {
		request = append(request, remove(name), setFromTarget(name, bareHeader+name))
	}

	seen := append([]string{":*", "content-encoding"}, envoy.ResponseHeaders...) // nobody is there to unpack
	for _, prefix := range spoken.ResponsePrefixes {
		seen = append(seen, prefix+"*")
	}
	return &headerv3.Mutations{
		RequestMutations:          request,
		RequestTrailersMutations:  []*mutationv3.HeaderMutation{removeOthers(nil)},
		ResponseTrailersMutations: []*mutationv3.HeaderMutation{removeOthers(nil)},
		ResponseMutations: []*mutationv3.HeaderMutation{
			removeOthers(seen),
			set("x-accel-buffering", "no"), // it may be a stream
			setFromTarget("x-selected-provider", bareProvider),
			setFromTarget(headerTarget, bareTarget),
			set("x-millrace-request-id", "%REQ("+envoy.HeaderRequestID+")%"),
		},
	}
}

// headerTarget tells the client which target has answered.
const headerTarget = "x-millrace-target"

// bareMetadata is the namespace of an endpoint's metadata that requests for it are made of, where
// the sidecar makes none.
const (
	bareMetadata = "millrace.bare"
	bareProvider = "provider"
	bareTarget   = "target"
	bareHeader   = "header." // and its name
)

func bareMetadataOf(t *config.Target) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{
		bareProvider: structpb.NewStringValue(t.Provider),
		bareTarget:   structpb.NewStringValue(t.ID),
	}}
	for name, value := range targetHeaders(t) {
		s.Fields[bareHeader+name] = structpb.NewStringValue(value)
	}
	return s
}

// setFromTarget sets a header to what the target's metadata says; where that says nothing, it does
// nothing.
func setFromTarget(name, key string) *mutationv3.HeaderMutation {
	return set(name, fmt.Sprintf("%%UPSTREAM_METADATA(%s:%s)%%", bareMetadata, key))
}

func set(name, format string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: format},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

// removeOthers removes all headers but those of these names; a name that ends in * stands for all
// that begin so.
func removeOthers(names []string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: others(names)},
		}},
	}}}
}

// others is a regular expression for all but these words. Envoy can remove what matches, not what
// does not, and its expressions have no "not".
func others(words []string) string {
	next := map[byte][]string{} // first letter to the rests of the words
	ended := false
	for _, w := range words {
		switch w {
		case "":
			ended = true
		case "*":
			return ""
		default:
			next[w[0]] = append(next[w[0]], w[1:])
		}
	}
	letters, class := slices.Sorted(maps.Keys(next)), ""
	for _, c := range letters {
		class += fmt.Sprintf(`\x%02x`, c)
	}
	alternatives := []string{".+"}
	if class != "" {
		alternatives[0] = "[^" + class + "].*"
	}
	if !ended {
		alternatives = append(alternatives, "")
	}
	for _, c := range letters {
		if rest := others(next[c]); rest != "" {
			alternatives = append(alternatives, regexp.QuoteMeta(string(c))+rest)
		}
	}
	return "(" + strings.Join(alternatives, "|") + ")"
}

// bareFilters are what bare routes need on the listener. Envoy calls them work in progress, so they
// are there only with one.
func (b *builder) bareFilters() []*hcmv3.HttpFilter {
	var filters []*hcmv3.HttpFilter
	if b.config.Bare() {
		filters = append(filters, filter("custom_response", &customv3.CustomResponse{}))
	}
	if b.tellsUsage() {
		filters = append(filters, toldUsage())
	}
	return filters
}

// tellsUsage tells whether the usage of streams is wanted that the sidecar does not see to their
// end: events say it.
func (b *builder) tellsUsage() bool {
	return b.config.Events.Any() && (b.config.Bare() || b.config.Detaches())
}

// tells has the usage of the route's streams told.
func (b *builder) tells(route *routev3.Route) {
	if !b.tellsUsage() {
		return
	}
	if route.TypedPerFilterConfig == nil {
		route.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	route.TypedPerFilterConfig[usageFilter] = packed(&routev3.FilterConfig{Config: &anypb.Any{}})
}

// usageFilter is the name of the filter toldUsage.
const usageFilter = "millrace.told"

// toldUsage puts what a stream says of its usage into the access log, as JSON, by the places of the
// schemas' rows. It is on where a route says so.
func toldUsage() *hcmv3.HttpFilter {
	parser := &jsonparserv3.JsonContentParser{}
	known := map[string]bool{}
	for _, s := range schema.All() {
		for _, place := range s.Usage {
			if known[place.Key()] {
				continue
			}
			known[place.Key()] = true
			rule := &jsonv3.JsonToMetadata_Rule{OnPresent: &jsonv3.JsonToMetadata_KeyValuePair{MetadataNamespace: envoy.MetadataUsage, Key: place.Key()}}
			for _, name := range place.Path {
				rule.Selectors = append(rule.Selectors, &jsonv3.JsonToMetadata_Selector{Selector: &jsonv3.JsonToMetadata_Selector_Key{Key: name}})
			}
			parser.Rules = append(parser.Rules, &jsonparserv3.JsonContentParser_RuleConfig{Rule: rule})
		}
	}
	return &hcmv3.HttpFilter{
		Name:     usageFilter,
		Disabled: true,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&ssev3.SseToMetadata{ResponseRules: &ssev3.SseToMetadata_ProcessingRules{
			ContentParser: extension("envoy.content_parsers.json", parser),
			MaxEventSize:  wrapperspb.UInt32(maxTold),
		}})},
	}
}

// maxTold is the longest event that usage is looked for in. It says little else.
const maxTold = 16 << 10

// unfitAnswers are those of a provider that no client may see while nobody is there to read them:
// one that refuses the gateway's credential quotes it, and whatever number a status is, Envoy
// passes it on (reader.wholeError does the same with the sidecar).
func unfitAnswers() *customv3.CustomResponse {
	c := &customv3.CustomResponse{}
	err := protojson.Unmarshal([]byte(`{"custom_response_matcher": {"matcher_list": {"matchers": [`+
		unfit("401|402|403", `"body": {"inline_string": "the provider does not accept the gateway"}, "status_code": 502`)+","+
		unfit("204|205|3..|[6-9]..|.....*", `"body": {"inline_string": "the provider's status is neither an answer's nor an error's"}, "status_code": 502`)+
		`]}}}`), c)
	if err != nil {
		panic("xds: " + err.Error())
	}
	return c
}

// unfit has a target's answers with a status that matches replaced; bareMutations have marked them.
// The sidecar's own are none.
func unfit(statuses, replacement string) string {
	return `{
		"predicate": {"and_matcher": {"predicate": [{"single_predicate": {
			"input": {"name": "status", "typed_config": {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput"}},
			"value_match": {"safe_regex": {"google_re2": {}, "regex": "` + statuses + `"}}
		}}, {"single_predicate": {
			"input": {"name": "target", "typed_config": {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseHeaderMatchInput", "header_name": "` + headerTarget + `"}},
			"value_match": {"safe_regex": {"google_re2": {}, "regex": ".+"}}
		}}]}},
		"on_match": {"action": {"name": "words", "typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
			` + replacement + `
		}}}
	}`
}
