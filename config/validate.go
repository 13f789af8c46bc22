package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// Validate checks what no single field can: references, uniqueness, combinations. doc has its
// defaults. The errors have paths and no lines.
func Validate(doc *millracev1.Document) Errors { return validate(doc, doc.Gateway) }

// validate is Validate for a document beside that of the main gateway, which speaks for the
// process.
func validate(doc *millracev1.Document, main *millracev1.Gateway) Errors {
	v := &validation{}
	v.values(doc)
	v.gateway(doc.Gateway)
	v.telemetry(doc.Telemetry)
	v.connections(doc)
	upstreams := v.upstreams(doc.Upstreams)
	v.addresses(main, doc.Upstreams)
	services := v.services(doc.Services, upstreams)
	v.rules(doc.Rules, services)
	v.keys(doc.Keys)
	v.policies(doc)
	v.prices(doc.Prices)
	v.events(main, doc.Events)
	if len(v.found) == 0 { // it follows references
		v.bare(doc, upstreams, services)
		v.rulePolicies(doc, services)
		v.capture(doc, services)
	}
	return v.found
}

type validation struct{ found Errors }

func (v *validation) errorf(path, format string, args ...any) {
	v.found = append(v.found, Error{Path: path, Reason: fmt.Sprintf(format, args...)})
}

func (v *validation) gateway(g *millracev1.Gateway) {
	if listen := g.GetAdmin().GetListen(); listen != "" {
		addr, err := netip.ParseAddrPort(listen)
		switch {
		case err != nil:
			v.errorf("gateway.admin.listen", "want an address and a port such as 127.0.0.1:8080")
		case !addr.Addr().IsLoopback() && g.Admin.Token == nil:
			v.errorf("gateway.admin.token", "needed because %s is not a loopback address", addr.Addr())
		}
	}
	if listen := g.GetAdmin().GetMetrics().GetListen(); listen != "" {
		if _, err := netip.ParseAddrPort(listen); err != nil {
			v.errorf("gateway.admin.metrics.listen", "want an address and a port such as 127.0.0.1:9090")
		}
		if listen == g.Admin.Listen {
			v.errorf("gateway.admin.metrics.listen", "is gateway.admin.listen: leave it out to have both at one address")
		}
	}
	v.secret("gateway.admin.token", g.GetAdmin().GetToken())
	v.secret("gateway.admin.metrics.token", g.GetAdmin().GetMetrics().GetToken())
	for _, name := range slices.Sorted(maps.Keys(g.GetResponseHeaders())) {
		path := "gateway.response_headers." + name
		if reason := badTargetHeader(name); reason != "" {
			v.errorf(path, "%s", reason)
		} else if strings.HasPrefix(strings.ToLower(name), "content-") {
			v.errorf(path, "says how an answer is to be read: it is the answer's own")
		} else {
			v.headerValue(path, g.ResponseHeaders[name])
			if write, _ := referred(g.ResponseHeaders[name]); write != "" {
				v.errorf(path, "is sent as it stands, and looks like a reference: write the value itself, for clients are to read it")
			}
		}
	}
	v.cors(g.GetCors())
	v.clients(g.GetClients())
	v.memory(g)
	v.upstreamLists(g)
}

func (v *validation) memory(g *millracev1.Gateway) {
	if one, all := g.GetMaxRequestBytes().GetBytes(), g.GetMaxRequestBytesTotal().GetBytes(); all < one {
		v.errorf("gateway.max_request_bytes_total", "want at least max_request_bytes (%d), or the largest request is never let in", one)
	}
	const least = 64 << 20 // the sidecar takes half of it without a request
	if m := g.GetMaxSidecarMemory(); m != nil && m.Bytes < least {
		v.errorf("gateway.max_sidecar_memory", "want at least 64MiB")
	}
}

// connections checks that every target can have one.
func (v *validation) connections(doc *millracev1.Document) {
	targets := 0
	for _, u := range doc.Upstreams {
		targets += len(u.Targets)
	}
	if most := doc.Gateway.GetConnectionPool().GetMaxTotal(); most > 0 && int(most) < targets {
		v.errorf("gateway.connection_pool.max_total", "want at least %d, one for each target: it bounds the connections to all of them", targets)
	}
}

func (v *validation) clients(c *millracev1.Clients) {
	const least, most = 1 << 10, 8 << 20 // what Envoy takes
	if n := c.GetMaxHeaderBytes().GetBytes(); c.GetMaxHeaderBytes() != nil && (n < least || n > most) {
		v.errorf("gateway.clients.max_header_bytes", "want 1KiB to 8MiB")
	}
}

