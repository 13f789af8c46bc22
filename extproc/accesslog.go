package extproc

import (
	"math"
	"net"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"millrace/envoy"
	millracev1 "millrace/proto/millrace/v1"
)

// accessLog receives Envoy's account of every request that has ended, and of the attempts that it
// gave up.
type accessLog struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

func (s *Server) registerAccessLog(g *grpc.Server) {
	accesslogv3.RegisterAccessLogServiceServer(g, accessLog{server: s})
}

// StreamAccessLogs takes entries for as long as Envoy lives. There is no answer to them.
func (l accessLog) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	log := ""
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // Envoy is gone or has a new listener: both are ordinary
		}
		if log == "" { // the first message says it
			log = message.GetIdentifier().GetLogName()
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			common := entry.GetCommonProperties()
			if log == envoy.LogAttempts {
				l.server.lost(entry)
				continue
			}
			if common.GetResponseFlags().GetUpstreamRequestTimeout() {
				l.server.timedOut(entry)
			}
			if common.GetRouteName() == envoy.RoutePreflight { // the browser's question, not a client's request
				continue
			}
			event := eventOf(entry)
			l.server.addUsage(event, entry)
			name, bare := strings.CutSuffix(common.GetRouteName(), envoy.RouteBare)
			if rule := l.server.rule(nil, name); rule != nil {
				rule.describe(event)
			}
			if bare {
				l.server.describeBare(event, entry, name)
			}
			l.server.exchanges.logged(event, int(common.GetUpstreamRequestAttemptCount()))
		}
	}
}

// eventOf is what Envoy alone knows of a request: its times, sizes and end.
func eventOf(entry *datav3.HTTPAccessLogEntry) *millracev1.Event {
	common := entry.GetCommonProperties()
	return &millracev1.Event{
		Id:            entry.GetRequest().GetRequestId(),
		Time:          common.GetStartTime(),
		DurationMs:    millis(common.GetTimeToLastDownstreamTxByte()),
		FirstByteMs:   millis(common.GetTimeToFirstDownstreamTxByte()),
		Method:        methodName(entry.GetRequest().GetRequestMethod()),
		Path:          entry.GetRequest().GetPath(),
		Status:        entry.GetResponse().GetResponseCode().GetValue(),
		RequestBytes:  clamped(entry.GetRequest().GetRequestBodyBytes()),
		ResponseBytes: clamped(entry.GetResponse().GetResponseBodyBytes()),
		ClientAddress: hostOf(common.GetDownstreamRemoteAddress()),
		Details:       entry.GetResponse().GetResponseCodeDetails(),
		Protocol:      protocols[entry.GetProtocolVersion()],
		Flags:         flagsOf(common.GetResponseFlags()),
		Retries:       max(common.GetUpstreamRequestAttemptCount(), 1) - 1,
		Phases: &millracev1.Phases{
			ReceivedMs:              millis(common.GetTimeToLastRxByte()),
			UpstreamFirstSentMs:     millis(common.GetTimeToFirstUpstreamTxByte()),
			UpstreamLastSentMs:      millis(common.GetTimeToLastUpstreamTxByte()),
			UpstreamFirstReceivedMs: millis(common.GetTimeToFirstUpstreamRxByte()),
			UpstreamLastReceivedMs:  millis(common.GetTimeToLastUpstreamRxByte()),
		},
		ReceivedBytes: clamped(common.GetDownstreamWireBytesReceived()),
		SentBytes:     clamped(common.GetDownstreamWireBytesSent()),
	}
}

var protocols = map[datav3.HTTPAccessLogEntry_HTTPVersion]string{
	datav3.HTTPAccessLogEntry_HTTP10: "HTTP/1.0", datav3.HTTPAccessLogEntry_HTTP11: "HTTP/1.1",
	datav3.HTTPAccessLogEntry_HTTP2: "HTTP/2", datav3.HTTPAccessLogEntry_HTTP3: "HTTP/3",
}

// flags are Envoy's short words for how a request ended
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#config-access-log-format-response-flags).
var flags = []struct {
	word string
	set  func(*datav3.ResponseFlags) bool
}{
	{"UH", (*datav3.ResponseFlags).GetNoHealthyUpstream},
	{"UF", (*datav3.ResponseFlags).GetUpstreamConnectionFailure},
	{"UO", (*datav3.ResponseFlags).GetUpstreamOverflow},
	{"NR", (*datav3.ResponseFlags).GetNoRouteFound},
	{"URX", (*datav3.ResponseFlags).GetUpstreamRetryLimitExceeded},
	{"NC", (*datav3.ResponseFlags).GetNoClusterFound},
	{"DT", (*datav3.ResponseFlags).GetDurationTimeout},
	{"DC", (*datav3.ResponseFlags).GetDownstreamConnectionTermination},
	{"LH", (*datav3.ResponseFlags).GetFailedLocalHealthcheck},
	{"UT", (*datav3.ResponseFlags).GetUpstreamRequestTimeout},
	{"LR", (*datav3.ResponseFlags).GetLocalReset},
	{"UR", (*datav3.ResponseFlags).GetUpstreamRemoteReset},
	{"UC", (*datav3.ResponseFlags).GetUpstreamConnectionTermination},
	{"RL", (*datav3.ResponseFlags).GetRateLimited},
	{"IH", (*datav3.ResponseFlags).GetInvalidEnvoyRequestHeaders},
	{"SI", (*datav3.ResponseFlags).GetStreamIdleTimeout},
	{"DPE", (*datav3.ResponseFlags).GetDownstreamProtocolError},
	{"UPE", (*datav3.ResponseFlags).GetUpstreamProtocolError},
	{"UMSDR", (*datav3.ResponseFlags).GetUpstreamMaxStreamDurationReached},
	{"NFCF", (*datav3.ResponseFlags).GetNoFilterConfigFound},
	{"OM", (*datav3.ResponseFlags).GetOverloadManager},
	{"DF", (*datav3.ResponseFlags).GetDnsResolutionFailure},
	{"DR", (*datav3.ResponseFlags).GetDownstreamRemoteReset},
}

func flagsOf(f *datav3.ResponseFlags) []string {
	if f == nil {
		return nil
	}
	var words []string
	for _, flag := range flags {
		if flag.set(f) {
			words = append(words, flag.word)
		}
	}
	return words
}

// clamped is the number as an event has it: what is more than four thousand million is so many.
func clamped[N int64 | uint64](n N) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

func millis(d *durationpb.Duration) float64 { return milliseconds(d.AsDuration()) }

func methodName(m corev3.RequestMethod) string {
	if m == corev3.RequestMethod_METHOD_UNSPECIFIED {
		return ""
	}
	return m.String()
}

func hostOf(a *corev3.Address) string {
	s := a.GetSocketAddress()
	if s == nil {
		return ""
	}
	return net.JoinHostPort(s.Address, strconv.Itoa(int(s.GetPortValue())))
}
