package extproc

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"millrace/config"
	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/redact"
)

// Runtime is a configuration compiled for the data path: a request only looks things up. It is never changed.
type Runtime struct {
	Version      string
	maxBodyBytes int64              // of one request
	maxBodies    int64              // of all under way together
	maxMemory    uint64             // of this process; 0: what suits the machine
	routes       map[string]*route  // by Envoy's route name
	targets      map[string]*target // by identity, as endpoints' metadata have it
}

// route is a rule, as the router stream needs it.
type route struct {
	gateway string
	keys    *keys  // nil: none is needed
	path    string // the rule's, "" for "/"
	// interChunk is how long a stream may be silent behind its first token, keepAlive when a comment breaks its silence; 0: never.
	interChunk, keepAlive time.Duration

	// clock is what Envoy's own allows an attempt. A target that may take less is for the sidecar to watch.
	clock config.Timeouts

	attempts  int           // at most
	budgeted  bool          // Envoy may make fewer
	hedge     time.Duration // when another attempt is made beside one that is late; 0: none is
	queues    bool          // an attempt may wait for a connection, and Envoy's clock with it
	atHeaders bool          // the client gets a stream's head before its first token
	strip     bool
	refusal   *llm.Error      // of a route that exists to refuse
	allow     string          // methods, for the refusal's header
	byModel   bool            // which rule it is depends on the model: Envoy chooses again once it is known
	listed    bool            // models are all there is
	prompts   bool            // Envoy chooses targets by how the conversation begins
	models    map[string]bool // names that some target lists
	list      []byte          // the answer to GET …/models
}

// target is one target with everything about it that no request changes.
type target struct {
	config  *config.Target
	codec   provider.Codec
	secrets redact.Set // what must not be in its errors and headers
	certain redact.Set // what must not be in its answers either: those that no model says by chance
	// first and whole are how long an attempt may take to its first token, and to the end of a whole answer.
	first, whole time.Duration
	maxCooldown  time.Duration // 0: what it says of when to come back is not heeded
}

// Compile derives the data path's half of a configuration. The error names the target that cannot be served.
func Compile(c *config.Config) (*Runtime, error) {
	r := &Runtime{
		Version:      c.Version,
		maxBodyBytes: c.MaxRequestBytes,
		maxBodies:    c.MaxBodies,
		maxMemory:    c.MaxSidecar,
		routes: map[string]*route{
			envoy.RouteNone: {refusal: llm.Errorf(llm.ErrNotFound, "no rule of this gateway has this path")},
		},
		targets: map[string]*target{},
	}
	for _, g := range c.Gateways {
		for _, u := range g.Upstreams {
			for _, t := range u.Targets {
				compiled, err := compileTarget(u, t)
				if err != nil {
					return nil, err
				}
				r.targets[t.Identity] = compiled
			}
		}
		keys := compileKeys(g)
		byModel := map[string]bool{} // paths
		for _, rule := range g.Rules {
			byModel[rule.Path] = byModel[rule.Path] || len(rule.Models) > 0
		}
		for _, rule := range g.Rules {
			compiled := compileRoute(g, rule)
			compiled.keys, compiled.byModel = keys, byModel[rule.Path]
			r.routes[rule.RouteName(g)] = compiled
			if compiled.byModel {
				r.undecided(envoy.RouteModel+g.Name+" "+rule.Path, *compiled)
			}
			r.allow(g, rule)
		}
	}
	return r, nil
}

// none are limits that nobody exceeds.
var none = config.Timeouts{Request: math.MaxInt64, FirstByte: math.MaxInt64}

// undecided keeps the route of a path whose rules go by the model: until that is known it may be any of them.
func (r *Runtime) undecided(name string, one route) {
	one.listed, one.clock = false, none
	if before := r.routes[name]; before != nil {
		one.prompts = one.prompts || before.prompts
		one.hedge = max(one.hedge, before.hedge)
		one.budgeted = one.budgeted || before.budgeted
		one.attempts = max(one.attempts, before.attempts)
	}
	r.routes[name] = &one
}

func hashesPrompts(s config.Share) bool { return s.Upstream.Algorithm == config.PromptHash }

func compileTarget(u *config.Upstream, t *config.Target) (*target, error) {
	if t.Answer != "" {
		return &target{config: t}, nil
	}
	codec, ok := provider.Of(llm.Schema(t.Schema))
	if !ok || codec.Target == nil {
		return nil, fmt.Errorf("target %q: no target speaks schema %q in this version", t.Name, t.Schema)
	}
	compiled := &target{config: t, codec: codec, first: t.Timeouts.FirstByte, whole: t.Timeouts.Request}
	compiled.maxCooldown = u.MaxCooldown
	if u.Retry.PerTry > 0 {
		compiled.whole = min(compiled.whole, u.Retry.PerTry)
	}
	compiled.secrets = secretsOf(t)
	compiled.certain = compiled.secrets.Certain()
	return compiled, nil
}

