package admin

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

func (s *service) GetStatus(context.Context, *millracev1.GetStatusRequest) (*millracev1.Status, error) {
	now := s.plane.Status()
	return &millracev1.Status{
		Release:  s.release,
		State:    string(now.State),
		Reason:   now.Reason,
		Version:  now.Version,
		Revision: uint32(now.Revision),
		Ready:    now.Ready,
		Envoy:    &millracev1.EnvoyStatus{Connected: now.Envoy.Connected, Node: now.Envoy.Node, Version: now.Envoy.Version},
		File:     &millracev1.FileStatus{Path: now.File.Path, Error: now.File.Error},
		Store:    now.Store,
		Events:   now.Events,
		Warnings: now.Doubtful,
	}, nil
}

func (s *service) GetConfig(ctx context.Context, r *millracev1.GetConfigRequest) (*millracev1.Configuration, error) {
	_, state, file, err := s.plane.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	effective, err := config.Merge(file, state)
	if err != nil {
		return nil, err
	}
	all := gatewaysOf(state, orDefault(file))
	c := &millracev1.Configuration{}
	for _, d := range effective {
		i := slices.IndexFunc(all, func(g *gateway) bool { return g.name() == d.Gateway.Name })
		if r.Gateway == "" || r.Gateway == all[i].id || r.Gateway == all[i].name() {
			c.Documents = append(c.Documents, show(d))
		}
	}
	if r.Gateway != "" && len(c.Documents) == 0 {
		_, err := findGateway(state, orDefault(file), r.Gateway)
		return nil, err
	}
	setHeader(ctx, etagHeader, etag(effective...))
	return c, nil
}

func (s *service) ListVersions(ctx context.Context, _ *millracev1.ListVersionsRequest) (*millracev1.VersionList, error) {
	all, err := s.plane.Versions(ctx)
	if err != nil {
		return nil, err
	}
	list := &millracev1.VersionList{}
	for _, v := range all {
		list.Versions = append(list.Versions, &millracev1.VersionInfo{Revision: uint32(v.Revision), Time: timestamppb.New(v.Time), Cause: v.Cause})
	}
	return list, nil
}

func (s *service) GetVersion(ctx context.Context, r *millracev1.VersionRequest) (*millracev1.Version, error) {
	state, err := s.plane.At(ctx, uint64(r.Revision))
	if err != nil {
		return nil, err
	}
	v := &millracev1.Version{Revision: r.Revision, Time: state.GetTime(), Cause: state.GetCause()}
	for _, d := range state.GetDocuments() {
		v.Documents = append(v.Documents, show(d))
	}
	return v, nil
}

func (s *service) DiffVersions(ctx context.Context, r *millracev1.DiffRequest) (*millracev1.Differences, error) {
	from, err := s.plane.At(ctx, uint64(r.Revision))
	if err != nil {
		return nil, err
	}
	to, err := s.plane.At(ctx, uint64(r.To))
	if err != nil {
		return nil, err
	}
	return &millracev1.Differences{Differences: diff(from.GetDocuments(), to.GetDocuments())}, nil
}

// Rollback keeps the keys of every gateway that there is, and whether it needs one: what was
// revoked since must not admit again, and nothing opens. A gateway that was removed since comes
// back with the keys it had, for without keys it would admit everyone.
func (s *service) Rollback(ctx context.Context, r *millracev1.RollbackRequest) (*millracev1.Differences, error) {
	then, err := s.plane.At(ctx, uint64(r.Revision))
	if err != nil {
		return nil, err
	}
	var differences []*millracev1.Difference
	err = s.change(ctx, r, func(e *edit) (proto.Message, error) {
		now := e.state.Documents
		if err := matches(e.ifs, now...); err != nil {
			return nil, err
		}
		next := proto.CloneOf(then).Documents
		for _, d := range next {
			i := slices.IndexFunc(now, func(other *millracev1.Document) bool { return other.Gateway.Id == d.Gateway.Id })
			if i >= 0 {
				d.Keys = now[i].Keys
				d.Gateway.Auth = now[i].Gateway.Auth
			} else if d.Gateway.Id == e.file.Gateway.Name {
				d.Keys = nil // the gateway is there, and these keys are gone
			}
		}
		for _, d := range now { // the file's gateway is always there, also in versions that had nothing of it
			is := func(other *millracev1.Document) bool { return other.Gateway.Id == d.Gateway.Id }
			if d.Gateway.Id == e.file.GetGateway().GetName() && len(d.Keys) > 0 && !slices.ContainsFunc(next, is) {
				next = append(next, &millracev1.Document{Gateway: d.Gateway, Keys: d.Keys})
			}
		}
		differences = diff(now, next)
		e.state.Documents = next
		e.state.Keyed = append(e.state.Keyed, then.Keyed...)
		return nil, nil
	})
	return &millracev1.Differences{Differences: differences}, err
}
