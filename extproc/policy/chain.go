// Package policy is the chain of policies of a rule. A policy is a kind (kinds.go), in a file of
// its own, with parameters; it is asked in its phases, in the order of the chain. The chain sees to
// all that policies have in common: when one is asked, the time that all may take, what becomes of
// what one says (action, mode) and of one that fails (on_error), and what is recorded of it. A nil
// chain has no policies.
//
// What policies look at are the texts of the client's own bytes: of its request before any target
// is chosen, and of the answer as the client would get it. A Session is one request's way through
// the chain, an Answer the answer of one attempt at it.
package policy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"millrace/audit"
	"millrace/config"
	"millrace/extproc/policy/condition"
	"millrace/extproc/policy/match"
	millracev1 "millrace/proto/millrace/v1"
)

// Request is what policies are told of a request that is about to be sent to a provider, beside its
// body. None of its text is in it.
type Request struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"` // when it came
	Gateway string    `json:"gateway"`
	Key     string    `json:"key,omitempty"`            // the name of the one that let it in
	Client  string    `json:"client_address,omitempty"` // as Envoy saw it
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Schema  string    `json:"schema"`
	Model   string    `json:"model,omitempty"`
	Stream  bool      `json:"stream"`
	Bytes   int       `json:"bytes"`  // of the body
	SHA256  string    `json:"sha256"` // of the body, as the client sent it

	Counts  bool     `json:"-"` // it asks how many tokens a conversation has
	Service string   `json:"-"`
	Tags    []string `json:"-"` // of the service
	// Headers are by their names in lower case, without credentials. Who wants them asks for them,
	// also when the request is over; nil: there are none.
	Headers func() map[string]string `json:"-"`
}

// Outcome is how a request has ended.
type Outcome struct {
	*millracev1.Event      // must not be changed
	Asked             bool // the chain was asked whether the request may be sent
}

// Host is what policies need of the process they are in.
type Host struct {
	// Audit is the open audit log of a folder, "" for the one that the process has when nobody
	// says; nil when it is not open.
	Audit func(dir string) *audit.Log
	Log   *slog.Logger
	// Metrics counts what policies say; nil: nobody does.
	Metrics *Metrics
}

// Chain is the policies of one rule, compiled. It is never changed; its methods may be called at
// the same time.
type Chain struct {
	timeout  time.Duration // of each request
	holdBack int           // bytes of a stream's text
	members  []*member
	input    sides
	output   sides
}

// sides is what a chain does in one phase. acts are the policies that a request or an answer waits
// for. watches are those that change nothing for clients: they look at what came in from beside,
// while it goes on.
type sides struct{ acts, watches side }

// side is some policies of a chain in one phase.
type side struct {
	phase   Phase
	members []*member // that are asked, in their order
	set     *match.Set
	owners  []owner // of the set's patterns
}

// owner is whose a pattern of the set is.
type owner struct {
	member  int // of the side
	pattern *pattern
}

// member is a policy of a chain, and the abilities of its kind that it has; nil for others.
type member struct {
	*config.Policy
	kind  *kind
	when  *condition.Condition // nil: always
	find  finder
	ask   asker
	frame framer
	end   ender
	fails atomic.Bool // it did, the last time it was asked
}

// Chains are those of one configuration.
type Chains struct {
	byWords  map[string]*Chain // by all that is said of one
	gateways map[*config.Gateway]*Chain
	rules    map[*config.Rule]*Chain
}

// Of is the chain of requests that no rule of the gateway has; nil for none.
func (c *Chains) Of(g *config.Gateway) *Chain { return c.gateways[g] }

// OfRule is the chain of a rule; nil for none.
func (c *Chains) OfRule(r *config.Rule) *Chain { return c.rules[r] }

// Compile makes the chains of a configuration. What is wrong with the parameters of policies is
// said with its path, all of it at once. Those that before has are taken from it: patterns take
// long to compile.
func Compile(c *config.Config, before *Chains) (*Chains, error) {
	all := &Chains{map[string]*Chain{}, map[*config.Gateway]*Chain{}, map[*config.Rule]*Chain{}}
	var found config.Errors
	add := func(g *config.Gateway, policies, shadow []*config.Policy) *Chain {
		chain, wrong := all.add(before, g, slices.Concat(policies, shadow))
		for _, w := range wrong {
			if !slices.Contains(found, w) {
				found = append(found, w)
			}
		}
		return chain
	}
	for _, g := range c.Gateways {
		all.gateways[g] = add(g, g.Policies, g.Shadow)
		for _, r := range g.Rules {
			all.rules[r] = add(g, r.Policies, r.Shadow)
		}
	}
	if len(found) > 0 {
		return nil, found
	}
	if _, err := AuditLogs(c); err != nil {
		return nil, err
	}
	return all, nil
}

