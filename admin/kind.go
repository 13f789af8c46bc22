package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// resource is what stands in a list of a document.
type resource interface {
	proto.Message
	GetId() string
}

// kind is one sort of resource below a gateway.
type kind[R resource] struct {
	word   string // "upstream"; with an s it is the field of Document
	prefix string // of the ids that we give
	of     func(*millracev1.Document) *[]R
	setID  func(R, string)
	name   func(R) string // "" for what has none
	// same is what tells resources apart that have no id: two of the same stand for one.
	same func(R) string
	// check says what a write must not set; nil when there is no such thing.
	check func(R) error
	// settle changes the others of a gateway where they cannot be as they are beside a resource
	// that was written; nil when there is no such thing.
	settle func(all []R, written R)
	// carry gives a resource what a write cannot say and the stored one has; nil when there is no
	// such thing.
	carry func(next, stored R)
}

var (
	upstreams = kind[*millracev1.Upstream]{
		word: "upstream", prefix: "up_",
		of:    func(d *millracev1.Document) *[]*millracev1.Upstream { return &d.Upstreams },
		setID: func(u *millracev1.Upstream, id string) { u.Id = id },
		name:  (*millracev1.Upstream).GetName,
		same:  (*millracev1.Upstream).GetName,
	}
	services = kind[*millracev1.Service]{
		word: "service", prefix: "sv_",
		of:    func(d *millracev1.Document) *[]*millracev1.Service { return &d.Services },
		setID: func(s *millracev1.Service, id string) { s.Id = id },
		name:  (*millracev1.Service).GetName,
		same:  (*millracev1.Service).GetName,
	}
	rules = kind[*millracev1.Rule]{
		word: "rule", prefix: "ru_",
		of:    func(d *millracev1.Document) *[]*millracev1.Rule { return &d.Rules },
		setID: func(r *millracev1.Rule, id string) { r.Id = id },
		name:  func(*millracev1.Rule) string { return "" },
		same: func(r *millracev1.Rule) string {
			return fmt.Sprintf("%q %q %q %q %q", r.Path, r.Methods, r.Headers, r.Query, r.Models) // fmt sorts maps
		},
	}
	keys = kind[*millracev1.Key]{
		word: "key", prefix: "key_",
		of:    func(d *millracev1.Document) *[]*millracev1.Key { return &d.Keys },
		setID: func(k *millracev1.Key, id string) { k.Id = id },
		name:  (*millracev1.Key).GetName,
		same:  (*millracev1.Key).GetName,
		check: func(k *millracev1.Key) error {
			if k.GetHash() != "" {
				return invalid.at("hash", "keys are made here: what admits cannot be given")
			}
			return nil
		},
		carry: func(next, stored *millracev1.Key) { next.Hash = stored.Hash },
	}
	packs = kind[*millracev1.Pack]{
		word: "pack", prefix: "pk_",
		of:    func(d *millracev1.Document) *[]*millracev1.Pack { return &d.Packs },
		setID: func(p *millracev1.Pack, id string) { p.Id = id },
		name:  config.PackVersion,
		same:  config.PackVersion,
		check: func(p *millracev1.Pack) error { return noFiles("policies", p.GetPolicies()) },
		settle: func(all []*millracev1.Pack, written *millracev1.Pack) {
			for _, p := range all { // of one name one version is enabled: the one that was written last
				if written.GetEnabled() && p != written && p.Name == written.Name {
					p.Enabled = proto.Bool(false)
				}
			}
		},
	}
)

// noFiles refuses policies that name files and folders of the machine, which only the file can.
func noFiles(path string, p *millracev1.Policies) error {
	var found config.Errors
	for _, name := range slices.Sorted(maps.Keys(p.GetPolicy())) {
		for _, param := range slices.Sorted(maps.Keys(p.Policy[name].GetFields())) {
			if param == "dir" || strings.HasSuffix(param, "_file") {
				found = append(found, config.Error{Path: path + ".policy." + name + "." + param, Reason: "names a place on the machine's disk: only the configuration file can set it"})
			}
		}
	}
	if len(found) > 0 {
		return invalid.all(found)
	}
	return nil
}

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:10]) }

