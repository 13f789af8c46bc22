package control

import (
	"slices"

	"millrace/config"
	"millrace/extproc"
)

// Ready tells whether requests are served: Envoy has taken a configuration, which it serves
// whatever it makes of the next one, nobody has asked us to go, and of the targets that rules lead
// to so many can serve as gateway.ready_when wants.
func (p *Plane) Ready() extproc.Readiness {
	c := p.Config()
	switch {
	case p.Draining():
		return extproc.Readiness{Reason: "the gateway is about to end"}
	case !p.settler.status.Load().served:
		return extproc.Readiness{Reason: "envoy has not taken a configuration yet"}
	case c.ReadyWhen == "configured":
		return extproc.Readiness{}
	}
	reached := served(c)
	down := p.down(reached)
	r := extproc.Readiness{Down: down}
	switch {
	case len(reached) == 0:
		r.Reason = "no rule leads to a target"
	case len(down) == len(reached):
		r.Reason = "no upstream has a target that can serve"
	case len(down) > 0 && c.ReadyWhen == "all":
		r.Reason = "an upstream has no target that can serve"
	}
	return r
}

// served are the upstreams that rules lead to, and that have targets.
func served(c *config.Config) []*config.Upstream {
	var all []*config.Upstream
	for _, g := range c.Gateways {
		for _, r := range g.Rules {
			for _, s := range r.Shares {
				if len(s.Upstream.Targets) > 0 && !slices.Contains(all, s.Upstream) {
					all = append(all, s.Upstream)
				}
			}
		}
	}
	return all
}

// down names those of the upstreams that have no target that can serve: each fails its checks,
// drains, or is out. Without an answer from Envoy, what it has acknowledged is all there is to go
// by, and none is.
func (p *Plane) down(upstreams []*config.Upstream) []string {
	living := p.Living()
	if living == nil {
		return nil
	}
	var names []string
	for _, u := range upstreams {
		if !slices.ContainsFunc(u.Targets, func(t *config.Target) bool {
			until, _ := p.Out(t.Identity)
			return living[t.Identity] && until.IsZero()
		}) {
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	return names
}
