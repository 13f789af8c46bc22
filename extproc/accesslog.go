package extproc

import (
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
			if rule, bare := strings.CutSuffix(common.GetRouteName(), envoy.RouteBare); bare {
				l.server.describeBare(event, entry, rule)
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
		RequestBytes:  uint32(entry.GetRequest().GetRequestBodyBytes()),
		ResponseBytes: uint32(entry.GetResponse().GetResponseBodyBytes()),
		ClientAddress: hostOf(common.GetDownstreamRemoteAddress()),
		Details:       entry.GetResponse().GetResponseCodeDetails(),
	}
}

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
