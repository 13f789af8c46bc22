package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

func targetIndex(u *millracev1.Upstream, id string) int {
	return slices.IndexFunc(u.Targets, func(t *millracev1.Target) bool { return t.Id == id })
}

func noTarget(u *millracev1.Upstream, id string) error {
	return fmt.Errorf("target %q of upstream %q: %w", id, u.Name, control.ErrNotFound)
}

func (s *service) GetTarget(ctx context.Context, r *millracev1.TargetRequest) (*millracev1.Target, error) {
	g, err := s.gateway(ctx, r.Gateway)
	if err != nil {
		return nil, err
	}
	u, source, err := upstreams.find(g, r.Id)
	if err != nil {
		return nil, err
	}
	i := targetIndex(u, r.Target)
	if i < 0 {
		return nil, noTarget(u, r.Target)
	}
	setHeader(ctx, etagHeader, etag(u.Targets[i]), sourceHeader, source)
	return show(u.Targets[i]), nil
}

func (s *service) CreateTarget(ctx context.Context, r *millracev1.TargetCreate) (shown *millracev1.Target, err error) {
	err = s.change(ctx, r, func(e *edit) (proto.Message, error) {
		u, err := e.upstream(r.Gateway, r.Id)
		if err != nil {
			return nil, err
		}
		if err := matches(e.ifs, u.Targets...); err != nil {
			return nil, err
		}
		t := proto.CloneOf(r.GetResource())
		if t == nil {
			t = &millracev1.Target{}
		}
		if targetIndex(u, t.Id) >= 0 && t.Id != "" {
			return nil, fmt.Errorf("target %q of upstream %q: %w", t.Id, u.Name, control.ErrExists)
		}
		t.Id = cmp.Or(t.Id, newID("tg_"))
		if err := keepSecrets(t, &millracev1.Target{}); err != nil {
			return nil, err
		}
		if err := putTarget(u, len(u.Targets), t); err != nil {
			return nil, err
		}
		e.at += fmt.Sprintf(".targets[%d]", len(u.Targets)-1)
		shown = show(t)
		return t, nil
	})
	return shown, err
}

// upstream finds the stored upstream whose targets the edit is about.
func (e *edit) upstream(gatewayRef, ref string) (*millracev1.Upstream, error) {
	g, err := e.enter(gatewayRef)
	if err != nil {
		return nil, err
	}
	i, err := upstreams.place(g, ref)
	if err != nil {
		return nil, err
	}
	e.at = upstreams.at(g, i)
	return g.stored.Upstreams[i], nil
}

// putTarget puts a target in the place of another, or at the end. It is a write of the whole
// upstream: what else that holds stays and keeps its secrets, as far as they may still go to all
// targets.
func putTarget(u *millracev1.Upstream, place int, t *millracev1.Target) error {
	next := config.Redact(u)
	next.Targets = append(next.Targets[:place], append([]*millracev1.Target{t}, next.Targets[min(place+1, len(next.Targets)):]...)...)
	upstreams.defaults(next)
	if err := keepSecrets(next, u); err != nil {
		return err
	}
	u.Targets, u.HealthChecks = next.Targets, next.HealthChecks
	return nil
}

func (s *service) PatchTarget(ctx context.Context, r *millracev1.TargetPatch) (*millracev1.Target, error) {
	return s.updateTarget(ctx, r, func(stored *millracev1.Target) (*millracev1.Target, error) { return patched(stored, r.GetPatch()) })
}

func (s *service) EnableTarget(ctx context.Context, r *millracev1.TargetVerb) (*millracev1.Target, error) {
	return s.updateTarget(ctx, r, switched(false))
}

func (s *service) DisableTarget(ctx context.Context, r *millracev1.TargetVerb) (*millracev1.Target, error) {
	return s.updateTarget(ctx, r, switched(true))
}

func (s *service) DrainTarget(ctx context.Context, r *millracev1.TargetVerb) (*millracev1.Target, error) {
	return s.DisableTarget(ctx, r)
}

