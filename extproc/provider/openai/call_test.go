package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/golden"
)

const pngData = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// longName is one that Anthropic takes, and OpenAI does not.
const longName = "mcp__a-server-with-a-long-name__and-a-tool-with-a-name-that-is-longer-still"

var ephemeral = json.RawMessage(`{"type":"ephemeral"}`)

func ask(parts ...llm.Part) llm.Message   { return llm.Message{Role: llm.User, Parts: parts} }
func reply(parts ...llm.Part) llm.Message { return llm.Message{Role: llm.Assistant, Parts: parts} }
func words(s string) llm.Text             { return llm.Text{Text: s} }
func result(id string, parts ...llm.Part) llm.ToolResult {
	return llm.ToolResult{CallID: id, Parts: parts}
}

// calls are requests of clients of other schemas (Anthropic's in mind), by the name of their golden
// case. Model is the one to ask for.
var calls = map[string]llm.Request{
	"text": {Model: "gpt-4o", Messages: []llm.Message{ask(words("hi"))}},
	"system": {
		Model:  "gpt-4o",
		System: []llm.Part{llm.Text{Text: "One.", Cache: ephemeral}, words(""), words("Two.")},
		Messages: []llm.Message{
			ask(words("a")), {Role: llm.System, Parts: []llm.Part{words("Now in French.")}}, ask(words("b"), words("c")),
		},
	},
	"sampling": {
		Model: "gpt-4o", Messages: []llm.Message{ask(words("hi"))},
		MaxTokens: new(int64(100)), Temperature: "1.0", TopP: "0.90", TopK: "40", Stop: []string{"A", "", "B"},
		User: "u1", ServiceTier: "standard_only", Extra: []llm.Extra{{Name: "container"}, {Name: "mcp_servers"}},
	},
	"stream":          {Model: "gpt-4o", Stream: true, IncludeUsage: true, Messages: []llm.Message{ask(words("hi"))}},
	"reasoning-model": {Model: "openai/gpt-5.1", MaxTokens: new(int64(9)), Messages: []llm.Message{ask(words("hi"))}},
	"tool-results": {
		Model: "gpt-4o",
		Tools: []llm.Tool{
			{Name: "look", Description: "Looks.", Parameters: json.RawMessage(`{"type":"object","properties":{"z":{},"a":{"const":"<&>"}}, "x": 1.0}`), Cache: ephemeral},
			{Name: "now", Strict: new(true)},
		},
		ToolChoice:        llm.ToolChoice{Mode: llm.ToolNamed, Name: "look"},
		ParallelToolCalls: new(false),
		Messages: []llm.Message{
			ask(words("look")),
			reply(
				llm.Thinking{Text: "hm", Signature: "s", Origin: "anthropic"}, words("Well, "), words("<now>."),
				llm.ToolCall{ID: "toolu_1", Name: "look", Arguments: `{"n":9007199254740993,"z":1.0}`},
				llm.ToolCall{ID: "toolu_" + strings.Repeat("x", 40), Name: "now"},
			),
			ask(
				words("behind the results"),
				result("toolu_1", words("seen"), words("this"), llm.Image{MediaType: "image/jpg", Data: pngData}),
				llm.ToolResult{CallID: "toolu_" + strings.Repeat("x", 40), Parts: []llm.Part{words("no clock")}, IsError: true},
			),
		},
	},
	"tool-results-alone": {
		Model: "gpt-4o",
		Messages: []llm.Message{
			ask(words("go")),
			reply(llm.ToolCall{ID: "a", Name: "f"}), reply(llm.ToolCall{ID: "b", Name: "f", Arguments: "{}"}),
			ask(result("b", llm.Image{URL: "https://x/y.png"})), ask(result("a")),
		},
	},
	"tool-choice-any":  {Model: "m", Messages: []llm.Message{ask(words("hi"))}, Tools: []llm.Tool{{Name: "f"}}, ToolChoice: llm.ToolChoice{Mode: llm.ToolAny}},
	"tool-choice-none": {Model: "m", Messages: []llm.Message{ask(words("hi"))}, Tools: []llm.Tool{{Name: "f"}}, ToolChoice: llm.ToolChoice{Mode: llm.ToolNone}},
	"tool-choice-without-tools": {
		Model: "m", Messages: []llm.Message{ask(words("hi"))}, ToolChoice: llm.ToolChoice{Mode: llm.ToolAuto}, ParallelToolCalls: new(true),
	},
	"documents": {
		Model: "gpt-4o",
		Messages: []llm.Message{ask(
			llm.File{Data: "JVBERi0x", MediaType: "application/pdf", Cache: ephemeral}, llm.File{Name: "notes", Text: "plain words"},
			llm.Image{URL: "https://x/y.png", Detail: "low"}, llm.Image{Data: pngData}, llm.Audio{Format: "wav", Data: "UklGRg=="},
			llm.File{ID: "file-abc"},
		)},
	},
	"json-schema": {
		Model: "m", Messages: []llm.Message{ask(words("hi"))},
		Format: llm.Format{Kind: llm.FormatJSONSchema, Schema: json.RawMessage(`{"type":"object","properties":{"b":{},"a":{}}}`)},
	},
	"json-object": {Model: "m", Messages: []llm.Message{ask(words("hi"))}, Format: llm.Format{Kind: llm.FormatJSONObject}},
	"assistant-forms": {
		Model: "m",
		Messages: []llm.Message{
			reply(words("I begin")), ask(words("a")), reply(llm.Thinking{Redacted: "x", Origin: "anthropic"}), ask(words("b")),
			reply(llm.Refusal{Text: "I will not."}), ask(),
		},
	},

	// What other schemas allow and this one does not.
	"names": {
		Model: "gpt-4o", Messages: []llm.Message{
			ask(words("go")), reply(llm.ToolCall{ID: "a", Name: longName}), ask(result("a")),
		},
		Tools:      []llm.Tool{{Name: longName}, {Name: "mcp.files/read"}, {Name: "plain"}},
		ToolChoice: llm.ToolChoice{Mode: llm.ToolNamed, Name: "mcp.files/read"},
		User:       strings.Repeat("u", 65),
	},
	"schemas": {
		Model: "gpt-4o", Messages: []llm.Message{ask(words("hi"))}, Spelling: map[llm.Member]string{llm.MemberTool: "tools[]", llm.MemberToolSpec: "tools[].input_schema"},
		Tools: []llm.Tool{
			{Name: "no_type", Parameters: json.RawMessage(`{"properties":{"a":{"type":"array"}}}`)},
			{Name: "choice", Description: "Chooses.", Parameters: json.RawMessage(`{"type":"object","oneOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}`)},
			{Name: "loosely_strict", Strict: new(true), Parameters: json.RawMessage(`{"type":"object","properties":{"a":{}},"additionalProperties":false}`)},
			{Name: "strict", Strict: new(true), Parameters: json.RawMessage(`{"type":"object","properties":{"a":{}},"required":["a"],"additionalProperties":false}`)},
		},
	},
	"reasoning-refuses": {
		Model: "gpt-5", Messages: []llm.Message{ask(words("hi"))}, MaxTokens: new(int64(200_000)),
		Temperature: "0.2", TopP: "0.9", Stop: []string{"a"}, Tools: []llm.Tool{{Name: "f"}}, ParallelToolCalls: new(false),
		Reasoning: llm.Reasoning{Budget: new(int64(9000))},
		Spelling:  map[llm.Member]string{llm.MemberStop: "stop_sequences", llm.MemberReasoning: "thinking"},
	},
	"reasoning-with-tools": {
		Model: "gpt-5.4", Messages: []llm.Message{ask(words("hi"))}, Temperature: "0.2", Tools: []llm.Tool{{Name: "f"}},
		Reasoning: llm.Reasoning{Adaptive: true}, Spelling: map[llm.Member]string{llm.MemberReasoning: "thinking"},
	},
	"limit-of-model":  {Model: "gpt-4o", Messages: []llm.Message{ask(words("hi"))}, MaxTokens: new(int64(32000))},
	"limit-of-target": {Model: "gpt-5", Messages: []llm.Message{ask(words("hi"))}, MaxTokens: new(int64(32000))},
	"mistral": {
		Model: "mistral-large-latest", Stream: true, IncludeUsage: true, MaxTokens: new(int64(32000)), User: "u", Temperature: "1.0",
		Tools: []llm.Tool{{Name: longName, Cache: ephemeral}}, Reasoning: llm.Reasoning{Budget: new(int64(9000))},
		Messages: []llm.Message{
			ask(words("go")), reply(llm.Thinking{Text: "hm"}, llm.ToolCall{ID: "toolu_1", Name: longName}, llm.ToolCall{ID: "toolu_2", Name: longName}),
			ask(result("toolu_2", words("b")), result("toolu_1", words("a")), words("and?")), reply(words("Well,")),
		},
	},
	"deepseek": {
		Model: "deepseek-chat", Stream: true, IncludeUsage: true, MaxTokens: new(int64(32000)), User: "u",
		Tools: []llm.Tool{{Name: "f"}}, Reasoning: llm.Reasoning{Budget: new(int64(9000))},
		Messages: []llm.Message{
			ask(words("go")), reply(llm.Thinking{Text: "hm"}, llm.ToolCall{ID: "toolu_1", Name: "f"}), ask(result("toolu_1")),
			reply(llm.Thinking{Text: "not its own", Signature: "s", Origin: "anthropic"}, llm.ToolCall{ID: "toolu_2", Name: "f"}), ask(result("toolu_2")),
		},
		Spelling: map[llm.Member]string{llm.MemberUser: "metadata.user_id"},
	},
	"deepseek-schema": {
		Model: "deepseek-chat", System: []llm.Part{words("S")}, Messages: []llm.Message{ask(words("hi"))},
		Format:   llm.Format{Kind: llm.FormatJSONSchema, Schema: json.RawMessage(`{"type":"object","properties":{"a":{}}}`)},
		Spelling: map[llm.Member]string{llm.MemberFormat: "output_config.format"},
	},
	"refuse-many-tools": {Model: "m", Messages: []llm.Message{ask(words("hi"))}, Tools: make([]llm.Tool, 129)},

	"refuse-five-stops": {
		Model: "m", Messages: []llm.Message{ask(words("hi"))}, Stop: []string{"1", "2", "3", "4", "5"},
		Spelling: map[llm.Member]string{llm.MemberStop: "stop_sequences"},
	},
	"refuse-missing-result":    {Model: "m", Messages: []llm.Message{ask(words("a")), reply(llm.ToolCall{ID: "a", Name: "f"}, llm.ToolCall{ID: "b", Name: "f"}), ask(result("a"))}},
	"refuse-unanswered-at-end": {Model: "m", Messages: []llm.Message{ask(words("a")), reply(llm.ToolCall{ID: "a", Name: "f"})}},
	"refuse-stray-result":      {Model: "m", Messages: []llm.Message{ask(words("a"), result("zzz"))}},
	"refuse-document-url":      {Model: "m", Messages: []llm.Message{ask(llm.File{URL: "https://x/y.pdf"})}},
	"refuse-foreign-file-id":   {Model: "m", Messages: []llm.Message{ask(llm.File{ID: "file_011CNha8"})}},
	"refuse-forced-no-tools":   {Model: "m", Messages: []llm.Message{ask(words("a"))}, ToolChoice: llm.ToolChoice{Mode: llm.ToolAny}},
}

