// Package config is what the operator meant: it reads documents strictly, fills in defaults, checks
// the whole, and resolves it into an immutable Config that the sidecar (extproc) and Envoy's half
// (xds) both compile from. Those two meet only here.
//
// A document is refused whole or taken whole. Every error is reported at once, each with the path
// of its field and, for files, its line and column.
package config

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"millrace/prices"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// Config is one resolved configuration. It is never changed after Resolve returned it.
type Config struct {
	// Version is a hash of the effective document: equal configurations have equal versions.
	Version string
	// Documents are the effective ones, defaults filled in, one per gateway. They hold references
	// to secrets and literal ones: do not print them without Redact.
	Documents []*millracev1.Document

	Listen          Listen
	MaxRequestBytes int64 // of one request
	MaxBodies       int64 // of all requests under way together
	DrainTimeout    time.Duration
	DrainDelay      time.Duration
	ReadyWhen       string // any, all or configured
	Events          Events
	Telemetry       Telemetry
	Prices          prices.Table
	CAFile          string
	Admin           Admin
	Clients         Clients
	MaxMemory       uint64 // of Envoy, in bytes; 0: no bound
	MaxSidecar      uint64 // memory of this process, in bytes; 0: what suits the machine
	Gateways        []*Gateway
	// SecretFiles are hashes of what was read from the files that secrets are in, by path.
	SecretFiles map[string][sha256.Size]byte
}

// Telemetry is what goes to a collector, and to providers.
type Telemetry struct {
	Endpoint  string            // for traces; "": none are sent
	Headers   map[string]string // secret
	Sample    float64           // of the requests whose client has no trace
	Propagate bool              // providers are told of the trace
}

// Admin is where the operator's API listens.
type Admin struct {
	Listen string // "" when the document does not say
	Token  string // secret; "" when none is needed

	MetricsListen string // "" when they are read where the API is
	MetricsToken  string // secret; "" when they have no token of their own
}

// Listen is where Envoy accepts requests.
type Listen struct {
	Address  string
	Port     uint32
	CertFile string // both set or both empty
	KeyFile  string
}

// Clients is what clients may take up of the listener.
type Clients struct {
	MaxConnections uint32
	IdleTimeout    time.Duration
	ReceiveTimeout time.Duration // from a request's first byte until it is let in
	MaxHeaders     uint32
	MaxHeaderBytes uint64
}

// Gateway is one virtual host.
type Gateway struct {
	Name      string
	Via       string   // hash of where it sends requests: what gateways are told apart by on x-millrace-via
	Domains   []string // the hosts that select it, as Envoy writes them
	Timeouts  Timeouts
	Stream    Stream
	Pool      Pool
	Upstreams []*Upstream
	Rules     []*Rule // the active ones, longest path first
	Keys      []Key
	NeedsKey  bool // a request is let in by one of Keys alone
	// Policies is the chain of all requests, in order: the document's own and its packs'. Shadow is
	// the one beside it, which observes. A rule has its own of both, these included.
	Policies, Shadow []*Policy
	// PolicyTimeout is how long a request waits for its chain, for input and output together.
	PolicyTimeout time.Duration
	HoldBack      int // bytes of a stream's text that policies may hold back
	// ResponseHeaders are set on answers.
	ResponseHeaders map[string]string
	// Origins are those of the web pages that may use it, as the operator wrote them.
	Origins []string
}

// Key admits a client.
type Key struct {
	Name    string
	Hash    string    // SHA-256 of the key in hexadecimal
	Expires time.Time // zero: never
}

// Timeouts are all positive.
type Timeouts struct {
	Request    time.Duration
	Connect    time.Duration
	FirstByte  time.Duration // the longest silence of a stream before its first token
	FirstToken time.Duration // the longest wait for it; Unbounded when there is none
}

// Unbounded is a limit that nobody exceeds.
const Unbounded time.Duration = math.MaxInt64

// slack is how much longer than an operator's limit Envoy's clock for a stream runs: the sidecar,
// which can say what was too slow, is to be the first.
const slack = time.Second

// Stream is how streams are handled.
type Stream struct {
	InterChunk time.Duration // the longest silence behind the first token
	AtHeaders  bool          // the client gets the head when the target answers, not with the first token
	KeepAlive  time.Duration // the silence that a comment breaks; 0: none does
}

