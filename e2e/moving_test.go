package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"

	"millrace/internal/fakellm"
)

// movingTargets is one strict provider of each kind.
var movingTargets = []struct{ name, schema, model string }{
	{"openai", fakellm.OpenAIChat, "gpt-4o"},
	{"anthropic", fakellm.AnthropicMessages, "claude-sonnet-4-5"},
	{"deepseek", fakellm.DeepSeekChat, "deepseek-v4-pro"},
	{"mistral", fakellm.MistralChat, "mistral-large-latest"},
	{"groq", fakellm.GroqChat, "llama-3.3-70b-versatile"},
}

// movingAgents are clients of each schema. Those of OpenAI's send back what its SDK keeps of an
// answer, or all of it, as those do that know of reasoning_content and thinking_blocks.
var movingAgents = []struct {
	name string
	make func(url string, streamed bool) agent
}{
	{"claude", newClaudeAgent},
	{"codex", func(url string, streamed bool) agent { return newCodexAgent(url+"/v1/", streamed) }},
	{"codex that keeps all", func(url string, streamed bool) agent {
		a := newCodexAgent(url+"/v1/", streamed).(*codexAgent)
		a.keepAll = true
		return a
	}},
}

// TestMovingConversations: a conversation of five turns with tools goes to and fro between two
// providers, by failover, for every pair of kinds, client and way of answering: with each turn, or
// in the middle of each, between the calls and their results. No provider refuses anything, none is
// told what another thought, and what it thought itself it gets back.
func TestMovingConversations(t *testing.T) {
	t.Parallel()
	var upstreams, services, rules strings.Builder
	providers := map[string]*fakellm.Provider{}
	target := map[string]string{}
	for _, m := range movingTargets {
		p := &fakellm.Provider{Name: m.name, Schema: m.schema, Key: "key-" + m.name}
		providers[m.name] = p
		target[m.name] = strings.TrimSuffix(to(m.name, p, provider(t, p), "default_model: "+m.model), "}")
	}
	type pair struct{ first, second string }
	var pairs []pair
	for i, a := range movingTargets {
		for _, b := range movingTargets[i+1:] {
			pairs = append(pairs, pair{a.name, b.name})
			name := a.name + "-" + b.name
			fmt.Fprintf(&upstreams, "- {name: %s, health_checks: {passive: false}, targets: [%s, priority: 1}, %s, priority: 2}]}\n", name, target[a.name], target[b.name])
			fmt.Fprintf(&services, "- {name: %s, upstream: %[1]s}\n", name)
			fmt.Fprintf(&rules, "- {path: /%s/v1, service: %[1]s}\n", name)
		}
	}
	g := start(t, "", "upstreams:\n"+upstreams.String()+"services:\n"+services.String()+"rules:\n"+rules.String())
	for _, p := range pairs {
		name := p.first + "-" + p.second
		t.Run(name, func(t *testing.T) {
			for _, a := range movingAgents {
				for _, streamed := range []bool{false, true} {
					for _, moves := range []string{"between turns", "amid turns"} {
						t.Run(fmt.Sprintf("%s/stream=%v/%s", a.name, streamed, moves), func(t *testing.T) {
							c := movingConversation{
								agent: a.make(g.URL+"/"+name, streamed), providers: providers,
								order: [2]string{p.first, p.second}, amid: moves == "amid turns", keeps: a.name != "codex", thinks: a.name == "claude",
							}
							c.run(t)
						})
					}
				}
			}
		})
	}
}

// movingConversation is one agent's, with two providers, the first of which is asked first.
type movingConversation struct {
	agent     agent
	providers map[string]*fakellm.Provider
	order     [2]string
	amid      bool // the provider changes between calls and results, else between turns
	keeps     bool // the agent sends thoughts back
	thinks    bool // the agent asks for thinking
}

