package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// Resolve makes a Config of documents as Merge or Load returns them, one per gateway; the first
// also says where to listen. References are followed, secrets read, providers looked up. The error
// is an Errors; a secret that cannot be read is one.
func Resolve(documents ...*millracev1.Document) (*Config, error) {
	r := &resolver{files: map[string][]byte{}}
	main := documents[0]
	c := &Config{
		Version:         Version(documents...),
		Documents:       documents,
		Listen:          resolveListen(main.Gateway),
		MaxRequestBytes: int64(main.Gateway.MaxRequestBytes.Bytes),
		MaxBodies:       int64(main.Gateway.MaxRequestBytesTotal.Bytes),
		DrainTimeout:    main.Gateway.DrainTimeout.AsDuration(),
		DrainDelay:      main.Gateway.DrainDelay.AsDuration(),
		ReadyWhen:       main.Gateway.ReadyWhen,
		Events:          r.events(main.Events),
		Prices:          resolvePrices(main.Prices),
		CAFile:          main.Gateway.CaFile,
		Clients:         resolveClients(main.Gateway.Clients),
		MaxMemory:       main.Gateway.GetMaxMemory().GetBytes(),
		MaxSidecar:      main.Gateway.GetMaxSidecarMemory().GetBytes(),
	}
	if admin := main.Gateway.Admin; admin != nil {
		c.Admin.Listen = admin.Listen
		if admin.Token != nil {
			c.Admin.Token = r.secret("gateway.admin.token", admin.Token)
		}
		c.Admin.MetricsListen = admin.GetMetrics().GetListen()
		if token := admin.GetMetrics().GetToken(); token != nil {
			c.Admin.MetricsToken = r.secret("gateway.admin.metrics.token", token)
		}
	}
	c.Telemetry = r.telemetry(main.Telemetry)
	for _, d := range documents {
		c.Gateways = append(c.Gateways, r.gateway(d))
	}
	if len(r.found) > 0 {
		return nil, r.found
	}
	c.SecretFiles = make(map[string][sha256.Size]byte, len(r.files))
	for path, data := range r.files {
		c.SecretFiles[path] = sha256.Sum256(data)
	}
	return c, nil
}

