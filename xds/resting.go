package xds

import (
	"maps"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// resting returns the snapshot in which these targets, by identity, are asked only when no other
// can serve. The snapshot itself stays as it is.
func (s *Snapshot) resting(targets map[string]bool) (*Snapshot, error) {
	if len(targets) == 0 {
		return s, nil
	}
	endpoints := maps.Clone(s.cache.Resources[types.Endpoint].Items)
	fit := map[string]bool{} // upstreams that hash and have a target that does not rest
	for name, upstream := range s.hashes {
		_, others := split(assignment(endpoints[name]), targets)
		fit[upstream] = fit[upstream] || len(others) > 0
	}
	for name, r := range endpoints {
		a := proto.CloneOf(assignment(r))
		rests, others := split(a, targets)
		switch upstream, hashes := s.hashes[name]; {
		case len(rests) == 0:
			continue
		case !hashes:
			setHealth(rests, corev3.HealthStatus_DEGRADED)
		case len(others) > 0:
			outweigh(rests, others)
		case fit[upstream]:
			setHealth(rests, corev3.HealthStatus_UNHEALTHY)
		default:
			continue
		}
		endpoints[name] = types.ResourceWithTTL{Resource: a}
	}
	return s.with(types.Endpoint, endpoints)
}

func assignment(r types.ResourceWithTTL) *endpointv3.ClusterLoadAssignment {
	return r.Resource.(*endpointv3.ClusterLoadAssignment)
}

// split parts the endpoints that get requests by whether their targets rest.
func split(a *endpointv3.ClusterLoadAssignment, targets map[string]bool) (rests, others []*endpointv3.LbEndpoint) {
	for _, level := range a.Endpoints {
		for _, e := range level.LbEndpoints {
			switch {
			case e.HealthStatus != corev3.HealthStatus_UNKNOWN: // draining
			case targets[targetOf(e)]:
				rests = append(rests, e)
			default:
				others = append(others, e)
			}
		}
	}
	return rests, others
}

// setHealth: Envoy goes to a degraded endpoint when no healthy one is left, of any priority. A pool
// that hashes has no place for degraded ones. One that is a level of its upstream is left out as a
// whole, while another level has a target that can serve.
func setHealth(endpoints []*endpointv3.LbEndpoint, status corev3.HealthStatus) {
	for _, e := range endpoints {
		e.HealthStatus = status
	}
}

// outweigh leaves endpoints of a pool that hashes as good as no weight.
func outweigh(rests, others []*endpointv3.LbEndpoint) {
	for _, e := range rests {
		e.LoadBalancingWeight = wrapperspb.UInt32(1)
	}
	for _, e := range others {
		e.LoadBalancingWeight = wrapperspb.UInt32(e.LoadBalancingWeight.GetValue() * outweighs)
	}
}

// outweighs leaves a resting target a few rows of a hash table; a pool may weigh 2^32 in all.
const outweighs = 10_000

// targetOf is the identity of the target that the endpoint is.
func targetOf(e *endpointv3.LbEndpoint) string {
	return e.GetEndpoint().GetAddress().GetEnvoyInternalAddress().GetEndpointId()
}
