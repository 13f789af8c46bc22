package xds

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	lbcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// unlimited stands for no limit where Envoy has a default that is one.
const unlimited = 1_000_000

// statName is what a cluster is called in statistics. Envoy writes a colon there as an underscore,
// takes what follows a dot for another part of the name, and counts in parts of its own, such as
// "external.".
func statName(name string) string { return statEscapes.Replace(name) }

var statEscapes = strings.NewReplacer("%", "%25", ":", "%3A", ".", "%2E")

// pools makes the cluster that an upstream is. Where targets are chosen by a hash it is a pool for
// each priority under one name: Envoy's hashing takes no notice of a retry that wants another
// priority, the cluster above them does. filters are for requests that the sidecar does not see.
func (b *builder) pools(g *config.Gateway, u *config.Upstream, filters ...*hcmv3.HttpFilter) {
	levels := u.Levels()
	if !u.Algorithm.Hashes() || len(levels) < 2 {
		b.pool(g, u, u.Name, u.Targets, filters)
		b.endpoints(u, u.Name, levels)
		return
	}
	aggregate := &aggregatev3.ClusterConfig{}
	for i := range levels {
		name := fmt.Sprintf("%s/#%d", u.Name, i) // no upstream has a slash in its name, no target a #
		aggregate.Clusters = append(aggregate.Clusters, name)
		b.pool(g, u, name, levels[i], filters)
		b.endpoints(u, name, levels[i:i+1])
	}
	b.add(resource.ClusterType, &clusterv3.Cluster{
		Name:        u.Name,
		AltStatName: statName(u.Name),
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name:        "envoy.clusters.aggregate",
			TypedConfig: packed(aggregate),
		}},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffered),
		CircuitBreakers:               breakers(0, 0, 0, u.Retry.BudgetPercent), // the limits are the pools'
		TypedExtensionProtocolOptions: protocol(poolHTTP(g, u, filters)),
	})
}

// pool is a cluster whose endpoints are these targets of the upstream (endpoint.go), so that
// choosing, weighing, ejecting and counting are done per target, whatever DNS says. A connection of
// it leads to the internal listener, one for each attempt under way, and tells it which target it
// is for.
func (b *builder) pool(g *config.Gateway, u *config.Upstream, name string, targets []*config.Target, filters []*hcmv3.HttpFilter) {
	b.add(resource.ClusterType, &clusterv3.Cluster{
		Name:                          name,
		AltStatName:                   statName(name),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:              &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffered),
		LoadBalancingPolicy:           balancing(u),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
			UpdateMergeWindow:     seconds(0), // or a target that is taken out goes on getting requests for up to a second
		},
		OutlierDetection:              ejection(u),
		CircuitBreakers:               breakers(0, 0, g.Pool.MaxRequests, u.Retry.BudgetPercent),
		HealthChecks:                  poolChecks(u.Active),
		TransportSocket:               inward(),
		TransportSocketMatches:        checkSockets(u),
		TypedExtensionProtocolOptions: protocol(poolHTTP(g, u, filters)),
	})
}

// inward tells the internal listener the endpoint's metadata.
func inward() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.internal_upstream",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(&internalv3.InternalUpstreamTransport{
			PassthroughMetadata: []*internalv3.InternalUpstreamTransport_MetadataValueSource{{
				Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Host_{Host: &metadatav3.MetadataKind_Host{}}},
				Name: envoy.Metadata,
			}},
			TransportSocket: plain(),
		})},
	}
}

func plain() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(&rawv3.RawBuffer{})},
	}
}

func protocol(options *upstreamhttpv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(options)}
}

func balancing(u *config.Upstream) *clusterv3.LoadBalancingPolicy {
	policy := endpointPolicy(u)
	var selectors []*subsetv3.Subset_LbSubsetSelector
	by := func(keys ...string) {
		selectors = append(selectors, &subsetv3.Subset_LbSubsetSelector{Keys: keys})
	}
	if u.Listed {
		by(envoy.MetadataModel)
	}
	by(envoy.MetadataSpeaks) // of every pool: a target that comes, goes or is re-pointed must not change the cluster
	if u.Listed {
		by(envoy.MetadataModel, envoy.MetadataSpeaks)
	}
	return onePolicy("envoy.load_balancing_policies.subset", &subsetv3.Subset{
		// Of requests that name no model and that all targets can be told; what no target has or
		// can be told the sidecar refuses.
		FallbackPolicy:  subsetv3.Subset_ANY_ENDPOINT,
		SubsetSelectors: selectors,
		ListAsAny:       true,
		SubsetLbPolicy:  policy,
	})
}