// names maps every name and id to its resource, and reports the ones that stand for two.
type names map[string]int

func (v *validation) unique(n names, path, name string, i int) {
	if name == "" {
		return
	}
	v.name(path, name)
	if first, taken := n[name]; taken && first != i {
		v.errorf(path, "%q is taken by item %d", name, first)
		return
	}
	n[name] = i
}

func (v *validation) upstreams(upstreams []*millracev1.Upstream) names {
	known := names{}
	for i, u := range upstreams {
		path := fmt.Sprintf("upstreams[%d]", i)
		v.unique(known, path+".name", u.Name, i)
		v.unique(known, path+".id", u.Id, i)
		ids := names{}
		for j, t := range u.Targets {
			at := fmt.Sprintf("%s.targets[%d]", path, j)
			v.unique(ids, at+".id", t.Id, j)
			v.target(at, t)
		}
		v.listed(path, u)
		v.hashing(path, u)
		v.retry(path+".retry", u)
		if u.GetHealthChecks().GetSlowStart() != nil && !Algorithm(u.Algorithm).weighs() {
			v.errorf(path+".health_checks.slow_start", "is for round-robin, weighted-round-robin and least-connections: %s has no weights that could grow", u.Algorithm)
		}
		v.active(path+".health_checks.active", u.GetHealthChecks().GetActive())
		if Algorithm(u.Algorithm) == Random && unequal(u.Targets) {
			v.errorf(path+".algorithm", "random takes no notice of weights and the targets have different ones: write weighted-round-robin, or equal weights")
		}
	}
	return known
}

// listed checks that every target has requests to get where the model decides.
func (v *validation) listed(path string, u *millracev1.Upstream) {
	if u.ModelChoice != "listed" {
		return
	}
	for j, t := range u.Targets {
		if len(t.Models) == 0 && len(t.ModelMap) == 0 && t.DefaultModel == "" && t.Answer == "" {
			v.errorf(fmt.Sprintf("%s.targets[%d].models", path, j), "needed with model_choice: listed: a target that lists no model gets no request that names one; model_choice: any sends every target all")
		}
	}
}

func (v *validation) retry(path string, u *millracev1.Upstream) {
	r := resolveRetry(u.GetRetry())
	if r.MaxInterval < r.Backoff {
		v.errorf(path+".max_interval", "is less than backoff")
	}
	if r.Hedge > 0 && slices.ContainsFunc(u.Targets, func(t *millracev1.Target) bool { return t.Answer != "" }) {
		v.errorf(path+".hedge", "a static target would win every race")
	}
	if r.Hedge > 0 && u.GetRetry().GetAttempts() < 2 {
		v.errorf(path+".hedge", "needs attempts for another target: 2 or more")
	}
}

// unequal tells whether two targets of one priority have different shares. A drained one has none.
func unequal(targets []*millracev1.Target) bool {
	shares := map[uint32]uint32{} // by priority
	for _, t := range targets {
		if t.GetWeight() == 0 {
			continue
		}
		if other, ok := shares[t.Priority]; ok && other != t.GetWeight() {
			return true
		}
		shares[t.Priority] = t.GetWeight()
	}
	return false
}

