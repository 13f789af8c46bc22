package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	millracev1 "millrace/proto/millrace/v1"
)

// TestPolicies: what a policy is when the document says nothing of it, and when it says all that
// policies of every kind have (E19).
func TestPolicies(t *testing.T) {
	g := resolved(t, `
providers: {targets: [{provider: openai}]}
policies:
  chain: [audit-logger, dlp, content-filter, prompt-injection, disclaimer, model-access, request-limits, expression, json-schema, webhook, all]
  policy:
    audit-logger: {retention_days: 3}
    all: {kind: dlp, phase: output, action: block, mode: observe, on_error: allow, when: "true", status: 451, reason: No., entities: [email]}
packs: [{name: p, version: "1", policies: {chain: [dlp], policy: {dlp: {action: flag}}}}]
`).Gateways[0]
	kind := func(name string, phase Phase, action Action) *Policy {
		p := &Policy{Name: name, Kind: name, Phase: phase, Action: action, path: "policies.policy." + name, Params: map[string]any{}}
		if action == ActionBlock {
			p.Status = 409
		}
		return p
	}
	logger := kind("audit-logger", PhaseInput, "")
	logger.Params["retention_days"] = 3.0
	want := []*Policy{
		logger,
		kind("dlp", PhaseBoth, ActionRedact),
		kind("content-filter", PhaseBoth, ActionBlock),
		kind("prompt-injection", PhaseInput, ActionBlock),
		kind("disclaimer", PhaseOutput, ""),
		kind("model-access", PhaseInput, ActionBlock),
		kind("request-limits", PhaseInput, ActionBlock),
		kind("expression", PhaseBoth, ActionBlock),
		kind("json-schema", PhaseOutput, ActionBlock),
		kind("webhook", PhaseBoth, ActionBlock),
		{Name: "all", Kind: "dlp", Phase: PhaseOutput, Action: ActionBlock, Observe: true, Allows: true, When: "true", Status: 451, Reason: "No.",
			Params: map[string]any{"entities": []any{"email"}}, path: "policies.policy.all"},
		{Name: "p/dlp", Kind: "dlp", Phase: PhaseBoth, Action: ActionFlag, Params: map[string]any{}, path: "packs[0].policies.policy.dlp"},
	}
	if diff := cmp.Diff(want, g.Policies, cmp.AllowUnexported(Policy{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if g.HoldBack != 64<<10 || g.PolicyTimeout.Seconds() != 2 {
		t.Errorf("%d bytes are held back, and policies have %s", g.HoldBack, g.PolicyTimeout)
	}
}

// chainsOfRule are the names in the chains of each rule of a document, by its path: those of the
// chain, and after a bar those of the shadow chain.
func chainsOfRule(t *testing.T, document string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, r := range resolved(t, document).Gateways[0].Rules {
		if r.Derived {
			continue
		}
		var names []string
		for _, p := range r.Policies {
			names = append(names, p.Name)
		}
		names = append(names, "|")
		for _, p := range r.Shadow {
			names = append(names, p.Name)
			if !p.Observe {
				t.Errorf("%s: %s does not observe", r, p.Name)
			}
		}
		got[r.Path] = strings.Join(names, " ")
	}
	return got
}

// TestChains: a rule has the document's chain, those of the enabled packs, and its service's, in
// this order; the shadow chains likewise. A switch takes off what it is for (E16, E19).
func TestChains(t *testing.T) {
	document := func(pack, one, two string) string {
		return fmt.Sprintf(`
upstreams: [{name: u, targets: [{provider: openai}]}]
services:
- {name: plain, upstream: u}
- {name: more, upstream: u, policies: {chain: [strict, webhook], shadow: [dlp]}}
rules: [{path: /a, service: plain}, {path: /b, service: more}]
pack: {enabled: %s}
policies: {chain: [audit-logger], shadow: [expression], policy: {strict: {kind: dlp}}}
packs:
- {name: one, version: "1", enabled: %s, policies: {chain: [dlp, strict], policy: {strict: {kind: webhook}}}}
- {name: two, version: "1", enabled: %s, policies: {chain: [dlp], shadow: [webhook]}}
`, pack, one, two)
	}
	for name, c := range map[string]struct{ document, a, b string }{
		"all are on": {document("true", "true", "true"),
			"audit-logger one/dlp one/strict two/dlp | expression two/webhook",
			"audit-logger one/dlp one/strict two/dlp strict webhook | expression two/webhook dlp"},
		"one pack is off":           {document("true", "false", "true"), "audit-logger two/dlp | expression two/webhook", "audit-logger two/dlp strict webhook | expression two/webhook dlp"},
		"the document's own is off": {document("false", "true", "false"), "one/dlp one/strict |", "one/dlp one/strict |"},
		"all are off":               {document("false", "false", "false"), "|", "|"},
	} {
		got := chainsOfRule(t, c.document)
		for path, want := range map[string]string{"/a": c.a, "/b": c.b} {
			if strings.TrimSpace(got[path]) != want {
				t.Errorf("%s: %s has %q, want %q", name, path, got[path], want)
			}
		}
	}
}

// TestOnePolicyIsOne: chains that name a policy have the same one, so that what is made of it is
// made once.
func TestOnePolicyIsOne(t *testing.T) {
	g := resolved(t, `
upstreams: [{name: u, targets: [{provider: openai}]}]
services: [{name: a, upstream: u, policies: {chain: [dlp]}}, {name: b, upstream: u, policies: {chain: [dlp]}}, {name: c, upstream: u, policies: {shadow: [dlp]}}]
rules: [{path: /a, service: a}, {path: /b, service: b}, {path: /c, service: c}]
policies: {chain: [audit-logger]}
`).Gateways[0]
	a, b, c := g.Rules[0], g.Rules[1], g.Rules[2]
	if a.Policies[0] != g.Policies[0] || a.Policies[1] != b.Policies[1] {
		t.Error("a policy of two rules is two")
	}
	if c.Shadow[0] == a.Policies[1] || a.Policies[1].Observe {
		t.Error("one that observes is one that does not")
	}
}

// TestPlanOfPolicies: what policies change of a plan, and that without them nothing is asked more.
// What reads answers reads them to their end; what may refuse a request is asked before any attempt
// is made (E01, E05).
func TestPlanOfPolicies(t *testing.T) {
	plan := func(policies string) *Plan {
		return resolved(t, "providers: {targets: [{id: a, provider: openai}]}\npolicies: "+policies).Gateways[0].Rules[0].Plan
	}
	why := func(n Needs, m Message) (all []string) {
		for _, need := range n {
			if need.Message == m && need.Until == UntilEnd {
				all = append(all, need.Why)
			}
		}
		return all
	}
	none := plan("{}")
	for name, c := range map[string]struct {
		policies      string
		joined        bool
		router, reads string // a reason that is there; "": none beside those without policies
	}{
		"none":                 {"{}", true, "", ""},
		"input":                {"{chain: [prompt-injection]}", false, "the policy prompt-injection is asked before anything goes out", ""},
		"input that observes":  {"{chain: [prompt-injection], policy: {prompt-injection: {mode: observe}}}", true, "the policy prompt-injection observes it", ""},
		"input in the shadow":  {"{shadow: [prompt-injection]}", true, "the policy prompt-injection observes it", ""},
		"output":               {"{chain: [disclaimer, json-schema]}", true, "", "output policies read and may change the answer: disclaimer, json-schema"},
		"output that observes": {"{shadow: [dlp], policy: {dlp: {phase: output}}}", true, "", "policies observe the answer: dlp"},
		"both":                 {"{chain: [dlp]}", false, "the policy dlp is asked before anything goes out", "output policies read and may change the answer: dlp"},
	} {
		p := plan(c.policies)
		if p.Joined != c.joined {
			t.Errorf("%s: joined %v", name, p.Joined)
		}
		check := func(stream string, got, without Needs, m Message, want string) {
			more := slices.DeleteFunc(why(got, m), func(w string) bool { return slices.Contains(why(without, m), w) })
			if !slices.Equal(more, slices.DeleteFunc([]string{want}, func(s string) bool { return s == "" })) {
				t.Errorf("%s: the %s stream has %q more, want %q", name, stream, more, want)
			}
			if !slices.Equal(got.Messages(), without.Messages()) {
				t.Errorf("%s: the %s stream needs %v", name, stream, got.Messages())
			}
		}
		check("router", p.Router, none.Router, RequestBody, c.router)
		check("upstream", p.Upstreams[0].Needs, none.Upstreams[0].Needs, ResponseBody, c.reads)
	}
}

// TestPackOfTheStore: a pack of the store adds to the gateway of the file as one that the file has;
// of one name one version is enabled, wherever the two are from (E16).
func TestPackOfTheStore(t *testing.T) {
	const targets = "providers: {targets: [{provider: openai}]}\n"
	load := func(document string) *millracev1.Document {
		t.Helper()
		doc, err := Load("x", []byte(targets+document))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	pack := func(version string) string {
		return `packs: [{name: p, version: "` + version + `", policies: {chain: [dlp]}}]`
	}
	stored := func(version string) *millracev1.State {
		d := &millracev1.Document{Gateway: &millracev1.Gateway{Id: "default", Name: "default"}, Packs: load(pack(version)).Packs}
		return &millracev1.State{Documents: []*millracev1.Document{d}}
	}
	merged, err := Merge(load(""), stored("1"))
	if err != nil {
		t.Fatal(err)
	}
	fromStore, err := Resolve(merged...)
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := Resolve(load(pack("1")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromFile.Gateways[0].Policies, fromStore.Gateways[0].Policies, cmp.AllowUnexported(Policy{})); diff != "" || len(fromStore.Gateways[0].Policies) != 1 {
		t.Errorf("-file +store:\n%s", diff)
	}
	if _, err := Merge(load(pack("1")), stored("2")); err == nil || err.Error() != `gateways[default].packs[1].enabled: version 1 of pack "p" is enabled already: only one of them can be` {
		t.Errorf("two versions are enabled: %v", err)
	}
	if _, err := Merge(load(pack("1")), stored("1")); err == nil || !strings.Contains(err.Error(), `gateways[default].packs[1].version: "p@1" is taken by item 0`) {
		t.Errorf("one version is there twice: %v", err)
	}
}
