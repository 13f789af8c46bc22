package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// gateway is one gateway as the file and the store have it together.
type gateway struct {
	id     string
	file   *millracev1.Document // nil when it is not the file's
	stored *millracev1.Document // nil when the store has nothing of it
}

// Who owns a resource, as x-millrace-source says.
const (
	sourceFile = "file"
	sourceAPI  = "api"
)

func (g *gateway) name() string { return g.settings().Name }

// settings is the gateway itself.
func (g *gateway) settings() *millracev1.Gateway {
	if g.file == nil {
		return g.stored.Gateway
	}
	if g.file.Gateway.Id == g.id {
		return g.file.Gateway
	}
	settings := proto.CloneOf(g.file.Gateway)
	settings.Id = g.id
	return settings
}

func (g *gateway) source() string {
	if g.file != nil {
		return sourceFile
	}
	return sourceAPI
}

// store is the stored document, made for a gateway of the file that has none yet.
func (g *gateway) store(e *edit) *millracev1.Document {
	if g.stored == nil {
		g.stored = &millracev1.Document{Gateway: &millracev1.Gateway{Id: g.id, Name: g.id}}
		e.state.Documents = append(e.state.Documents, g.stored)
	}
	return g.stored
}

// orDefault is the file's document; without a file there is a gateway all the same.
func orDefault(file *millracev1.Document) *millracev1.Document {
	if file == nil {
		file = &millracev1.Document{}
		config.SetDefaults(file)
	}
	return file
}

// gatewaysOf lists the file's gateway, then the stored ones.
func gatewaysOf(state *millracev1.State, file *millracev1.Document) []*gateway {
	all := []*gateway{{id: file.Gateway.Name, file: file}}
	for _, d := range state.GetDocuments() {
		if d.GetGateway().GetId() == file.Gateway.Name {
			all[0].stored = d
		} else {
			all = append(all, &gateway{id: d.GetGateway().GetId(), stored: d})
		}
	}
	return all
}

// findGateway finds a gateway by its id, else by its name.
func findGateway(state *millracev1.State, file *millracev1.Document, ref string) (*gateway, error) {
	all := gatewaysOf(state, file)
	i := slices.IndexFunc(all, func(g *gateway) bool { return g.id == ref })
	if i < 0 {
		i = slices.IndexFunc(all, func(g *gateway) bool {
			return ref != "" && (g.name() == ref || g.file != nil && g.file.Gateway.Id == ref)
		})
	}
	if i < 0 {
		return nil, fmt.Errorf("gateway %q: %w", ref, control.ErrNotFound)
	}
	return all[i], nil
}

func (s *service) gateways(ctx context.Context) ([]*gateway, error) {
	_, state, file, err := s.plane.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return gatewaysOf(state, orDefault(file)), nil
}

func (s *service) gateway(ctx context.Context, ref string) (*gateway, error) {
	_, state, file, err := s.plane.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return findGateway(state, orDefault(file), ref)
}

func (s *service) ListGateways(ctx context.Context, _ *millracev1.ListGatewaysRequest) (*millracev1.GatewayList, error) {
	all, err := s.gateways(ctx)
	if err != nil {
		return nil, err
	}
	list := &millracev1.GatewayList{FileOwned: []string{all[0].id}}
	for _, g := range all {
		list.Gateways = append(list.Gateways, g.settings())
	}
	setHeader(ctx, etagHeader, etag(list.Gateways...))
	return config.Redact(list), nil
}

func (s *service) GetGateway(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.Gateway, error) {
	g, err := s.gateway(ctx, r.Gateway)
	if err != nil {
		return nil, err
	}
	setHeader(ctx, etagHeader, etag(g.settings()), sourceHeader, g.source())
	return show(g.settings()), nil
}

func (s *service) CreateGateway(ctx context.Context, r *millracev1.GatewayCreate) (shown *millracev1.Gateway, err error) {
	err = s.change(ctx, r, func(e *edit) (proto.Message, error) {
		var settings []*millracev1.Gateway
		for _, g := range gatewaysOf(e.state, e.file) {
			settings = append(settings, g.settings())
		}
		if err := matches(e.ifs, settings...); err != nil {
			return nil, err
		}
		next := proto.CloneOf(r.GetResource())
		if next == nil {
			next = &millracev1.Gateway{}
		}
		if err := checkID(next.Id); err != nil {
			return nil, err
		}
		next.Id = cmp.Or(next.Id, newID("gw_"))
		if err := e.checkGateway(next); err != nil {
			return nil, err
		}
		e.state.Documents = append(e.state.Documents, &millracev1.Document{Gateway: next})
		_, err := e.enter(next.Id)
		shown = show(next)
		return next, err
	})
	return shown, err
}