// active checks that what says what to ask fits how it is asked.
func (v *validation) active(path string, a *millracev1.ActiveHealthCheck) {
	if a.GetPath() == "" && len(a.GetExpectedStatus()) > 0 {
		v.errorf(path+".expected_status", "needs a path: without one no request is made")
	}
	if a.GetPath() == "" && len(a.GetHeaders()) > 0 {
		v.errorf(path+".headers", "needs a path: without one no request is made")
	}
	if a.GetPath() != "" && a.Grpc != nil {
		v.errorf(path+".grpc", "stands in place of path: give one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(a.GetHeaders())) {
		if reason := badTargetHeader(name); reason != "" {
			v.errorf(path+".headers."+name, "%s", reason)
		}
		v.secret(path+".headers."+name, a.GetHeaders()[name])
	}
}

// hashing checks that what says how to hash belongs to the algorithm.
func (v *validation) hashing(path string, u *millracev1.Upstream) {
	algorithm := Algorithm(u.Algorithm)
	for _, f := range []struct {
		field, value string
		of           Algorithm
	}{{"hash_header", u.HashHeader, HeaderHash}, {"hash_cookie", u.HashCookie, CookieHash}} {
		switch {
		case algorithm == f.of && f.value == "":
			v.errorf(path+"."+f.field, "needed for algorithm %s", f.of)
		case algorithm != f.of && f.value != "":
			v.errorf(path+"."+f.field, "is for algorithm %s", f.of)
		}
	}
	switch {
	case u.HashBalanceFactor != nil && !algorithm.Hashes():
		v.errorf(path+".hash_balance_factor", "is for the algorithms that hash")
	case u.GetHashBalanceFactor() > 0 && u.GetHashBalanceFactor() < 100:
		v.errorf(path+".hash_balance_factor", "want 0 or at least 100: below that no target could have its share")
	}
}

func (v *validation) target(path string, t *millracev1.Target) {
	p := t.GetProvider()
	if p.GetName() == schema.Static || p.GetType() == schema.Static {
		v.static(path, t)
		return
	}
	if t.Answer != "" {
		v.errorf(path+".answer", "is for the provider %s", schema.Static)
	}
	v.provider(path, p)
	if p.GetBaseUrl() != "" {
		v.baseURL(path, t)
	} else if t.Host == "" && hostless(cmp.Or(p.GetType(), p.GetName())) {
		v.errorf(path, "needs a provider, a provider.base_url or a host")
	}
	if strings.ContainsAny(t.Host, "/:@") && !isIP(t.Host) {
		v.errorf(path+".host", "want a host name or an IP address alone; port, protocol and path have fields of their own")
	}
	if t.MaxOutputTokens > 0 && t.DefaultMaxTokens > t.MaxOutputTokens {
		v.errorf(path+".default_max_tokens", "must be at most max_output_tokens")
	}
	if t.GetTimeouts().GetPolicyTimeout() != nil {
		v.errorf(path+".timeouts.policy_timeout", "policies have one limit for all targets, the gateway's")
	}
	if t.Credentials != nil && p.GetSecretKeyRef() != nil {
		v.errorf(path+".credentials", "provider.secret_key_ref gives a credential already")
	}
	for name, value := range t.Headers {
		if reason := badTargetHeader(name); reason != "" {
			v.errorf(path+".headers."+name, "%s", reason)
		} else {
			v.headerValue(path+".headers."+name, value)
		}
		v.headerReference(path+".headers."+name, name, value)
	}
	for i, name := range t.ForwardHeaders {
		if reason := badForward(name); reason != "" {
			v.errorf(fmt.Sprintf("%s.forward_headers[%d]", path, i), "%s", reason)
		}
	}
	v.secret(path+".provider.secret_key_ref", p.GetSecretKeyRef())
	v.secret(path+".credentials.header_value", t.GetCredentials().GetHeaderValue())
	if name := t.GetCredentials().GetHeaderName(); name != "" {
		if reason := badTargetHeader(name); reason != "" {
			v.errorf(path+".credentials.header_name", "%s", reason)
		}
	}
}

// hostless tells whether a provider's name does not say where it is. Of an unknown one that is not
// said here.
func hostless(name string) bool {
	p, known := schema.Named(name)
	return name == "" || known && p.Host == ""
}

// provider checks whose API a target speaks. A name is free where the type says that.
func (v *validation) provider(path string, p *millracev1.Provider) {
	field, name := "provider.type", p.GetType()
	if name == "" {
		field, name = "provider", p.GetName()
	}
	if _, ok := schema.Named(name); ok || name == "" {
		return
	}
	known := strings.Join(schema.Names(), ", ")
	if p.GetType() == "" && p.GetBaseUrl() != "" {
		known += "; a name of your own needs one of them as the type beside it"
	}
	v.errorf(path+"."+field, "unknown provider %q; known are %s", name, known)
}

// static checks a target that nobody is asked for.
func (v *validation) static(path string, t *millracev1.Target) {
	if t.Answer == "" {
		v.errorf(path+".answer", "needed: what the target says")
	}
	for _, f := range []struct {
		field string
		given bool
	}{
		{"provider.base_url", t.Provider.BaseUrl != ""},
		{"provider.secret_key_ref", t.Provider.SecretKeyRef != nil},
		{"host", t.Host != ""},
		{"port", t.Port != 0},
		{"protocol", t.Protocol != ""},
		{"path", t.Path != ""},
		{"headers", len(t.Headers) > 0},
		{"forward_headers", len(t.ForwardHeaders) > 0},
		{"credentials", t.Credentials != nil},
		{"timeouts", t.Timeouts != nil},
		{"default_max_tokens", t.DefaultMaxTokens != 0},
		{"max_output_tokens", t.MaxOutputTokens != 0},
	} {
		if f.given {
			v.errorf(path+"."+f.field, "a static target asks nobody")
		}
	}
}

func (v *validation) baseURL(path string, t *millracev1.Target) {
	u, err := url.Parse(t.Provider.BaseUrl)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		v.errorf(path+".provider.base_url", "want http://host[:port]/path or https://host[:port]/path")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		v.errorf(path+".provider.base_url", "must have no user, query or fragment")
	case t.Host != "" || t.Port != 0 || t.Protocol != "":
		v.errorf(path+".provider.base_url", "says where the target is; host, port and protocol must not say it again")
	default:
		v.basePath(path, t, u)
	}
}

