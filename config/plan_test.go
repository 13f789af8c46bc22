package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// TestNeeds: whatever the document, each message that a stream is asked for has a reason, and no
// reason is for one that it is not asked for.
func TestNeeds(t *testing.T) {
	rules := 0
	for name, c := range configurations(t) {
		for _, g := range c.Gateways {
			for _, r := range g.Rules {
				rules++
				check := func(stream string, n Needs, want []Message) {
					if got := n.Messages(); !slices.Equal(got, want) {
						t.Errorf("%s, rule %s: the %s stream needs %v, and is asked for %v", name, r, stream, got, want)
					}
					for _, need := range n {
						if need.Why == "" || need.Message != ResponseBody && (need.Speaks || need.Until != UntilEnd) {
							t.Errorf("%s, rule %s: %+v", name, r, need)
						}
					}
				}
				check("admission", r.Plan.Admission, AdmissionMessages)
				check("router", r.Plan.Router, RouterMessages)
				if len(r.Plan.Keys) > 0 {
					check("keys'", r.Plan.Keys, KeyMessages)
				}
				if len(r.Plan.Upstreams) != len(r.Shares) {
					t.Fatalf("%s, rule %s: %d upstreams for %d shares", name, r, len(r.Plan.Upstreams), len(r.Shares))
				}
				for i, u := range r.Plan.Upstreams {
					if u.Upstream != r.Shares[i].Upstream {
						t.Errorf("%s, rule %s: upstream %s in place of %s", name, r, u.Upstream.Name, r.Shares[i].Upstream.Name)
					}
					check("upstream", u.Needs, UpstreamMessages)
				}
			}
		}
	}
	if rules < 20 {
		t.Errorf("only %d rules", rules)
	}
}

// configurations are all documents of the test cases, and the examples.
func configurations(t *testing.T) map[string]*Config {
	t.Helper()
	documents := map[string][]byte{}
	cases, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			documents[filepath.Base(file)+" "+f.Name] = f.Data
		}
	}
	for _, name := range []string{"quickstart.yaml", "every-option.yaml"} {
		if documents[name], err = os.ReadFile("../examples/" + name); err != nil {
			t.Fatal(err)
		}
	}
	resolved := map[string]*Config{}
	for name, data := range documents {
		doc, err := Load(name, data)
		if err != nil {
			continue // a case of errors, or an output
		}
		if resolved[name], err = Resolve(Elsewhere(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
			delete(resolved, name)
		}
	}
	return resolved
}

// planOf is the plan of a rule with an upstream for each of these retry settings, all of as many
// targets.
func planOf(t *testing.T, gateway string, targets int, retry ...string) *Plan {
	t.Helper()
	var list, upstreams, services, shares string
	for i := range targets {
		list += fmt.Sprintf("{id: t%d, provider: openai},", i)
	}
	for i, r := range retry {
		upstreams += fmt.Sprintf("{name: u%d, retry: %s, targets: [%s]},", i, r, list)
		services += fmt.Sprintf("{name: s%d, upstream: u%d},", i, i)
		shares += fmt.Sprintf("{service: s%d, weight: 1},", i)
	}
	return resolved(t, fmt.Sprintf("gateway: %s\nupstreams: [%s]\nservices: [%s]\nrules: [{path: /, services: [%s]}]", gateway, upstreams, services, shares)).Gateways[0].Rules[0].Plan
}

// TestRetryAfterIsForTargetsThatAreAlone: with another target to ask, waiting would be all that
// failover is there to save.
func TestRetryAfterIsForTargetsThatAreAlone(t *testing.T) {
	for name, c := range map[string]struct {
		plan *Plan
		want time.Duration
	}{
		"one target":                   {planOf(t, "{}", 1, "{max_retry_after: 3600s}"), time.Hour},
		"one target, no bound given":   {planOf(t, "{}", 1, "{}"), 0},
		"two targets":                  {planOf(t, "{}", 2, "{max_retry_after: 3600s}"), 0},
		"an A/B test of single ones":   {planOf(t, "{}", 1, "{max_retry_after: 3600s}", "{}"), time.Hour},
		"an A/B test with two on each": {planOf(t, "{}", 2, "{max_retry_after: 3600s}", "{}"), 0},
	} {
		if got := c.plan.Attempts.RetryAfter; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestClocks: what Envoy's clocks and the sidecar's have of each other.
func TestClocks(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		plan          *Plan
		whole, stream Clock
	}{
		"as it comes": {planOf(t, "{}", 2, "{}"),
			Clock{Request: 601 * time.Second, Attempt: 301 * time.Second}, Clock{Idle: hour}},
		"hedged: the clock for an attempt ends nothing": {planOf(t, "{}", 2, "{hedge: 2s}", "{hedge: 3s}"),
			Clock{Request: 601 * time.Second, Attempt: 3 * time.Second}, Clock{Attempt: 3 * time.Second, Idle: hour}},
		"one share hedges alone": {planOf(t, "{}", 2, "{hedge: 2s}", "{}"),
			Clock{Request: 601 * time.Second, Attempt: 301 * time.Second}, Clock{Idle: hour}},
		"a limit on the first token, beyond an hour": {planOf(t, "{timeouts: {first_token_timeout: 7200s}}", 1, "{}"),
			Clock{Request: 601 * time.Second}, Clock{Attempt: 7201 * time.Second, Idle: 2*hour + time.Minute}},
	} {
		p := c.plan
		if p.Whole != c.whole || p.Stream != c.stream {
			t.Errorf("%s: whole %+v, stream %+v", name, p.Whole, p.Stream)
		}
	}
}
