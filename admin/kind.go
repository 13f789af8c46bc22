package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
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
	// check says what a write must not set.
	check func(R) error
	// carry gives a resource what a write cannot say and the stored one has.
	carry func(next, stored R)
}

func nothing[R resource](R) error { return nil }
func nothingToCarry[R resource](R, R) {
}

var (
	upstreams = kind[*millracev1.Upstream]{
		word: "upstream", prefix: "up_",
		of:    func(d *millracev1.Document) *[]*millracev1.Upstream { return &d.Upstreams },
		setID: func(u *millracev1.Upstream, id string) { u.Id = id },
		name:  (*millracev1.Upstream).GetName,
		same:  (*millracev1.Upstream).GetName,
		check: nothing[*millracev1.Upstream], carry: nothingToCarry[*millracev1.Upstream],
	}
	services = kind[*millracev1.Service]{
		word: "service", prefix: "sv_",
		of:    func(d *millracev1.Document) *[]*millracev1.Service { return &d.Services },
		setID: func(s *millracev1.Service, id string) { s.Id = id },
		name:  (*millracev1.Service).GetName,
		same:  (*millracev1.Service).GetName,
		check: nothing[*millracev1.Service], carry: nothingToCarry[*millracev1.Service],
	}
	rules = kind[*millracev1.Rule]{
		word: "rule", prefix: "ru_",
		of:    func(d *millracev1.Document) *[]*millracev1.Rule { return &d.Rules },
		setID: func(r *millracev1.Rule, id string) { r.Id = id },
		name:  func(*millracev1.Rule) string { return "" },
		same: func(r *millracev1.Rule) string {
			return fmt.Sprintf("%q %q %q %q %q", r.Path, r.Methods, r.Headers, r.Query, r.Models) // fmt sorts maps
		},
		check: nothing[*millracev1.Rule], carry: nothingToCarry[*millracev1.Rule],
	}
	keys = kind[*millracev1.Key]{
		word: "key", prefix: "key_",
		of:    func(d *millracev1.Document) *[]*millracev1.Key { return &d.Keys },
		setID: func(k *millracev1.Key, id string) { k.Id = id },
		name:  (*millracev1.Key).GetName,
		same:  (*millracev1.Key).GetName,
		check: func(k *millracev1.Key) error {
			if k.Hash != "" {
				return invalid.at("hash", "keys are made here: what admits cannot be given")
			}
			return nil
		},
		carry: func(next, stored *millracev1.Key) { next.Hash = stored.Hash },
	}
)

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:10]) }

// defaults fills in what may be left out. What is stored is complete: ids of targets then outlive their places, and another
// version's defaults do not change what runs.
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

// at is the place of a stored resource in the merged document, which the errors of a configuration name.
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
func create[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef string, r R) (shown R, err error) {
	if err := k.check(r); err != nil {
		return shown, err
	}
	return s.add(ctx, k, w, gatewayRef, r)
}

func (s *service) add(ctx context.Context, k kind[R], w write, gatewayRef string, r R) (R, error) { panic("") }

// remove takes a resource away.
func remove[R resource](ctx context.Context, s *service, k kind[R], w write, gatewayRef, ref string) error {
	return s.change(ctx, w, func(e *edit) error {
		g, err := e.gateway(gatewayRef)
		if err != nil {
			return err
		}
		i, err := k.place(g, ref)
		if err != nil {
			return err
		}
		all := k.of(g.stored)
		if err := e.match((*all)[i]); err != nil {
			return err
		}
		*all = slices.Delete(*all, i, i+1)
		e.removes = true
		return nil
	})
}

func structOf(r proto.Message) (*structpb.Struct, error) { return nil, nil }