// Pool bounds the connections to targets.
type Pool struct {
	IdleTimeout  time.Duration
	HTTP2        bool   // where targets offer it
	MaxPerTarget uint32 // connections of each; 0: no bound
	MaxRequests  uint32 // under way; 0: no bound
	MaxPending   uint32 // requests that wait for a connection; 0: no bound
	KeepAlive    time.Duration
	Preconnect   float64 // connections for each request under way; 0 is 1
}

// Algorithm is how a pool picks among the targets of one priority.
type Algorithm string

// RoundRobin and WeightedRoundRobin are one, which goes by the weights: equal ones are an even
// share. Random takes none.
const (
	RoundRobin         Algorithm = "round-robin"
	WeightedRoundRobin Algorithm = "weighted-round-robin"
	LeastConnections   Algorithm = "least-connections"
	Random             Algorithm = "random"
)

// The algorithms that hash send what is equal to one target, for as long as it is there, and go by
// weights over all.
const (
	SourceHash Algorithm = "source-hash" // the client's address
	URIHash    Algorithm = "uri-hash"    // the path, without the query
	HeaderHash Algorithm = "header-hash"
	CookieHash Algorithm = "cookie-hash"
	PromptHash Algorithm = "prompt-hash" // how the conversation begins
)

// Hashes tells whether the algorithm is one of those.
func (a Algorithm) Hashes() bool {
	switch a {
	case SourceHash, URIHash, HeaderHash, CookieHash, PromptHash:
		return true
	}
	return false
}

// weighs tells whether the algorithm can give a target a part of its share.
func (a Algorithm) weighs() bool { return !a.Hashes() && a != Random }

// Open tells whether a service is to be served while the sidecar is dead.
func (c *Config) Open() bool {
	return slices.ContainsFunc(c.Gateways, func(g *Gateway) bool {
		return slices.ContainsFunc(g.Rules, func(r *Rule) bool { return r.Shares[0].Open })
	})
}

// Bare tells whether Envoy serves anything by itself, now or while the sidecar is dead.
func (c *Config) Bare() bool {
	return slices.ContainsFunc(c.Gateways, func(g *Gateway) bool {
		return slices.ContainsFunc(g.Upstreams, func(u *Upstream) bool { return u.Bare })
	})
}

// Detaches tells whether the sidecar detaches from any stream before its end.
func (c *Config) Detaches() bool {
	return slices.ContainsFunc(c.Gateways, func(g *Gateway) bool {
		return slices.ContainsFunc(g.Rules, func(r *Rule) bool { return r.Plan.Detaches })
	})
}

// Upstream is a pool of targets.
type Upstream struct {
	Name      string // unique in all gateways: "gateway/upstream"
	Identity  string // the name and a hash of the targets' identities (identity.go)
	Algorithm Algorithm
	Targets   []*Target
	Passive   *Passive // nil: targets are never taken out for their answers
	Active    *Active  // nil: targets are not asked
	Breaker   *Breaker // nil: there is none
	// MaxCooldown bounds how long a target is left alone because it said so; 0: not at all.
	MaxCooldown time.Duration

	Attempts  uint32 // at least 1
	Retry     Retry
	SlowStart time.Duration // in which a target's share grows to all of it; 0: at once
	// Listed keeps requests to targets that list their model.
	Listed bool
	// Prefer has those targets asked first that list the request's model.
	Prefer bool
	// For is the upstream that this one stands for, with its targets in another order (prefer.go);
	// nil for one that was written.
	For *Upstream
	// HashHeader and HashCookie are the names for header-hash and cookie-hash, "" with any other
	// algorithm.
	HashHeader, HashCookie string
	// HashBalance is the most requests of a target in per cent of its share; 0: no bound.
	HashBalance uint32
	// Bare: for some rules Envoy sends requests on by itself (Plan.Bare).
	Bare bool
}

