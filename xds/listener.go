package xds

import (
	"path/filepath"
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

const (
	// sidecarTimeout bounds one answer of the sidecar while a request is read; it only ends a
	// sidecar that hangs.
	sidecarTimeout = 10 * time.Second
	// headersTimeout ends connections that never finish their request's headers.
	headersTimeout = 10 * time.Second
	// closeTimeout is how long a client may read nothing of the last of an answer on a connection
	// that is then closed. Envoy's default of 1 s cuts slow readers short, and while draining every
	// connection is one that is then closed; but a client whose stream broke waits for so long,
	// too.
	closeTimeout = 5 * time.Second
	// logInterval is the longest that an access-log entry waits for others.
	logInterval = 200 * time.Millisecond
)

// buffered is what Envoy holds of an answer, on each connection that it passes, for a client that
// does not read it: the provider is not read from then. A request's body is held whole, whatever
// its size: bodyLimit bounds it.
const buffered = 128 << 10

// unbuffered is no bound.
const unbuffered = 1<<31 - 1

// listener is where apps come in: HTTP, the router stream, the routes. Routes are a resource of
// their own, so that a rule changes without draining a connection.
func (b *builder) listener() {
	listen := b.config.Listen
	chain := managed(b.connectionManager())
	if listen.CertFile != "" {
		chain.TransportSocket = b.downstreamTLS()
	}
	b.add(resource.ListenerType, &listenerv3.Listener{
		Name: envoy.Listener,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       listen.Address,
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: listen.Port},
		}}},
		TrafficDirection:              corev3.TrafficDirection_INBOUND, // what stops accepting at the end of a drain
		FilterChains:                  []*listenerv3.FilterChain{chain},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffered),
		EnableReusePort:               alone,
		ConnectionBalanceConfig:       evenly,
	})
}

// managed is the way of a listener's connections: to a connection manager.
func managed(manager *hcmv3.HttpConnectionManager) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(manager)},
	}}}
}

// With SO_REUSEPORT, Envoy's default, a second gateway on the port is no error: it gets a part of
// the requests. Without it all threads accept from one socket, so what was accepted is dealt out to
// them.
var (
	alone  = wrapperspb.Bool(false)
	evenly = &listenerv3.Listener_ConnectionBalanceConfig{BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{
		ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{},
	}}
)

// certificate is the name of the listener's certificate, a resource that holds file names only:
// Envoy reads the files, and reads them again when they change.
const certificate = "listener"

func (b *builder) downstreamTLS() *corev3.TransportSocket {
	listen := b.config.Listen
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
	}
	b.add(resource.SecretType, &tlsv3.Secret{Name: certificate, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: file(listen.CertFile),
		PrivateKey:       file(listen.KeyFile),
		WatchedDirectory: &corev3.WatchedDirectory{Path: filepath.Dir(listen.CertFile)},
	}}})
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{
				AlpnProtocols:                  []string{"h2", "http/1.1"},
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: certificate, SdsConfig: ads()}},
			},
		})},
	}
}

// The names of the listener's filters that are streams to the sidecar.
const (
	extProc   = "envoy.filters.http.ext_proc" // the router stream; of the listener "attempts", the upstream stream
	admission = "millrace.admission"
	announced = "millrace.announced"
)

