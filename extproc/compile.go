package extproc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/config"
	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/extproc/policy"
	"millrace/extproc/provider"
	"millrace/internal/redact"
	"millrace/prices"
	"millrace/schema"
)

// Runtime is a configuration compiled for the data path: a request only looks things up. It is
// never changed.
type Runtime struct {
	Version      string
	maxBodyBytes int64  // of one request
	maxBodies    int64  // of all under way together
	maxMemory    uint64 // of this process; 0: what suits the machine
	telemetry    config.Telemetry
	routes       map[string]*route  // by Envoy's route name: what the router stream goes by until the body is read
	rules        map[string]*route  // by the same names, those of rules: what attempts live by
	targets      map[string]*target // by identity, as endpoints' metadata have it
	prices       prices.Table
	policies     *policy.Chain // of the first gateway: it sees requests that no gateway has, too
	chains       *policy.Chains
}

// route is one of Envoy's: that of a rule, or one that refuses.
type route struct {
	gateway  string
	name     string            // of the rule, for people
	service  string            // "" where the body decides, or the rule is an A/B test of several
	tags     []string          // of the service
	services map[string]string // of a rule of several: that of each target, by its identity; "" where it is of several
	path     string            // the rule's, "" for "/"
	strip    bool
	keys     *keys // nil: none is needed
	// policies are the gateway's and the service's; nil: none.
	policies *policy.Chain
	tries
	choice

	refusal    *llm.Error  // of a route that exists to refuse
	allow      string      // methods, for the refusal's header
	bareSchema schema.Name // of the requests that Envoy may serve by itself; "": none
	unread     bool        // it always does: no body of theirs is read
	capture    string      // what events have of what is said; "": nothing
	looped     bool        // the refused request is a part of one that this gateway has an event of

	provider string            // whose a model is that no target lists
	owners   map[string]string // the models that some target lists, and their providers
	models   map[string][]byte // the answers to GET …/models/NAME, by those names
	list     []byte            // the answer to GET …/models
	forwards []*config.Target  // those that get headers of the client's beside those that all get
}

// tries is what an attempt lives by, as the plan has it.
type tries struct {
	request   time.Duration // how long a request for a whole answer may take, with all its attempts
	attempts  int           // at most
	perTry    time.Duration // how long an attempt at a whole answer may take, whatever its target may; 0: no bound
	hedges    bool          // another target may be asked beside one that is late
	detaches  bool          // from a stream of the client's schema, at its first token
	atHeaders bool          // the client gets a stream's head before its first token
	// interChunk is how long a stream may be silent behind its first token, keepAlive when a
	// comment breaks its silence; 0: never.
	interChunk, keepAlive time.Duration
	via                   string // what the gateway puts on x-millrace-via
}

// choice is what the body decides.
type choice struct {
	byModel []modelRule // the rules that Envoy chooses from once the model is known, in its order; nil: it has chosen
	listed  bool        // models are all there is
	prompts bool        // Envoy chooses targets by how the conversation begins
	schemas []*target   // one target of each schema, where all upstreams have targets of several
}

// modelRule is a rule that Envoy may choose by the model.
type modelRule struct {
	models []string // nil: any
	sure   bool     // the model is all that is still asked for
	route  *route
}

// target is one target with everything about it that no request changes.
type target struct {
	config  *config.Target
	codec   provider.Codec
	signer  signer // of its credential; nil for none
	secrets redact.Set
	certain redact.Set // see asking
	// first is how long a stream may be silent before its first token, whole how long an attempt at
	// a whole answer may take. firstToken bounds the wait for a stream's first token, whatever
	// comes before it.
	first, whole, firstToken time.Duration
	maxCooldown              time.Duration   // 0: what it says of when to come back is not heeded
	retriedOn                map[string]bool // conditions (outcome.go)
	alone                    bool            // there is no other target to ask
}

// Compile derives the data path's half of a configuration. The error names the target that cannot
// be served, or the policy. before is the runtime of another configuration, nil for none: what is
// the same in both and takes long to make is made once.
func Compile(c *config.Config, before *Runtime) (*Runtime, error) {
	chains, err := policy.Compile(c, before.policyChains())
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		chains:       chains,
		prices:       c.Prices,
		Version:      c.Version,
		maxBodyBytes: c.MaxRequestBytes,
		maxBodies:    c.MaxBodies,
		maxMemory:    c.MaxSidecar,
		telemetry:    c.Telemetry,
		routes: map[string]*route{
			envoy.RouteNone: {refusal: llm.Errorf(llm.ErrNotFound, "no rule of this gateway has this path")},
			envoy.RouteLoop: {refusal: llm.Errorf(llm.ErrLoop, "the request came back to a gateway that it has passed: one of its targets leads there"), looped: true},
			envoy.RouteHops: {refusal: llm.Errorf(llm.ErrLoop, "the request has passed %d gateways", envoy.MaxVia)},
		},
		rules:   map[string]*route{},
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
		r.compileRules(g, chains.Of(g))
	}
	r.policies = chains.Of(c.Gateways[0])
	return r, nil
}