func endpointPolicy(u *config.Upstream) *clusterv3.LoadBalancingPolicy {
	if u.Algorithm.Hashes() {
		return onePolicy("envoy.load_balancing_policies.maglev", maglev(u))
	}
	switch u.Algorithm {
	case config.LeastConnections:
		return onePolicy("envoy.load_balancing_policies.least_request", &leastrequestv3.LeastRequest{
			SelectionMethod: leastrequestv3.LeastRequest_FULL_SCAN,
			SlowStartConfig: slowStart(u),
		})
	case config.Random:
		return onePolicy("envoy.load_balancing_policies.random", &randomv3.Random{})
	default: // round-robin and weighted-round-robin are one: both go by the weights
		return onePolicy("envoy.load_balancing_policies.round_robin", &roundrobinv3.RoundRobin{
			SlowStartConfig: slowStart(u),
		})
	}
}

func slowStart(u *config.Upstream) *lbcommonv3.SlowStartConfig {
	if u.SlowStart == 0 {
		return nil
	}
	return &lbcommonv3.SlowStartConfig{SlowStartWindow: seconds(u.SlowStart)}
}

func onePolicy(name string, m proto.Message) *clusterv3.LoadBalancingPolicy {
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{TypedExtensionConfig: extension(name, m)}}}
}

// ejects tells whether Envoy itself takes out targets that fail: in a bare pool. Otherwise the
// sidecar counts, which knows what belongs to one request (control, ejection), and the endpoints
// say what it found (resting.go).
func ejects(u *config.Upstream) bool {
	return isBare(u) && (u.Passive != nil || u.Breaker != nil)
}

// isBare tells whether the upstream is one that Envoy serves by itself.
func isBare(u *config.Upstream) bool { return strings.HasPrefix(u.Name, envoy.PoolBare) }

// ejection takes a target out after so many failed attempts in a row, or when so many of its
// answers were failures, but never the last one.
func ejection(u *config.Upstream) *clusterv3.OutlierDetection {
	if !ejects(u) || len(u.Targets) < 2 {
		return nil
	}
	p, c := u.Passive, u.Breaker
	const sweep = 10 * time.Second
	d := &clusterv3.OutlierDetection{
		EnforcingConsecutive_5Xx:           wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(0),
		EnforcingSuccessRate:               wrapperspb.UInt32(0),
		MaxEjectionPercent:                 wrapperspb.UInt32(uint32(100 * (len(u.Targets) - 1) / len(u.Targets))),
		// Active checks ask for less than requests do: one that passes does not bring back a target
		// that fails requests.
		SuccessfulActiveHealthCheckUnejectHost: wrapperspb.Bool(false),
	}
	var out time.Duration
	if p != nil {
		out = p.Out
		d.Consecutive_5Xx = wrapperspb.UInt32(p.Failures)
		d.EnforcingConsecutive_5Xx = wrapperspb.UInt32(100)
	}
	if c != nil {
		out = c.Reset
		d.FailurePercentageThreshold = wrapperspb.UInt32(c.FailurePercentage)
		d.FailurePercentageRequestVolume = wrapperspb.UInt32(c.RequestVolume)
		d.FailurePercentageMinimumHosts = wrapperspb.UInt32(1)
		d.EnforcingFailurePercentage = wrapperspb.UInt32(100)
	}
	d.BaseEjectionTime = seconds(out)
	d.Interval = seconds(min(sweep, out))
	return d
}

// breakers are Envoy's limits; 0 stands for none.
func breakers(connections, pending, requests, retryPercent uint32) *clusterv3.CircuitBreakers {
	limits := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     wrapperspb.UInt32(cmp.Or(connections, unlimited)),
		MaxPendingRequests: wrapperspb.UInt32(cmp.Or(pending, unlimited)),
		MaxRequests:        wrapperspb.UInt32(cmp.Or(requests, unlimited)),
		MaxRetries:         wrapperspb.UInt32(unlimited), // Envoy's default of 3 at once would end failover under load
	}
	if retryPercent > 0 {
		const always = 3
		limits.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent:       &typev3.Percent{Value: float64(retryPercent)},
			MinRetryConcurrency: wrapperspb.UInt32(always),
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{limits}}
}