// defaults fills in what may be left out. What is stored is complete: ids of targets then outlive
// their places, and another version's defaults do not change what runs.
func (k kind[R]) defaults(r R) {
	d := &millracev1.Document{}
	*k.of(d) = []R{r}
	config.SetDefaults(d)
}

// owned lists what the file owns, each with an id: its name where it has none, or its place.
func (k kind[R]) owned(g *gateway) []R {
	if g.file == nil {
		return nil
	}
	var all []R
	for i, r := range *k.of(g.file) {
		if r.GetId() == "" {
			r = proto.CloneOf(r)
			id := k.name(r)
			if id == "" {
				id = fmt.Sprintf("%s-%d", k.word, i+1)
			}
			k.setID(r, id)
		}
		all = append(all, r)
	}
	return all
}

// stored lists what the store holds.
func (k kind[R]) stored(g *gateway) []R {
	if g.stored == nil {
		return nil
	}
	return *k.of(g.stored)
}

// lookup finds a resource by its id, else by its name; -1 when there is none.
func (k kind[R]) lookup(all []R, ref string) int {
	if i := slices.IndexFunc(all, func(r R) bool { return r.GetId() == ref }); i >= 0 {
		return i
	}
	return slices.IndexFunc(all, func(r R) bool { return ref != "" && k.name(r) == ref })
}

// find returns the resource and who owns it.
func (k kind[R]) find(g *gateway, ref string) (r R, source string, err error) {
	if all := k.stored(g); k.lookup(all, ref) >= 0 {
		return all[k.lookup(all, ref)], sourceAPI, nil
	}
	if all := k.owned(g); k.lookup(all, ref) >= 0 {
		return all[k.lookup(all, ref)], sourceFile, nil
	}
	return r, "", fmt.Errorf("%s %q of gateway %q: %w", k.word, ref, g.id, control.ErrNotFound)
}

// place finds the stored resource that a write is about, and refuses one of the file.
func (k kind[R]) place(g *gateway, ref string) (int, error) {
	r, source, err := k.find(g, ref)
	switch {
	case err != nil:
		return 0, err
	case source == sourceFile:
		return 0, fmt.Errorf("%s %q of gateway %q: %w", k.word, ref, g.id, control.ErrFileOwned)
	}
	return k.lookup(k.stored(g), r.GetId()), nil
}

// free refuses a name or an id that another resource has.
func (k kind[R]) free(g *gateway, r R) error {
	for _, ref := range []string{k.name(r), r.GetId()} {
		if ref == "" {
			continue
		}
		if other, _, err := k.find(g, ref); err == nil && other.GetId() != r.GetId() {
			return fmt.Errorf("%s %q of gateway %q: %w", k.word, ref, g.id, control.ErrExists)
		}
	}
	return nil
}

// at is the place of a stored resource in the merged document, which the errors of a configuration
// name.
func (k kind[R]) at(g *gateway, i int) string {
	if g.file != nil {
		i += len(*k.of(g.file))
	}
	return fmt.Sprintf("%ss[%d]", k.word, i)
}

func get[R resource](ctx context.Context, s *service, k kind[R], gatewayRef, ref string) (shown R, err error) {
	g, err := s.gateway(ctx, gatewayRef)
	if err != nil {
		return shown, err
	}
	r, source, err := k.find(g, ref)
	if err != nil {
		return shown, err
	}
	setHeader(ctx, etagHeader, etag(r), sourceHeader, source)
	return show(r), nil
}

