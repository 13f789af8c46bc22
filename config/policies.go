package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

// Policy is one of a chain.
type Policy struct {
	Name   string // what the chain calls it; a policy of a pack is called "pack/policy"
	Kind   string
	Phase  Phase
	Action Action // "" of the kinds that do not judge
	// Observe: it changes nothing for clients, and what it would have done is recorded.
	Observe bool
	// Allows: where the policy has failed, the request or its answer goes on without it (on_error:
	// allow).
	Allows bool
	When   string         // CEL: the policy is asked where it holds; "": always
	Status int            // what a client gets whom it blocks; 0 unless Action is ActionBlock
	Reason string         // what that client is told; "": nothing beside the policy's name
	Params map[string]any // of its kind, as JSON has them

	path string
}

// Path is where the document says something of the policy: "policies.policy.strict-dlp".
func (p *Policy) Path() string { return p.path }

// Phase is when a policy is asked.
type Phase string

// The phases: before a request is sent to a provider, and before the client gets the answer.
const (
	PhaseInput  Phase = "input"
	PhaseOutput Phase = "output"
	PhaseBoth   Phase = "both"
)

// Input tells whether the phase is one before the request is sent.
func (p Phase) Input() bool { return p == PhaseInput || p == PhaseBoth }

// Output tells whether the phase is one in which the answer is read.
func (p Phase) Output() bool { return p == PhaseOutput || p == PhaseBoth }

// Action is what comes of it when a policy finds something.
type Action string

// The actions. A flag is a verdict that is recorded, and changes nothing for the client.
const (
	ActionBlock  Action = "block"
	ActionRedact Action = "redact"
	ActionFlag   Action = "flag"
)

// PolicyKind is what all policies of a kind can be told.
type PolicyKind struct {
	Name    string
	Phase   Phase    // those that it has
	Actions []Action // the default first; none of a kind that does not judge
}

// PolicyKinds are the kinds of policies that there are; extproc/policy has them.
var PolicyKinds = []PolicyKind{
	{"audit-logger", PhaseInput, nil},
	{"dlp", PhaseBoth, []Action{ActionRedact, ActionBlock, ActionFlag}},
	{"content-filter", PhaseBoth, []Action{ActionBlock, ActionRedact, ActionFlag}},
	{"prompt-injection", PhaseInput, []Action{ActionBlock, ActionFlag}},
	{"disclaimer", PhaseOutput, nil},
	{"model-access", PhaseInput, []Action{ActionBlock, ActionFlag}},
	{"request-limits", PhaseInput, []Action{ActionBlock, ActionFlag}},
	{"expression", PhaseBoth, []Action{ActionBlock, ActionFlag}},
	{"json-schema", PhaseOutput, []Action{ActionBlock, ActionFlag}},
	{"webhook", PhaseBoth, []Action{ActionBlock, ActionRedact, ActionFlag}},
}

func policyKind(name string) (PolicyKind, bool) {
	i := slices.IndexFunc(PolicyKinds, func(k PolicyKind) bool { return k.Name == name })
	if i < 0 {
		return PolicyKind{}, false
	}
	return PolicyKinds[i], true
}