func (c *movingConversation) run(t *testing.T) {
	before := map[string]int{}
	for _, name := range c.order {
		before[name] = len(c.providers[name].Requests())
	}
	seen := map[string]bool{}
	for turn, cities := range []string{"Paris and Rome", "Oslo", "Lima and Cairo", "Tokyo", "Delhi"} {
		at := turn % 2
		if c.amid {
			at = 1 - at
		}
		caller := c.at(at)
		r := c.agent.say("The weather in "+cities+", please.", extras{})
		if r.err != nil || r.stop != "call" || len(r.calls) != strings.Count(cities, " and ")+1 {
			t.Fatalf("turn %d, %s: want calls, got %+v, %v", turn, caller, r, r.err)
		}
		var results []toolResult
		for _, call := range r.calls {
			var arguments struct{ City string }
			if err := json.Unmarshal([]byte(call.arguments), &arguments); err != nil || !strings.Contains(cities, arguments.City) || seen[call.id] ||
				call.name != weatherTool && call.name != shortTool {
				t.Fatalf("turn %d, %s: call %+v: %v", turn, caller, call, err)
			}
			seen[call.id] = true
			results = append(results, toolResult{id: call.id, text: fmt.Sprintf("sunny in %s %d", arguments.City, turn)})
		}
		if c.amid {
			at = 1 - at
		}
		answerer := c.at(at)
		r = c.agent.answer(results, "")
		if r.err != nil || r.stop != "end" || !strings.Contains(r.text, answerer+" heard from the tools") || !strings.Contains(r.text, results[0].text) {
			t.Fatalf("turn %d, %s: want an answer, got %+v, %v", turn, answerer, r, r.err)
		}
	}
	for i, name := range c.order {
		for _, r := range c.providers[name].Requests()[before[name]:] {
			c.check(t, name, c.order[1-i], r)
		}
	}
	for _, name := range c.order {
		requests := c.providers[name].Requests()
		if last := requests[len(requests)-1].Body; c.keeps && !strings.Contains(string(last), c.thought(name)) {
			t.Errorf("%s does not get back what it thought:\n%s", name, last)
		}
	}
}

// at has the provider answer the next request, by failover if it is not the first, and returns its
// name.
func (c *movingConversation) at(i int) string {
	if i == 1 {
		c.providers[c.order[0]].Script(fakellm.Fail(http.StatusServiceUnavailable, "down"))
	}
	return c.order[i]
}

// check looks at a request that name got.
func (c *movingConversation) check(t *testing.T, name, other string, r fakellm.Request) {
	t.Helper()
	if r.Refused != nil {
		t.Errorf("%s refused: %+v\n%s", name, *r.Refused, r.Body)
	}
	if foreign := c.thought(other); foreign != "" && strings.Contains(string(r.Body), foreign) {
		t.Errorf("%s is told what %s thought:\n%s", name, other, r.Body)
	}
	if thinks := strings.Contains(string(r.Body), `"thinking":{`); name == "anthropic" && r.Status == 200 && c.thinks && !c.amid && !thinks {
		t.Errorf("%s is not asked to think:\n%s", name, r.Body)
	}
	if name == "openai" || name == "mistral" || name == "groq" {
		for _, member := range []string{"reasoning_content", "thinking", "signature"} {
			if strings.Contains(string(r.Body), `"`+member+`"`) {
				t.Errorf("%s gets %s:\n%s", name, member, r.Body)
			}
		}
	}
}

// thought is what a provider's thoughts have in them and nothing else has, "" for those that show
// none.
func (c *movingConversation) thought(name string) string {
	if name == "anthropic" || name == "deepseek" {
		return name + " answers politely."
	}
	return ""
}

// kimiAnswer is the case's answer of an OpenAI-shaped target, and kimiReplayed what a client of
// Anthropic's schema makes of it.
var kimiAnswer = fakellm.Reply{Answer: &fakellm.Answer{
	Thinking: "I need the tool.",
	Calls:    []fakellm.Call{{ID: "functions.get_weather:0", Name: "get_weather", Arguments: `{"city":"Oslo"}`}},
}}

