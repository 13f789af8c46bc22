package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"

	"millrace/internal/fakellm"
)

// agentTargets are strict providers, each as the models that agents are pointed at.
var agentTargets = []struct{ name, schema, model string }{
	{"gpt-4o", fakellm.OpenAIChat, "gpt-4o"},
	{"gpt-5", fakellm.OpenAIChat, "gpt-5"},
	{"o3", fakellm.OpenAIChat, "o3"},
	{"gpt-5.6", fakellm.OpenAIChat, "gpt-5.6"},
	{"sonnet", fakellm.AnthropicMessages, "claude-sonnet-4-5"},
	{"opus", fakellm.AnthropicMessages, "claude-opus-4-8"},
	{"haiku3", fakellm.AnthropicMessages, "claude-3-haiku-20240307"},
	{"deepseek", fakellm.DeepSeekChat, "deepseek-chat"},
	{"reasoner", fakellm.DeepSeekChat, "deepseek-reasoner"},
	{"v4", fakellm.DeepSeekChat, "deepseek-v4-pro"},
	{"mistral", fakellm.MistralChat, "mistral-large-latest"},
	{"groq", fakellm.GroqChat, "llama-3.3-70b-versatile"},
	{"gpt-oss", fakellm.GroqChat, "openai/gpt-oss-120b"},
}

// TestAgentSessions: two agents, one as Claude Code is and one as Codex is, each with the official
// SDK of its schema, get through ten turns with tools at every provider, streamed and whole. No
// provider refuses anything, and what comes back has the names that the agent knows and ids that
// are its own to answer. The agents ask for what each of the providers would refuse in some part:
// names of 70 characters, a user id of 150, an answer of 32,000 tokens, thinking beside
// temperature, reasoning beside tools.
func TestAgentSessions(t *testing.T) {
	t.Parallel()
	var upstreams, services, rules strings.Builder
	providers := map[string]*fakellm.Provider{}
	for _, a := range agentTargets {
		p := &fakellm.Provider{Name: a.name, Schema: a.schema, Key: "key-" + a.name}
		providers[a.name] = p
		fmt.Fprintf(&upstreams, "- {name: %q, targets: [%s]}\n", a.name, to(a.name, p, provider(t, p), "default_model: "+a.model))
		fmt.Fprintf(&services, "- {name: %q, upstream: %q}\n", a.name, a.name)
		fmt.Fprintf(&rules, "- {path: /%s/v1, service: %q}\n", a.name, a.name)
	}
	g := start(t, "", "upstreams:\n"+upstreams.String()+"services:\n"+services.String()+"rules:\n"+rules.String())
	for _, a := range agentTargets {
		t.Run(a.name, func(t *testing.T) {
			for _, streamed := range []bool{false, true} {
				for kind, agent := range map[string]agent{
					"claude": newClaudeAgent(g.URL+"/"+a.name, streamed),
					"codex":  newCodexAgent(g.URL+"/"+a.name+"/v1/", streamed),
				} {
					t.Run(fmt.Sprintf("%s/stream=%v", kind, streamed), func(t *testing.T) {
						before := len(providers[a.name].Requests())
						session(t, agent)
						requests := providers[a.name].Requests()[before:]
						if len(requests) != turnsAndResults {
							t.Errorf("%d requests, want %d", len(requests), turnsAndResults)
						}
						for _, r := range requests {
							if r.Refused != nil {
								t.Errorf("refused: %+v\n%s", *r.Refused, r.Body)
							}
							if got, want := toolsOf(t, r.Body), toolsOf(t, requests[0].Body); got != want {
								t.Errorf("the provider's prompt cache sees other tools:\n%s\n%s", got, want)
							}
						}
					})
				}
			}
		})
	}
}

// toolsOf are the names of a request's tools, in either schema.
func toolsOf(t *testing.T, body []byte) string {
	t.Helper()
	var request struct {
		Tools []struct {
			Name     string
			Function struct{ Name string }
		}
	}
	if err := json.Unmarshal(body, &request); err != nil || len(request.Tools) == 0 {
		t.Fatalf("no tools in %s: %v", body, err)
	}
	return fmt.Sprint(request.Tools)
}

// agent is one side of a conversation: it keeps what was said and sends it all each time, as its
// SDK does.
type agent interface {
	say(text string, more extras) reply
	answer(results []toolResult, text string) reply
}

