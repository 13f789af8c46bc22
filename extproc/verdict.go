package extproc

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// What requests say about targets. A client that leaves says nothing, and what breaks after an
// answer has begun neither.

// judge says what the outcome tells of the target. One that has said when to come back is left
// alone for so long and not longer, and a client's own haste is no target's fault. What it says of
// a count of tokens tells nothing of its conversations: the limits are others
// (https://docs.claude.com/en/docs/build-with-claude/token-counting#pricing-and-rate-limits), and
// some hosts have no such operation.
func (a *attempt) judge() {
	if a.target.config.Answer != "" || a.cools || a.blameless || a.x.counts && a.loss == nil {
		return
	}
	status, why := 0, ""
	a.note(func() { status, why = int(a.record.Status), a.record.Error })
	if a.loss == nil && !failure(status) {
		a.server.succeeded(a.target.config.Identity, a.x.id)
		return
	}
	a.server.failed(a.target.config.Identity, a.x.id, strings.TrimSpace(fmt.Sprint(status, " ", why)))
}

// failure tells whether the status says that the target fails everybody. A refused model or input
// is the request's affair, and a loop the configuration's.
func failure(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusTooManyRequests, statusCapacity:
		return true
	case http.StatusLoopDetected:
		return false
	}
	return status >= 500
}

// loss is the failure of an attempt in whose target's place Envoy answers, by its flags
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#config-access-log-format-response-flags).
type loss struct {
	flag, said string
	condition  string // of retry.on
	kind       llm.ErrorType
	unreached  bool // nothing was sent
	blameless  bool // it is not the target's fault
}

// brokenOff is said of a target that has ended its connection where an answer was due.
const brokenOff = "the connection was closed before an answer"

var losses = []loss{
	{"UO", "too many requests are under way, try again shortly", config.OnConnectFailure, llm.ErrUnavailable, true, true},
	{"UF", "no connection", config.OnConnectFailure, llm.ErrUnavailable, true, false},
	{"UH", "no connection", config.OnConnectFailure, llm.ErrUnavailable, true, false}, // its name has no address
	{"UPE", "its answer is none of HTTP's", config.OnNoAnswer, llm.ErrBadGateway, false, false},
	{"", brokenOff, config.OnNoAnswer, llm.ErrUnavailable, false, false},
}

// lost is the failure that why tells of: Envoy's flags, its reason in a word, and what is wrong
// with TLS. The reason is for the operator.
func (a *attempt) lost(why string) *llm.Error {
	flags, reason, _ := strings.Cut(why, " ")
	l := losses[slices.IndexFunc(losses, func(l loss) bool { return l.flag == "" || slices.Contains(strings.Split(flags, ","), l.flag) })]
	a.loss = &l
	if l.unreached && !l.blameless {
		said := l.said
		if _, tls, _ := strings.Cut(reason, " "); tls != "" && tls != "-" { // a certificate, or that the other side speaks none, or that nobody listens
			said += ": " + tls
		}
		a.server.unreached(a.target.config, a.started, said)
	}
	return llm.Errorf(l.kind, "target %q: %s", a.target.config.ID, l.said)
}

// unreached keeps for the target's health why an attempt that began then could not connect, and
// says it in the log.
func (s *Server) unreached(t *config.Target, started time.Time, reason string) {
	last, _ := s.recent.add(t.Identity, &millracev1.Outcome{Time: timestamppb.New(started), Error: reason, DurationMs: milliseconds(time.Since(started))}, "")
	if last != reason { // a target that is down is said once, not with every attempt
		s.options.Log.Warn("target cannot be reached", "target", t.Name, "address", t.Authority(), "reason", reason)
	}
}

// lost notes that a target has broken off before its answer has begun, which the sidecar may not
// have seen.
func (s *Server) lost(entry *datav3.HTTPAccessLogEntry) {
	if entry.GetResponse().GetResponseCode().GetValue() >= 500 {
		s.failed(entry.GetCommonProperties().GetUpstreamCluster(), entry.GetRequest().GetRequestId(), brokenOff)
	}
}

// timedOut notes that the request's time was over while it waited for the target that Envoy chose
// last.
func (s *Server) timedOut(entry *datav3.HTTPAccessLogEntry) {
	s.failed(chosen(entry), entry.GetRequest().GetRequestId(), "no answer in time")
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
