package config

import (
	"fmt"
	"slices"
)

// prefer puts before each rule others for the models that only some of its targets list. They lead
// to upstreams of the same targets, in which those that list the model have the first priorities,
// and all others the next ones: so weights, priorities and failover are Envoy's own there too.
func (g *Gateway) prefer() {
	made := map[string]*Upstream{}
	var rules []*Rule
	for _, r := range g.Rules {
		rules = append(rules, g.preferring(r, made)...)
		rules = append(rules, r)
	}
	g.Rules = rules
}

// preferring are the rules to put before r: one for all models whose shares are the same.
func (g *Gateway) preferring(r *Rule, made map[string]*Upstream) []*Rule {
	var derived []*Rule
	byShares := map[string]*Rule{}
	for _, model := range r.preferable() {
		shares, key, changed := slices.Clone(r.Shares), "", false
		for i, s := range shares {
			if first := s.Upstream.listing(model); first != nil {
				shares[i].Upstream, changed = g.reordered(s.Upstream, first, made), true
			}
			key += shares[i].Upstream.Name + " "
		}
		if !changed {
			continue
		}
		if byShares[key] == nil {
			d := *r
			d.Models, d.Shares, d.Derived = nil, shares, true
			byShares[key] = &d
			derived = append(derived, &d)
		}
		byShares[key].Models = append(byShares[key].Models, model)
	}
	return derived
}

// preferable are the models, of those that the rule takes, that a target of an upstream with a
// preference lists.
func (r *Rule) preferable() []string {
	var models []string
	for _, s := range r.Shares {
		if !s.Upstream.Prefer {
			continue
		}
		for _, t := range s.Upstream.Targets {
			models = append(models, t.AllModels()...)
		}
	}
	slices.Sort(models)
	models = slices.Compact(models)
	if len(r.Models) > 0 {
		models = slices.DeleteFunc(models, func(m string) bool { return !slices.Contains(r.Models, m) })
	}
	return models
}

// listing tells of each target whether it lists the model; nil when there is nothing to prefer,
// because all do or none.
func (u *Upstream) listing(model string) []bool {
	if !u.Prefer {
		return nil
	}
	first, some, all := make([]bool, len(u.Targets)), false, true
	for i, t := range u.Targets {
		first[i] = t.Answer == "" && t.Lists(model) // a static target is for when no other can
		some, all = some || first[i], all && (first[i] || t.Answer != "")
	}
	if !some || all {
		return nil
	}
	return first
}

// reordered is u with these targets first.
func (g *Gateway) reordered(u *Upstream, first []bool, made map[string]*Upstream) *Upstream {
	key := fmt.Sprint(u.Name, first)
	if made[key] != nil {
		return made[key]
	}
	other := *u
	other.For, other.Targets = u, nil
	last := uint32(len(u.Targets)) // priorities have no gaps, so there are no more
	for i, t := range u.Targets {
		moved := *t
		if !first[i] {
			moved.Priority += last
		}
		other.Targets = append(other.Targets, &moved)
	}
	closePriorityGaps(other.Targets)
	made[key] = &other
	other.Name = fmt.Sprintf("prefer:%d:%s", len(made), u.Name)
	g.Upstreams = append(g.Upstreams, &other)
	return &other
}
