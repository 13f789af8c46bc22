package control

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/config/store"
	"millrace/extproc"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/xds"
)

// version is one configuration with everything made of it.
type version struct {
	file     *millracev1.Document // without a file, what an empty one means
	content  string               // of the file, as read
	state    *millracev1.State
	revision uint64 // that state has in the store

	config    *config.Config
	doubtful  []string
	upstreams map[string]*config.Upstream // by their targets' identities
	runtime   *extproc.Runtime
	snapshot  *xds.Snapshot

	edited bool           // the file brought it
	base   *store.Version // what the store held before this sidecar wrote this version; nil: it did not
	fate   *fate

	// What follows is the settler's.
	before  *version // what Envoy was offered before this one, while it has taken neither
	refused bool     // Envoy has refused it, and not taken it since
}

// mostBefore bounds how many versions that Envoy has not taken can be gone back to. Those before
// them stand or fall together.
const mostBefore = 16

// shorten forgets the versions that are too far back.
func (v *version) shorten() {
	last := v
	for range mostBefore {
		if last.before == nil {
			return
		}
		last = last.before
	}
	if gone := last.before; gone != nil {
		if last.base != nil && gone.base != nil {
			last.base = gone.base
		}
		last.before = nil
	}
}

// renumbered is the version, and those before it, with another revision for the state that had this
// one.
func (v *version) renumbered(from uint64, to store.Version) *version {
	if v == nil {
		return nil
	}
	c := *v
	c.before = v.before.renumbered(from, to)
	if v.revision == from {
		c.state, c.revision = to.State, to.Revision
	}
	return &c
}

// prepare does everything that can fail before anything changes. before is another version, nil for
// none.
func (v *version) prepare(admin func(listen string) string, before *version) error {
	documents, err := config.Merge(v.file, v.state)
	if err != nil {
		return err
	}
	if keyed := config.Keyed(documents, v.state.GetKeyed()); !slices.Equal(keyed, v.state.GetKeyed()) {
		v.state = proto.CloneOf(v.state) // others may hold it
		v.state.Keyed = keyed
	}
	if err := reaching(documents, admin); err != nil {
		return err
	}
	v.doubtful = nil
	for _, d := range documents {
		if notYet := config.NotYet(d); len(notYet) > 0 {
			return fmt.Errorf("this version cannot do what is asked:\n%w", notYet)
		}
		for _, w := range config.Doubtful(d) {
			v.doubtful = append(v.doubtful, d.Gateway.Name+": "+w.Error())
		}
	}
	if v.config, err = config.Resolve(documents...); err != nil {
		return err
	}
	v.upstreams = map[string]*config.Upstream{}
	for _, g := range v.config.Gateways {
		for _, u := range g.Upstreams {
			for _, t := range u.Targets {
				v.upstreams[t.Identity] = u
			}
		}
	}
	if v.runtime, err = extproc.Compile(v.config, before.compiled()); err != nil {
		return err
	}
	v.snapshot, err = xds.Build(v.config)
	return err
}

// compiled is the version's runtime, nil where there is none.
func (v *version) compiled() *extproc.Runtime {
	if v == nil {
		return nil
	}
	return v.runtime
}

// reaching refuses targets that lead to the REST API. admin tells where that is, given what the
// file says; nil: there is none.
func reaching(documents []*millracev1.Document, admin func(listen string) string) error {
	if admin == nil {
		return nil
	}
	listen := admin(documents[0].Gateway.GetAdmin().GetListen())
	if found := config.Reaching(documents, "this gateway's REST API", listen); len(found) > 0 {
		return found
	}
	return nil
}

// warnings are those about what was not in the version before; nil is none.
func (v *version) warnings(before *version) []string {
	if before == nil {
		return v.doubtful
	}
	return slices.DeleteFunc(slices.Clone(v.doubtful), func(w string) bool { return slices.Contains(before.doubtful, w) })
}

// shut lists the gateways that need a key and have none.
func (v *version) shut() []string {
	var names []string
	for _, g := range v.config.Gateways {
		if g.NeedsKey && len(g.Keys) == 0 {
			names = append(names, g.Name)
		}
	}
	return names
}
