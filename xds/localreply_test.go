package xds

import (
	"strings"
	"testing"

	"millrace/schema"
)

// TestOwnErrors: each of Envoy's own failures has a word in every schema.
func TestOwnErrors(t *testing.T) {
	for _, e := range ownErrors {
		for _, s := range schema.All() {
			if s.Error.Types[e.class] == "" {
				t.Errorf("%s has no word for %q", s.Name, e.class)
			}
			if body := e.body(s.Error).String(); strings.Contains(body, "$") || !strings.Contains(body, e.message) {
				t.Errorf("%s: %s", s.Name, body)
			}
		}
	}
}
