package admin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	"millrace/config/store"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// memory is a control plane without an Envoy: it merges, checks and keeps every version.
type memory struct {
	file   *millracev1.Document
	reject string // what Envoy would say

	mu       sync.Mutex
	versions []*millracev1.State // revision i+1
	waits    []time.Duration
}

func newMemory(file string) *memory {
	m := &memory{versions: []*millracev1.State{{SchemaVersion: store.SchemaVersion, Cause: "start"}}}
	if file != "" {
		doc, err := config.Load("file.yaml", []byte(file))
		if err != nil {
			panic(err)
		}
		m.file = doc
	}
	return m
}

func (m *memory) latest() (uint64, *millracev1.State) {
	return uint64(len(m.versions)), m.versions[len(m.versions)-1]
}

func (m *memory) Snapshot(context.Context) (uint64, *millracev1.State, *millracev1.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	revision, state := m.latest()
	return revision, state, m.file, nil
}

func (m *memory) Change(_ context.Context, c control.Change) (control.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	revision, now := m.latest()
	if err := c.Edit(proto.CloneOf(now)); err != nil { // an edit may run more than once
		return control.Result{}, err
	}
	next := proto.CloneOf(now)
	if err := c.Edit(next); err != nil {
		return control.Result{}, err
	}
	documents, err := config.Merge(m.file, next)
	if err != nil {
		return control.Result{}, err
	}
	next.Keyed = config.Keyed(documents, next.Keyed)
	next.Time, next.Cause = timestamppb.Now(), c.Cause
	r := control.Result{Revision: revision, Version: config.Version(documents...), State: control.Accepted}
	if c.DryRun {
		return r, nil
	}
	m.waits = append(m.waits, c.Wait)
	if m.reject != "" {
		r.State, r.Reason = control.Rejected, m.reject
		return r, nil
	}
	m.versions = append(m.versions, next)
	r.Revision++
	if c.Wait > 0 {
		r.State = control.Applied
	}
	return r, nil
}

func (m *memory) Status() control.Status {
	revision, _ := m.latest()
	return control.Status{
		Result: control.Result{Revision: revision, Version: "v", State: control.Applied},
		Envoy:  control.Envoy{Connected: true, Node: "node-1", Version: "1.40.0"},
		Ready:  true,
	}
}

func (m *memory) Versions(context.Context) ([]control.VersionInfo, error) {
	var all []control.VersionInfo
	for i := len(m.versions) - 1; i >= 0; i-- {
		all = append(all, control.VersionInfo{Revision: uint64(i + 1), Time: m.versions[i].GetTime().AsTime(), Cause: m.versions[i].Cause})
	}
	return all, nil
}

func (m *memory) At(_ context.Context, revision uint64) (*millracev1.State, error) {
	if revision < 1 || revision > uint64(len(m.versions)) {
		return nil, fmt.Errorf("version %d: %w", revision, control.ErrNotFound)
	}
	return m.versions[revision-1], nil
}

// seen is what Envoy would say about targets.
type seen []TargetHealth

func (s seen) Clusters(context.Context) ([]TargetHealth, error) { return s, nil }
