package admin

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// Apply makes a gateway's stored resources those of a document. What the document says as the file
// does, as one does that was read here, is left to the file.
func (s *service) Apply(ctx context.Context, r *millracev1.ApplyRequest) (*millracev1.Applied, error) {
	applied := &millracev1.Applied{}
	err := s.change(ctx, r, func(e *edit) (proto.Message, error) {
		given := proto.CloneOf(r.GetDocument())
		if empty := config.Empty(given); empty != nil {
			return nil, invalid.all(empty)
		}
		settings := &millracev1.Gateway{}
		if given.Gateway != nil {
			settings = proto.CloneOf(given.Gateway)
		}
		config.SetDefaults(given) // of the resources, and the short form
		given.Gateway = settings
		if settings.Id == "" && settings.Name == "" {
			settings.Name = e.file.Gateway.Name
		}
		before := proto.CloneOf(e.state).Documents
		g, err := e.target(given)
		if err != nil {
			return nil, err
		}
		if err := e.match(g.stored); err != nil {
			return nil, err
		}
		if err := reconcile(upstreams, g, given); err != nil {
			return nil, err
		}
		if err := reconcile(services, g, given); err != nil {
			return nil, err
		}
		if err := reconcile(rules, g, given); err != nil {
			return nil, err
		}
		if len(given.Keys) > 0 { // else those made over REST stay: a document that lists none was not written about them
			if err := reconcile(keys, g, given); err != nil {
				return nil, err
			}
		}
		if len(given.Packs) > 0 { // so with packs: what was uploaded goes on protecting
			for i, p := range given.Packs {
				if err := packs.check(p); err != nil {
					return nil, below(fmt.Sprintf("packs[%d]", i), err)
				}
			}
			if err := reconcile(packs, g, given); err != nil {
				return nil, err
			}
		}
		applied.Differences = diff(before, e.state.Documents)
		applied.Document = show(g.stored)
		return g.stored, nil
	})
	return applied, err
}

// target finds or makes the gateway that a document is for, and gives it what the document says
// about the gateway itself.
func (e *edit) target(given *millracev1.Document) (*gateway, error) {
	settings := given.Gateway
	ref := settings.Id
	if ref == "" {
		ref = settings.Name
	}
	g, err := e.enter(ref)
	switch {
	case err != nil:
		settings.Id = newID("gw_")
		e.state.Documents = append(e.state.Documents, &millracev1.Document{Gateway: settings})
		if err := e.checkGateway(settings); err != nil {
			return nil, err
		}
		if g, err = e.enter(settings.Id); err != nil {
			return nil, err
		}
	case g.file != nil:
		g.store(e)
		return g, onlyFile(g, given)
	default:
		settings.Id = g.id
		if settings.Name == "" {
			settings.Name = g.name()
		}
		if err := e.checkGateway(settings); err != nil {
			return nil, err
		}
		if err := keepSecrets(settings, g.stored.Gateway); err != nil {
			return nil, err
		}
		g.stored.Gateway = settings
	}
	if given.Events != nil {
		return nil, invalid.at("events", "belongs to the process: only the configuration file can set it")
	}
	if given.Telemetry != nil {
		return nil, invalid.at("telemetry", "belongs to the process: only the configuration file can set it")
	}
	if len(given.Prices) > 0 {
		return nil, invalid.at("prices", "belong to the process: only the configuration file can set them")
	}
	if err := noFiles("policies", given.Policies); err != nil {
		return nil, err
	}
	g.stored.Pack, g.stored.Policies = given.Pack, given.Policies
	return g, nil
}

// onlyFile refuses what a document says about the gateway of the file, unless the file says the
// same.
func onlyFile(g *gateway, given *millracev1.Document) error {
	var found config.Errors
	compare := func(path string, said, file protoreflect.Message) {
		said.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			same := file.Has(f) && (v.Equal(file.Get(f)) || f.Message() != nil && !f.IsList() && !f.IsMap() &&
				proto.Equal(v.Message().Interface(), show(file.Get(f).Message().Interface())))
			if !same {
				found = append(found, config.Error{Path: path + string(f.Name()), Reason: "the configuration file owns this and says otherwise"})
			}
			return true
		})
	}
	settings := proto.CloneOf(given.Gateway)
	settings.Id, settings.Name = "", ""
	compare("gateway.", settings.ProtoReflect(), g.file.Gateway.ProtoReflect())
	rest := &millracev1.Document{Pack: given.Pack, Policies: given.Policies, Events: given.Events, Telemetry: given.Telemetry, Prices: given.Prices}
	compare("", rest.ProtoReflect(), g.file.ProtoReflect())
	if len(found) > 0 {
		return fileOwned.all(found)
	}
	return nil
}

// reconcile makes the stored resources those that are given. They are matched by id, else by what
// tells them apart.
func reconcile[R resource](k kind[R], g *gateway, given *millracev1.Document) error {
	owned, stored := k.owned(g), slices.Clone(k.stored(g))
	var next []R
	for i, r := range *k.of(given) {
		r = proto.CloneOf(r)
		path := fmt.Sprintf("%ss[%d]", k.word, i)
		if j := k.counterpart(owned, r); j >= 0 {
			if !sameShown(k, r, owned[j]) {
				return fmt.Errorf("%s: %s %q: %w", path, k.word, owned[j].GetId(), control.ErrFileOwned)
			}
			continue
		}
		was := blank(r)
		if j := k.counterpart(stored, r); j >= 0 {
			was = stored[j]
			stored = slices.Delete(stored, j, j+1) // so that two of the same are not one
		}
		switch {
		case r.GetId() != "":
		case was.GetId() != "":
			k.setID(r, was.GetId())
		default:
			k.setID(r, newID(k.prefix))
		}
		if err := checkID(r.GetId()); err != nil {
			return below(path, err)
		}
		if key, ok := any(r).(*millracev1.Key); ok && key.Hash == "" {
			k.carry(r, was)
		}
		if err := config.KeepSecrets(r, was); err != nil {
			return below(path, invalid.all(config.AsErrors(err)))
		}
		next = append(next, r)
	}
	*k.of(g.stored) = next
	return nil
}

func (k kind[R]) counterpart(all []R, r R) int {
	if id := r.GetId(); id != "" {
		if i := slices.IndexFunc(all, func(other R) bool { return other.GetId() == id }); i >= 0 {
			return i
		}
	}
	return slices.IndexFunc(all, func(other R) bool { return k.same(other) == k.same(r) })
}

// sameShown tells whether a resource says what one of the file says, as far as that is shown.
func sameShown[R resource](k kind[R], given, file R) bool {
	given = proto.CloneOf(given)
	k.setID(given, file.GetId())
	return proto.Equal(show(given), show(file))
}

// below puts the paths of a problem below one of the document.
func below(path string, err error) error {
	p := problemOf(err)
	for i, e := range p.Errors {
		p.Errors[i].Path = path + "." + e.Path
	}
	return p
}