func TestCall(t *testing.T) {
	seen := 0
	golden.Run(t, "testdata/call/*.txtar", func(c *golden.Case) {
		r, ok := calls[c.Name]
		if !ok {
			c.T.Fatal("no such request in calls")
		}
		seen++
		call, err := Chat{}.EncodeRequest(&r, llm.Options{
			Model: r.Model, Dialect: string(c.Input("dialect")), MaxTokens: inputNumber(c, "max-tokens"), MaxOutput: inputNumber(c, "max-output"),
		})
		if err != nil {
			failed(c, err)
			return
		}
		c.Output("want-body.json", pretty(c.T, call.Body))
		outputCall(c, call)
	})
	if seen != len(calls) {
		t.Errorf("%d cases for %d requests", seen, len(calls))
	}
}

func TestReasoning(t *testing.T) {
	for name, c := range map[string]struct {
		model   string
		in      llm.Reasoning
		want    string // reasoning_effort
		dropped bool
	}{
		"small budget":            {"gpt-5", llm.Reasoning{Budget: new(int64(4095))}, "low", false},
		"middle budget":           {"o3", llm.Reasoning{Budget: new(int64(4096))}, "medium", false},
		"more":                    {"o3", llm.Reasoning{Budget: new(int64(16383))}, "medium", false},
		"large budget":            {"o3", llm.Reasoning{Budget: new(int64(16384))}, "high", false},
		"adaptive":                {"some-vllm-model", llm.Reasoning{Adaptive: true}, "high", false},
		"adaptive with effort":    {"gpt-5", llm.Reasoning{Adaptive: true, Effort: "low"}, "low", false},
		"xhigh":                   {"gpt-5", llm.Reasoning{Effort: "xhigh"}, "high", false},
		"xhigh of newer models":   {"gpt-5.2", llm.Reasoning{Effort: "xhigh"}, "xhigh", false},
		"minimal of newer ones":   {"gpt-5.1", llm.Reasoning{Effort: "minimal"}, "none", false},
		"low of o3":               {"o3", llm.Reasoning{Effort: "minimal"}, "low", false},
		"max":                     {"gpt-5", llm.Reasoning{Effort: "max"}, "high", false},
		"unknown word":            {"gpt-5", llm.Reasoning{Effort: "hard"}, "", true},
		"disabled":                {"gpt-5.1", llm.Reasoning{Disabled: true}, "none", false},
		"disabled, but it cannot": {"gpt-5", llm.Reasoning{Disabled: true}, "minimal", true},
		"disabled elsewhere":      {"llama3", llm.Reasoning{Disabled: true}, "", false},
		"none, said":              {"gpt-5.1", llm.Reasoning{Disabled: true, Effort: "none"}, "none", false},
		"model that cannot":       {"gpt-4o", llm.Reasoning{Adaptive: true}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := llm.Request{Messages: []llm.Message{ask(words("hi"))}, Reasoning: c.in}
			call, err := Chat{}.EncodeRequest(&r, llm.Options{Model: c.model})
			if err != nil {
				t.Fatal(err)
			}
			var body struct {
				Effort string `json:"reasoning_effort"`
			}
			if err := json.Unmarshal(call.Body, &body); err != nil {
				t.Fatal(err)
			}
			if body.Effort != c.want || (len(call.Dropped) > 0) != c.dropped {
				t.Fatalf("got %q, dropped %q; want %q", body.Effort, call.Dropped, c.want)
			}
		})
	}
}