// operations are what codecs put after a base URL, and others that people copy with it.
func operations() []string {
	var all []string
	for _, s := range schema.All() {
		if path := s.Conversation(); path != "" {
			all = append(all, path)
		}
	}
	return append(all, "/completions", "/responses", "/embeddings", "/models")
}

// basePath refuses a base URL that cannot be one: it has the operation in it, or no path at all.
func (v *validation) basePath(path string, t *millracev1.Target, u *url.URL) {
	base := strings.TrimRight(u.Path, "/")
	for _, operation := range operations() {
		if rest, ok := strings.CutSuffix(base, operation); ok {
			v.errorf(path+".provider.base_url", "has %s, which the gateway puts behind it: write %s://%s%s", operation, u.Scheme, u.Host, rest)
			return
		}
	}
	if s := schema.Of(schemaOf(t)); base == "" && t.Path == "" && !s.BareURLs {
		v.errorf(path+".provider.base_url", "has no path: write %s://%s%s, as most providers have it, or, where it is at the root, beside base_url the target's path: %s", u.Scheme, u.Host, s.Base, s.Operations[0].Path)
	}
}

// badTargetHeader says why a header cannot be configured for a target, "" when it can.
func badTargetHeader(name string) string {
	switch lower := strings.ToLower(name); {
	case !headerName.MatchString(lower):
		return "not a header name"
	case slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection", "proxy-connection", "te", "trailer", "upgrade", "keep-alive",
		"expect", "accept-encoding", "content-encoding"}, lower):
		return "is set by the gateway"
	case strings.HasPrefix(lower, "x-millrace-"), strings.HasPrefix(lower, "x-envoy-"), lower == "x-request-id":
		return "is the gateway's own"
	}
	return ""
}

// badForward says why a header of the client's is not passed on, "" when it can be. A name may end
// in *.
func badForward(name string) string {
	begins := strings.ToLower(strings.TrimSuffix(name, "*"))
	if begins == "" && name != "" {
		return "want how the names begin, such as x-team-*"
	}
	if begins == "proxy-authorization" || begins == "proxy-authenticate" {
		return "is between the client and the gateway"
	}
	return badTargetHeader(begins)
}

// refer resolves one of two fields that hold a name or an id, and says what is wrong otherwise.
func (v *validation) refer(path, field, byName, byID string, known names) int {
	ref, at := byName, path+"."+field
	if byID != "" {
		ref, at = byID, path+"."+field+"_id"
	}
	i, ok := known[ref]
	switch {
	case byName != "" && byID != "":
		v.errorf(at, "give %s or %s_id, not both", field, field)
	case ref == "":
		v.errorf(path, "needs %s: the name or id of one", field)
	case !ok:
		v.errorf(at, "there is no %s %q", field, ref)
	}
	return i
}

func (v *validation) services(services []*millracev1.Service, upstreams names) names {
	known := names{}
	for i, s := range services {
		path := fmt.Sprintf("services[%d]", i)
		v.unique(known, path+".name", s.Name, i)
		v.unique(known, path+".id", s.Id, i)
		v.refer(path, "upstream", s.Upstream, s.UpstreamId, upstreams)
	}
	return known
}

func (v *validation) rules(rules []*millracev1.Rule, services names) {
	for i, r := range rules {
		path := fmt.Sprintf("rules[%d]", i)
		v.ruleServices(path, r, services)
		if strings.ContainsAny(r.Path, "?#%") || strings.Contains(r.Path, "//") {
			v.errorf(path+".path", "want plain segments, without query, escapes or empty ones")
		}
		if !r.GetActive() {
			continue
		}
		conditions := conditionsOf(r)
		for j, other := range rules[:i] {
			if other.GetActive() && overlap(r.Methods, other.Methods) && conditions == conditionsOf(other) {
				v.errorf(path+".path", "rule %d has this path, method and conditions already", j)
			}
		}
	}
}

