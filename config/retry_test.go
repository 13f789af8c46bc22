package config

import (
	"fmt"
	"testing"
	"time"
)

// resolved is the configuration of a document.
func resolved(t *testing.T, document string) *Config {
	t.Helper()
	doc, err := Load("test.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPerTry: without a word of the operator's an attempt at a whole answer has half of the
// request's time, where that leaves the other half to another target of each upstream of the rule.
func TestPerTry(t *testing.T) {
	const half, none = 300 * time.Second, time.Duration(0)
	for name, c := range map[string]struct {
		retry, targets string
		want           time.Duration
	}{
		"two targets":             {"{}", "[{id: a, provider: openai}, {id: b, provider: openai}]", half},
		"one":                     {"{}", "[{id: a, provider: openai}]", none},
		"one, and one that rests": {"{}", "[{id: a, provider: openai}, {id: b, provider: openai, weight: 0}]", none},
		"two, and one attempt":    {"{attempts: 1}", "[{id: a, provider: openai}, {id: b, provider: openai}]", none},
		"no attempt after it":     {"{attempts: 0}", "[{id: a, provider: openai}, {id: b, provider: openai}]", none},
		"as it is said":           {"{per_try_timeout: 7s}", "[{id: a, provider: openai}]", 7 * time.Second},
		"a slow target":           {"{}", "[{id: a, provider: openai, timeouts: {request_timeout: 800s}}, {id: b, provider: openai}]", 400 * time.Second},
	} {
		g := resolved(t, fmt.Sprintf(`
upstreams: [{name: a, retry: %s, targets: %s}, {name: two, targets: [{id: a, provider: openai}, {id: b, provider: openai}]}]
services: [{name: a, upstream: a}, {name: two, upstream: two}]
rules: [{path: /one, service: a}, {path: /both, services: [{service: a, weight: 1}, {service: two, weight: 1}]}]
`, c.retry, c.targets)).Gateways[0]
		if got := g.Rules[1].Plan.PerTry; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := g.Rules[0].Plan.PerTry; (got > 0) != (c.want > 0) {
			t.Errorf("%s, beside an upstream of two: %s, want it as alone, or the longer one", name, got)
		}
	}
}

// TestAttempts: 0 is a number and not the lack of one.
func TestAttempts(t *testing.T) {
	for retry, want := range map[string]uint32{"{}": 3, "{attempts: 0}": 1, "{attempts: 1}": 1, "{attempts: 5}": 5} {
		u := resolved(t, "upstreams: [{name: a, retry: "+retry+", targets: [{provider: openai}]}]").Gateways[0].Upstreams[0]
		if u.Attempts != want {
			t.Errorf("%s: %d attempts, want %d", retry, u.Attempts, want)
		}
	}
}
