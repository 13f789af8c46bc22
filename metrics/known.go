package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// other stands for whatever the configuration does not name.
const other = "other"

// known are the values that labels may have. It is never changed.
type known struct {
	config    *config.Config
	gateways  map[string]*gateway
	providers map[string]bool
}

type gateway struct {
	name     string
	services map[string]bool
	models   map[string]bool // that clients may ask for
	targets  map[targetKey]*target
}

type targetKey struct{ upstream, id string }

type target struct {
	upstream, name, provider string
	models                   map[string]bool // that it may be asked for
}

var (
	nowhere = &gateway{} // of requests that no gateway took
	unknown = &gateway{name: other}
)

func newKnown(c *config.Config) *known {
	k := &known{config: c, gateways: map[string]*gateway{}, providers: map[string]bool{}}
	if c == nil {
		return k
	}
	for _, from := range c.Gateways {
		g := &gateway{name: from.Name, services: map[string]bool{}, models: map[string]bool{}, targets: map[targetKey]*target{}}
		k.gateways[from.Name] = g
		for _, rule := range from.Rules {
			g.services[rule.Service] = true
			add(g.models, rule.Models...)
		}
		for _, u := range from.Upstreams {
			for _, t := range u.Targets {
				asked := &target{upstream: t.Upstream(), name: t.ID, provider: t.Provider, models: map[string]bool{}}
				add(asked.models, t.Models...)
				add(asked.models, t.DefaultModel)
				for _, mapped := range t.ModelMap {
					asked.models[mapped] = true
				}
				g.targets[targetKey{asked.upstream, asked.name}] = asked
				add(g.models, t.AllModels()...)
				k.providers[t.Provider] = true
			}
		}
	}
	return k
}

func add(to map[string]bool, names ...string) {
	for _, name := range names {
		to[name] = true
	}
}

func (k *known) gateway(name string) *gateway {
	if name == "" {
		return nowhere
	}
	if g := k.gateways[name]; g != nil {
		return g
	}
	return unknown
}

func (k *known) provider(name string) string { return oneOf(k.providers, name) }

func (g *gateway) service(name string) string { return oneOf(g.services, name) }

func (g *gateway) model(name string) string { return oneOf(g.models, name) }

func (t *target) model(name string) string { return oneOf(t.models, name) }

// target is the one of an attempt. One without a name was not reached, and nobody says which it
// would have been.
func (g *gateway) target(a *millracev1.Attempt) *target {
	if t := g.targets[targetKey{a.Upstream, a.Target}]; t != nil {
		return t
	}
	if a.Target == "" {
		return &target{}
	}
	return &target{upstream: other, name: other, provider: other}
}

func oneOf(names map[string]bool, name string) string {
	if name == "" || names[name] {
		return name
	}
	return other
}

var schemaNames = func() map[string]bool {
	names := map[string]bool{}
	for _, s := range schema.All() {
		names[string(s.Name)] = true
	}
	return names
}()

func schemaName(name string) string { return oneOf(schemaNames, name) }

// present holds the lock for reading, for the caller to unlock, once r.known is that of the present
// configuration.
func (r *Requests) present() *sync.RWMutex {
	for {
		now := r.config()
		r.mu.RLock()
		if r.known != nil && r.known.config == now {
			return &r.mu
		}
		r.mu.RUnlock()
		r.learn(now)
	}
}

// learn goes on with another configuration: rows of what it does not name go.
func (r *Requests) learn(c *config.Config) {
	next := newKnown(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known != nil {
		for _, gone := range r.known.without(next) {
			for _, v := range r.vectors {
				v.DeletePartialMatch(gone)
			}
		}
	}
	r.known = next
}

// without are the labels of what next does not name.
func (k *known) without(next *known) []prometheus.Labels {
	var gone []prometheus.Labels
	for name, g := range k.gateways {
		after := next.gateways[name]
		if after == nil {
			gone = append(gone, prometheus.Labels{labelGateway: name})
			continue
		}
		for s := range lost(g.services, after.services) {
			gone = append(gone, prometheus.Labels{labelGateway: name, labelService: s})
		}
		for m := range lost(g.models, after.models) {
			gone = append(gone, prometheus.Labels{labelGateway: name, labelModel: m})
		}
		for key := range g.targets {
			if after.targets[key] == nil {
				gone = append(gone, prometheus.Labels{labelGateway: name, labelUpstream: key.upstream, labelTarget: key.id})
			}
		}
	}
	for p := range lost(k.providers, next.providers) {
		gone = append(gone, prometheus.Labels{"provider": p}, prometheus.Labels{labelProvider: ProviderName(p)})
	}
	for m := range lost(k.asked(), next.asked()) {
		gone = append(gone, prometheus.Labels{labelRequestModel: m})
	}
	return gone
}

// asked are the models that targets may be asked for.
func (k *known) asked() map[string]bool {
	all := map[string]bool{}
	for _, g := range k.gateways {
		for _, t := range g.targets {
			maps.Copy(all, t.models)
		}
	}
	return all
}

func lost(before, after map[string]bool) map[string]bool {
	gone := maps.Clone(before)
	maps.DeleteFunc(gone, func(name string, _ bool) bool { return after[name] || name == "" })
	return gone
}

// Target is how a target is told apart in labels.
type Target struct{ Gateway, Upstream, Target string }

// TargetsOf are the targets of a configuration by their names (config.Target.Name).
func TargetsOf(c *config.Config) map[string]Target {
	all := map[string]Target{}
	if c == nil {
		return all
	}
	for _, g := range c.Gateways {
		for _, u := range g.Upstreams {
			for _, t := range u.Targets {
				all[t.Name] = Target{g.Name, t.Upstream(), t.ID}
			}
		}
	}
	return all
}