// conditionsOf writes what a request must be for the rule, but for its method.
func conditionsOf(r *millracev1.Rule) string {
	return fmt.Sprintf("%q %q %q %q", cleanPath(r.Path), r.Headers, r.Query, r.Models) // maps print sorted
}

func (v *validation) ruleServices(path string, r *millracev1.Rule, services names) {
	if len(r.Services) == 0 {
		v.refer(path, "service", r.Service, r.ServiceId, services)
		return
	}
	if r.Service != "" || r.ServiceId != "" {
		v.errorf(path+".services", "stands in place of service: give one of them")
	}
	total := uint32(0)
	for j, s := range r.Services {
		v.refer(fmt.Sprintf("%s.services[%d]", path, j), "service", s.Service, "", services)
		total += s.Weight
	}
	if total == 0 {
		v.errorf(path+".services", "all weights are 0")
	}
}

func overlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

func (v *validation) keys(keys []*millracev1.Key) {
	known := names{}
	for i, k := range keys {
		path := fmt.Sprintf("keys[%d]", i)
		v.unique(known, path+".name", k.Name, i)
		v.unique(known, path+".id", k.Id, i)
		if k.Hash == "" {
			v.errorf(path+".hash", "needed: the SHA-256 of the key in hexadecimal")
		}
	}
}

// NotYet lists what a document asks for that this version does not do. Serving it all the same
// would be a promise broken in silence, so whoever serves refuses; whoever only reads may show it
// as a warning.
func NotYet(doc *millracev1.Document) Errors {
	v := &validation{}
	for i, k := range doc.Keys {
		if len(k.Limits) > 0 {
			v.errorf(fmt.Sprintf("keys[%d].limits", i), "limits are not kept by this version")
		}
	}
	return v.found
}

// Doubtful lists what is allowed and probably not meant, or has no effect, with what to write
// instead.
func Doubtful(doc *millracev1.Document) Errors {
	v := &validation{}
	v.withoutEffect(doc)
	v.idlePolicies(doc)
	v.openToPages(doc)
	v.detachedSilent(doc)
	for i, u := range doc.Upstreams {
		path := fmt.Sprintf("upstreams[%d]", i)
		if h := u.GetHealthChecks(); !h.GetPassive() && (h.GetThreshold() > 0 || h.GetInterval() > 0) {
			v.errorf(path+".health_checks.passive", "is false, so threshold and interval count for nothing: leave passive out, or those two")
		}
		for j, t := range u.Targets {
			if p, _ := place(t); t.Credentials != nil && p.Auth.Header != "" && http.CanonicalHeaderKey(t.Credentials.HeaderName) != p.Auth.Header {
				v.errorf(fmt.Sprintf("%s.targets[%d].credentials.header_name", path, j), "%s takes its keys in %s, not in %s", p.Name, p.Auth.Header, t.Credentials.HeaderName)
			}
		}
	}
	return v.found
}

// detachedSilent names the services whose streams get no comments, which the gateway's streams are
// to get.
func (v *validation) detachedSilent(doc *millracev1.Document) {
	if doc.Gateway.GetStreaming().GetKeepAlive() == nil {
		return
	}
	for i, s := range doc.Services {
		if s.Inspect == inspectFirstToken || s.Inspect == inspectHeaders {
			v.errorf(fmt.Sprintf("services[%d].inspect", i), "is %s, so nobody is there to break the silence of its streams as gateway.streaming.keep_alive wants it", s.Inspect)
		}
	}
}

// withoutEffect lists what the source documents write and nothing here can act on.
func (v *validation) withoutEffect(doc *millracev1.Document) {
	g := doc.Gateway
	if g.GetTimeouts().GetPolicyTimeout() != nil && !policiesOn(doc) {
		v.errorf("gateway.timeouts.policy_timeout", "bounds nothing: there is no policy to wait for; leave it out. request_timeout and first_byte_timeout bound a request")
	}
	if g.GetStreaming().GetBufferSize() != nil && !readsAnswers(doc) {
		v.errorf("gateway.streaming.buffer_size", "bounds nothing: there is no policy that reads answers; leave it out")
	}
	if g.GetConnectionPool().GetMaxIdlePerHost() > 0 {
		v.errorf("gateway.connection_pool.max_idle_per_host", "has no effect: Envoy does not count idle connections; write idle_timeout, which closes them, or max_per_target, which bounds all connections to a target")
	}
}