// switched makes a target that is disabled or not, and otherwise as it was. One of weight 0 that is
// enabled gets the weight of one that says nothing.
func switched(disabled bool) func(*millracev1.Target) (*millracev1.Target, error) {
	return func(stored *millracev1.Target) (*millracev1.Target, error) {
		next := proto.CloneOf(stored)
		next.Disabled = disabled
		if !disabled && next.GetWeight() == 0 {
			next.Weight = nil
		}
		return next, nil
	}
}

// targetWrite is a write to one target.
type targetWrite interface {
	write
	GetGateway() string
	GetId() string
	GetTarget() string
}

func (s *service) updateTarget(ctx context.Context, w targetWrite, make func(stored *millracev1.Target) (*millracev1.Target, error)) (shown *millracev1.Target, err error) {
	err = s.change(ctx, w, func(e *edit) (proto.Message, error) {
		u, err := e.upstream(w.GetGateway(), w.GetId())
		if err != nil {
			return nil, err
		}
		i := targetIndex(u, w.GetTarget())
		if i < 0 {
			return nil, noTarget(u, w.GetTarget())
		}
		stored := u.Targets[i]
		if err := e.match(stored); err != nil {
			return nil, err
		}
		next, err := make(stored)
		if err != nil {
			return nil, err
		}
		if next.Id != "" && next.Id != stored.Id {
			return nil, invalid.at("id", "cannot be changed")
		}
		next.Id = stored.Id
		if err := keepSecrets(next, stored); err != nil {
			return nil, err
		}
		if err := putTarget(u, i, next); err != nil {
			return nil, err
		}
		e.at += fmt.Sprintf(".targets[%d]", i)
		shown = show(next)
		return next, nil
	})
	return shown, err
}

func (s *service) DeleteTarget(ctx context.Context, r *millracev1.TargetVerb) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.change(ctx, r, func(e *edit) (proto.Message, error) {
		u, err := e.upstream(r.Gateway, r.Id)
		if err != nil {
			return nil, err
		}
		i := targetIndex(u, r.Target)
		if i < 0 {
			return nil, noTarget(u, r.Target)
		}
		if err := e.match(u.Targets[i]); err != nil {
			return nil, err
		}
		u.Targets = slices.Delete(u.Targets, i, i+1)
		e.removes = true
		return nil, nil
	})
}

func (s *service) GetUpstreamHealth(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.UpstreamHealth, error) {
	g, err := s.gateway(ctx, r.Gateway)
	if err != nil {
		return nil, err
	}
	u, _, err := upstreams.find(g, r.Id)
	if err != nil {
		return nil, err
	}
	if s.clusters == nil {
		return nil, unavailable.because("this sidecar cannot ask Envoy")
	}
	seen, err := s.clusters.Clusters(ctx)
	if err != nil {
		return nil, unavailable.because("ask Envoy: %v", err)
	}
	health := &millracev1.UpstreamHealth{Upstream: u.Name}
	for _, t := range u.Targets {
		name := g.name() + "/" + u.Name + "/" + t.Id
		row := &millracev1.TargetHealth{Target: t.Id, Weight: t.GetWeight(), Priority: t.Priority, Draining: t.Disabled || t.GetWeight() == 0}
		if i := slices.IndexFunc(seen, func(h TargetHealth) bool { return h.Name == name }); i >= 0 {
			row.Known = true
			row.Healthy = seen[i].Healthy
			row.ActiveRequests = seen[i].ActiveRequests
			row.Success, row.Error = float64(seen[i].Success), float64(seen[i].Error)
			if until := seen[i].EjectedUntil; !until.IsZero() {
				row.Ejected, row.EjectedUntil, row.EjectedBecause = true, timestamppb.New(until), seen[i].EjectedBecause
			}
			if until := seen[i].CoolingUntil; !until.IsZero() {
				row.CoolingUntil = timestamppb.New(until)
			}
			row.Recent, row.Trouble = seen[i].Recent, seen[i].Trouble
		}
		health.Targets = append(health.Targets, row)
	}
	return health, nil
}
