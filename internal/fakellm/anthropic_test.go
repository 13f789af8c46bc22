package fakellm

import (
	"encoding/base64"
	"strings"
	"testing"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/google/go-cmp/cmp"
)

// message makes a request of members; the ones given win over the usual ones.
func message(members string) string {
	body := "{" + members
	for _, usual := range []string{`"model":"claude-sonnet-4-5"`, `"max_tokens":4096`, `"messages":[{"role":"user","content":"hi"}]`} {
		if name, _, _ := strings.Cut(usual, ":"); !strings.Contains(members, name+":") {
			body += "," + usual
		}
	}
	return strings.Replace(body, "{,", "{", 1) + "}"
}

// turns makes a conversation behind a first user turn, with a tool.
func turnsOf(messages string) string {
	return message(`"tools":[` + weatherTool + `],"messages":[{"role":"user","content":"hi"},` + messages + `]`)
}

func userBlocks(blocks string) string {
	return message(`"messages":[{"role":"user","content":[` + blocks + `]}]`)
}

const (
	weatherTool = `{"name":"get_weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}`
	toolUse     = `{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]}`
	toolResult  = `{"type":"tool_result","tool_use_id":"t1","content":"ok"}`
)

func TestAnthropicRefuses(t *testing.T) {
	png := base64.StdEncoding.EncodeToString([]byte("\x89PNG\x0D\x0A\x1A\x0A----------"))
	five := strings.TrimSuffix(strings.Repeat(`{"type":"text","text":"x","cache_control":{"type":"ephemeral"}},`, 5), ",")
	tools := `"tools":[` + weatherTool + `],`
	for _, c := range []struct{ name, body, message string }{
		{"not JSON", `{`, "not valid JSON"},
		{"duplicate name", message(`"top_k":1,"top_k":2`), "duplicate"},
		{"foreign member", message(`"stop":["x"]`), "stop: Extra inputs are not permitted"},
		{"foreign member, nested", message(`"messages":[{"role":"user","content":"x","name":"y"}]`), "messages.0.name: Extra inputs are not permitted"},
		{"beta member", message(`"mcp_servers":[]`), "mcp_servers: Extra inputs are not permitted"},
		{"no model", `{"max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`, "model: Field required"},
		{"no max_tokens", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, "max_tokens: Field required"},
		{"max_tokens of 0", message(`"max_tokens":0`), "max_tokens: Input should be greater than or equal to 1"},
		{"no messages", `{"model":"m","max_tokens":1}`, "messages: Field required"},
		{"empty messages", message(`"messages":[]`), "messages: at least one message is required"},
		{"messages of wrong type", message(`"messages":"hi"`), "messages: Input should be a valid list"},
		{"temperature too high", message(`"temperature":1.1`), "temperature: Input should be less than or equal to 1"},
		{"both samplers", message(`"temperature":1,"top_p":0.9`), "cannot both be specified for this model"},
		{"sampler of an adaptive model", message(`"model":"claude-opus-4-7","temperature":1`), "`temperature` is deprecated for this model."},
		{"blank stop", message(`"stop_sequences":[" "]`), "each stop sequence must contain non-whitespace"},
		{"long user_id", message(`"metadata":{"user_id":"` + strings.Repeat("x", 257) + `"}`), "at most 256 characters"},
		{"other metadata", message(`"metadata":{"team":"a"}`), "metadata.team: Extra inputs are not permitted"},
		{"service tier of OpenAI", message(`"service_tier":"flex"`), "Input should be 'auto' or 'standard_only'"},
		{"blank system", message(`"system":[{"type":"text","text":""}]`), "system: text content blocks must be non-empty"},
		{"system turn", turnsOf(`{"role":"system","content":"x"}`), `Unexpected role "system"`},
		{"system turn first", message(`"model":"claude-opus-4-8","messages":[{"role":"system","content":"x"}]`), "must directly follow a user turn"},
		{"role of OpenAI", turnsOf(`{"role":"tool","content":"x"}`), "Input should be 'user' or 'assistant'"},
		{"assistant first", message(`"messages":[{"role":"assistant","content":"x"}]`), `first message must use the "user" role`},
		{"prefill", message(`"model":"claude-opus-4-6","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]`),
			"does not support assistant message prefill"},
		{"trailing blank", turnsOf(`{"role":"assistant","content":"x "}`), "cannot end with trailing whitespace"},
		{"empty content", message(`"messages":[{"role":"user","content":""}]`), "user messages must have non-empty content"},
		{"no blocks", message(`"messages":[{"role":"user","content":[]}]`), "user messages must have non-empty content"},
		{"null content", turnsOf(`{"role":"assistant","content":null}`), "messages.1.content: Field required"},
		{"empty text", userBlocks(`{"type":"text","text":""}`), "text content blocks must be non-empty"},
		{"blank text", userBlocks(`{"type":"text","text":" \n"}`), "text content blocks must contain non-whitespace text"},
		{"block of OpenAI", userBlocks(`{"type":"image_url","image_url":{"url":"x"}}`), "Input tag 'image_url' found using 'type'"},
		{"thinking of the user", userBlocks(`{"type":"thinking","thinking":"x","signature":"y"}`), "Input tag 'thinking'"},
		{"image type", userBlocks(`{"type":"image","source":{"type":"base64","media_type":"image/jpg","data":"` + png + `"}}`),
			"messages.0.content.0.image.source.base64.media_type: Input should be 'image/jpeg'"},
		{"image label", userBlocks(`{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"` + png + `"}}`),
			"the image appears to be a image/png image"},
		{"image base64", userBlocks(`{"type":"image","source":{"type":"base64","media_type":"image/png","data":"!"}}`), "invalid base64 data"},
		{"image over http", userBlocks(`{"type":"image","source":{"type":"url","url":"http://x/y.png"}}`), "Only HTTPS URLs are supported."},
		{"document type", userBlocks(`{"type":"document","source":{"type":"base64","media_type":"text/csv","data":"eA=="}}`), "Input should be 'application/pdf'"},
		{"cache marks", message(`"system":[` + five + `]`), "A maximum of 4 blocks with cache_control may be provided. Found 5."},
		{"cache type", userBlocks(`{"type":"text","text":"x","cache_control":{"type":"forever"}}`), "Input should be 'ephemeral'"},
		{"tool_use id", turnsOf(`{"role":"assistant","content":[{"type":"tool_use","id":"a.b","name":"f","input":{}}]}`),
			"messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"},
		{"input as text", turnsOf(`{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":"{}"}]}`),
			"tool_use.input: Input should be a valid dictionary"},
		{"no input", turnsOf(`{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f"}]}`), "tool_use.input: Field required"},
		{"result out of nowhere", turnsOf(`{"role":"user","content":[` + toolResult + `]}`), "unexpected `tool_use_id` found in `tool_result` blocks: t1."},
		{"result a turn late", turnsOf(toolUse + `,{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":[` + toolResult + `]}`),
			"messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1."},
		{"no result at the end", turnsOf(toolUse), "without `tool_result` blocks immediately after: t1"},
		{"result behind text", turnsOf(toolUse + `,{"role":"user","content":[{"type":"text","text":"x"},` + toolResult + `]}`),
			"without `tool_result` blocks immediately after: t1"},
		{"result twice", turnsOf(toolUse + `,{"role":"user","content":[` + toolResult + `,` + toolResult + `]}`), "must have a single result"},
		{"same id twice", turnsOf(toolUse + `,{"role":"user","content":[` + toolResult + `]},` + toolUse + `,{"role":"user","content":[` + toolResult + `]}`),
			"ids must be unique"},
		{"empty text in a result", turnsOf(toolUse + `,{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":""}]}]}`),
			"text content blocks must be non-empty"},
		{"history without tools", message(`"messages":[{"role":"user","content":"hi"},` + toolUse + `,{"role":"user","content":[` + toolResult + `]}]`),
			"must define tools"},
		{"tool of OpenAI", message(`"tools":[{"type":"function","function":{"name":"f"}}],"x":1`), "x: Extra inputs"},
		{"no schema", message(`"tools":[{"name":"f"}]`), "tools.0.custom.input_schema: Field required"},
		{"empty schema", message(`"tools":[{"name":"f","input_schema":{}}]`), "tools.0.custom.input_schema.type: Field required"},
		{"schema not of an object", message(`"tools":[{"name":"f","input_schema":{"type":"string"}}]`), "Input should be 'object'"},
		{"illegal property", message(`"tools":[{"name":"f","input_schema":{"type":"object","properties":{"$filter":{}}}}]`), "Property keys should match pattern"},
		{"schema with alternatives", message(`"tools":[{"name":"f","input_schema":{"type":"object","anyOf":[]}}]`), "at the top level"},
		{"tool name", message(`"tools":[{"name":"a b","input_schema":{"type":"object"}}]`), "tools.0.custom.name: String should match pattern"},
		{"tool twice", message(`"tools":[` + weatherTool + `,` + weatherTool + `]`), "Tool names must be unique."},
		{"tool_choice without tools", message(`"tool_choice":{"type":"auto"}`), "only be specified while providing tools"},
		{"tool_choice of OpenAI", message(tools + `"tool_choice":"auto"`), "tool_choice.type: Field required"},
		{"tool_choice of an unknown tool", message(tools + `"tool_choice":{"type":"tool","name":"g"}`), "Tool 'g' not found"},
		{"none, serially", message(tools + `"tool_choice":{"type":"none","disable_parallel_tool_use":true}`), "Extra inputs are not permitted"},
		{"small budget", message(`"thinking":{"type":"enabled","budget_tokens":1000}`), "greater than or equal to 1024"},
		{"budget over the limit", message(`"thinking":{"type":"enabled","budget_tokens":4096}`), "`max_tokens` must be greater than"},
		{"budget for an adaptive model", message(`"model":"claude-opus-4-8","thinking":{"type":"enabled","budget_tokens":2000}`),
			"is not supported for this model"},
		{"thinking and force", message(tools + `"tool_choice":{"type":"any"},"thinking":{"type":"enabled","budget_tokens":2000}`), "tool_choice forces tool use"},
		{"thinking and temperature", message(`"temperature":0.5,"thinking":{"type":"enabled","budget_tokens":2000}`), "may only be set to 1"},
		{"thinking unsigned", turnsOf(`{"role":"assistant","content":[{"type":"thinking","thinking":"x"}]}`), "thinking.signature: Field required"},
		{"thinking of somebody else", turnsOf(`{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"y"}]}`),
			"messages.1.content.0: Invalid `signature` in `thinking` block"},
		{"thinking that nobody signed", turnsOf(`{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""}]}`),
			"messages.1.content.0: Invalid `signature` in `thinking` block"},
		{"thinking that was changed", turnsOf(`{"role":"assistant","content":[{"type":"thinking","thinking":"z","signature":"` + signature("x") + `"}]}`),
			"messages.1.content.0: Invalid `signature` in `thinking` block"},
		{"thinking cleared that is off", message(`"context_management":{"edits":[{"type":"clear_thinking_20251015"}]}`), "context_management: Extra inputs"},
		{"thinking left out", message(tools + `"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"hi"},` + toolUse +
			`,{"role":"user","content":[` + toolResult + `]}]`), "Expected `thinking` or `redacted_thinking`, but found `tool_use`"},
		{"open output schema", message(`"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}`), "must be explicitly set to false"},
		{"bounded output schema", message(`"output_config":{"format":{"type":"json_schema","schema":{"type":"integer","minimum":1}}}`),
			"For 'integer' type, property 'minimum' is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := post(t, &Provider{Schema: AnthropicMessages}, c.body)
			if a.status != 400 || member(t, a.body, "type") != "error" || member(t, a.body, "error.type") != "invalid_request_error" {
				t.Fatalf("%+v", a)
			}
			if message := member(t, a.body, "error.message").(string); !strings.Contains(message, c.message) {
				t.Errorf("got  %s\nwant %s", message, c.message)
			}
		})
	}
}