func policyKindNames() string {
	var names []string
	for _, k := range PolicyKinds {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

const (
	// maxPolicyTimeout is shorter than Envoy waits for the sidecar.
	maxPolicyTimeout = 8 * time.Second

	minHoldBack, maxHoldBack, defaultHoldBack = 1 << 10, 1 << 20, 64 << 10 // bytes

	maxWhen, maxReason = 4096, 500 // bytes

	// blockStatus is 409: the request conflicts with what the operator wants.
	blockStatus = 409
)

// commands are the statuses of the 4xx that tell clients what to do next, such as to log in or to
// ask again, which is not what a policy means.
var commands = []int{401, 407, 408, 425, 429}

// link is a policy in a chain.
type link struct {
	*Policy
	at     string // where the chain names it: "services[1].policies.chain[0]"
	shadow bool   // it is in a shadow chain
}

// chains are the policies of a document that are in force.
type chains struct {
	gateway  []link         // for all requests
	services map[int][]link // further ones, by the place of the service
}

// of are those for the requests of a service.
func (c chains) of(service int) []link { return slices.Concat(c.gateway, c.services[service]) }

// each calls f with every policy of every chain, in order.
func (c chains) each(f func(link)) {
	for _, l := range c.gateway {
		f(l)
	}
	for _, i := range slices.Sorted(maps.Keys(c.services)) {
		for _, l := range c.services[i] {
			f(l)
		}
	}
}

// mainChain and shadowChain take a chain apart.
func mainChain(all []link) []*Policy   { return policiesOf(all, false) }
func shadowChain(all []link) []*Policy { return policiesOf(all, true) }

func policiesOf(all []link, shadow bool) []*Policy {
	var some []*Policy
	for _, l := range all {
		if l.shadow == shadow {
			some = append(some, l.Policy)
		}
	}
	return some
}

// policiesOn tells whether any policy is to be carried out.
func policiesOn(doc *millracev1.Document) bool {
	on := false
	chainsOf(doc).each(func(link) { on = true })
	return on
}

// readsAnswers tells whether a policy is to be asked of answers.
func readsAnswers(doc *millracev1.Document) bool {
	reads := false
	chainsOf(doc).each(func(l link) { reads = reads || l.Phase.Output() })
	return reads
}

// bundle is a set of policies that chains name: the document's own, or those of a pack.
type bundle struct {
	path   string // "policies", "packs[1].policies"
	prefix string // of the names of its policies
	says   *millracev1.Policies
	off    bool
}

// bundles are the document's own policies and then its packs'.
func bundles(doc *millracev1.Document) []bundle {
	all := []bundle{{path: "policies", says: doc.Policies, off: off(doc.Pack)}}
	for i, p := range doc.Packs {
		all = append(all, bundle{fmt.Sprintf("packs[%d].policies", i), p.Name + "/", p.Policies, off(p)})
	}
	return all
}

func off(p *millracev1.Pack) bool { return p != nil && p.Enabled != nil && !p.GetEnabled() }

// chainsOf resolves the chains of a document; of one that is wrong, what can be.
func chainsOf(doc *millracev1.Document) chains {
	all, made := bundles(doc), map[string]*Policy{}
	c := chains{services: map[int][]link{}}
	for _, b := range all {
		if !b.off {
			c.gateway = append(c.gateway, b.links(b.path, b.says, made)...)
		}
	}
	for i, s := range doc.Services {
		if !all[0].off {
			c.services[i] = all[0].links(servicePath(i), s.Policies, made)
		}
	}
	return c
}

func servicePath(i int) string { return fmt.Sprintf("services[%d].policies", i) }

// chained is what has chains.
type chained interface {
	GetChain() []string
	GetShadow() []string
}

// links resolves the chains at path, whose names are of the bundle. Chains that name one policy
// have the same, which is in made.
func (b bundle) links(path string, c chained, made map[string]*Policy) []link {
	var all []link
	add := func(field string, names []string, shadow bool) {
		for i, name := range names {
			key := fmt.Sprintf("%s %s %v", b.path, name, shadow)
			if made[key] == nil {
				made[key] = (&validation{}).policy(b, name)
			}
			if p := made[key]; p != nil {
				p.Observe = p.Observe || shadow
				all = append(all, link{p, fmt.Sprintf("%s.%s[%d]", path, field, i), shadow})
			}
		}
	}
	add("chain", c.GetChain(), false)
	add("shadow", c.GetShadow(), true)
	return all
}

// policies checks the bundles, what all policies have, and the chains. What their kinds have those
// check.
func (v *validation) policies(doc *millracev1.Document) {
	v.packs(doc)
	all := bundles(doc)
	gateway := map[string]string{}
	for i, b := range all {
		taken := map[string]string{}
		if i == 0 {
			taken = gateway
		}
		for _, name := range slices.Sorted(maps.Keys(b.says.GetPolicy())) {
			v.policy(b, name)
		}
		v.chain(b, b.path, b.says, taken)
	}
	for i, s := range doc.Services {
		v.chain(all[0], servicePath(i), s.Policies, maps.Clone(gateway))
	}
	if t := doc.Gateway.GetTimeouts().GetPolicyTimeout(); policiesOn(doc) && t.AsDuration() > maxPolicyTimeout {
		v.errorf("gateway.timeouts.policy_timeout", "want at most %s: Envoy waits no longer for the sidecar", maxPolicyTimeout)
	}
	if size := doc.Gateway.GetStreaming().GetBufferSize(); size != nil && (size.Bytes < minHoldBack || size.Bytes > maxHoldBack) {
		v.errorf("gateway.streaming.buffer_size", "want 1KiB to 1MiB")
	}
}

// chain checks the names that chains have. taken are those that are in a chain already, and where.
func (v *validation) chain(b bundle, path string, c chained, taken map[string]string) {
	check := func(field string, names []string, shadow bool) {
		for i, name := range names {
			at := fmt.Sprintf("%s.%s[%d]", path, field, i)
			if other, again := taken[name]; again {
				v.errorf(at, "policy %q is in the chain already (%s)", name, other)
				continue
			}
			taken[name] = at
			params := b.says.GetPolicy()[name]
			p := (&validation{}).policy(b, name)
			switch {
			case p == nil && params == nil:
				v.errorf(at, "there is no policy %q: want a name of %s.policy or a kind: %s", name, b.path, policyKindNames())
			case p != nil && shadow && p.Action == "":
				v.errorf(at, "%s does not judge: there is nothing to observe", p.Kind)
			case p != nil && shadow && params.GetFields()[fieldMode].GetStringValue() == modeEnforce:
				v.errorf(at, "policy %q has mode: enforce, and a shadow chain observes", name)
			}
		}
	}
	check("chain", c.GetChain(), false)
	check("shadow", c.GetShadow(), true)
}

// packs checks the names, versions and switches of packs.
func (v *validation) packs(doc *millracev1.Document) {
	if doc.Pack.GetPolicies() != nil || doc.Pack.GetId() != "" {
		v.errorf("pack", "names the policies that this document itself has; one with an id and policies of its own is an item of packs")
	}
	ids, versions, enabled := names{}, names{}, map[string]int{}
	for i, p := range doc.Packs {
		path := fmt.Sprintf("packs[%d]", i)
		if !policyName.MatchString(p.Name) {
			v.errorf(path+".name", "want letters, digits and ._- after a letter or a digit, at most %d", maxName)
		}
		if !packVersion.MatchString(p.Version) {
			v.errorf(path+".version", "want a version such as 1.0.0")
		}
		v.unique(ids, path+".id", p.Id, i)
		v.unique(versions, path+".version", PackVersion(p), i)
		if off(p) {
			continue
		}
		if other, again := enabled[p.Name]; again {
			v.errorf(path+".enabled", "version %s of pack %q is enabled already: only one of them can be", doc.Packs[other].Version, p.Name)
			continue
		}
		enabled[p.Name] = i
	}
}

// PackVersion is what a version of a pack is called: "house-rules@1.0.0".
func PackVersion(p *millracev1.Pack) string { return p.GetName() + "@" + p.GetVersion() }

var (
	policyName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	packVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
)

// What all policies have.
const (
	fieldKind    = "kind"
	fieldPhase   = "phase"
	fieldAction  = "action"
	fieldMode    = "mode"
	fieldOnError = "on_error"
	fieldWhen    = "when"
	fieldStatus  = "status"
	fieldReason  = "reason"
)

const (
	modeEnforce = "enforce"
	modeObserve = "observe"

	onErrorBlock = "block"
	onErrorAllow = "allow"
)

// policy reads what a bundle says of one policy; nil where that has no kind.
func (v *validation) policy(b bundle, name string) *Policy {
	p := &Policy{Name: b.prefix + name, path: b.path + ".policy." + name, Params: b.says.GetPolicy()[name].AsMap()}
	if !policyName.MatchString(name) {
		v.errorf(p.path, "want a name of letters, digits and ._- after a letter or a digit, at most %d", maxName)
	}
	s := settings{v, p}
	kind, known := s.kind(name)
	if !known {
		v.errorf(p.path+"."+fieldKind, "want a kind, which its name is where this is left out: %s", policyKindNames())
		return nil
	}
	p.Kind = kind.Name
	p.Phase = s.phase(kind)
	p.Action = s.action(kind)
	p.Observe = s.word(fieldMode, modeEnforce, modeObserve) == modeObserve
	if p.Observe && p.Action == "" {
		v.errorf(p.path+"."+fieldMode, "%s does not judge: there is nothing to observe", kind.Name)
	}
	p.Allows = s.word(fieldOnError, onErrorBlock, onErrorAllow) == onErrorAllow
	p.When = s.text(fieldWhen, maxWhen)
	for _, of := range []string{fieldStatus, fieldReason} {
		if _, given := p.Params[of]; given && p.Action != ActionBlock {
			v.errorf(p.path+"."+of, "is for action: block")
		}
	}
	p.Status = s.status()
	p.Reason = s.text(fieldReason, maxReason)
	return p
}

// settings takes what all policies have out of the parameters of one.
type settings struct {
	v *validation
	p *Policy
}

func (s settings) take(field string) (value any, given bool) {
	value, given = s.p.Params[field]
	delete(s.p.Params, field)
	return value, given
}

func (s settings) kind(name string) (PolicyKind, bool) {
	if value, given := s.take(fieldKind); given {
		name, _ = value.(string)
	}
	return policyKind(name)
}

// text is one line; "" where there is none.
func (s settings) text(field string, most int) string {
	value, given := s.take(field)
	text, _ := value.(string)
	if given && (text == "" || len(text) > most || hasControl(text)) {
		s.v.errorf(s.p.path+"."+field, "want a text of one line, at most %d bytes", most)
		return ""
	}
	return text
}

// word is one of some, the first where there is none.
func (s settings) word(field string, some ...string) string {
	value, given := s.take(field)
	word, _ := value.(string)
	switch {
	case !given:
		return some[0]
	case !slices.Contains(some, word):
		s.v.errorf(s.p.path+"."+field, "want %s", strings.Join(some, " or "))
		return some[0]
	}
	return word
}

func (s settings) phase(k PolicyKind) Phase {
	if k.Phase == PhaseBoth {
		return Phase(s.word(fieldPhase, string(PhaseBoth), string(PhaseInput), string(PhaseOutput)))
	}
	return Phase(s.word(fieldPhase, string(k.Phase)))
}

func (s settings) action(k PolicyKind) Action {
	if len(k.Actions) == 0 {
		if _, given := s.take(fieldAction); given {
			s.v.errorf(s.p.path+"."+fieldAction, "%s does not judge: it has no action", k.Name)
		}
		return ""
	}
	var words []string
	for _, a := range k.Actions {
		words = append(words, string(a))
	}
	return Action(s.word(fieldAction, words...))
}

// status is what a client gets whom the policy blocks.
func (s settings) status() int {
	value, given := s.take(fieldStatus)
	if s.p.Action != ActionBlock {
		return 0
	}
	if !given {
		return blockStatus
	}
	n, _ := value.(float64)
	if n != float64(int(n)) || n < 400 || n > 499 || slices.Contains(commands, int(n)) {
		s.v.errorf(s.p.path+"."+fieldStatus, "want 400 to 499, but for 401, 407, 408, 425 and 429, which tell clients to log in or to ask again")
		return blockStatus
	}
	return int(n)
}

// rulePolicies checks that it is clear which policies a request has before Envoy chooses among
// services: they are asked first. doc is right but for that.
func (v *validation) rulePolicies(doc *millracev1.Document, services names) {
	of := func(ref string) *millracev1.ServicePolicies { return doc.Services[services[ref]].GetPolicies() }
	same := func(a, b string) bool {
		return slices.Equal(of(a).GetChain(), of(b).GetChain()) && slices.Equal(of(a).GetShadow(), of(b).GetShadow())
	}
	for i, r := range doc.Rules {
		if !r.GetActive() {
			continue
		}
		refs := serviceRefs(r)
		for j, ref := range refs {
			if !same(refs[0], ref) {
				v.errorf(fmt.Sprintf("rules[%d].services[%d]", i, j), "service %q has other policies than service %q; those of a rule must have the same, for policies are asked before Envoy chooses", ref, refs[0])
				break
			}
		}
		for j, other := range doc.Rules[:i] {
			if other.GetActive() && cleanPath(other.Path) == cleanPath(r.Path) && (unsure(r) || unsure(other)) && !same(refs[0], serviceRefs(other)[0]) {
				v.errorf(fmt.Sprintf("rules[%d]", i), "leads to other policies than rule %d of this path; where a model and headers or query choose together the policies must be the same, for they are asked before Envoy chooses", j)
				break
			}
		}
	}
}

// unsure tells whether the model alone does not say that it is this rule.
func unsure(r *millracev1.Rule) bool {
	return len(r.Models) > 0 && len(r.Headers)+len(r.Query) > 0
}

// serviceRefs are the names or ids of the services that a rule leads to.
func serviceRefs(r *millracev1.Rule) []string {
	if len(r.Services) == 0 {
		return []string{r.Service + r.ServiceId}
	}
	var refs []string
	for _, s := range r.Services {
		refs = append(refs, s.Service)
	}
	return refs
}

// idlePolicies names what is written of policies that are not carried out.
func (v *validation) idlePolicies(doc *millracev1.Document) {
	for i, b := range bundles(doc) {
		for _, name := range slices.Sorted(maps.Keys(b.says.GetPolicy())) {
			named := slices.Contains(b.says.Chain, name) || slices.Contains(b.says.Shadow, name)
			if i == 0 {
				named = named || slices.ContainsFunc(doc.Services, func(s *millracev1.Service) bool {
					return slices.Contains(s.GetPolicies().GetChain(), name) || slices.Contains(s.GetPolicies().GetShadow(), name)
				})
			}
			if !named {
				v.errorf(b.path+".policy."+name, "has no effect: no chain names it")
			}
		}
	}
}
