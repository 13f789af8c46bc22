package xds

import (
	"fmt"
	"maps"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// cooling returns the snapshot in which these targets, by identity, are asked only when no other can serve. The snapshot itself stays as
// it is.
func (s *Snapshot) cooling(targets map[string]bool) (*Snapshot, error) {
	if len(targets) == 0 {
		return s, nil
	}
	changed := *s.cache
	endpoints := &changed.Resources[types.Endpoint]
	endpoints.Items = maps.Clone(endpoints.Items)
	for name, r := range endpoints.Items {
		a := proto.CloneOf(r.Resource.(*endpointv3.ClusterLoadAssignment))
		if cool(a, targets, s.hashes[name]) {
			endpoints.Items[name] = types.ResourceWithTTL{Resource: a}
		}
	}
	endpoints.Version = contentVersion(*endpoints)
	changed.VersionMap = nil
	if err := changed.ConstructVersionMap(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Snapshot{Version: s.Version, cache: &changed}, nil
}

// cool changes the endpoints that the targets are, and tells whether there are any. Envoy goes to a degraded endpoint when no healthy
// one is left, of any priority. But a pool that hashes has no place for degraded ones: there they keep as good as no weight,
// unless all of them cool.
func cool(a *endpointv3.ClusterLoadAssignment, targets map[string]bool, hashes bool) bool {
	var cools, others []*endpointv3.LbEndpoint
	for _, level := range a.Endpoints {
		for _, e := range level.LbEndpoints {
			switch {
			case e.HealthStatus != corev3.HealthStatus_UNKNOWN: // draining
			case targets[targetOf(e)]:
				cools = append(cools, e)
			default:
				others = append(others, e)
			}
		}
	}
	switch {
	case len(cools) == 0 || hashes && len(others) == 0:
		return false
	case hashes:
		for _, e := range cools {
			e.LoadBalancingWeight = wrapperspb.UInt32(1)
		}
		for _, e := range others {
			e.LoadBalancingWeight = wrapperspb.UInt32(e.LoadBalancingWeight.GetValue() * outweighs)
		}
	default:
		for _, e := range cools {
			e.HealthStatus = corev3.HealthStatus_DEGRADED
		}
	}
	return true
}

// outweighs leaves a cooling target a few rows of a hash table; a pool may weigh 2^32 in all.
const outweighs = 10_000

// targetOf is the identity of the target that the endpoint is.
func targetOf(e *endpointv3.LbEndpoint) string {
	return e.GetEndpoint().GetAddress().GetEnvoyInternalAddress().GetEndpointId()
}