// processFields are the settings of the process, which gateways share.
var processFields = []protoreflect.Name{"listen_port", "listen_address", "tls", "admin", "max_request_bytes", "drain_timeout", "drain_delay", "ca_file", "clients", "max_memory",
	"max_request_bytes_total", "max_sidecar_memory", "ready_when"}

// checkGateway refuses what a gateway beside the file's cannot have.
func (e *edit) checkGateway(next *millracev1.Gateway) error {
	if next.Name == "" {
		return invalid.at("name", "needed")
	}
	for _, ref := range []string{next.Name, next.Id} {
		if other, err := findGateway(e.state, e.file, ref); err == nil && other.id != next.Id {
			return fmt.Errorf("gateway %q: %w", ref, control.ErrExists)
		}
	}
	var found config.Errors
	for _, field := range processFields {
		if f := next.ProtoReflect().Descriptor().Fields().ByName(field); next.ProtoReflect().Has(f) {
			found = append(found, config.Error{Path: string(field), Reason: "belongs to the process: only the configuration file can set it"})
		}
	}
	if len(found) > 0 {
		return invalid.all(found)
	}
	return nil
}

func (s *service) ReplaceGateway(ctx context.Context, r *millracev1.GatewayWrite) (*millracev1.Gateway, error) {
	return s.updateGateway(ctx, r, r.Gateway, func(*millracev1.Gateway) (*millracev1.Gateway, error) {
		return proto.CloneOf(r.GetResource()), nil
	})
}

func (s *service) PatchGateway(ctx context.Context, r *millracev1.GatewayPatch) (*millracev1.Gateway, error) {
	return s.updateGateway(ctx, r, r.Gateway, func(stored *millracev1.Gateway) (*millracev1.Gateway, error) {
		return patched(stored, r.GetPatch())
	})
}

func (s *service) updateGateway(ctx context.Context, w write, ref string, make func(stored *millracev1.Gateway) (*millracev1.Gateway, error)) (shown *millracev1.Gateway, err error) {
	err = s.change(ctx, w, func(e *edit) (proto.Message, error) {
		g, err := e.enterOwn(ref)
		if err != nil {
			return nil, err
		}
		stored := g.stored.Gateway
		if err := e.match(stored); err != nil {
			return nil, err
		}
		next, err := make(stored)
		if err != nil {
			return nil, err
		}
		if next == nil {
			next = &millracev1.Gateway{}
		}
		if next.Id != "" && next.Id != stored.Id {
			return nil, invalid.at("id", "cannot be changed")
		}
		next.Id = stored.Id
		if err := e.checkGateway(next); err != nil {
			return nil, err
		}
		if err := keepSecrets(next, stored); err != nil {
			return nil, err
		}
		g.stored.Gateway = next
		e.at = "gateway"
		shown = show(next)
		return next, nil
	})
	return shown, err
}

// enterOwn is enter for a gateway that is not the file's.
func (e *edit) enterOwn(ref string) (*gateway, error) {
	g, err := e.enter(ref)
	if err == nil && g.file != nil {
		return nil, fmt.Errorf("gateway %q: %w", ref, control.ErrFileOwned)
	}
	return g, err
}

func (s *service) DeleteGateway(ctx context.Context, r *millracev1.GatewayDelete) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.change(ctx, r, func(e *edit) (proto.Message, error) {
		g, err := e.enterOwn(r.Gateway)
		if err != nil {
			return nil, err
		}
		if err := e.match(g.stored.Gateway); err != nil {
			return nil, err
		}
		e.state.Documents = slices.DeleteFunc(e.state.Documents, func(d *millracev1.Document) bool { return d == g.stored })
		e.state.Keyed = slices.DeleteFunc(e.state.Keyed, func(id string) bool { return id == g.id })
		return nil, nil
	})
}
