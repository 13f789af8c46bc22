package extproc

import (
	"encoding/json"
	"fmt"
	"maps"
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
	commitBy  time.Duration // when the client gets the head of a stream that lives and has said nothing; 0: with its first token
	schemas   []*target     // one target of each schema, where all upstreams have targets of several
	atHeaders bool          // the client gets a stream's head before its first token
	strip     bool
	refusal   *llm.Error        // of a route that exists to refuse
	allow     string            // methods, for the refusal's header
	looped    bool              // the refused request is a part of one that this gateway has an event of
	via       string            // what the gateway puts on x-millrace-via
	byModel   bool              // which rule it is depends on the model: Envoy chooses again once it is known
	listed    bool              // models are all there is
	prompts   bool              // Envoy chooses targets by how the conversation begins
	models    map[string][]byte // the answers to GET …/models/NAME, by the names that some target lists
	list      []byte            // the answer to GET …/models
	forwards  []*config.Target  // those that get headers of the client's beside those that all get
}

// target is one target with everything about it that no request changes.
type target struct {
	config  *config.Target
	codec   provider.Codec
	secrets redact.Set // what must not be in its errors and headers
	certain redact.Set // what must not be in its answers either: those that no model says by chance
	// first is how long a stream may be silent before its first token, whole how long an attempt at
	// a whole answer may take. firstToken bounds the wait for a stream's first token, whatever
	// comes before it.
	first, whole, firstToken time.Duration
	maxCooldown              time.Duration   // 0: what it says of when to come back is not heeded
	retriedOn                map[string]bool // conditions (outcome.go)
	alone                    bool            // there is no other target to ask
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
			envoy.RouteLoop: {refusal: llm.Errorf(llm.ErrLoop, "the request came back to a gateway that it has passed: one of its targets leads there"), looped: true},
			envoy.RouteHops: {refusal: llm.Errorf(llm.ErrLoop, "the request has passed %d gateways", envoy.MaxVia)},
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
		byModel, chosen := map[string]bool{}, map[string]bool{} // paths: any rule goes by the model; one goes by it that was written so
		for _, rule := range g.Rules {
			byModel[rule.Path] = byModel[rule.Path] || len(rule.Models) > 0
			chosen[rule.Path] = chosen[rule.Path] || len(rule.Models) > 0 && !rule.Derived
		}
		for _, rule := range g.Rules {
			compiled := compileRoute(g, rule)
			compiled.keys, compiled.byModel = keys, byModel[rule.Path]
			compiled.schemas = r.mixed(rule)
			r.routes[rule.RouteName(g)] = compiled
			if compiled.byModel && chosen[rule.Path] {
				r.undecided(envoy.RouteModel+g.Name+" "+rule.Path, *compiled)
			}
			if !rule.Derived {
				r.allow(g, rule)
			}
		}
	}
	return r, nil
}

// none are limits that nobody exceeds.
var none = config.Timeouts{Request: config.Unbounded, FirstByte: config.Unbounded, FirstToken: config.Unbounded}

// undecided keeps the route of a path whose rules go by the model: until that is known it may be any of them.
func (r *Runtime) undecided(name string, one route) {
	one.listed, one.clock = false, none
	if before := r.routes[name]; before != nil {
		one.prompts = one.prompts || before.prompts
		one.forwards = append(slices.Clip(one.forwards), before.forwards...)
		one.hedge = max(one.hedge, before.hedge)
		one.budgeted = one.budgeted || before.budgeted
		one.attempts = max(one.attempts, before.attempts)
		if before.commitBy > 0 && (one.commitBy == 0 || before.commitBy < one.commitBy) {
			one.commitBy = before.commitBy
		}
		if before.schemas == nil {
			one.schemas = nil
		}
	}
	r.routes[name] = &one
}

// mixed is one target of each schema where all upstreams of the rule have targets of several, else
// nil. Targets that get no requests do not count.
func (r *Runtime) mixed(rule *config.Rule) []*target {
	var one []*target
	for _, s := range rule.Shares {
		if !s.Upstream.Mixed() {
			return nil
		}
		for _, t := range s.Upstream.Targets {
			if t.Answer == "" && t.Weight > 0 && !slices.ContainsFunc(one, func(o *target) bool { return o.config.Schema == t.Schema }) {
				one = append(one, r.targets[t.Identity])
			}
		}
	}
	if len(one) < 2 {
		return nil
	}
	return one
}

func hashesPrompts(s config.Share) bool { return s.Upstream.Algorithm == config.PromptHash }