// upstreamTLS checks a target's certificate against its host. A name is also what the target is
// told (SNI), an IP address must not be (RFC 6066), and is looked for among the certificate's
// addresses.
func (b *builder) upstreamTLS(t *config.Target) *tlsv3.UpstreamTlsContext {
	authorities := &tlsv3.CertificateValidationContext{TrustedCa: &corev3.DataSource{
		Specifier: &corev3.DataSource_Filename{Filename: b.config.CAFile},
	}}
	ip, err := netip.ParseAddr(t.Host)
	if err == nil {
		authorities.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
			Matcher: exactly(ip.WithZone("").String()),
		}}
	}
	return &tlsv3.UpstreamTlsContext{
		AutoHostSni:          err != nil,
		AutoSniSanValidation: err != nil,
		CommonTlsContext: &tlsv3.CommonTlsContext{ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: authorities,
		}},
	}
}

func poolHTTP(g *config.Gateway, u *config.Upstream, filters []*hcmv3.HttpFilter) *upstreamhttpv3.HttpProtocolOptions {
	options := http1Only(g)
	if len(filters) > 0 {
		options.HttpFilters = append(slices.Clip(filters), filter("upstream_codec", &upstreamcodecv3.UpstreamCodec{}))
	}
	if ejects(u) {
		options.OutlierDetection = &upstreamhttpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: failures()}
	}
	return options
}

// failedStatus matches the statuses of answers that count against a target, and that another target
// is asked after: 429 and 5xx. A loop (508) is neither: whoever is asked, the request comes back.
var failedStatus = expression(`429|5(0[0-79]|[1-9][0-9])`)

// failures are the answers that count against a target. Once a matcher is set only what it lists
// counts.
func failures() *commonmatcherv3.MatchPredicate {
	return &commonmatcherv3.MatchPredicate{Rule: &commonmatcherv3.MatchPredicate_HttpResponseHeadersMatch{
		HttpResponseHeadersMatch: &commonmatcherv3.HttpHeadersMatch{Headers: []*routev3.HeaderMatcher{headerIs(":status", failedStatus)}},
	}}
}

// target is the cluster that attempts at a target go out by: Envoy's own DNS, connect timeout, TLS
// and connections that are used again.
func (b *builder) target(g *config.Gateway, t *config.Target) {
	c := b.connecting(g, t, "")
	if t.TLS {
		b.encrypted(c, t)
	}
	c.PreconnectPolicy = preconnect(g.Pool)
	c.TypedExtensionProtocolOptions = protocol(targetHTTP(g, t))
	b.targets[c.Name] = true
	b.add(resource.ClusterType, c)
}

// encrypted has a cluster speak TLS.
func (b *builder) encrypted(c *clusterv3.Cluster, t *config.Target) {
	c.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Hostname = t.Host // what the certificate must be for
	c.TransportSocket = &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(b.upstreamTLS(t))},
	}
}

// targetHTTP lets a target choose HTTP/2 where that is wanted; it can only by TLS.
func targetHTTP(g *config.Gateway, t *config.Target) *upstreamhttpv3.HttpProtocolOptions {
	options := http1Only(g)
	if g.Pool.HTTP2 && t.TLS {
		options.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &upstreamhttpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				InitialStreamWindowSize:     wrapperspb.UInt32(buffered),
				InitialConnectionWindowSize: wrapperspb.UInt32(unbuffered), // a stream that waits must not stop the others
			},
		}}
	}
	return options
}

func http1Only(g *config.Gateway) *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(g.Pool.IdleTimeout)},
	}
}

// connecting is named by the target's identity: no cluster ever leads to another host than before.
// Its counters go by the name.
func (b *builder) connecting(g *config.Gateway, t *config.Target, prefix string) *clusterv3.Cluster {
	name := prefix + t.Identity
	kind := clusterv3.Cluster_LOGICAL_DNS
	if _, err := netip.ParseAddr(t.Host); err == nil {
		kind = clusterv3.Cluster_STATIC
	}
	return &clusterv3.Cluster{
		Name:                          name,
		AltStatName:                   statName(prefix + t.Name),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:                seconds(t.Timeouts.Connect),
		DnsLookupFamily:               clusterv3.Cluster_V4_PREFERRED,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffered),
		CircuitBreakers:               breakers(g.Pool.MaxPerTarget, g.Pool.MaxPending, 0, 0),
		UpstreamConnectionOptions:     keepAlive(g.Pool),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address:       t.Host,
						PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: t.Port},
					}}},
				}},
			}}}},
		},
	}
}