func compileRoute(g *config.Gateway, rule *config.Rule) *route {
	compiled := &route{
		gateway:    g.Name,
		interChunk: g.Stream.InterChunk,
		keepAlive:  g.Stream.KeepAlive,
		atHeaders:  g.Stream.AtHeaders,
		queues:     g.Pool.Queues(),
		hedge:      rule.Hedge(),
		clock:      rule.Limits(g),
		path:       strings.TrimSuffix(rule.Path, "/"),
		strip:      rule.Strip,
		listed:     true,
		prompts:    slices.ContainsFunc(rule.Shares, hashesPrompts),
		models:     map[string]bool{},
	}
	if rule.Hedge() > 0 { // the clock is needed for that
		compiled.clock = none
	}
	owner := map[string]string{}
	for _, share := range rule.Shares {
		compiled.budgeted = compiled.budgeted || share.Upstream.Retry.BudgetPercent > 0
		compiled.attempts = max(compiled.attempts, int(share.Upstream.Attempts))
		compiled.listed = compiled.listed && share.Upstream.Listed
		for _, t := range share.Upstream.Targets {
			for _, name := range t.AllModels() {
				compiled.models[name] = true
				if owner[name] == "" {
					owner[name] = t.Provider
				}
			}
		}
	}
	compiled.list = modelList(slices.Sorted(maps.Keys(owner)), owner)
	return compiled
}

// allow keeps the refusal for methods that no rule of this path takes up to date.
func (r *Runtime) allow(g *config.Gateway, rule *config.Rule) {
	name := envoy.RouteMethod + g.Name + " " + rule.Path
	existing := r.routes[name]
	if existing == nil {
		existing = &route{refusal: llm.Errorf(llm.ErrMethod, "")}
		r.routes[name] = existing
	}
	methods := rule.Methods
	if existing.allow != "" {
		methods = append(strings.Split(existing.allow, ", "), methods...)
	}
	existing.allow = strings.Join(methods, ", ")
	existing.refusal = llm.Errorf(llm.ErrMethod, "this path takes %s", existing.allow)
}

// modelList answers GET …/models for clients of either schema: one object has the members both SDKs read
// (https://platform.openai.com/docs/api-reference/models/list, https://docs.anthropic.com/en/api/models-list).
func modelList(names []string, owner map[string]string) []byte {
	type model struct {
		ID          string `json:"id"`
		Object      string `json:"object"`
		Created     int64  `json:"created"`
		OwnedBy     string `json:"owned_by"`
		Type        string `json:"type"`
		DisplayName string `json:"display_name"`
		CreatedAt   string `json:"created_at"`
	}
	list := struct {
		Object  string  `json:"object"`
		Data    []model `json:"data"`
		HasMore bool    `json:"has_more"`
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
	}{Object: "list", Data: []model{}}
	for _, name := range names {
		list.Data = append(list.Data, model{
			ID: name, Object: "model", OwnedBy: owner[name],
			Type: "model", DisplayName: name, CreatedAt: "1970-01-01T00:00:00Z", // nobody tells us
		})
	}
	if n := len(names); n > 0 {
		list.FirstID, list.LastID = &names[0], &names[n-1]
	}
	data, err := json.Marshal(list)
	if err != nil {
		panic("extproc: model list: " + err.Error())
	}
	return data
}

// lacks returns the error for a model that nobody on this route has, nil when any target may serve any model.
func (rt *route) lacks(model string) *llm.Error {
	if !rt.listed || rt.byModel || model == "" || rt.models[model] { // a request without a model gets the target's default
		return nil
	}
	e := llm.Errorf(llm.ErrNotFound, "the model %q does not exist here", model)
	e.Code, e.Param = "model_not_found", "model"
	return e
}

// operation finds what a request wants: the path below the rule and the version segment, without a slash at its end.
func (rt *route) operation(path string) string {
	below, ok := strings.CutPrefix(path, rt.path)
	if !ok {
		below = path
	}
	for _, candidate := range []string{below, path} {
		candidate = strings.TrimSuffix(strings.TrimPrefix(candidate, "/v1"), "/")
		if _, known := provider.At(candidate); known || candidate == operationModels {
			return candidate
		}
	}
	if rt.strip && strings.Trim(below, "/") == "" {
		return "" // the rule's own path: a client that was told one URL and no operation (seed 001)
	}
	return below
}

const operationModels = "/models"

func mayReachClient(name string, sameFamily bool) bool {
	if slices.Contains(envoy.ResponseHeaders, name) || strings.HasPrefix(name, ":") {
		return true
	}
	return sameFamily && slices.ContainsFunc(envoy.FamilyResponsePrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}
