package extproc

import (
	"strings"
	"testing"

	"millrace/config"
)

const clientsTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTraceparent: what is not well-formed is none, and what a later version says beside is left
// out.
func TestTraceparent(t *testing.T) {
	for sent, want := range map[string]string{
		clientsTrace:                      clientsTrace,
		"cc" + clientsTrace[2:] + "-more": "cc" + clientsTrace[2:],
		"":                                "",
		"ff" + clientsTrace[2:]:           "",
		clientsTrace + "x":                "",
		strings.ToUpper(clientsTrace):     "",
		clientsTrace[:54]:                 "",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01":                 "",
		"00-0af7651916cd43dd8448eb211c80319c-" + strings.Repeat("0", 16) + "-01": "",
	} {
		if got := traceparent(headersOf(headerMap("traceparent= " + sent))); got != want {
			t.Errorf("%q is read as %q, not %q", sent, got, want)
		}
	}
}

// TestPropagate: a target hears of the trace where the operator wants that, and of the span of its
// own attempt where there is one.
func TestPropagate(t *testing.T) {
	const collector = "http://collector:4318/v1/traces"
	for name, tt := range map[string]struct {
		telemetry config.Telemetry
		trace     string
		want      func(parent string) bool
	}{
		"not wanted": {config.Telemetry{Endpoint: collector, Sample: 1}, clientsTrace, func(parent string) bool { return parent == "" }},
		"the client's trace, a span of ours": {config.Telemetry{Endpoint: collector, Sample: 1, Propagate: true}, clientsTrace, func(parent string) bool {
			return strings.HasPrefix(parent, clientsTrace[:36]) && parent != clientsTrace && strings.HasSuffix(parent, "-01")
		}},
		"a trace of ours":                   {config.Telemetry{Endpoint: collector, Sample: 1, Propagate: true}, "", func(parent string) bool { return wellFormed.MatchString(parent) && strings.HasSuffix(parent, "-01") }},
		"one that is not sampled":           {config.Telemetry{Endpoint: collector, Sample: 0, Propagate: true}, "", func(parent string) bool { return strings.HasSuffix(parent, "-00") }},
		"no spans of ours: as it came":      {config.Telemetry{Sample: 1, Propagate: true}, clientsTrace, func(parent string) bool { return parent == clientsTrace }},
		"no spans of ours, and none before": {config.Telemetry{Sample: 1, Propagate: true}, "", func(parent string) bool { return parent == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			x := &exchange{clientRequest: clientRequest{id: "one", trace: tt.trace}, runtime: &Runtime{telemetry: tt.telemetry}}
			want := map[string]string{}
			x.propagate(want, 1)
			if !tt.want(want["traceparent"]) {
				t.Errorf("the target gets %q", want)
			}
		})
	}
}
