package extproc

import (
	"net"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"millrace/envoy"
	millracev1 "millrace/proto/millrace/v1"
)

// accessLog receives Envoy's account of every request that has ended, and of the attempts that it gave up.
type accessLog struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

func (s *Server) registerAccessLog(g *grpc.Server) {
	accesslogv3.RegisterAccessLogServiceServer(g, accessLog{server: s})
}

// StreamAccessLogs takes entries for as long as Envoy lives. There is no answer to them.
func (l accessLog) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // Envoy is gone or has a new listener: both are ordinary
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			common := entry.GetCommonProperties()
			if common.GetAccessLogType() == datav3.AccessLogType_UpstreamEnd {
				if entry.GetResponse().GetResponseCode().GetValue() == 0 { // else it was answered, and has been judged by that
					l.server.attemptEnded(entry)
				}
				continue
			}
			if common.GetResponseFlags().GetUpstreamRequestTimeout() { // of the whole request: no attempt's log has it
				l.server.attemptEnded(entry)
			}
			if common.GetRouteName() == envoy.RoutePreflight { // the browser's question, not a client's request
				continue
			}
			l.server.exchanges.logged(eventOf(entry), int(common.GetUpstreamRequestAttemptCount()))
		}
	}
}

// unreached keeps for the target's health why an attempt could not connect, and says it in the log.
func (s *Server) unreached(attempt *datav3.AccessLogCommon, reason string) {
	t := s.runtime.Load().targets[targetOf(attempt)]
	if t == nil { // it was removed meanwhile
		return
	}
	last, _ := s.recent.add(t.config.Identity, &millracev1.Outcome{Time: attempt.GetStartTime(), Error: reason, DurationMs: millis(attempt.GetDuration())}, "")
	if last != reason { // a target that is down is said once, not with every attempt
		s.options.Log.Warn("target cannot be reached", "target", t.config.Name, "address", t.config.Authority(), "reason", reason)
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
