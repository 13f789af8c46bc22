package xds

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// Every attempt is a request of its own to Envoy: the router of the listener "ingress" sends it to
// an endpoint of a pool, which is the internal listener "attempts", and what that answers is a
// target's answer to it, to be retried like any. There the upstream stream writes the request for
// the target, and reads the answer before anyone else does. See docs/rationale.md, "Why does an
// attempt pass a connection manager of its own?".

// attempts adds the internal listener, and one without the sidecar for what Envoy serves by itself.
func (b *builder) attempts() {
	b.inner(envoy.AttemptsListener, []*routev3.Route{reading(), detaching(), onward()},
		filter("ext_proc", upstreamStream()),
		filter("buffer", wholeBody()),
	)
	if b.config.Bare() {
		b.inner(envoy.BareListener, []*routev3.Route{onward()})
	}
}

// inner is a listener that only pools lead to. The cluster that a request goes on to is the one
// that its header names.
func (b *builder) inner(name string, routes []*routev3.Route, filters ...*hcmv3.HttpFilter) {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
			Name:                   name,
			Domains:                []string{"*"},
			Routes:                 routes,
			RequestBodyBufferLimit: wrapperspb.UInt64(maxBody(b.config)),
		}}}},
		HttpFilters:                     append(filters, filter("router", &routerv3.Router{SuppressEnvoyHeaders: true})),
		GenerateRequestId:               wrapperspb.Bool(false),
		PreserveExternalRequestId:       true,
		SkipXffAppend:                   true,
		ServerHeaderTransformation:      hcmv3.HttpConnectionManager_PASS_THROUGH,
		StreamIdleTimeout:               &durationpb.Duration{}, // the clocks are the sidecar's, and behind them those of the rule's route
		MaxRequestHeadersKb:             wrapperspb.UInt32(maxInnerHeadersKb),
		CommonHttpProtocolOptions:       &corev3.HttpProtocolOptions{MaxHeadersCount: wrapperspb.UInt32(maxInnerHeaders)},
		LocalReplyConfig:                attemptReplies(),
		AccessLog:                       []*accesslogv3.AccessLog{attemptLog()},
		StreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true),
	}
	b.add(resource.ListenerType, &listenerv3.Listener{
		Name:                          name,
		ListenerSpecifier:             &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffered),
		BypassOverloadManager:         true, // its requests have been let in
		FilterChains:                  []*listenerv3.FilterChain{managed(manager)},
	})
}

// onward is the route to the cluster that the sidecar names.
func onward() *routev3.Route {
	return &routev3.Route{
		Match: prefix("/"),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: envoy.HeaderCluster},
			Timeout:          &durationpb.Duration{},
			IdleTimeout:      &durationpb.Duration{},
		}},
		RequestHeadersToRemove: []string{envoy.HeaderCluster, envoy.HeaderScheme, envoy.HeaderPath},
	}
}

// reading is the route of a first attempt that reads the request: the sidecar gets the body, too.
func reading() *routev3.Route {
	r := onward()
	r.Match.Headers = []*routev3.HeaderMatcher{headerIs(envoy.HeaderRead, exactly("1")), headerIs(envoy.HeaderAttempt, exactly("1"))}
	r.TypedPerFilterConfig = map[string]*anypb.Any{extProc: overridden(&extprocv3.ExtProcOverrides{ProcessingMode: processingMode(config.JoinedMessages)})}
	return r
}

// detaching is the route of attempts whose stream the sidecar may detach from (extproc/detach.go):
// the answer's head is held while the first pieces of its body come, and nobody owes the rest.
// FULL_DUPLEX_STREAMED cannot be left.
func detaching() *routev3.Route {
	r := onward()
	r.Match.Headers = []*routev3.HeaderMatcher{headerIs(envoy.HeaderDetach, exactly("1"))}
	mode := processingMode(config.UpstreamMessages)
	mode.ResponseBodyMode, mode.ResponseTrailerMode = extprocv3.ProcessingMode_STREAMED, extprocv3.ProcessingMode_SKIP
	r.TypedPerFilterConfig = map[string]*anypb.Any{extProc: overridden(&extprocv3.ExtProcOverrides{ProcessingMode: mode})}
	return r
}

// The client's headers have been bounded. These are the largest that Envoy takes.
const (
	maxInnerHeadersKb = 8192
	maxInnerHeaders   = 10_000
)

// upstreamStream runs once per attempt: it writes the request for the target, and reads the answer
// before anyone else does. The answer's body belongs to the sidecar, which sends what it likes when
// it likes; nothing is sent twice.
func upstreamStream() *extprocv3.ExternalProcessor {
	return &extprocv3.ExternalProcessor{
		GrpcService:    sidecar(envoy.StreamUpstream),
		ProcessingMode: processingMode(config.UpstreamMessages),
		MessageTimeout: seconds(sidecarTimeout),
		MutationRules:  anyHeader(),
		MetadataOptions: &extprocv3.MetadataOptions{
			ForwardingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{envoy.Metadata}}, // the endpoint's
			ReceivingNamespaces:  &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{envoy.Metadata}},
		},
		AllowContentLengthHeader: true,
		// Of the route detaching: it holds what comes, and Envoy keeps a clock.
		SendBodyWithoutWaitingForHeaderResponse: true,
		MaxMessageTimeout:                       seconds(envoy.LongestHold),
		StatusOnError:                           &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
	}
}

// wholeBody collects the body behind the upstream stream, and says its length: Envoy 1.40.0 drops
// the content-length of a body that ext_proc puts in with CONTINUE_AND_REPLACE, and the request
// would go out chunked, which some providers refuse (RFC 9112, section 6.3). The body comes in one
// piece, so nothing waits. It is not bounded here: the sidecar has it whole.
func wholeBody() *bufferv3.Buffer {
	return &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(unbuffered)}
}

// attemptLog sends an entry at once for every attempt whose target has broken off its connection:
// the sidecar does not hear of it where it has a head of the answer and has said nothing yet.
func attemptLog() *accesslogv3.AccessLog {
	l := toSidecar(&grpclogv3.CommonGrpcAccessLogConfig{LogName: envoy.LogAttempts, BufferSizeBytes: wrapperspb.UInt32(0)})
	l.Filter = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: lostFlags},
	}}
	return l
}

// lostFlags are Envoy's words for a target that has broken off.
var lostFlags = []string{"UC", "UR", "UPE"}

// lostAnswer is on what Envoy itself answers for a target that has broken off: the sidecar has no
// chance to.
var lostAnswer = headerIs(envoy.HeaderWhy, expression(`([A-Z]+,)*(`+strings.Join(lostFlags, "|")+`)[ ,].*`))