// Version is a content hash of documents, 16 hexadecimal digits.
func Version(documents ...*millracev1.Document) string {
	h := sha256.New()
	for _, d := range documents {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
		if err != nil {
			panic("config: a loaded document does not marshal: " + err.Error())
		}
		fmt.Fprintf(h, "%d ", len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// What gateway.auth can say.
const (
	authRequired = "required"
	authNone     = "none"
)

// What streaming.commit can say.
const (
	commitAtToken   = "first-token"
	commitAtHeaders = "headers"
)

type resolver struct {
	validation
	files map[string][]byte // what secrets were read from; each file is read once
}

func resolveListen(g *millracev1.Gateway) Listen {
	return Listen{
		Address:  g.ListenAddress,
		Port:     g.ListenPort,
		CertFile: g.GetTls().GetCertFile(),
		KeyFile:  g.GetTls().GetKeyFile(),
	}
}

func resolveClients(c *millracev1.Clients) Clients {
	return Clients{
		MaxConnections: c.MaxConnections,
		IdleTimeout:    c.IdleTimeout.AsDuration(),
		ReceiveTimeout: c.ReceiveTimeout.AsDuration(),
		MaxHeaders:     c.MaxHeaders,
		MaxHeaderBytes: c.MaxHeaderBytes.Bytes,
	}
}

func (r *resolver) gateway(doc *millracev1.Document) *Gateway {
	g := &Gateway{
		Name:     doc.Gateway.Name,
		Domains:  domains(doc.Gateway),
		Timeouts: resolveTimeouts(doc.Gateway.Timeouts, Timeouts{FirstToken: Unbounded}),
		Stream: Stream{
			InterChunk: doc.Gateway.Streaming.InterChunkTimeout.AsDuration(),
			AtHeaders:  doc.Gateway.Streaming.Commit == commitAtHeaders,
			KeepAlive:  doc.Gateway.Streaming.KeepAlive.AsDuration(),
		},
		Pool: Pool{
			IdleTimeout:  doc.Gateway.ConnectionPool.IdleTimeout.AsDuration(),
			HTTP2:        doc.Gateway.ConnectionPool.Http2,
			MaxPerTarget: perTarget(doc),
			MaxRequests:  doc.Gateway.ConnectionPool.MaxRequests,
			MaxPending:   doc.Gateway.ConnectionPool.MaxPending,
			KeepAlive:    doc.Gateway.ConnectionPool.KeepAlive.AsDuration(),
			Preconnect:   doc.Gateway.ConnectionPool.Preconnect,
		},
	}
	g.ResponseHeaders = doc.Gateway.ResponseHeaders
	g.Origins = doc.Gateway.GetCors().GetAllowedOrigins()
	byName := map[string]*Upstream{}
	for i, u := range doc.Upstreams {
		resolved := r.upstream(g, fmt.Sprintf("upstreams[%d]", i), u)
		g.Upstreams = append(g.Upstreams, resolved)
		byName[u.Name] = resolved
		if u.Id != "" {
			byName[u.Id] = resolved
		}
	}
	hideVia(doc.Gateway.HideVia, g.Upstreams)
	services, written := map[string]Share{}, map[string]*millracev1.Service{}
	policies, further := chainsOf(doc), map[string][]link{}
	for i, s := range doc.Services {
		further[s.Name], further[s.Id] = policies.of(i), policies.of(i)
		written[s.Name], written[s.Id] = s, s
		share := Share{Service: s.Name, Upstream: byName[cmp.Or(s.Upstream, s.UpstreamId)], Open: s.Failure == failureOpen, Detached: s.Inspect == inspectFirstToken, Unread: s.Inspect == inspectHeaders}
		share.Upstream.Bare = share.Upstream.Bare || share.Open || share.Unread
		services[s.Name] = share
		if s.Id != "" {
			services[s.Id] = share
		}
	}
	for _, rule := range doc.Rules {
		if rule.GetActive() {
			resolved := resolveRule(rule, services)
			if ref := cmp.Or(rule.Service, rule.ServiceId); ref != "" {
				resolved.Service, resolved.Tags = written[ref].Name, written[ref].Tags
			}
			resolved.Capture = captureOf(written[serviceRefs(rule)[0]])
			chain := further[serviceRefs(rule)[0]]
			resolved.Policies, resolved.Shadow = mainChain(chain), shadowChain(chain)
			g.Rules = append(g.Rules, resolved)
		}
	}
	slices.SortStableFunc(g.Rules, moreSpecific)
	g.prefer()
	for _, k := range doc.Keys {
		g.Keys = append(g.Keys, resolveKey(k))
	}
	g.NeedsKey = asksKey(doc)
	g.Policies, g.Shadow = mainChain(policies.gateway), shadowChain(policies.gateway)
	g.PolicyTimeout = doc.Gateway.Timeouts.PolicyTimeout.AsDuration()
	g.HoldBack = int(doc.Gateway.Streaming.BufferSize.GetBytes())
	g.Via = via(g)
	g.plan()
	return g
}

// perTarget is how many connections each target may have; 0: any number. Envoy counts by target, so
// a bound on all of them is kept by parts that are no more together, and at least one.
func perTarget(doc *millracev1.Document) uint32 {
	pool, targets := doc.Gateway.ConnectionPool, 0
	for _, u := range doc.Upstreams {
		targets += len(u.Targets)
	}
	if pool.MaxTotal == 0 || targets == 0 {
		return pool.MaxPerTarget
	}
	part := max(1, pool.MaxTotal/uint32(targets))
	if pool.MaxPerTarget == 0 {
		return part
	}
	return min(part, pool.MaxPerTarget)
}

func resolveRule(rule *millracev1.Rule, services map[string]Share) *Rule {
	r := &Rule{
		Path:    cleanPath(rule.Path),
		Methods: rule.Methods,
		Headers: rule.Headers,
		Query:   rule.Query,
		Models:  rule.Models,
		Strip:   rule.StripPath,
	}
	if name := cmp.Or(rule.Service, rule.ServiceId); name != "" {
		share := services[name]
		share.Weight = 1
		r.Shares = []Share{share}
	}
	for _, s := range rule.Services {
		if s.Weight > 0 {
			share := services[s.Service]
			share.Weight = s.Weight
			r.Shares = append(r.Shares, share)
		}
	}
	return r
}

// moreSpecific puts the longest path first, rules of one path together, and among them the one with
// more conditions first.
func moreSpecific(a, b *Rule) int {
	return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(b.conditions(), a.conditions()))
}

func resolveKey(k *millracev1.Key) Key {
	key := Key{Name: k.Name, Hash: k.Hash}
	if k.ExpiresAt != nil {
		key.Expires = k.ExpiresAt.AsTime()
	}
	return key
}

func cleanPath(path string) string {
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}

func (r *resolver) upstream(g *Gateway, path string, u *millracev1.Upstream) *Upstream {
	name := g.Name + "/" + u.Name
	resolved := &Upstream{
		Name:      name,
		Algorithm: Algorithm(u.Algorithm),
		Attempts:  max(u.Retry.GetAttempts(), 1),
		Retry:     resolveRetry(u.Retry),
		Listed:    u.ModelChoice == "listed",
		Prefer:    u.ModelChoice == "prefer",

		HashHeader:  u.HashHeader,
		HashCookie:  u.HashCookie,
		HashBalance: u.GetHashBalanceFactor(),

		SlowStart: u.HealthChecks.SlowStart.AsDuration(),
	}
	if h := u.HealthChecks; h.GetPassive() {
		resolved.Passive = &Passive{Failures: h.Threshold, Out: time.Duration(h.Interval) * time.Second}
	}
	if b := u.CircuitBreaker; b != nil {
		resolved.Breaker = &Breaker{FailurePercentage: b.FailurePercentage, RequestVolume: b.RequestVolume, Reset: b.Reset_.AsDuration()}
	}
	if a := u.HealthChecks.Active; a != nil {
		resolved.Active = &Active{
			Path:     a.Path,
			GRPC:     a.Grpc,
			Interval: a.Interval.AsDuration(),
			Timeout:  a.Timeout.AsDuration(),
			Fall:     a.Fall,
			Rise:     a.Rise,
			Expected: a.ExpectedStatus,
			Headers:  map[string]string{},
		}
		for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
			at := path + ".health_checks.active.headers." + name
			resolved.Active.Headers[http.CanonicalHeaderKey(name)] = r.secret(at, a.Headers[name])
		}
	}
	resolved.MaxCooldown = u.HealthChecks.MaxCooldown.AsDuration()
	for j, t := range u.Targets {
		resolved.Targets = append(resolved.Targets, r.target(g, name, fmt.Sprintf("%s.targets[%d]", path, j), t))
	}
	closePriorityGaps(resolved.Targets)
	resolved.Identity = poolIdentity(resolved)
	return resolved
}

func resolveRetry(r *millracev1.Retry) Retry {
	const defaultBackoff, defaultRounds = 25 * time.Millisecond, 10
	backoff := cmp.Or(r.Backoff.AsDuration(), defaultBackoff)
	on := r.On
	if len(on) == 0 {
		on = retryConditions
	}
	return Retry{
		PerTry:        r.PerTryTimeout.AsDuration(),
		Backoff:       backoff,
		MaxInterval:   cmp.Or(r.MaxInterval.AsDuration(), defaultRounds*backoff),
		MaxRetryAfter: r.MaxRetryAfter.AsDuration(),
		BudgetPercent: r.BudgetPercent,
		Hedge:         r.Hedge.AsDuration(),
		On:            on,
	}
}

// resolveTimeouts takes what is not said from the other.
func resolveTimeouts(t *millracev1.Timeouts, other Timeouts) Timeouts {
	return Timeouts{
		Request:    cmp.Or(t.GetRequestTimeout().AsDuration(), other.Request),
		Connect:    cmp.Or(t.GetConnectTimeout().AsDuration(), other.Connect),
		FirstByte:  cmp.Or(t.GetFirstByteTimeout().AsDuration(), other.FirstByte),
		FirstToken: cmp.Or(t.GetFirstTokenTimeout().AsDuration(), other.FirstToken),
	}
}

// closePriorityGaps numbers the levels from 0 without holes, as Envoy wants them.
func closePriorityGaps(targets []*Target) {
	var levels []uint32
	for _, t := range targets {
		levels = append(levels, t.Priority)
	}
	slices.Sort(levels)
	levels = slices.Compact(levels)
	for _, t := range targets {
		t.Priority = uint32(slices.Index(levels, t.Priority))
	}
}

func (r *resolver) target(g *Gateway, upstream, path string, t *millracev1.Target) *Target {
	p, addr := place(t)
	resolved := &Target{
		Name:         upstream + "/" + t.Id,
		ID:           t.Id,
		Provider:     p.Name,
		Type:         typeOf(t.Provider, addr.host).Name,
		Schema:       p.Schema,
		Dialect:      p.Dialect,
		Host:         addr.host,
		Port:         addr.port,
		TLS:          addr.tls,
		BasePath:     addr.base,
		Path:         t.Path,
		Timeouts:     resolveTimeouts(t.Timeouts, g.Timeouts),
		Weight:       t.GetWeight(),
		Priority:     t.Priority,
		Models:       t.Models,
		DefaultModel: t.DefaultModel,
		ModelMap:     t.ModelMap,
		Headers:      http.Header{},
		Answer:       t.Answer,

		DefaultMaxTokens: int64(t.DefaultMaxTokens),
		MaxOutputTokens:  int64(t.MaxOutputTokens),
	}
	if t.Disabled {
		resolved.Weight = 0
	}
	for _, name := range t.ForwardHeaders {
		resolved.Forward = append(resolved.Forward, strings.ToLower(name))
	}
	for name, value := range t.Headers {
		resolved.Headers.Set(name, value)
	}
	if c := credentialOf(t); c.secret != nil {
		resolved.AuthHeader = c.header
		resolved.AuthValue = c.prefix + r.secret(path+"."+c.field, c.secret)
	}
	resolved.Identity = identity(resolved, credentialOf(t).reference())
	return resolved
}

// credential is the header that authenticates the gateway to a target.
type credential struct {
	header string
	prefix string             // what stands before the secret
	secret *millracev1.Secret // nil: there is none
	field  string             // of the target, where the secret is said
}

// reference says where the secret comes from, not what it is: a key that is rotated is still the
// same target's.
func (c credential) reference() string {
	switch source := c.secret.GetSource().(type) {
	case *millracev1.Secret_Env:
		return "env " + source.Env
	case *millracev1.Secret_File:
		return "file " + source.File
	}
	return ""
}

func credentialOf(t *millracev1.Target) credential {
	if c := t.Credentials; c != nil {
		return credential{http.CanonicalHeaderKey(c.HeaderName), "", c.HeaderValue, "credentials.header_value"}
	}
	p, _ := place(t)
	return credential{p.Auth.Header, p.Auth.Prefix, t.GetProvider().GetSecretKeyRef(), "provider.secret_key_ref"}
}

type address struct {
	host string
	port uint32
	tls  bool
	base string
}

// place works out the provider and the address of a target: what it says itself, then its base URL,
// then its provider's.
func place(t *millracev1.Target) (schema.Provider, address) {
	if t.GetProvider().GetBaseUrl() != "" {
		return placeByURL(t.Provider)
	}
	p := providerOf(t.GetProvider(), t.Host)
	a := address{host: cmp.Or(t.Host, p.Host), port: t.Port, tls: t.Protocol != "http" && p.Schema != schema.Static, base: p.Base}
	if t.Protocol == "" && t.Port == 80 {
		a.tls = false
	}
	if a.port == 0 {
		a.port = defaultPort(a.tls)
	}
	return p, a
}

// providerOf is whose API a target speaks, under the name that the configuration gives it.
func providerOf(said *millracev1.Provider, host string) schema.Provider {
	p := typeOf(said, host)
	p.Name = cmp.Or(said.GetName(), p.Name)
	return p
}

// typeOf is whose API a target speaks, under the name that it is known under.
func typeOf(said *millracev1.Provider, host string) schema.Provider {
	if p, known := schema.Named(cmp.Or(said.GetType(), said.GetName())); known {
		return p
	}
	return schema.On(host)
}

// versioned is a base URL's path that ends in the version of the API.
var versioned = regexp.MustCompile(`/v[0-9][a-z0-9]*$`)

func placeByURL(said *millracev1.Provider) (schema.Provider, address) {
	u, _ := url.Parse(said.BaseUrl) // validated
	p := providerOf(said, u.Hostname())
	a := address{host: u.Hostname(), tls: u.Scheme == "https", base: strings.TrimRight(u.EscapedPath(), "/")} // as it is written: it is sent so
	if schema.Of(p.Schema).BareURLs && !versioned.MatchString(a.base) {
		a.base += p.Base
	}
	port, _ := strconv.ParseUint(u.Port(), 10, 16)
	a.port = cmp.Or(uint32(port), defaultPort(a.tls))
	return p, a
}

func defaultPort(tls bool) uint32 {
	if tls {
		return 443
	}
	return 80
}

// secret reads a secret. What goes wrong names where it was looked for, never what was found.
func (r *resolver) secret(path string, s *millracev1.Secret) string {
	var value string
	switch source := s.GetSource().(type) {
	case *millracev1.Secret_Literal:
		value = source.Literal
	case *millracev1.Secret_Env:
		var ok bool
		if value, ok = os.LookupEnv(source.Env); !ok {
			r.errorf(path, "environment variable %s is not set", source.Env)
			return ""
		}
	case *millracev1.Secret_File:
		data, err := r.file(source.File)
		if err != nil {
			r.errorf(path, "%v", err)
			return ""
		}
		value = strings.TrimRight(string(data), "\r\n")
	}
	if value == "" {
		r.errorf(path, "the secret is empty")
	}
	if hasControl(value) {
		r.errorf(path, "the secret holds a control character, which no header can carry")
	}
	return value
}

// file reads a secret's file once: all secrets of one configuration see the same content.
func (r *resolver) file(path string) ([]byte, error) {
	if data, ok := r.files[path]; ok {
		return data, nil
	}
	data, err := ReadFile(path, maxSecretBytes)
	if err == nil {
		r.files[path] = data
	}
	return data, err
}

func hasControl(value string) bool {
	return strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func hostLiteral(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}
