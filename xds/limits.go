package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// limits are the bounds on Envoy itself, values that it looks up while it runs: they change without
// a listener's draining. What is done near the bound on memory is in envoy/bootstrap.yaml.
func (b *builder) limits() {
	values := map[string]*structpb.Value{
		"envoy.resource_limits.listener." + envoy.Listener + ".connection_limit": structpb.NewNumberValue(float64(b.config.Clients.MaxConnections)),
	}
	if b.config.MaxMemory > 0 {
		values[envoy.RuntimeMaxMemory] = structpb.NewNumberValue(float64(b.config.MaxMemory))
	}
	b.add(resource.RuntimeType, &runtimev3.Runtime{Name: envoy.Runtime, Layer: &structpb.Struct{Fields: values}})
}

// preconnect opens connections to a target ahead of its requests. Envoy's way of doing it for the
// target that is next (predictive_preconnect_ratio) does nothing with these pools.
func preconnect(p config.Pool) *clusterv3.Cluster_PreconnectPolicy {
	if p.Preconnect <= 1 {
		return nil
	}
	return &clusterv3.Cluster_PreconnectPolicy{PerUpstreamPreconnectRatio: wrapperspb.Double(p.Preconnect)}
}

func keepAlive(p config.Pool) *clusterv3.UpstreamConnectionOptions {
	quiet := wrapperspb.UInt32(uint32(p.KeepAlive.Seconds()))
	return &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{KeepaliveTime: quiet, KeepaliveInterval: quiet}}
}