type extras struct {
	image bool
	force string // the tool that must be called
}

type toolCall struct{ id, name, arguments string }

type toolResult struct {
	id, text      string
	failed, image bool
}

type reply struct {
	text  string
	calls []toolCall
	stop  string // "call" when the agent is to go on with results, else "end"
	err   error
}

// The tools of the agents. The model of the fakes calls those that have "weather" in their names,
// and the first of them for want of a better one.
const (
	weatherTool = "mcp__weather_forecast_service__get_current_weather_for_a_named_city_v2" // 70 characters, as Anthropic's schema allows
	shortTool   = "mcp__weather__get_weather"
)

// turnsAndResults are the requests of one session: ten turns, five of which call tools.
const turnsAndResults = 10 + 5

func session(t *testing.T, a agent) {
	seen := map[string]bool{}
	calls := func(what string, r reply, cities ...string) []toolResult {
		t.Helper()
		if r.err != nil || r.stop != "call" || len(r.calls) != len(cities) {
			t.Fatalf("%s: want %d calls, got %+v, %v", what, len(cities), r, r.err)
		}
		var results []toolResult
		for i, c := range r.calls {
			var arguments struct{ City string }
			err := json.Unmarshal([]byte(c.arguments), &arguments)
			if err != nil || arguments.City != cities[i] || c.name != weatherTool && c.name != shortTool || c.id == "" || seen[c.id] {
				t.Fatalf("%s: call %+v: %v", what, c, err)
			}
			seen[c.id] = true
			results = append(results, toolResult{id: c.id, text: fmt.Sprintf("sunny in %s (%s)", arguments.City, what)})
		}
		return results
	}
	ends := func(what string, r reply, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if r.err != nil || r.stop != "end" || !strings.Contains(r.text, text) {
				t.Fatalf("%s: want %q, got %+v, %v", what, text, r, r.err)
			}
		}
	}

	ends("1 hello", a.say("Hello, who is there?", extras{}), "Hello, who is there?")

	results := calls("2 parallel", a.say("What is the weather in Paris, Rome and Oslo?", extras{}), "Paris", "Rome", "Oslo")
	slices.Reverse(results) // tools end when they end
	ends("2 results", a.answer(results, ""), "sunny in Oslo", "sunny in Paris", "sunny in Rome")

	results = calls("3 one", a.say("And the weather in Lima?", extras{}), "Lima")
	results[0].failed, results[0].text = true, "the service is down"
	ends("3 failed", a.answer(results, ""), "the service is down")

	ends("4 image", a.say("What is this?", extras{image: true}), "1 image")

	results = calls("5 reminder", a.say("The weather in Cairo, please.", extras{}), "Cairo")
	ends("5 and text", a.answer(results, "Reminder: be brief."), "") // some providers answer the tool, some the text

	ends("6 talk", a.say("Thank you so far.", extras{}), "Thank you so far.")

	results = calls("7 forced", a.say("Just do it, in Tokyo.", extras{force: weatherTool}), "Tokyo")
	ends("7 result", a.answer(results, ""), "sunny in Tokyo")

	ends("8 talk", a.say("That was helpful.", extras{}), "That was helpful.")

	results = calls("9 picture", a.say("Weather in Delhi and Seoul?", extras{}), "Delhi", "Seoul")
	results[1].image = true
	ends("9 results", a.answer(results, ""), "")

	ends("10 bye", a.say("Good bye.", extras{}), "Good bye.")
}

// claudeAgent asks as Claude Code does.
type claudeAgent struct {
	client   anthropic.Client
	streamed bool
	params   anthropic.MessageNewParams
	forced   bool // the turn began with a tool that had to be called, and so without thinking
}