func compileTarget(u *config.Upstream, t *config.Target) (*target, error) {
	if t.Answer != "" {
		return &target{config: t, alone: u.Alone()}, nil
	}
	codec, ok := provider.Of(llm.Schema(t.Schema))
	if !ok || codec.Target == nil {
		return nil, fmt.Errorf("target %q: no target speaks schema %q in this version", t.Name, t.Schema)
	}
	compiled := &target{config: t, codec: codec, first: t.Timeouts.FirstByte, whole: t.Timeouts.Request, firstToken: t.Timeouts.FirstToken}
	compiled.maxCooldown, compiled.alone = u.MaxCooldown, u.Alone()
	compiled.retriedOn = map[string]bool{}
	for _, condition := range u.Retry.On {
		lasts := condition == config.OnCredential || condition == config.OnModel
		compiled.retriedOn[condition] = !(lasts && compiled.alone) // to ask the same target again would help nobody
	}
	if u.Retry.PerTry > 0 && !u.Alone() { // Envoy's clock has it, too, and makes another attempt
		compiled.whole = min(compiled.whole, u.Retry.PerTry)
	}
	compiled.secrets = secretsOf(t)
	compiled.certain = compiled.secrets.Certain()
	return compiled, nil
}

// options are what the target wants of its codec for a request for this model; the headers are the target's own and must not be changed.
func (t *target) options(model string) llm.Options {
	return llm.Options{
		Model: model, Headers: t.config.Headers,
		Dialect: t.config.Dialect, MaxTokens: t.config.DefaultMaxTokens, MaxOutput: t.config.MaxOutputTokens,
	}
}

func compileRoute(g *config.Gateway, rule *config.Rule) *route {
	compiled := &route{
		gateway:    g.Name,
		via:        envoy.ViaID(g.Via),
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
		models:     map[string][]byte{},
	}
	switch limits := rule.Limits(g); {
	case rule.Hedge() > 0: // the clock is needed for that
		compiled.clock = none
	case !rule.HeldOpen(g) && limits.FirstByte < limits.FirstToken:
		compiled.commitBy = limits.FirstByte + config.Slack*3/4 // before Envoy's clock ends it
	}
	owner := map[string]string{}
	for _, share := range rule.Shares {
		compiled.budgeted = compiled.budgeted || share.Upstream.Retry.BudgetPercent > 0
		compiled.attempts = max(compiled.attempts, int(share.Upstream.Attempts))
		compiled.listed = compiled.listed && share.Upstream.Listed
		for _, t := range share.Upstream.Targets {
			if len(t.Forward) > 0 {
				compiled.forwards = append(compiled.forwards, t)
			}
			for _, name := range t.AllModels() {
				if owner[name] == "" {
					owner[name] = t.Provider
				}
			}
		}
	}
	compiled.list = modelList(slices.Sorted(maps.Keys(owner)), owner)
	for name, by := range owner {
		compiled.models[name] = marshal(modelOf(name, by))
	}
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

// model is one entry of a list, and the answer to GET …/models/NAME, for clients of either schema: one object has the members that both
// SDKs read (https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models).
type model struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	OwnedBy     string `json:"owned_by"`
	Type        string `json:"type"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"`
}

func modelOf(name, owner string) model {
	return model{
		ID: name, Object: "model", OwnedBy: owner,
		Type: "model", DisplayName: name, CreatedAt: "1970-01-01T00:00:00Z", // nobody tells us
	}
}

// modelList answers GET …/models.
func modelList(names []string, owner map[string]string) []byte {
	list := struct {
		Object  string  `json:"object"`
		Data    []model `json:"data"`
		HasMore bool    `json:"has_more"`
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
	}{Object: "list", Data: []model{}}
	for _, name := range names {
		list.Data = append(list.Data, modelOf(name, owner[name]))
	}
	if n := len(names); n > 0 {
		list.FirstID, list.LastID = &names[0], &names[n-1]
	}
	return marshal(list)
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("extproc: models: " + err.Error())
	}
	return data
}

// lacks returns the error for a model that nobody on this route has, nil when any target may serve any model.
func (rt *route) lacks(model string) *llm.Error {
	if !rt.listed || rt.byModel || model == "" || rt.models[model] != nil { // a request without a model gets the target's default
		return nil
	}
	return noModel(model)
}

func noModel(name string) *llm.Error {
	e := llm.Errorf(llm.ErrNotFound, "the model %q does not exist here", name)
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
		if _, known := provider.At(candidate); known || candidate == operationModels || strings.HasPrefix(candidate, operationModels+"/") {
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