const (
	kimiAsked = `"model":"m","max_tokens":4000,"tools":[{"name":"get_weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}],` +
		`"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"Hello"}`
	kimiReplayed = kimiAsked + `,{"role":"assistant","content":[{"type":"thinking","thinking":"I need the tool.","signature":""},` +
		`{"type":"tool_use","id":"functions.get_weather:0","name":"get_weather","input":{"city":"Oslo"}}]},` +
		`{"role":"user","content":[{"type":"tool_result","tool_use_id":"functions.get_weather:0","content":"3 C"}]}`
)

// TestAnswerReplayedAtAnotherProvider is the case answer-replayed-at-another-provider: what one
// target said goes on at another, whole and streamed, when the first fails and when they take
// turns.
func TestAnswerReplayedAtAnotherProvider(t *testing.T) {
	t.Parallel()
	for name, priority := range map[string]string{"failover": "priority: 2", "turns": "priority: 1"} {
		for how, stream := range map[string]string{"whole": "", "streamed": `"stream":true,`} {
			t.Run(name+" "+how, func(t *testing.T) {
				oa, an := openAI("oa"), anthropicAI("an")
				g := start(t, "", pool("health_checks: {passive: false}", to("oa", oa, provider(t, oa), "default_model: kimi-k2", "priority: 1"),
					to("an", an, provider(t, an), "default_model: claude-sonnet-4-5", priority)))
				oa.Always(kimiAnswer)
				if priority == "priority: 2" {
					got := g.post("/v1/messages", "{"+stream+kimiAsked+"]}").want(200, `"functions.get_weather:0"`, `"signature":""`)
					got.header("x-millrace-attempts", "oa=200")
					oa.Always(fakellm.Fail(http.StatusServiceUnavailable, "down"))
				}
				for range 2 {
					got := g.post("/v1/messages", "{"+stream+kimiReplayed+"]}").want(200)
					if got.Header.Get("x-millrace-target") != "an" {
						continue
					}
					got.want(200, "end_turn").header("x-millrace-dropped", "messages[].content[].thinking, thinking")
				}
				requests := an.Requests()
				if len(requests) == 0 {
					t.Fatal("nothing arrived at the other target")
				}
				for _, r := range requests {
					body := string(r.Body)
					if r.Refused != nil || strings.Contains(body, "I need the tool.") || strings.Count(body, `"functions_get_weather_0"`) != 2 {
						t.Errorf("refused: %+v\n%s", r.Refused, body)
					}
				}
			})
		}
	}
}

// verbatim is a whole answer's message as it came, for the next request.
func verbatim(message openai.ChatCompletionMessage) openai.ChatCompletionMessageParamUnion {
	return param.Override[openai.ChatCompletionMessageParamUnion](json.RawMessage(message.RawJSON()))
}

// collected is a message made of a stream's deltas, members that the SDK does not know included.
type collected struct {
	Role             string            `json:"role"`
	Content          string            `json:"content"`
	ReasoningContent string            `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []json.RawMessage `json:"thinking_blocks,omitempty"`
	ToolCalls        json.RawMessage   `json:"tool_calls,omitempty"`
}

func (c *collected) add(chunk string) error {
	var in struct{ Choices []struct{ Delta collected } }
	if err := json.Unmarshal([]byte(chunk), &in); err != nil {
		return err
	}
	for _, choice := range in.Choices {
		c.ReasoningContent += choice.Delta.ReasoningContent
		c.ThinkingBlocks = append(c.ThinkingBlocks, choice.Delta.ThinkingBlocks...)
	}
	return nil
}

// param takes from the SDK's accumulator what the SDK knows.
func (c *collected) param(message openai.ChatCompletionMessage) (openai.ChatCompletionMessageParamUnion, error) {
	c.Role, c.Content = "assistant", message.Content
	if calls := message.ToParam().OfAssistant.ToolCalls; len(calls) > 0 {
		raw, err := json.Marshal(calls)
		if err != nil {
			return openai.ChatCompletionMessageParamUnion{}, err
		}
		c.ToolCalls = raw
	}
	raw, err := json.Marshal(c)
	return param.Override[openai.ChatCompletionMessageParamUnion](json.RawMessage(raw)), err
}
