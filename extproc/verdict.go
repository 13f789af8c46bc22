package extproc

import (
	"fmt"
	"net/http"
	"strings"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
)

// What requests say about targets. The sidecar knows the attempts that were answered, Envoy those that were not: it logs each attempt
// that it gave up (xds, attemptLog). A client that leaves says nothing, and what breaks after an answer has begun neither.

// judge says what the outcome tells of the target. One that has said when to come back is left alone for so long and not longer, and a
// client's own haste is no target's fault.
func (a *attempt) judge() {
	if a.target.config.Answer != "" || a.cools || a.blameless {
		return
	}
	status, why := 0, ""
	a.note(func() { status, why = int(a.record.Status), a.record.Error })
	if !failure(status) {
		a.server.succeeded(a.target.config.Identity, a.x.id)
		return
	}
	a.server.failed(a.target.config.Identity, a.x.id, strings.TrimSpace(fmt.Sprint(status, " ", why)))
}

// failure tells whether the status says that the target fails everybody. A refused model or input is the request's affair, and a loop
// the configuration's.
func failure(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusTooManyRequests, statusCapacity:
		return true
	case http.StatusLoopDetected:
		return false
	}
	return status >= 500
}

// attemptEnded takes Envoy's account of an attempt that it gave up.
func (s *Server) attemptEnded(entry *datav3.HTTPAccessLogEntry) {
	common := entry.GetCommonProperties()
	flags, why := common.GetResponseFlags(), "no answer in time"
	switch {
	case flags.GetUpstreamConnectionFailure():
		why = "no connection"
	case flags.GetUpstreamRemoteReset(), flags.GetUpstreamConnectionTermination(), flags.GetUpstreamProtocolError():
		why = "the connection was closed before an answer"
	}
	if reason := common.GetUpstreamTransportFailureReason(); reason != "" { // of TLS: a certificate, or that the other side speaks none
		why += ": " + reason
	}
	if flags.GetUpstreamConnectionFailure() {
		s.unreached(common, why)
	}
	s.failed(targetOf(common), entry.GetRequest().GetRequestId(), why)
}

// targetOf is the identity of the target that Envoy chose last, "" when it has chosen none.
func targetOf(common *datav3.AccessLogCommon) string {
	return common.GetUpstreamRemoteAddress().GetEnvoyInternalAddress().GetEndpointId()
}

func (s *Server) succeeded(target, request string) {
	if s.options.Succeeded != nil {
		s.options.Succeeded(target, request)
	}
}

func (s *Server) failed(target, request, why string) {
	if s.options.Failed != nil {
		s.options.Failed(target, request, why)
	}
}
