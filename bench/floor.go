package main

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// bareConfig is an Envoy that forwards to the provider. %%d stands for its own port.
func bareConfig(provider string) string { return configOf(provider, "", "", "") }

// floorConfig asks a server on the socket for the messages that the gateway asks for: a stream for
// the request, headers and body, and a stream for the attempt, with all of the answer.
func floorConfig(provider, socket string) string {
	return configOf(provider,
		`- `+processor("router", "request_header_mode: SEND, request_body_mode: BUFFERED, response_header_mode: SKIP"),
		`typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http_protocol_options: {}}
        http_filters:
        - `+processor("upstream", "request_header_mode: SEND, response_header_mode: SEND, response_body_mode: FULL_DUPLEX_STREAMED, response_trailer_mode: SEND")+`
        - {name: codec, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}}`,
		fmt.Sprintf(`
  - name: sidecar
    per_connection_buffer_limit_bytes: 2147483647
    circuit_breakers: {thresholds: [{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000}]}
    load_assignment: {cluster_name: sidecar, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %s}}}}]}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 1000000, initial_stream_window_size: 1073741824, initial_connection_window_size: 2147483647}}
`, socket))
}

// kindKey is the stream metadata that says which stream it is.
const kindKey = "x-kind"

func processor(kind, mode string) string {
	return fmt.Sprintf(`{name: ext_proc, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor, `+
		`grpc_service: {envoy_grpc: {cluster_name: sidecar}, initial_metadata: [{key: %s, value: %s}]}, message_timeout: 10s, processing_mode: {%s}, `+
		`mutation_rules: {allow_all_routing: true, allow_envoy: true}, allow_content_length_header: true}}`, kindKey, kind, mode)
}

func configOf(provider, filters, protocol, clusters string) string {
	host, port, _ := net.SplitHostPort(provider)
	return fmt.Sprintf(strings.ReplaceAll(`
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {path: /ready}, direct_response: {status: 200}}
              - {match: {prefix: /}, route: {cluster: provider, timeout: 0s}}
          http_filters:
          %s
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}
  clusters:
  - name: provider
    connect_timeout: 5s
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: provider, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}
    %s
  %s
`, "PORT", "%%d"), filters, host, port, protocol, clusters)
}

// floorServer answers every message with the least that makes the request go on.
type floorServer struct {
	extprocv3.UnimplementedExternalProcessorServer
	body atomic.Pointer[[]byte] // of the latest request: all of a run are the same
}

func serveFloor(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(16<<20))
	extprocv3.RegisterExternalProcessorServer(g, &floorServer{})
	return g.Serve(l)
}

func (s *floorServer) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	upstream := len(md.Get(kindKey)) > 0 && md.Get(kindKey)[0] == "upstream"
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // Envoy needs nothing more
		}
		if err := stream.Send(s.reply(message, upstream)); err != nil {
			return err
		}
	}
}

func (s *floorServer) reply(message *extprocv3.ProcessingRequest, upstream bool) *extprocv3.ProcessingResponse {
	common := &extprocv3.CommonResponse{}
	switch m := message.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		if body := s.body.Load(); upstream && body != nil {
			common.Status = extprocv3.CommonResponse_CONTINUE_AND_REPLACE
			common.HeaderMutation = set("authorization", "Bearer key")
			common.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: *body}}
		}
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: common}}}
	case *extprocv3.ProcessingRequest_RequestBody:
		s.body.Store(&m.RequestBody.Body)
		common.HeaderMutation, common.ClearRouteCache = set("x-stream", "1"), true
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: common}}}
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		common.HeaderMutation = set("x-selected-provider", "openai")
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{Response: common}}}
	case *extprocv3.ProcessingRequest_ResponseBody:
		common.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{
			StreamedResponse: &extprocv3.StreamedBodyResponse{Body: m.ResponseBody.Body, EndOfStream: m.ResponseBody.EndOfStream},
		}}
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{Response: common}}}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
}

func set(name, value string) *extprocv3.HeaderMutation {
	return &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}