func (r *Runtime) policyChains() *policy.Chains {
	if r == nil {
		return nil
	}
	return r.chains
}

// compileRules makes the routes of a gateway. Its rules come in Envoy's order, those of a path
// together.
func (r *Runtime) compileRules(g *config.Gateway, policies *policy.Chain) {
	keys := compileKeys(g)
	var byModel []modelRule // of this path, so far
	for i, rule := range g.Rules {
		if i == 0 || g.Rules[i-1].Path != rule.Path {
			byModel = nil
		}
		name, compiled := rule.RouteName(g), r.compileRule(g, rule)
		compiled.keys, compiled.policies = keys, r.chains.OfRule(rule)
		r.rules[name] = compiled
		switch {
		case len(rule.Models) == 0:
			r.routes[name] = undecided(compiled, append(slices.Clip(byModel), modelRule{sure: true, route: compiled}))
		case rule.Takes("POST"):
			byModel = append(byModel, modelRule{models: rule.Models, sure: rule.OnlyModels(), route: compiled})
		}
		if last := i == len(g.Rules)-1 || g.Rules[i+1].Path != rule.Path; last && rule.Plan.Choice.Rule {
			nobody := &route{gateway: g.Name, path: compiled.path, keys: keys, policies: policies}
			nobody.describeModels()
			r.routes[envoy.RouteModel+g.Name+" "+rule.Path] = undecided(nobody, byModel)
		}
		if !rule.Derived {
			r.allow(g, rule, policies)
		}
	}
}

// undecided is rt for requests whose body is not read yet: by the model Envoy chooses one of these
// rules. What is looked at before the body holds for all of them.
func undecided(rt *route, byModel []modelRule) *route {
	if len(byModel) == 0 || byModel[0].models == nil { // there is rt alone
		return rt
	}
	first := *rt
	first.byModel = byModel
	first.owners = map[string]string{}
	maps.Copy(first.owners, rt.owners)
	for _, m := range byModel {
		first.strip = first.strip || m.route.strip
		first.forwards = append(slices.Clip(first.forwards), m.route.forwards...)
		for _, name := range m.models {
			if m.route.lacks(name) != nil {
				continue
			}
			first.owners[name] = cmp.Or(first.owners[name], m.route.owners[name], m.route.provider)
		}
	}
	first.describeModels()
	return &first
}

// decided is the route of a request for this model. Where it depends on more than the model, which
// is for Envoy to look at, it is what holds for all that it may be.
func (rt *route) decided(model string) *route {
	var may *route
	for _, m := range rt.byModel {
		if m.models != nil && !slices.Contains(m.models, model) {
			continue
		}
		if may = may.or(m.route); m.sure {
			break
		}
	}
	return cmp.Or(may, rt)
}

// or is what holds for both.
func (rt *route) or(other *route) *route {
	if rt == nil {
		return other
	}
	both := *rt
	both.request = config.Unbounded
	both.listed = rt.listed && other.listed
	both.prompts = rt.prompts || other.prompts
	if other.schemas == nil {
		both.schemas = nil
	}
	both.owners = map[string]string{}
	maps.Copy(both.owners, rt.owners)
	maps.Copy(both.owners, other.owners)
	return &both
}

// ofSchemas are the targets that a request is tried for, before one is chosen.
func (r *Runtime) ofSchemas(c config.Choice) []*target {
	var all []*target
	for _, t := range c.Schemas {
		all = append(all, r.targets[t.Identity])
	}
	return all
}

func compileTarget(u *config.Upstream, t *config.Target) (*target, error) {
	if t.Answer != "" {
		return &target{config: t, alone: u.Alone()}, nil
	}
	codec, ok := provider.Of(t.Schema)
	if !ok || codec.Target == nil {
		return nil, fmt.Errorf("target %q: no target speaks schema %q in this version", t.Name, t.Schema)
	}
	compiled := &target{config: t, codec: codec, first: t.Timeouts.FirstByte, whole: u.WholeAttempt(t), firstToken: t.Timeouts.FirstToken}
	compiled.maxCooldown, compiled.alone = u.MaxCooldown, u.Alone()
	compiled.retriedOn = map[string]bool{}
	for _, condition := range u.Retry.On {
		compiled.retriedOn[condition] = u.AsksAnother(condition)
	}
	if t.AuthHeader != "" {
		compiled.signer = keyHeader{t.AuthHeader, t.AuthValue}
	}
	compiled.secrets = secretsOf(t)
	compiled.certain = compiled.secrets.Certain()
	return compiled, nil
}

// options are what the target wants of its codec for a request for this model; the headers are the
// target's own and must not be changed.
func (t *target) options(model string) llm.Options {
	return llm.Options{
		Model: model, Headers: t.config.Headers,
		Dialect: t.config.Dialect, MaxTokens: t.config.DefaultMaxTokens, MaxOutput: t.config.MaxOutputTokens,
	}
}

