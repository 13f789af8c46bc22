package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestEditedThoughtsAreReplayed: a thought that a policy has edited comes back in the next request,
// as the official SDKs send it. No provider refuses it, neither the one that signed it nor another
// one that the conversation goes to, and the thoughts that nobody edited are the provider's own
// again (E05). That holds for what is taken out of answers or of requests, and for the client's own
// values that are put back.
func TestEditedThoughtsAreReplayed(t *testing.T) {
	t.Parallel()
	an := &fakellm.Provider{Name: "an", Schema: fakellm.AnthropicMessages, Key: "key-an"}
	ds := &fakellm.Provider{Name: "ds", Schema: fakellm.DeepSeekChat, Key: "key-ds"}
	targets := func(first, second string) string {
		return to("an", an, provider(t, an), "default_model: claude-sonnet-4-5", "priority: "+first) + ", " +
			to("ds", ds, provider(t, ds), "default_model: deepseek-v4-pro", "priority: "+second)
	}
	for name, c := range map[string]struct{ policy, thinks, seen string }{
		"taken out":             {"phase: output", "Bob is bob@example.org, I think.", "bob@example.org"},
		"taken out of requests": {"phase: input", "Bob is bob@example.org, I think.", "bob@example.org"},
		"put back":              {"reversible: true", "She is [EMAIL_1], I think.", "anna@example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, "", fmt.Sprintf(`upstreams:
- {name: an, health_checks: {passive: false}, targets: [%s]}
- {name: ds, health_checks: {passive: false}, targets: [%s]}
services: [{name: an, upstream: an}, {name: ds, upstream: ds}]
rules: [{path: /an/v1, service: an}, {path: /ds/v1, service: ds}]
policies: {chain: [dlp], policy: {dlp: {detect: [email], %s}}}
`, targets("1", "2"), targets("2", "1"), c.policy))
			for _, order := range [][2]*fakellm.Provider{{an, ds}, {ds, an}} {
				for _, a := range movingAgents {
					for _, streamed := range []bool{false, true} {
						for _, cut := range []int{0, 1, 9} {
							if !streamed && cut > 0 {
								continue
							}
							t.Run(fmt.Sprintf("%s/%s/stream=%v/cut=%d", order[0].Name, a.name, streamed, cut), func(t *testing.T) {
								s := editedThoughts{order: order, agent: a.make(g.URL+"/"+order[0].Name, streamed), thinks: c.thinks, cut: cut, tool: shortTool}
								if a.name == "claude" {
									s.tool = weatherTool
								}
								s.run(t, a.name != "codex", c.seen)
							})
						}
					}
				}
			}
		})
	}
}

// editedThoughts is a conversation about Anna, with two providers that think.
type editedThoughts struct {
	order  [2]*fakellm.Provider // the first is asked first
	agent  agent
	thinks string // what policies edit
	cut    int
	tool   string // that the agent has
}

func (s *editedThoughts) run(t *testing.T, keeps bool, secret string) {
	before := map[string]int{}
	for _, p := range s.order {
		p.Reset()
		before[p.Name] = len(p.Requests())
	}
	for turn, thinks := range []string{s.thinks, "Nobody is to know this.", s.thinks, s.thinks} {
		p := s.order[turn/2]
		call := fakellm.Answer{Thinking: thinks, Calls: []fakellm.Call{{Name: s.tool, Arguments: `{"city":"Oslo"}`}}}
		s.next(p, call)
		r := s.agent.say("I am anna@example.com. The weather in Oslo, please.", extras{})
		if r.err != nil || len(r.calls) != 1 {
			t.Fatalf("turn %d, %s: want a call, got %+v, %v", turn, p.Name, r, r.err)
		}
		s.next(p, fakellm.Answer{Thinking: thinks, Text: "Sunny."})
		if r = s.agent.answer([]toolResult{{id: r.calls[0].id, text: "sunny"}}, ""); r.err != nil || r.text != "Sunny." {
			t.Fatalf("turn %d, %s: want an answer, got %+v, %v", turn, p.Name, r, r.err)
		}
	}
	for _, p := range s.order {
		requests := p.Requests()[before[p.Name]:]
		for _, r := range requests {
			if r.Refused != nil {
				t.Errorf("%s refused: %+v\n%s", p.Name, *r.Refused, r.Body)
			}
			if strings.Contains(string(r.Body), secret) {
				t.Errorf("%s is told %s:\n%s", p.Name, secret, r.Body)
			}
		}
	}
	first := s.order[0].Requests()[before[s.order[0].Name]:]
	if last := string(first[len(first)-1].Body); keeps && !strings.Contains(last, "Nobody is to know this.") {
		t.Errorf("%s does not get back what nobody edited:\n%s", s.order[0].Name, last)
	}
}

// next has the provider give the next answer.
func (s *editedThoughts) next(p *fakellm.Provider, a fakellm.Answer) {
	if p != s.order[0] {
		s.order[0].Script(fakellm.Fail(http.StatusServiceUnavailable, "down"))
	}
	p.Script(fakellm.Reply{Answer: &a, CutEvery: s.cut})
}
