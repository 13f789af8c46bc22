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

// accessLog receives Envoy's account of every request that has ended, and of every attempt that could not connect.
type accessLog struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

func (s *Server) registerAccessLog(g *grpc.Server) {
	accesslogv3.RegisterAccessLogServiceServer(g, accessLog{server: s})
}

// StreamAccessLogs takes entries for as long as Envoy lives. There is no answer to them.
func (l accessLog) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	name := ""
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // Envoy is gone or has a new listener: both are ordinary
		}
		if id := message.GetIdentifier(); id != nil { // with the first message alone
			name = id.GetLogName()
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			if name == envoy.LogUnreached {
				l.server.unreached(entry.GetCommonProperties())
				continue
			}
			l.server.exchanges.logged(eventOf(entry), int(entry.GetCommonProperties().GetUpstreamRequestAttemptCount()))
		}
	}
}

// unreached keeps why an attempt could not connect, in the log and for the target's health. Envoy's words are of TLS: what was wrong
// with a certificate, or that the other side speaks none.
func (s *Server) unreached(attempt *datav3.AccessLogCommon) {
	r := s.runtime.Load()
	t := r.targets[attempt.GetUpstreamRemoteAddress().GetEnvoyInternalAddress().GetEndpointId()]
	if t == nil { // it was removed meanwhile
		return
	}
	reason := "no connection"
	if why := attempt.GetUpstreamTransportFailureReason(); why != "" {
		reason += ": " + why
	}
	last := s.recent.add(t.config.Identity, &millracev1.Outcome{Time: attempt.GetStartTime(), Error: reason, DurationMs: millis(attempt.GetDuration())})
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