// TestModels: families are told by their names, behind a router's prefix too.
func TestModels(t *testing.T) {
	for model, want := range map[string]struct{ reasons, plain, noTools bool }{
		"gpt-4o": {plain: true}, "gpt-4.1-mini": {plain: true}, "gpt-3.5-turbo": {plain: true}, "chatgpt-4o-latest": {plain: true},
		"gpt-5-chat-latest": {plain: true}, "gpt-4-turbo-2024-04-09": {plain: true}, "gpt-4-0613": {plain: true},
		"gpt-5": {reasons: true}, "gpt-5-mini-2025-08-07": {reasons: true}, "gpt-5.1-codex-max": {reasons: true},
		"gpt-5.4": {reasons: true, noTools: true}, "gpt-5.6-terra": {reasons: true, noTools: true},
		"GPT-6": {reasons: true, noTools: true}, "openai/gpt-5": {reasons: true},
		"o1": {reasons: true}, "o3-mini": {reasons: true}, "o4-mini-deep-research": {reasons: true}, "o10": {reasons: true},
		"gpt-oss-120b": {}, "gpt-20b": {}, "omni-1": {}, "olmo2": {}, "llama3": {}, "": {}, "gpt-": {},
	} {
		if f := openAI.familyOf(model); f.reasons != want.reasons || f.plain != want.plain || f.noTools != want.noTools {
			t.Errorf("%q: %+v", model, f)
		}
	}
}