func newClaudeAgent(url string, streamed bool) agent {
	ephemeral := anthropic.NewCacheControlEphemeralParam()
	a := &claudeAgent{
		streamed: streamed,
		client: anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("client-key"), anthropicoption.WithMaxRetries(0),
			anthropicoption.WithHeader("anthropic-beta", "interleaved-thinking-2025-05-14,context-management-2025-06-27")),
		params: anthropic.MessageNewParams{
			Model:       "claude-sonnet-4-5",
			MaxTokens:   32000,
			Temperature: anthropic.Float(1),
			System: []anthropic.TextBlockParam{
				{Text: "You are an agent.", CacheControl: ephemeral}, {Text: "Work in /repo.", CacheControl: ephemeral},
			},
			Metadata: anthropic.MetadataParam{UserID: anthropic.String(`{"device_id":"` + strings.Repeat("0123456789abcdef", 4) +
				`","account_uuid":"","session_id":"7f0c2f4e-3a52-4c58-8a4f-1b6f00000000"}`)},
		},
	}
	for i, name := range agentTools(weatherTool) {
		tool := anthropic.ToolParam{
			Name: name, Description: anthropic.String("What " + name + " does. " + strings.Repeat("At length. ", 200)),
			InputSchema: anthropic.ToolInputSchemaParam{
				Properties: map[string]any{"city": map[string]any{"type": "string"}, "days": map[string]any{"type": "array"}},
				Required:   []string{"city"},
				ExtraFields: map[string]any{
					"$schema": "https://json-schema.org/draft/2020-12/schema", "additionalProperties": false,
				},
			},
		}
		if i == 1 { // takes nothing
			tool.InputSchema = anthropic.ToolInputSchemaParam{ExtraFields: map[string]any{"additionalProperties": false}}
		}
		a.params.Tools = append(a.params.Tools, anthropic.ToolUnionParam{OfTool: &tool})
	}
	a.params.Tools[len(a.params.Tools)-1].OfTool.CacheControl = ephemeral
	return a
}

func (a *claudeAgent) say(text string, more extras) reply {
	blocks := []anthropic.ContentBlockParamUnion{anthropic.NewTextBlock(text)}
	if more.image {
		blocks = append(blocks, anthropic.NewImageBlockBase64("image/png", onePixel))
	}
	return a.ask(blocks, more.force)
}

func (a *claudeAgent) answer(results []toolResult, text string) reply {
	var blocks []anthropic.ContentBlockParamUnion
	for _, r := range results {
		b := anthropic.NewToolResultBlock(r.id, r.text, r.failed)
		if r.image {
			b.OfToolResult.Content = append(b.OfToolResult.Content, anthropic.ToolResultBlockParamContentUnion{
				OfImage: anthropic.NewImageBlockBase64("image/png", onePixel).OfImage,
			})
		}
		blocks = append(blocks, b)
	}
	if text != "" {
		blocks = append(blocks, anthropic.NewTextBlock("<system-reminder>"+text+"</system-reminder>"))
	}
	return a.ask(blocks, "")
}

func (a *claudeAgent) ask(blocks []anthropic.ContentBlockParamUnion, force string) reply {
	a.params.Messages = append(a.params.Messages, anthropic.NewUserMessage(blocks...))
	params := a.params
	if force != "" {
		params.ToolChoice = anthropic.ToolChoiceParamOfTool(force)
	}
	a.forced = force != "" || a.forced && blocks[0].OfToolResult != nil
	var more []anthropicoption.RequestOption
	if !a.forced {
		params.Thinking = anthropic.ThinkingConfigParamOfEnabled(31999)
		more = append(more, anthropicoption.WithJSONSet("context_management", map[string]any{"edits": []any{
			map[string]any{"type": "clear_thinking_20251015", "keep": "all"}, map[string]any{"type": "clear_tool_uses_20250919"},
		}}))
	}
	m, err := a.send(params, more...)
	if err != nil {
		return reply{err: err}
	}
	a.params.Messages = append(a.params.Messages, m.ToParam())
	r := reply{stop: map[anthropic.StopReason]string{"tool_use": "call", "end_turn": "end"}[m.StopReason]}
	for _, b := range m.Content {
		switch b.Type {
		case "text":
			r.text += b.Text
		case "tool_use":
			r.calls = append(r.calls, toolCall{b.ID, b.Name, string(b.Input)})
		}
	}
	if m.Usage.OutputTokens == 0 {
		r.err = fmt.Errorf("no usage in %s", m.RawJSON())
	}
	return r
}

func (a *claudeAgent) send(params anthropic.MessageNewParams, more ...anthropicoption.RequestOption) (*anthropic.Message, error) {
	if !a.streamed { // the SDK has a limit of its own for whole answers that may take long
		return a.client.Messages.New(context.Background(), params, append(more, anthropicoption.WithRequestTimeout(patience))...)
	}
	stream := a.client.Messages.NewStreaming(context.Background(), params, more...)
	m := &anthropic.Message{}
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			return nil, err
		}
	}
	return m, stream.Err()
}

