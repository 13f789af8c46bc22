package envoy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestVia: what Envoy's expressions say of a list is what PassedVia reads in it, for every length.
func TestVia(t *testing.T) {
	matches := func(expression, s string) bool { return regexp.MustCompile("^(?:" + expression + ")$").MatchString(s) }
	ids := []string{"00000000", "11111111", "22222222", "33333333", "44444444", "55555555", "66666666", "77777777", "88888888", "99999999"}
	for n := range len(ids) {
		for _, comma := range []string{",", ", "} {
			list := strings.Join(ids[:n], comma)
			if got := PassedVia(list); !slices.Equal(got, ids[:min(n, MaxVia)]) {
				t.Errorf("%q is read as %v", list, got)
			}
			if full := matches(ViaFull, list); full != (n >= MaxVia) {
				t.Errorf("%q is full: %v", list, full)
			}
			if sound := matches(ViaSound, list); sound != (n < MaxVia) {
				t.Errorf("%q is sound: %v", list, sound)
			}
			for i, id := range ids {
				if passed := matches(ViaPassed(ViaID(id+"more")), list); passed != (i < n) {
					t.Errorf("%s is on %q: %v", id, list, passed)
				}
			}
		}
	}
	for _, list := range []string{"x", "0000000", "000000000", "0000000G", "00000000,", ",", "00000000;11111111", "00000000 11111111", strings.Repeat("x", 5000), "a\tb"} {
		if matches(ViaSound, list) {
			t.Errorf("%q is sound", list)
		}
	}
	if got := PassedVia("x, 00000000 ,, 1111111g,22222222,AAAAAAAA"); !slices.Equal(got, []string{"00000000", "22222222"}) {
		t.Errorf("ids %v", got)
	}
}
