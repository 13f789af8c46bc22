package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	credentialv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/schema"
)

// probePrefix stands before a target's identity in what belongs to its health check.
const probePrefix = "probe:"

// startInterval is the time between checks of a target that has not passed yet, in a pool that
// nobody has used: when Envoy starts, its first check is made before the listener below is open.
const startInterval = 250 * time.Millisecond

// probes is the way of active health checks: pool → listener "probes" → the target's probe cluster.
// A pool cannot check its endpoints directly, see docs/rationale.md, "Why do health checks take a
// listener of their own?".
func (b *builder) probes() {
	var routes []*routev3.VirtualHost
	var filters []*hcmv3.HttpFilter
	for _, g := range b.config.Gateways {
		for _, u := range g.Upstreams {
			if u.Active == nil || u.For != nil { // a target is checked by one cluster, whatever upstreams it is in
				continue
			}
			for _, t := range u.Targets {
				if t.Answer != "" {
					continue
				}
				b.probe(g, u.Active, t)
				if u.Active.Path == "" {
					filters = append(filters, connected(t))
				} else {
					routes = append(routes, probeRoute(u.Active, t))
				}
			}
		}
	}
	if len(routes)+len(filters) > 0 {
		b.probeListener(routes, filters)
	}
}

// probeAddress is on the loopback, at the gateway's own port, so that two gateways on one machine
// have two. A gateway that listens everywhere has its own port there already, and gets another one.
// A Unix socket would do, but Envoy 1.40.0 crashes when asked for /config_dump?include_eds while a
// health check has one.
func (b *builder) probeAddress() *corev3.Address {
	host, port := config.ProbeAddress(b.config.Listen.Address, b.config.Listen.Port)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// probeHost is the host name that a target's checks are told apart by.
func probeHost(t *config.Target) string {
	sum := sha256.Sum256([]byte(t.Identity))
	return hex.EncodeToString(sum[:16])
}

func (b *builder) checkedAt(t *config.Target) *endpointv3.Endpoint_HealthCheckConfig {
	return &endpointv3.Endpoint_HealthCheckConfig{Address: b.probeAddress(), Hostname: probeHost(t)}
}

// poolChecks ask the listener about each endpoint. With a path that is the check itself, which the
// listener passes on. Without one, by gRPC or TCP, it is the question whether the probe cluster,
// which does the checks, thinks the target well. Fall and rise are counted by the pool, but for
// TCP.
func poolChecks(a *config.Active) []*corev3.HealthCheck {
	if a == nil {
		return nil
	}
	check := &corev3.HealthCheck{
		Timeout:                      seconds(a.Timeout),
		Interval:                     seconds(a.Interval),
		UnhealthyThreshold:           wrapperspb.UInt32(a.Fall),
		HealthyThreshold:             wrapperspb.UInt32(a.Rise),
		NoTrafficInterval:            seconds(min(startInterval, a.Interval)),
		NoTrafficHealthyInterval:     seconds(a.Interval),
		TransportSocketMatchCriteria: object(checkKey, structpb.NewBoolValue(true)),
	}
	// A bad answer counts like none, or Envoy would take the target out at the first one.
	request := &corev3.HealthCheck_HttpHealthCheck{Path: a.Path, RetriableStatuses: []*typev3.Int64Range{{Start: 100, End: 600}}}
	for _, status := range a.Expected {
		request.ExpectedStatuses = append(request.ExpectedStatuses, &typev3.Int64Range{Start: int64(status), End: int64(status) + 1})
	}
	if a.Path == "" {
		request.Path = "/"
	}
	if a.Path == "" && a.GRPC == nil { // the probe cluster has counted
		check.Interval = seconds(min(time.Second, a.Interval))
		check.NoTrafficHealthyInterval = check.Interval
		check.UnhealthyThreshold, check.HealthyThreshold = wrapperspb.UInt32(1), wrapperspb.UInt32(1)
	}
	check.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: request}
	return []*corev3.HealthCheck{check}
}

// checkKey chooses the transport socket of checks: the listener "probes" is reached over TCP.
const checkKey = "check"

func checkSockets(u *config.Upstream) []*clusterv3.Cluster_TransportSocketMatch {
	if u.Active == nil {
		return nil
	}
	return []*clusterv3.Cluster_TransportSocketMatch{{Name: "check", Match: object(checkKey, structpb.NewBoolValue(true)), TransportSocket: plain()}}
}