// Schemas are those that the targets speak which are asked, sorted.
func (u *Upstream) Schemas() []string {
	var all []string
	for _, t := range u.Targets {
		if t.Answer == "" {
			all = append(all, string(t.Schema))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Levels are the targets by priority, those that are asked first in front.
func (u *Upstream) Levels() [][]*Target {
	var levels [][]*Target
	for priority := range uint32(len(u.Targets)) {
		var level []*Target
		for _, t := range u.Targets {
			if t.Priority == priority {
				level = append(level, t)
			}
		}
		if level != nil {
			levels = append(levels, level)
		}
	}
	return levels
}

// Passive is when and for how long a failing target is taken out.
type Passive struct {
	Failures uint32
	Out      time.Duration
}

// Breaker is which share of failures takes a target out, and for how long.
type Breaker struct {
	FailurePercentage uint32
	RequestVolume     uint32
	Reset             time.Duration
}

// Retry is how attempts after the first are made.
type Retry struct {
	PerTry        time.Duration // of a whole answer; 0: no bound of its own
	Backoff       time.Duration
	MaxInterval   time.Duration // at least Backoff
	MaxRetryAfter time.Duration // 0: retry-after is not waited for
	BudgetPercent uint32        // 0: no bound
	Hedge         time.Duration // 0: one target is asked at a time
	On            []string      // the conditions, at least one; the first below
}

// Why an attempt failed, as retry.on has it.
const (
	OnConnectFailure = "connect-failure"
	OnNoAnswer       = "no-answer" // connect-failure included
	OnRateLimit      = "rate-limit"
	OnServerError    = "server-error"
	OnCredential     = "credential"
	OnModel          = "model"
)

var retryConditions = []string{OnConnectFailure, OnNoAnswer, OnRateLimit, OnServerError, OnCredential, OnModel}

func (u *Upstream) retriedOn(condition string) bool { return slices.Contains(u.Retry.On, condition) }

// Active is how targets are asked whether they are well.
type Active struct {
	Path       string  // "" asks by GRPC or, where that is nil, for a TCP connection alone
	GRPC       *string // the service; "" is the server as a whole
	Interval   time.Duration
	Timeout    time.Duration
	Fall, Rise uint32
	Expected   []uint32          // statuses; at least one with a path
	Headers    map[string]string // secret
}

// Target is one endpoint of one provider account.
type Target struct {
	Name     string // unique in all gateways: "gateway/upstream/target"; what people are shown
	Identity string // the name and a hash of where requests go: what both halves know the target by (identity.go)
	ID       string // as the operator wrote it; what responses and events show
	Provider string // its name: what X-Selected-Provider shows
	Type     string // whose API it is, by the name that it is known under
	Schema   schema.Name
	Dialect  string // how the provider speaks the schema; "" when that is not known

	Host string
	Port uint32
	TLS  bool

	BasePath string // "/v1", without a slash at its end; codecs put their operation behind it
	Path     string // replaces base path and operation; "" when not overridden

	Timeouts Timeouts // of attempts; the gateway's where the target has none of its own

	Weight   uint32 // 0 drains
	Priority uint32 // from 0, without gaps

	Models       []string
	DefaultModel string
	ModelMap     map[string]string

	Forward    []string    // the client's headers that it gets beside those that all get: names in lower case, or how they begin and a *
	Headers    http.Header // as configured, without the credential
	AuthHeader string      // "" when the target needs no credential
	AuthValue  string      // the whole header value; secret

	Answer string // given without asking anyone; "" of every target that is asked

	HideVia          bool  // it is not sent x-millrace-via
	DefaultMaxTokens int64 // asked for when the client does not say; 0: the codec's
	MaxOutputTokens  int64 // the most that is asked for; 0: no bound
}

// Upstream is the id of the upstream that the target is one of.
func (t *Target) Upstream() string {
	name := t.Name[:max(0, len(t.Name)-len(t.ID)-1)]
	return name[strings.LastIndexByte(name, '/')+1:]
}

// Authority is the host, with the port where it is not the scheme's own.
func (t *Target) Authority() string {
	if t.TLS && t.Port == 443 || !t.TLS && t.Port == 80 {
		return hostLiteral(t.Host)
	}
	return hostPort(t.Host, t.Port)
}

// Model is the name to ask the target for when the client asked for model ("" when it named none):
// the mapped name, else the client's when the target lists it, else the default, else, for a target
// that has none, the client's.
func (t *Target) Model(model string) string {
	if mapped, ok := t.ModelMap[model]; ok {
		return mapped
	}
	if model != "" && t.Lists(model) {
		return model
	}
	if t.DefaultModel != "" {
		return t.DefaultModel
	}
	return model
}

// Forwards tells whether the target gets the client's header of this name, in lower case, beside
// those that all get. What carries a credential it gets by the whole name alone.
func (t *Target) Forwards(name string) bool {
	return slices.ContainsFunc(t.Forward, func(f string) bool {
		begins, many := strings.CutSuffix(f, "*")
		return f == name || many && strings.HasPrefix(name, begins) && !IsCredential(name) && badForward(name) == ""
	})
}

// Lists tells whether the target says that it has the model, under the client's name for it.
func (t *Target) Lists(model string) bool {
	if _, ok := t.ModelMap[model]; ok {
		return true
	}
	for _, m := range t.Models {
		if m == model {
			return true
		}
	}
	return model == t.DefaultModel
}

// Rule sends requests below Path, for which all the conditions hold, to its upstreams.
type Rule struct {
	Path    string // no slash at its end, but for "/"
	Methods []string
	Headers map[string]string
	Query   map[string]string
	Models  []string
	Strip   bool
	Shares  []Share // at least one
	// Service is the name of the one that the rule leads to, and Tags are its own. A rule of
	// several services has neither.
	Service string
	Tags    []string
	// Policies and Shadow are the chains of its requests: the gateway's, then those of its
	// services. A policy that several rules have is one *Policy.
	Policies, Shadow []*Policy
	// Capture is what events have of what was said: CaptureRedacted, CaptureFull, "" for nothing.
	Capture string
	// Derived: the rule was not written, its Models are those that some of its targets are
	// preferred for.
	Derived bool
	Plan    *Plan
}

func (r *Rule) policies() []*Policy { return slices.Concat(r.Policies, r.Shadow) }

// asksInput tells whether a request waits for a policy before it is sent.
func (r *Rule) asksInput() bool {
	return slices.ContainsFunc(r.Policies, func(p *Policy) bool { return p.Phase.Input() && !p.Observe })
}

// Share is one of the upstreams of a rule, with its part of the requests.
type Share struct {
	Service  string // its name
	Upstream *Upstream
	Weight   uint32
	// Open, Detached and Unread are the service's failure: open, inspect: first-token and inspect:
	// headers; of all shares of a rule, or of none.
	Open, Detached, Unread bool
}

// Limits are the longest that any of the upstream's targets may take.
func (u *Upstream) Limits() Timeouts {
	var longest Timeouts
	for _, t := range u.Targets {
		longest = longest.orLonger(t.Timeouts)
	}
	return longest
}

func (t Timeouts) orLonger(o Timeouts) Timeouts {
	return Timeouts{
		Request:    max(t.Request, o.Request),
		Connect:    max(t.Connect, o.Connect),
		FirstByte:  max(t.FirstByte, o.FirstByte),
		FirstToken: max(t.FirstToken, o.FirstToken),
	}
}

// Alone tells whether there is at most one target to ask.
func (u *Upstream) Alone() bool {
	serving := 0
	for _, t := range u.Targets {
		if t.Weight > 0 {
			serving++
		}
	}
	return serving < 2
}

// Takes tells whether the rule is for requests of this method.
func (r *Rule) Takes(method string) bool {
	return len(r.Methods) == 0 || slices.Contains(r.Methods, method)
}

// OnlyModels tells whether the rule asks for nothing but a path, a method and a model.
func (r *Rule) OnlyModels() bool { return len(r.Headers) == 0 && len(r.Query) == 0 }

func (r *Rule) conditions() int {
	return len(r.Headers) + len(r.Query) + min(len(r.Models), 1) + min(len(r.Methods), 1)
}

// String names the rule for people, by what it asks for.
func (r *Rule) String() string {
	words := []string{r.Path}
	add := func(kind string, values []string) {
		if len(values) > 0 {
			words = append(words, kind+" "+strings.Join(values, " "))
		}
	}
	pairs := func(m map[string]string) (all []string) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			all = append(all, name+"="+m[name])
		}
		return all
	}
	add("methods", r.Methods)
	add("headers", pairs(r.Headers))
	add("query", pairs(r.Query))
	add("models", r.Models)
	if r.Derived {
		words = append(words, "by model_choice: prefer")
	}
	return strings.Join(words, ", ")
}

// RouteName is what the rule's routes are called in Envoy, which tells the sidecar by that name
// which rule it chose.
func (r *Rule) RouteName(g *Gateway) string {
	return fmt.Sprintf("%q %q %q %q %q %q", g.Name, r.Methods, r.Path, r.Headers, r.Query, r.Models) // maps print sorted
}

// AllModels are the names clients can ask this target for, sorted.
func (t *Target) AllModels() []string {
	all := slices.Collect(maps.Keys(t.ModelMap))
	all = append(all, t.Models...)
	if t.DefaultModel != "" {
		all = append(all, t.DefaultModel)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
