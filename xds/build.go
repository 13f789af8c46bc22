// Package xds is Envoy's half of a configuration: Build derives the resources, one Envoy kind a
// file, and Server serves them over delta ADS and knows what Envoy made of them. Build is pure:
// equal configurations give equal bytes.
//
// DESIGN in one line: a pool's endpoints are targets, each an internal address that leads to the
// target's own cluster.
package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"millrace/config"
	"millrace/envoy"
)

// Snapshot is everything Envoy is told for one configuration.
type Snapshot struct {
	Version string // the configuration's
	cache   *cachev3.Snapshot
	hashes  map[string]string // the upstreams of pools that choose by a hash, by the pool's name
	targets map[string]bool   // the names of the clusters that attempts go out by
}

// Build derives Envoy's resources. The error names the resource that could not be made.
func Build(c *config.Config) (*Snapshot, error) {
	b := &builder{config: c, resources: map[resource.Type][]types.Resource{}, hashes: map[string]string{}, targets: map[string]bool{}}
	b.listener()
	b.attempts()
	b.routes()
	b.probes()
	b.limits()
	for _, g := range c.Gateways {
		for _, u := range g.Upstreams {
			b.pools(g, u)
			if u.Bare && u.For == nil { // without the sidecar nobody reads which model it is
				b.barePools(g, u)
			}
			for _, t := range u.Targets {
				if t.Answer == "" && u.For == nil {
					b.target(g, t)
				}
			}
		}
	}
	if b.err != nil {
		return nil, b.err
	}
	s, err := cachev3.NewSnapshot("", b.resources)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	for t := range s.Resources {
		s.Resources[t].Version = contentVersion(s.Resources[t])
	}
	if err := s.ConstructVersionMap(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Snapshot{Version: c.Version, cache: s, hashes: b.hashes, targets: b.targets}, nil
}

// without returns the snapshot without one resource. The snapshot itself stays as it is.
func (s *Snapshot) without(kind resource.Type, name string) (*Snapshot, error) {
	items := maps.Clone(s.cache.Resources[cachev3.GetResponseType(kind)].Items)
	delete(items, name)
	return s.with(cachev3.GetResponseType(kind), items)
}

// with returns the snapshot with these resources of a type. The snapshot itself stays as it is.
func (s *Snapshot) with(kind types.ResponseType, items map[string]types.ResourceWithTTL) (*Snapshot, error) {
	changed := *s.cache
	changed.Resources[kind].Items = items
	changed.Resources[kind].Version = contentVersion(changed.Resources[kind])
	changed.VersionMap = nil
	if err := changed.ConstructVersionMap(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Snapshot{Version: s.Version, cache: &changed, hashes: s.hashes, targets: s.targets}, nil
}

// contentVersion hashes the resources of one type, so that a type nothing changed in is not sent
// again.
func contentVersion(r cachev3.Resources) string {
	var names []string
	for name := range r.Items {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Items[name].Resource)
		if err != nil {
			panic("xds: resource does not marshal: " + err.Error())
		}
		fmt.Fprintf(h, "%s %d ", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

type builder struct {
	config    *config.Config
	resources map[resource.Type][]types.Resource
	hashes    map[string]string
	targets   map[string]bool
	err       error
}

// add keeps a resource after checking it against Envoy's own rules, those that its protos state.
func (b *builder) add(kind resource.Type, r interface {
	types.Resource
	Validate() error
}) {
	if err := r.Validate(); err != nil && b.err == nil {
		b.err = fmt.Errorf("%s %q: %w", kind[strings.LastIndexByte(kind, '.')+1:], cachev3.GetResourceName(r), err)
	}
	b.resources[kind] = append(b.resources[kind], r)
}

func packed(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("xds: " + err.Error())
	}
	return a
}

// filter is one of Envoy's HTTP filters, by the last part of its name.
func filter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: "envoy.filters.http." + name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(m)}}
}

func extension(name string, m proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: packed(m)}
}

// ads points a resource reference at the one stream everything comes over.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// sidecar is the gRPC service of ours; kind tells an ext_proc stream apart, "" where there is
// nothing to tell.
func sidecar(kind string) *corev3.GrpcService {
	s := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: envoy.SidecarCluster},
	}}
	if kind != "" {
		s.InitialMetadata = []*corev3.HeaderValue{{Key: envoy.StreamKind, Value: kind}}
	}
	return s
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