// probe is the cluster that checks of one target go out by.
func (b *builder) probe(g *config.Gateway, a *config.Active, t *config.Target) {
	c := b.connecting(g, t, probePrefix)
	name := c.Name
	if t.TLS && (a.Path != "" || a.GRPC != nil) {
		b.encrypted(c, t)
	}
	if a.Path == "" {
		check := &corev3.HealthCheck{
			Timeout:            seconds(a.Timeout),
			Interval:           seconds(a.Interval),
			NoTrafficInterval:  seconds(a.Interval), // it never has any traffic
			UnhealthyThreshold: wrapperspb.UInt32(a.Fall),
			HealthyThreshold:   wrapperspb.UInt32(a.Rise),
			HealthChecker:      &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
		}
		if a.GRPC != nil {
			// Envoy takes a target out at the first bad answer over gRPC, and has no setting for
			// it. So the pool counts, which looks as often as is checked.
			check.UnhealthyThreshold, check.HealthyThreshold = wrapperspb.UInt32(1), wrapperspb.UInt32(1)
			check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
				ServiceName: *a.GRPC,
				Authority:   t.Authority(),
			}}
			check.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{"h2"}}
			c.TypedExtensionProtocolOptions = protocol(http2Only())
		}
		c.HealthChecks = []*corev3.HealthCheck{check}
		b.add(resource.ClusterType, c)
		return
	}
	options := &upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		},
	}
	secrets := targetSecrets(t)
	maps.Copy(secrets, a.Headers)
	options.HttpFilters = b.credentials(name, secrets)
	options.HttpFilters = append(options.HttpFilters, filter("upstream_codec", &upstreamcodecv3.UpstreamCodec{}))
	c.TypedExtensionProtocolOptions = protocol(options)
	b.add(resource.ClusterType, c)
}

func http2Only() *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		},
	}}
}

// credentials add headers to requests; name tells them from others'.
func (b *builder) credentials(name string, secrets map[string]string) []*hcmv3.HttpFilter {
	var filters []*hcmv3.HttpFilter
	for _, header := range slices.Sorted(maps.Keys(secrets)) {
		filters = append(filters, b.credential(name+" "+header, header, secrets[header]))
	}
	return filters
}

// credential adds a header to requests. Its value is a secret resource, which Envoy's configuration
// dump does not show.
func (b *builder) credential(name, header, value string) *hcmv3.HttpFilter {
	b.add(resource.SecretType, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{
		Secret: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: value}},
	}}})
	return filter("credential_injector", &credentialv3.CredentialInjector{
		Overwrite: true,
		Credential: extension("envoy.http.injected_credentials.generic", &genericv3.Generic{
			Credential: &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()},
			Header:     header,
		}),
	})
}

// probeRoute makes a check of the pool's one for the target: its host, its headers, and nothing of
// Envoy's.
func probeRoute(a *config.Active, t *config.Target) *routev3.VirtualHost {
	path, _, _ := strings.Cut(a.Path, "?") // Envoy matches without the query
	host := &routev3.VirtualHost{
		Name:    t.Identity,
		Domains: []string{probeHost(t)},
		Routes: []*routev3.Route{{
			// Nothing else may come this way: it has a credential at its end, and any process of
			// this machine could use it.
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Path{Path: path},
				Headers:       []*routev3.HeaderMatcher{headerIs(":method", exactly("GET"))},
			},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: probePrefix + t.Identity},
				HostRewriteSpecifier: &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: t.Authority()},
				Timeout:              seconds(a.Timeout),
			}},
		}},
		RequestHeadersToRemove: []string{"x-forwarded-proto", "x-request-id"},
	}
	host.RequestHeadersToAdd = overwriting(targetHeaders(t))
	return host
}

// targetHeaders are those that a target gets with every request, but for targetSecrets.
func targetHeaders(t *config.Target) map[string]string {
	headers := map[string]string{}
	maps.Copy(headers, schema.Of(t.Schema).Headers)
	for name, values := range t.Headers {
		if !config.IsCredential(name) {
			headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return headers
}

// targetSecrets are the headers of a target that nobody must see: its credential, and those of its
// own headers that carry one. Names are in canonical form.
func targetSecrets(t *config.Target) map[string]string {
	secrets := map[string]string{}
	for name, values := range t.Headers {
		if config.IsCredential(name) {
			secrets[name] = strings.Join(values, ", ")
		}
	}
	if t.AuthHeader != "" {
		secrets[t.AuthHeader] = t.AuthValue
	}
	return secrets
}

// connected answers the pool's question from what the probe cluster found out.
func connected(t *config.Target) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: probePrefix + t.Identity,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&healthv3.HealthCheck{
			PassThroughMode:              wrapperspb.Bool(false),
			ClusterMinHealthyPercentages: map[string]*typev3.Percent{probePrefix + t.Identity: {Value: 100}},
			Headers:                      []*routev3.HeaderMatcher{headerIs(":authority", exactly(probeHost(t)))},
		})},
	}
}

func (b *builder) probeListener(routes []*routev3.VirtualHost, filters []*hcmv3.HttpFilter) {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix:        "probes",
		RouteSpecifier:    &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "probes", VirtualHosts: routes}},
		GenerateRequestId: wrapperspb.Bool(false),
		SkipXffAppend:     true,
		HttpFilters: append(filters, &hcmv3.HttpFilter{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&routerv3.Router{SuppressEnvoyHeaders: true})},
		}),
	}
	b.add(resource.ListenerType, &listenerv3.Listener{
		Name:                  "probes",
		Address:               b.probeAddress(),
		EnableReusePort:       alone,
		BypassOverloadManager: true, // a gateway short of memory says nothing about its targets
		FilterChains:          []*listenerv3.FilterChain{managed(manager)},
	})
}