func TestAnthropicTakes(t *testing.T) {
	for name, body := range map[string]string{
		"everything": message(`"metadata":{"user_id":"u"},"service_tier":"auto","stop_sequences":["x"],"system":"be brief","temperature":1,
			"top_k":5,"tools":[` + weatherTool + `,{"type":"web_search_20250305","name":"web_search","max_uses":2}],
			"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"output_config":{"effort":"low"}`),
		"results, then text": turnsOf(toolUse + `,{"role":"user","content":[` + toolResult + `,{"type":"text","text":"and?"}]}`),
		"results in two messages of one turn": turnsOf(`{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}},
			{"type":"tool_use","id":"t2","name":"f","input":{"a":1}}]},{"role":"user","content":[` + toolResult + `]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t2"}]}`),
		"documents": userBlocks(`{"type":"document","title":"t","source":{"type":"base64","media_type":"application/pdf","data":"eA=="}},
			{"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}},
			{"type":"document","source":{"type":"url","url":"https://x/y.pdf"}},{"type":"image","source":{"type":"file","file_id":"f"}}`),
		"same role twice": turnsOf(`{"role":"user","content":"again"}`),
		"signed thinking": message(`"tools":[` + weatherTool + `],"thinking":{"type":"enabled","budget_tokens":2000},"messages":[
			{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"` + signature("x") + `"},
			{"type":"tool_use","id":"t1","name":"f","input":{}}]},{"role":"user","content":[` + toolResult + `]}]`),
		"system turn": message(`"model":"claude-opus-4-8","messages":[{"role":"user","content":"x"},{"role":"system","content":"y"}]`),
		"old model":   message(`"model":"claude-sonnet-4-20250514","temperature":0.5,"top_p":0.5`),
		"prefill":     turnsOf(`{"role":"assistant","content":"{"}`),
	} {
		if a := post(t, &Provider{Schema: AnthropicMessages}, body); a.status != 200 {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

func TestAnthropicFrontDoor(t *testing.T) {
	p := &Provider{Schema: AnthropicMessages, Key: "sk-right"}
	s := startFake(t, p)
	sampled := message(`"temperature":1`)
	cited := userBlocks(`{"type":"text","text":"x","citations":[{}]}`)
	for _, c := range []struct {
		name, path, header, key, version, body string
		status                                 int
		kind                                   any
	}{
		{"x-api-key", "/v1/messages", "X-Api-Key", "sk-right", "2023-06-01", anthropicHello, 200, nil},
		{"bearer, newer version", "/v1/messages", "Authorization", "Bearer sk-right", "2026-10-21", anthropicHello, 200, nil},
		{"no key", "/v1/messages", "X", "", "2023-06-01", anthropicHello, 401, "authentication_error"},
		{"wrong key", "/v1/messages", "X-Api-Key", "sk-wrong", "2023-06-01", anthropicHello, 401, "authentication_error"},
		{"wrong bearer", "/v1/messages", "Authorization", "Bearer sk-wrong", "2023-06-01", anthropicHello, 401, "authentication_error"},
		{"no version", "/v1/messages", "X-Api-Key", "sk-right", "", anthropicHello, 400, "invalid_request_error"},
		{"unknown version", "/v1/messages", "X-Api-Key", "sk-right", "2024-01-01", anthropicHello, 400, "invalid_request_error"},
		{"path of another schema", "/v1/chat/completions", "X-Api-Key", "sk-right", "2023-06-01", anthropicHello, 404, "not_found_error"},
		{"sampling in the old version", "/v1/messages", "X-Api-Key", "sk-right", "2023-06-01", sampled, 200, nil},
		{"sampling in the new version", "/v1/messages", "X-Api-Key", "sk-right", "2026-10-21", sampled, 400, "invalid_request_error"},
		{"citations in the new version", "/v1/messages", "X-Api-Key", "sk-right", "2026-10-21", cited, 400, "invalid_request_error"},
		{"count", "/v1/messages/count_tokens", "X-Api-Key", "sk-right", "2023-06-01", `{"model":"m","messages":[{"role":"user","content":"a b"}]}`, 200, nil},
		{"count with a limit", "/v1/messages/count_tokens", "X-Api-Key", "sk-right", "2023-06-01", anthropicHello, 400, "invalid_request_error"},
	} {
		r := request(t.Context(), s, p, c.body)
		r.URL.Path = c.path
		r.Header.Del("Authorization")
		r.Header.Set(c.header, c.key)
		r.Header.Set("Anthropic-Version", c.version)
		a := send(t, r)
		if a.status != c.status || (c.kind != nil && member(t, a.body, "error.type") != c.kind) {
			t.Errorf("%s: %+v", c.name, a)
		}
		if c.name == "count" && a.body != `{"input_tokens":2}` {
			t.Errorf("count: %s", a.body)
		}
		if a.header.Get("Request-Id") == "" || a.header.Get("Anthropic-Ratelimit-Requests-Remaining") == "" {
			t.Errorf("%s: headers %v", c.name, a.header)
		}
	}
}

func TestAnthropicAnswers(t *testing.T) {
	weather := `"tools":[` + weatherTool + `],`
	ask := func(members, text string) string {
		return message(members + `"messages":[{"role":"user","content":"` + text + `"}]`)
	}
	for _, c := range []struct {
		name, body, path string
		want             any
	}{
		{"echo", anthropicHello, "content.0.text", "hello from fake. fake heard: hi there"},
		{"stops", anthropicHello, "stop_reason", "end_turn"},
		{"usage", message(`"system":"be brief please"`), "usage.cache_read_input_tokens", 3.0},
		{"input apart from cached", message(`"system":"be brief please"`), "usage.input_tokens", 1.0},
		{"limit", ask(`"max_tokens":3,`, "x"), "stop_reason", "max_tokens"},
		{"stop", ask(`"stop_sequences":[" heard"],`, "x"), "stop_sequence", " heard"},
		{"thinking", ask(`"thinking":{"type":"adaptive"},`, "x"), "content.0.type", "thinking"},
		{"call", ask(weather, "weather in Paris and Rome"), "content.1.input", map[string]any{"city": "Rome"}},
		{"call stop", ask(weather, "weather"), "stop_reason", "tool_use"},
		{"forced call", ask(weather+`"tool_choice":{"type":"tool","name":"get_weather"},`, "x"), "content.0.name", "get_weather"},
		{"results", turnsOf(toolUse + `,{"role":"user","content":[` + toolResult + `]}`), "content.0.text", "fake heard from the tools: ok"},
		{"image", userBlocks(`{"type":"image","source":{"type":"url","url":"https://x/y"}},{"type":"text","text":"see"}`),
			"content.0.text", "hello from fake. fake heard: see (1 image)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := post(t, &Provider{Schema: AnthropicMessages}, c.body)
			if a.status != 200 {
				t.Fatalf("%+v", a)
			}
			if diff := cmp.Diff(c.want, member(t, a.body, c.path)); diff != "" {
				t.Errorf("%s\n%s", diff, a.body)
			}
		})
	}
}

func TestAnthropicStream(t *testing.T) {
	p := &Provider{Schema: AnthropicMessages}
	p.Script(Reply{Answer: &Answer{Thinking: "hm", Text: "so be it", Calls: []Call{{Name: "f", Arguments: `{"a":1}`}, {Name: "g"}}}})
	a := post(t, p, message(`"stream":true`))
	var got []string
	for _, data := range datas(a.body) {
		name := member(t, data, "type").(string)
		if name == "content_block_delta" {
			name = "  " + member(t, data, "delta.type").(string)
		}
		got = append(got, name)
	}
	want := []string{
		"message_start",
		"content_block_start", "ping", "  thinking_delta", "  signature_delta", "content_block_stop",
		"content_block_start", "  text_delta", "  text_delta", "  text_delta", "content_block_stop",
		"content_block_start", "  input_json_delta", "  input_json_delta", "content_block_stop",
		"content_block_start", "  input_json_delta", "content_block_stop",
		"message_delta", "message_stop",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	p = &Provider{Schema: AnthropicMessages}
	p.Script(FailInStream(529, "Overloaded"))
	a = post(t, p, message(`"stream":true`))
	if !strings.HasPrefix(a.body, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"") || a.status != 200 {
		t.Errorf("%+v", a)
	}
}

// What Anthropic's own SDK sends must pass, and what comes back must read well there.
func TestAnthropicSDK(t *testing.T) {
	p := &Provider{Schema: AnthropicMessages, Key: "sk-test"}
	client := sdk.NewClient(option.WithBaseURL(startFake(t, p).URL()), option.WithAPIKey("sk-test"), option.WithMaxRetries(0))
	params := sdk.MessageNewParams{
		Model:     "claude-sonnet-4-5",
		MaxTokens: 4000,
		System:    []sdk.TextBlockParam{{Text: "be brief", CacheControl: sdk.NewCacheControlEphemeralParam()}},
		Thinking:  sdk.ThinkingConfigParamOfEnabled(2000),
		Messages: []sdk.MessageParam{sdk.NewUserMessage(
			sdk.NewImageBlock(sdk.URLImageSourceParam{URL: "https://example.com/a.png"}),
			sdk.NewTextBlock("weather in Oslo and Lima"),
		)},
		Tools: []sdk.ToolUnionParam{{OfTool: &sdk.ToolParam{Name: "get_weather", InputSchema: sdk.ToolInputSchemaParam{
			Properties: map[string]any{"city": map[string]any{"type": "string"}}, Required: []string{"city"}}}}},
	}
	stream := client.Messages.NewStreaming(t.Context(), params)
	var first sdk.Message
	for stream.Next() {
		if err := first.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	params.Messages = append(params.Messages, first.ToParam())
	var results []sdk.ContentBlockParamUnion
	for _, block := range first.Content {
		if block.Type == "tool_use" {
			results = append(results, sdk.NewToolResultBlock(block.ID, "cold: "+string(block.Input), false))
		}
	}
	params.Messages = append(params.Messages, sdk.NewUserMessage(results...))
	res, err := client.Messages.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	want := `fake heard from the tools: cold: {"city":"Oslo"}; cold: {"city":"Lima"}`
	if got := res.Content[1].Text; got != want || res.StopReason != "end_turn" || res.Usage.OutputTokens == 0 {
		t.Errorf("%s", res.RawJSON())
	}
	if _, err := client.Models.List(t.Context(), sdk.ModelListParams{}); err != nil {
		t.Error(err)
	}
	if _, err := client.Messages.CountTokens(t.Context(), sdk.MessageCountTokensParams{Model: params.Model, Messages: params.Messages,
		Tools: []sdk.MessageCountTokensToolUnionParam{{OfTool: params.Tools[0].OfTool}}}); err != nil {
		t.Error(err)
	}
}