// list returns the file's resources first, and their ids apart.
func list[R resource](ctx context.Context, s *service, k kind[R], gatewayRef string) (all []R, fileOwned []string, err error) {
	g, err := s.gateway(ctx, gatewayRef)
	if err != nil {
		return nil, nil, err
	}
	setHeader(ctx, etagHeader, etag(k.both(g)...))
	for _, r := range k.owned(g) {
		fileOwned = append(fileOwned, r.GetId())
	}
	for _, r := range k.both(g) {
		all = append(all, show(r))
	}
	return all, fileOwned, nil
}

func (k kind[R]) both(g *gateway) []R { return append(k.owned(g), k.stored(g)...) }

// create adds a resource.
func create[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef string, given R) (shown R, err error) {
	err = s.change(ctx, w, func(e *edit) (proto.Message, error) {
		g, err := e.enter(gatewayRef)
		if err != nil {
			return nil, err
		}
		if err := matches(e.ifs, k.both(g)...); err != nil {
			return nil, err
		}
		r := proto.CloneOf(given)
		if err := checkID(r.GetId()); err != nil {
			return nil, err
		}
		k.setID(r, cmp.Or(r.GetId(), newID(k.prefix)))
		if err := k.free(g, r); err != nil {
			return nil, err
		}
		k.defaults(r)
		if err := keepSecrets(r, blank(r)); err != nil {
			return nil, err
		}
		all := k.of(g.store(e))
		*all = append(*all, r)
		k.settled(*all, r)
		e.at = k.at(g, len(*all)-1)
		shown = show(r)
		return r, nil
	})
	return shown, err
}

// replace puts given in the place of a resource.
func replace[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef, ref string, given R) (R, error) {
	return update(ctx, s, k, w, gatewayRef, ref, func(R) (R, error) { return proto.CloneOf(given), nil })
}

// patch changes a resource by a merge patch.
func patch[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef, ref string, p *structpb.Struct) (R, error) {
	return update(ctx, s, k, w, gatewayRef, ref, func(stored R) (R, error) { return patched(stored, p) })
}

func update[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef, ref string, make func(stored R) (R, error)) (shown R, err error) {
	err = s.change(ctx, w, func(e *edit) (proto.Message, error) {
		g, err := e.enter(gatewayRef)
		if err != nil {
			return nil, err
		}
		i, err := k.place(g, ref)
		if err != nil {
			return nil, err
		}
		all := *k.of(g.stored)
		stored := all[i]
		if err := e.match(stored); err != nil {
			return nil, err
		}
		next, err := make(stored)
		if err != nil {
			return nil, err
		}
		if err := k.succeed(g, next, stored); err != nil {
			return nil, err
		}
		all[i] = next
		k.settled(all, next)
		e.at = k.at(g, i)
		shown = show(next)
		return next, nil
	})
	return shown, err
}

func (k kind[R]) settled(all []R, written R) {
	if k.settle != nil {
		k.settle(all, written)
	}
}

// succeed makes next what can stand in the place of stored.
func (k kind[R]) succeed(g *gateway, next, stored R) error {
	if id := next.GetId(); id != "" && id != stored.GetId() {
		return invalid.at("id", "cannot be changed")
	}
	k.setID(next, stored.GetId())
	if k.check != nil {
		if err := k.check(next); err != nil {
			return err
		}
	}
	if k.carry != nil {
		k.carry(next, stored)
	}
	if err := k.free(g, next); err != nil {
		return err
	}
	k.defaults(next)
	return keepSecrets(next, stored)
}

// remove takes a resource away.
func remove[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef, ref string) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.change(ctx, w, func(e *edit) (proto.Message, error) {
		g, err := e.enter(gatewayRef)
		if err != nil {
			return nil, err
		}
		i, err := k.place(g, ref)
		if err != nil {
			return nil, err
		}
		all := k.of(g.stored)
		if err := e.match((*all)[i]); err != nil {
			return nil, err
		}
		*all = slices.Delete(*all, i, i+1)
		e.removes = true
		return nil, nil
	})
}