func (r *Runtime) compileRule(g *config.Gateway, rule *config.Rule) *route {
	p := rule.Plan
	compiled := &route{
		gateway:    g.Name,
		name:       rule.String(),
		service:    rule.Service,
		services:   servicesOf(rule),
		capture:    rule.Capture,
		tags:       rule.Tags,
		path:       strings.TrimSuffix(rule.Path, "/"),
		strip:      rule.Strip,
		unread:     p.Bare == config.BareAlways,
		bareSchema: bareSchema(rule),
		tries: tries{
			request:    p.Request,
			attempts:   p.Attempts.Most,
			perTry:     p.PerTry,
			hedges:     p.Attempts.Hedge > 0,
			detaches:   p.Detaches,
			atHeaders:  g.Stream.AtHeaders,
			interChunk: g.Stream.InterChunk,
			keepAlive:  g.Stream.KeepAlive,
			via:        envoy.ViaID(g.Via),
		},
		choice: choice{
			listed:  p.Choice.Listed,
			prompts: p.Choice.Prompt,
			schemas: r.ofSchemas(p.Choice),
		},
		provider: rule.Shares[0].Upstream.Targets[0].Provider,
		owners:   map[string]string{},
	}
	for _, share := range rule.Shares {
		for _, t := range share.Upstream.Targets {
			if len(t.Forward) > 0 {
				compiled.forwards = append(compiled.forwards, t)
			}
			for _, name := range t.AllModels() {
				compiled.owners[name] = cmp.Or(compiled.owners[name], t.Provider)
			}
		}
	}
	compiled.describeModels()
	return compiled
}

// servicesOf tells which service of a rule of several has a target.
func servicesOf(rule *config.Rule) map[string]string {
	if len(rule.Shares) < 2 {
		return nil
	}
	of := map[string]string{}
	for _, share := range rule.Shares {
		for _, t := range share.Upstream.Targets {
			if other, several := of[t.Identity]; several && other != share.Service {
				of[t.Identity] = ""
				continue
			}
			of[t.Identity] = share.Service
		}
	}
	return of
}

func bareSchema(rule *config.Rule) schema.Name {
	if rule.Plan.Bare == config.BareNever {
		return ""
	}
	return rule.BareSchema().Name
}

// describeModels makes the answers that tell of the models.
func (rt *route) describeModels() {
	rt.models = map[string][]byte{}
	for name, by := range rt.owners {
		rt.models[name] = marshal(modelOf(name, by))
	}
	rt.list = modelList(slices.Sorted(maps.Keys(rt.owners)), rt.owners)
}

// allow keeps the refusal for methods that no rule of this path takes up to date.
func (r *Runtime) allow(g *config.Gateway, rule *config.Rule, policies *policy.Chain) {
	name := envoy.RouteMethod + g.Name + " " + rule.Path
	existing := r.routes[name]
	if existing == nil {
		existing = &route{gateway: g.Name, policies: policies, refusal: llm.Errorf(llm.ErrMethod, "")}
		r.routes[name] = existing
	}
	methods := rule.Methods
	if existing.allow != "" {
		methods = append(strings.Split(existing.allow, ", "), methods...)
	}
	existing.allow = strings.Join(methods, ", ")
	existing.refusal = llm.Errorf(llm.ErrMethod, "this path takes %s", existing.allow)
}

// model is one entry of a list, and the answer to GET …/models/NAME, for clients of either schema:
// one object has the members that both SDKs read
// (https://platform.openai.com/docs/api-reference/models,
// https://docs.anthropic.com/en/api/models).
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

// lacks returns the error for a model that nobody on this route has, nil when any target may serve
// any model.
func (rt *route) lacks(model string) *llm.Error {
	if _, has := rt.owners[model]; !rt.listed || model == "" || has { // a request without a model gets the target's default
		return nil
	}
	return noModel(model)
}

func noModel(name string) *llm.Error {
	e := llm.Errorf(llm.ErrNotFound, "the model %q does not exist here", name)
	e.Code, e.Param = "model_not_found", "model"
	return e
}

// operation finds what a request wants: the path below the rule and the version segment, without a
// slash at its end.
func (rt *route) operation(path string) string {
	below, ok := strings.CutPrefix(path, rt.path)
	if !ok {
		below = path
	}
	for _, candidate := range []string{below, path} {
		candidate = strings.TrimSuffix(schema.BelowVersion(candidate), "/")
		if _, _, known := provider.At(candidate); known || candidate == operationModels || strings.HasPrefix(candidate, operationModels+"/") {
			return candidate
		}
	}
	if rt.strip && strings.Trim(below, "/") == "" {
		return "" // the rule's own path: a client that was told one URL and no operation (seed 001)
	}
	return below
}

const operationModels = "/models"

// mayReachClient tells whether a client gets the header of a target's answer.
func mayReachClient(name string, client, target *schema.Schema) bool {
	if slices.Contains(envoy.ResponseHeaders, name) || strings.HasPrefix(name, ":") {
		return true
	}
	return client.Family == target.Family && target.Tells(name)
}
