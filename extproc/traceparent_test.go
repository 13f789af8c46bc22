package extproc

import (
	"strings"
	"testing"
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