func (b *builder) connectionManager() *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "ingress",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource:    ads(),
			RouteConfigName: envoy.Routes,
		}},
		HttpFilters: slices.Concat(b.corsFilters(), b.bareFilters(), []*hcmv3.HttpFilter{
			b.admission(),
			b.announced(),
			b.bodyLimit(),
			filter("ext_proc", routerStream()),
			filter("router", &routerv3.Router{SuppressEnvoyHeaders: true}),
		}),
		UseRemoteAddress:      wrapperspb.Bool(true),
		NormalizePath:         wrapperspb.Bool(true),
		MergeSlashes:          true,
		StripPortMode:         &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		DelayedCloseTimeout:   seconds(closeTimeout),
		RequestHeadersTimeout: seconds(headersTimeout),
		RequestTimeout:        seconds(b.config.Clients.ReceiveTimeout),
		MaxRequestHeadersKb:   wrapperspb.UInt32(uint32((b.config.Clients.MaxHeaderBytes + 1023) >> 10)),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     seconds(b.config.Clients.IdleTimeout),
			MaxHeadersCount: wrapperspb.UInt32(b.config.Clients.MaxHeaders),
		},
		StreamIdleTimeout: seconds(b.idleTimeout()),
		LocalReplyConfig:  localReplies(),
		AccessLog:         []*accesslogv3.AccessLog{accessLog()},
		// HAProxy's health checks are HTTP/1.0, without a Host. Envoy would answer 426.
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AcceptHttp_10: true, DefaultHostForHttp_10: "localhost"},
		// What a client of HTTP/2 does not read is bounded by stream.
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			InitialStreamWindowSize:     wrapperspb.UInt32(buffered),
			InitialConnectionWindowSize: wrapperspb.UInt32(64 * buffered),
		},
		// A refused request is no reason to close the connection it came on.
		StreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true),
	}
}

// idleTimeout lets the routes' own timeouts speak first: Envoy's default of 5 minutes cuts answers
// that take longer. Streams have their route's.
func (b *builder) idleTimeout() time.Duration {
	longest := 5 * time.Minute
	for _, g := range b.config.Gateways {
		for _, r := range g.Rules {
			longest = max(longest, r.Plan.Whole.Request+time.Minute)
		}
	}
	return longest
}

// processingMode asks for these messages and for no other.
func processingMode(messages []config.Message) *extprocv3.ProcessingMode {
	m := &extprocv3.ProcessingMode{
		RequestHeaderMode:   extprocv3.ProcessingMode_SKIP,
		RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
		ResponseHeaderMode:  extprocv3.ProcessingMode_SKIP,
		ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
	}
	for _, message := range messages {
		switch message {
		case config.RequestHeaders:
			m.RequestHeaderMode = extprocv3.ProcessingMode_SEND
		case config.RequestPieces:
			m.RequestBodyMode = extprocv3.ProcessingMode_STREAMED
		case config.RequestBody:
			m.RequestBodyMode = extprocv3.ProcessingMode_BUFFERED // a streamed body is sent twice on retry (envoy#36119)
		case config.ResponseHeaders:
			m.ResponseHeaderMode = extprocv3.ProcessingMode_SEND
		case config.ResponseBody:
			m.ResponseBodyMode = extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED
		case config.ResponseTrailers:
			m.ResponseTrailerMode = extprocv3.ProcessingMode_SEND
		}
	}
	return m
}

// routerStream reads each request before a target is chosen: headers, then the whole body.
// Responses do not pass here.
func routerStream() *extprocv3.ExternalProcessor {
	return &extprocv3.ExternalProcessor{
		GrpcService:       sidecar(envoy.StreamRouter),
		ProcessingMode:    processingMode(config.RouterMessages),
		RequestAttributes: []string{envoy.AttributeRoute},
		MessageTimeout:    seconds(sidecarTimeout),
		MutationRules:     anyHeader(),
		MetadataOptions: &extprocv3.MetadataOptions{
			ReceivingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{envoy.Metadata, envoy.MetadataLB}},
		},
		StatusOnError: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
	}
}

// anyHeader lets the sidecar set :authority and remove Envoy's own headers, which are nobody's
// business upstream.
func anyHeader() *mutationv3.HeaderMutationRules {
	return &mutationv3.HeaderMutationRules{
		AllowAllRouting: wrapperspb.Bool(true),
		AllowEnvoy:      wrapperspb.Bool(true),
	}
}

// accessLog sends an entry for every request, also for those that never reached the sidecar: events
// are made of them.
func accessLog() *accesslogv3.AccessLog {
	return toSidecar(&grpclogv3.CommonGrpcAccessLogConfig{LogName: envoy.LogRequests, BufferFlushInterval: seconds(logInterval)})
}

func toSidecar(c *grpclogv3.CommonGrpcAccessLogConfig) *accesslogv3.AccessLog {
	c.GrpcService, c.TransportApiVersion = sidecar(""), corev3.ApiVersion_V3
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig:                  c,
			AdditionalRequestHeadersToLog: []string{envoy.HeaderPath},
		})},
	}
}
