package xds

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// strictPriority makes a level be left only when all of it is down; Envoy's 140 would share early.
const strictPriority = 100_000

// endpoints lists the targets of a pool. Weight, drain and membership change here and only here.
func (b *builder) endpoints(u *config.Upstream, pool string, levels [][]*config.Target) {
	assignment := &endpointv3.ClusterLoadAssignment{
		ClusterName: pool,
		Policy: &endpointv3.ClusterLoadAssignment_Policy{
			OverprovisioningFactor: wrapperspb.UInt32(strictPriority),
		},
	}
	for i, targets := range levels {
		level := &endpointv3.LocalityLbEndpoints{Priority: uint32(i)}
		for _, t := range targets {
			level.LbEndpoints = append(level.LbEndpoints, b.endpoint(u, t))
		}
		assignment.Endpoints = append(assignment.Endpoints, level)
	}
	if u.Algorithm.Hashes() {
		b.hashes[pool] = u.Name
	}
	b.add(resource.EndpointType, assignment)
}

func (b *builder) endpoint(u *config.Upstream, t *config.Target) *endpointv3.LbEndpoint {
	e := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Hostname: hostname(t),
			Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: leadsTo(u)},
				EndpointId:           t.Identity,
			}}},
		}},
		LoadBalancingWeight: wrapperspb.UInt32(max(t.Weight, 1)),
		Metadata:            metadata(u, t),
	}
	switch {
	case u.Active == nil:
	case t.Answer != "":
		e.GetEndpoint().HealthCheckConfig = &endpointv3.Endpoint_HealthCheckConfig{DisableActiveHealthCheck: true}
	default:
		e.GetEndpoint().HealthCheckConfig = b.checkedAt(t)
	}
	if t.Weight == 0 {
		e.HealthStatus = corev3.HealthStatus_DRAINING
	}
	return e
}

// hostname is what TLS checks a target's certificate against, and what an open service calls the
// target.
func hostname(t *config.Target) string {
	if t.TLS {
		return t.Host
	}
	return t.Authority()
}

func metadata(u *config.Upstream, t *config.Target) *corev3.Metadata {
	m := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		envoy.Metadata: {Fields: map[string]*structpb.Value{
			envoy.MetadataTarget: structpb.NewStringValue(t.Identity),
		}},
	}}
	if u.Bare {
		m.FilterMetadata[bareMetadata] = bareMetadataOf(t)
	}
	choose := map[string]*structpb.Value{envoy.MetadataSpeaks: structpb.NewListValue(wordList(speaks(u, t)))}
	if u.Listed {
		choose[envoy.MetadataModel] = structpb.NewListValue(wordList(models(u, t)))
	}
	m.FilterMetadata[envoy.MetadataLB] = &structpb.Struct{Fields: choose}
	return m
}

func leadsTo(u *config.Upstream) string {
	if isBare(u) {
		return envoy.BareListener
	}
	return envoy.AttemptsListener
}

// models are those that the target may be chosen for: one that asks nobody has an answer to all.
func models(u *config.Upstream, t *config.Target) []string {
	if t.Answer == "" {
		return t.AllModels()
	}
	var all []string
	for _, other := range u.Targets {
		all = append(all, other.AllModels()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// speaks are the schemas that the target takes: one that asks nobody has an answer to all.
func speaks(u *config.Upstream, t *config.Target) []string {
	if t.Answer == "" {
		return []string{string(t.Schema)}
	}
	return u.Schemas()
}

func wordList(words []string) *structpb.ListValue {
	l := &structpb.ListValue{}
	for _, w := range words {
		l.Values = append(l.Values, structpb.NewStringValue(w))
	}
	return l
}
