package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPrefer: with model_choice prefer, a model that only some targets list leads to the same
// targets, those first, in the order of their priorities, and the others behind them in theirs; a
// model that all list, or none, to the upstream as it is written. Conditions of the rule go on to
// hold.
func TestPrefer(t *testing.T) {
	c := resolved(t, `
upstreams:
- name: u
  model_choice: prefer
  targets:
  - {id: a, provider: openai, models: [small, common], priority: 1}
  - {id: b, provider: openai, models: [large, common], priority: 2, weight: 7}
  - {id: c, provider: anthropic, default_model: claude, models: [large, common], priority: 3}
  - {id: d, provider: static, answer: sorry, priority: 9}
- {name: any, targets: [{id: z, provider: openai, models: [large]}]}
services: [{name: u, upstream: u}, {name: any, upstream: any}]
rules:
- {path: /v1, service: u, methods: [POST]}
- {path: /v1, service: any, headers: {x-team: a, x-part: b}}
- {path: /some, service: u, models: [large, other]}
- {path: /ab, services: [{service: u, weight: 3}, {service: any, weight: 1}]}
- {path: /any, service: any}
`)
	var got []string
	for _, r := range c.Gateways[0].Rules {
		line := fmt.Sprintf("%s %v %v", r.Path, r.Methods, r.Models)
		for _, s := range r.Shares {
			line += fmt.Sprintf(" %d:", s.Weight)
			for _, target := range s.Upstream.Targets {
				line += fmt.Sprintf("%s%d", target.ID, target.Priority)
			}
		}
		got = append(got, line)
	}
	const whole, large, small, claude = "a0b1c2d3", "a2b0c1d3", "a0b1c2d3", "a1b2c0d3"
	want := []string{
		"/some [] [large] 1:" + large, "/some [] [large other] 1:" + whole,
		"/any [] [] 1:z0",
		"/ab [] [claude] 3:" + claude + " 1:z0", "/ab [] [large] 3:" + large + " 1:z0", "/ab [] [small] 3:" + small + " 1:z0", "/ab [] [] 3:" + whole + " 1:z0",
		"/v1 [] [] 1:z0",
		"/v1 [POST] [claude] 1:" + claude, "/v1 [POST] [large] 1:" + large, "/v1 [POST] [small] 1:" + small, "/v1 [POST] [] 1:" + whole,
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if n := len(c.Gateways[0].Upstreams); n != 5 { // two that are written; large, small and claude, whatever rules lead there
		t.Errorf("%d upstreams", n)
	}
	for _, u := range c.Gateways[0].Upstreams {
		for _, target := range u.Targets {
			if target.ID == "b" && target.Weight != 7 {
				t.Errorf("%s: weight %d", u.Name, target.Weight)
			}
		}
	}
}

// TestDefaultChoice: targets that list a model are preferred when nothing is said, unless a target
// has a default model and so takes requests for any: the upstreams of seeds 001 and 003 are shared
// evenly.
func TestDefaultChoice(t *testing.T) {
	for _, c := range []struct{ targets, want string }{
		{"[{provider: openai}, {provider: anthropic}]", "prefer"},
		{"[{provider: openai, models: [a]}, {provider: anthropic, models: [b]}, {provider: mistral, models: [c]}]", "prefer"},
		{"[{provider: openai, model_map: {a: b}}, {provider: anthropic}]", "prefer"},
		{"[{provider: openai, models: [gpt-4], default_model: gpt-4}, {provider: anthropic, models: [claude], default_model: claude}]", "any"},
		{"[{provider: openai, models: [a]}, {provider: anthropic, default_model: b}]", "any"},
	} {
		doc, err := Load("test.yaml", []byte("upstreams: [{name: u, targets: "+c.targets+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := doc.Upstreams[0].ModelChoice; got != c.want {
			t.Errorf("%s: %s, want %s", c.targets, got, c.want)
		}
	}
}
