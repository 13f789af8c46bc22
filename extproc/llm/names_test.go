package llm

import (
	"strings"
	"testing"
)

// TestFit: a name that a schema takes stays, any other becomes one that it takes, the same one
// every time and for no other name.
func TestFit(t *testing.T) {
	rule := NameRule{Max: 64, Legal: WordByte}
	long := "mcp__server__" + strings.Repeat("x", 60)
	given := map[string]string{}
	for _, name := range []string{"f", strings.Repeat("a", 64), long, long + "y", "a.b", "a b", "a_b", "", "größe", strings.Repeat("é", 40)} {
		out := rule.Fit(name)
		if !rule.Takes(out) {
			t.Errorf("%q became %q, which is not taken", name, out)
		}
		if rule.Takes(name) != (out == name) {
			t.Errorf("%q became %q", name, out)
		}
		if other, taken := given[out]; taken {
			t.Errorf("%q and %q both became %q", name, other, out)
		}
		if again := rule.Fit(name); again != out {
			t.Errorf("%q became %q, then %q", name, out, again)
		}
		given[out] = name
	}
	// The name is what later turns, other gateways and the provider's prompt cache know the tool
	// by.
	if got, want := rule.Fit("a.b"), "a_b_2e7336dc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