// agentTools are names of fifteen tools.
func agentTools(weather string) []string {
	names := []string{"Bash", "TodoRead", "Edit", "Write", "Grep", "Glob", "Task", "WebFetch", "NotebookEdit", weather}
	for i := range 5 {
		names = append(names, fmt.Sprintf("mcp__issue_tracker_%d__list_all_comments", i))
	}
	return names
}

// codexAgent asks as Codex does, over chat completions.
type codexAgent struct {
	client   openai.Client
	streamed bool
	keepAll  bool // what the SDK does not know of an answer goes back, too
	kept     collected
	params   openai.ChatCompletionNewParams
}

func newCodexAgent(url string, streamed bool) agent {
	a := &codexAgent{
		streamed: streamed,
		client:   openai.NewClient(openaioption.WithBaseURL(url), openaioption.WithAPIKey("client-key"), openaioption.WithMaxRetries(0)),
		params: openai.ChatCompletionNewParams{
			Model:               "codex-test",
			MaxCompletionTokens: openai.Int(32000),
			ReasoningEffort:     shared.ReasoningEffortHigh,
			ParallelToolCalls:   openai.Bool(true),
			PromptCacheKey:      openai.String("session-1"),
			SafetyIdentifier:    openai.String(strings.Repeat("u", 100)),
			Store:               openai.Bool(false),
			Seed:                openai.Int(7),
			Messages:            []openai.ChatCompletionMessageParamUnion{openai.DeveloperMessage("You are an agent.")},
		},
	}
	for i, name := range agentTools(shortTool) {
		f := openai.FunctionDefinitionParam{
			Name: name, Description: openai.String("What " + name + " does."),
			Parameters: openai.FunctionParameters{
				"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"}, "additionalProperties": false,
			},
			Strict: openai.Bool(true),
		}
		if i == 1 { // takes nothing
			f.Parameters, f.Strict = nil, openai.Bool(false)
		}
		a.params.Tools = append(a.params.Tools, openai.ChatCompletionFunctionTool(f))
	}
	return a
}

func (a *codexAgent) say(text string, more extras) reply {
	message := openai.UserMessage(text)
	if more.image {
		message = openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart(text),
			openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64," + onePixel}),
		})
	}
	a.params.Messages = append(a.params.Messages, message)
	force := more.force
	if force != "" {
		force = shortTool
	}
	return a.ask(force)
}

// answer has no way to say that a tool failed but in words, nor to show a picture.
func (a *codexAgent) answer(results []toolResult, text string) reply {
	for _, r := range results {
		a.params.Messages = append(a.params.Messages, openai.ToolMessage(r.text, r.id))
	}
	if text != "" {
		a.params.Messages = append(a.params.Messages, openai.UserMessage(text))
	}
	return a.ask("")
}

func (a *codexAgent) ask(force string) reply {
	params := a.params
	if force != "" {
		params.ToolChoice = openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: force})
	}
	c, err := a.send(params)
	if err != nil {
		return reply{err: err}
	}
	message := c.Choices[0].Message
	said := message.ToParam()
	switch {
	case a.keepAll && a.streamed:
		said, err = a.kept.param(message)
	case a.keepAll:
		said = verbatim(message)
	}
	a.params.Messages = append(a.params.Messages, said)
	r := reply{text: message.Content, stop: map[string]string{"tool_calls": "call", "stop": "end"}[c.Choices[0].FinishReason], err: err}
	for _, call := range message.ToolCalls {
		r.calls = append(r.calls, toolCall{call.ID, call.Function.Name, call.Function.Arguments})
	}
	if c.Usage.CompletionTokens == 0 {
		r.err = fmt.Errorf("no usage in %s", c.RawJSON())
	}
	return r
}

func (a *codexAgent) send(params openai.ChatCompletionNewParams) (*openai.ChatCompletion, error) {
	if !a.streamed {
		return a.client.Chat.Completions.New(context.Background(), params)
	}
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := a.client.Chat.Completions.NewStreaming(context.Background(), params)
	var all openai.ChatCompletionAccumulator
	a.kept = collected{}
	for stream.Next() {
		if err := a.kept.add(stream.Current().RawJSON()); err != nil {
			return nil, err
		}
		if !all.AddChunk(stream.Current()) {
			return nil, fmt.Errorf("the SDK's accumulator refuses %s", stream.Current().RawJSON())
		}
	}
	return &all.ChatCompletion, stream.Err()
}