// add makes a chain, unless it is there or was before.
func (c *Chains) add(before *Chains, g *config.Gateway, policies []*config.Policy) (*Chain, config.Errors) {
	if len(policies) == 0 {
		return nil, nil
	}
	said, err := json.Marshal([]any{policies, int64(g.PolicyTimeout), g.HoldBack}, json.Deterministic(true))
	if err != nil {
		return nil, config.Errors{{Path: "policies", Reason: err.Error()}}
	}
	words := string(said)
	if chain := c.byWords[words]; chain != nil {
		return chain, nil
	}
	if before != nil && before.byWords[words] != nil {
		c.byWords[words] = before.byWords[words]
		return c.byWords[words], nil
	}
	chain, wrong := compile(policies, g.PolicyTimeout, g.HoldBack)
	if len(wrong) == 0 {
		c.byWords[words] = chain
	}
	return chain, wrong
}

// compile makes a chain of at least one policy.
func compile(policies []*config.Policy, timeout time.Duration, holdBack int) (*Chain, config.Errors) {
	c := &Chain{timeout: timeout, holdBack: holdBack, input: sidesOf(Input), output: sidesOf(Output)}
	var found config.Errors
	for _, p := range policies {
		m, wrong := compileMember(p)
		if found = append(found, wrong...); len(wrong) > 0 {
			continue
		}
		c.members = append(c.members, m)
		if p.Phase.Input() {
			c.input.add(m)
		}
		if p.Phase.Output() {
			c.output.add(m)
		}
	}
	for _, s := range []*side{&c.input.acts, &c.input.watches, &c.output.acts, &c.output.watches} {
		if len(found) > 0 {
			break
		}
		if err := s.compile(); err != nil {
			found = append(found, config.Error{Path: "policies", Reason: err.Error()})
		}
	}
	return c, found
}

func sidesOf(p Phase) sides { return sides{acts: side{phase: p}, watches: side{phase: p}} }

func (s *sides) add(m *member) {
	if m.watches() {
		s.watches.members = append(s.watches.members, m)
		return
	}
	s.acts.members = append(s.acts.members, m)
}

// watches tells whether the member changes nothing for clients.
func (m *member) watches() bool { return m.Observe || m.Action == config.ActionFlag }

func (s *sides) none() bool { return len(s.acts.members)+len(s.watches.members) == 0 }

func compileMember(p *config.Policy) (*member, config.Errors) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == p.Kind })
	if i < 0 {
		return nil, config.Errors{{Path: p.Path(), Reason: fmt.Sprintf("there is no policy %q", p.Kind)}} // config has refused it
	}
	m := &member{Policy: p, kind: &kinds[i]}
	params := paramsOf(p, m.kind)
	params.known()
	if p.When != "" {
		when, err := condition.Compile(p.When)
		if err != nil {
			params.errorf("when", "%v", err)
		}
		m.when = when
	}
	made := kinds[i].make(params)
	m.find, _ = made.(finder)
	m.ask, _ = made.(asker)
	m.frame, _ = made.(framer)
	m.end, _ = made.(ender)
	return m, params.found
}

// compile makes one set of all patterns.
func (s *side) compile() error {
	var patterns []match.Pattern
	for i, m := range s.members {
		if m.find == nil {
			continue
		}
		for _, p := range m.find.patterns(s.phase) {
			patterns = append(patterns, p.Pattern)
			s.owners = append(s.owners, owner{i, &p})
		}
	}
	if len(patterns) == 0 {
		return nil
	}
	set, err := match.Compile(patterns)
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	if s.phase == Output {
		set.PrepareStreams()
	}
	s.set = set
	return nil
}

// End tells the chain how a request has ended. It does not wait.
func (c *Chain) End(h Host, o Outcome) {
	if c == nil {
		return
	}
	for _, m := range c.members {
		if m.end != nil {
			if err := recovered(func() error { return m.end.end(h, o) }); err != nil {
				m.note(h, err)
			}
		}
	}
}

// guarded calls f and waits for it, no longer than ctx: a policy that hangs is one that has failed.
func guarded(ctx context.Context, f func() (finding, error)) (finding, error) {
	type said struct {
		finding
		err error
	}
	done := make(chan said, 1)
	go func() {
		var s said
		s.err = recovered(func() (err error) {
			s.finding, err = f()
			return err
		})
		done <- s
	}()
	select {
	case s := <-done:
		return s.finding, s.err
	case <-ctx.Done():
		return finding{}, context.Cause(ctx)
	}
}

// recovered makes an error of a panic, which is a bug of ours.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// note logs that the policy fails, or works again.
func (m *member) note(h Host, err error) {
	switch was := m.fails.Swap(err != nil); {
	case err != nil && !was:
		h.Log.Error("policy: it fails", "policy", m.Name, "requests_are_sent", m.Allows, "error", err)
	case err == nil && was:
		h.Log.Info("policy: it works again", "policy", m.Name)
	}
}
