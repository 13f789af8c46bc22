package extproc

import (
	"regexp"

	"millrace/event"
)

// wellFormed is a traceparent that somebody else can go on from
// (https://www.w3.org/TR/trace-context/#traceparent-header): later versions may say more behind it.
var wellFormed = regexp.MustCompile(`^([0-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-|$)`)

// traceparent is the trace that the client has its request in, "" where it says none.
func traceparent(h headers) string {
	const length = 55 // of version 00, and of what any later version begins with
	t := h.get("traceparent")
	if t == "" || !wellFormed.MatchString(t) || t[3:35] == "00000000000000000000000000000000" || t[36:52] == "0000000000000000" {
		return ""
	}
	return t[:length]
}

// propagate tells the target of attempt number n which trace it is a part of, where the operator
// wants that.
func (x *exchange) propagate(want map[string]string, n int) {
	t := x.runtime.telemetry
	if !t.Propagate {
		return
	}
	parent := x.trace // as it came, where there are no spans of ours
	if t.Endpoint != "" {
		parent = event.SpanOf(x.id, x.trace, t.Sample).Traceparent(n)
	}
	if parent != "" {
		want["traceparent"] = parent
	}
	if x.state != "" {
		want["tracestate"] = x.state
	}
}
