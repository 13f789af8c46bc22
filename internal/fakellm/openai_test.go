package fakellm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// chat makes a request of members; the ones given first win over the usual ones.
func chat(members string) string {
	body := "{" + members
	for _, usual := range []string{`"model":"gpt-4o"`, `"messages":[{"role":"user","content":"hi"}]`} {
		if name, _, _ := strings.Cut(usual, ":"); !strings.Contains(members, name+":") {
			body += "," + usual
		}
	}
	return strings.Replace(body, "{,", "{", 1) + "}"
}

func chatMessages(messages string) string {
	return chat(`"tools":[` + weatherFunction + `],"messages":[{"role":"user","content":"hi"},` + messages + `]`)
}

const (
	weatherFunction = `{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{
		"city":{"type":"string"},"unit":{"type":"string","enum":["celsius","fahrenheit"]},"days":{"type":"integer"}},
		"required":["city","unit"]}}}`
	oneCall = `{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]}`
)

func function(parameters string) string {
	return `"tools":[{"type":"function","function":{"name":"f","parameters":` + parameters + `}}]`
}

func TestOpenAIRefuses(t *testing.T) {
	for _, c := range []struct{ name, body, message string }{
		{"not JSON", `{"model":`, "We could not parse the JSON body"},
		{"not an object", `[]`, "We could not parse the JSON body"},
		{"two bodies", openAIHello + openAIHello, "We could not parse the JSON body"},
		{"duplicate name", chat(`"model":"a","model":"b"`), "duplicate"},
		{"foreign member", chat(`"system":"x"`), "Unrecognized request argument supplied: system"},
		{"foreign member, nested", chat(`"messages":[{"role":"user","content":"x","cache_control":{}}]`),
			"Unknown parameter: 'messages[0].cache_control'."},
		{"foreign member of a part", chat(`"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{}}]}]`),
			"Unknown parameter: 'messages[0].content[0].cache_control'."},
		{"no model", `{"messages":[{"role":"user","content":"x"}]}`, "Missing required parameter: 'model'."},
		{"no messages", `{"model":"gpt-4o"}`, "Missing required parameter: 'messages'."},
		{"empty messages", chat(`"messages":[]`), "Invalid 'messages': empty array."},
		{"model of wrong type", chat(`"model":4`), "Invalid type for 'model': expected a string, but got an integer instead."},
		{"stream of wrong type", chat(`"stream":"true"`), "Invalid type for 'stream': expected a boolean, but got a string instead."},
		{"temperature as text", chat(`"temperature":"1"`), "Invalid type for 'temperature'"},
		{"temperature too high", chat(`"temperature":2.1`), "Expected a value <= 2, but got 2.1 instead."},
		{"top_p too high", chat(`"top_p":1.5`), "Invalid 'top_p'"},
		{"penalty too low", chat(`"presence_penalty":-3`), "Expected a value >= -2"},
		{"half a token", chat(`"max_tokens":1.5`), "expected an integer, but got a decimal"},
		{"no tokens", chat(`"max_completion_tokens":0`), "Expected a value >= 1"},
		{"both limits", chat(`"max_tokens":1,"max_completion_tokens":1`), "at the same time"},
		{"old limit for a reasoning model", chat(`"model":"gpt-5","max_tokens":1`), "Use 'max_completion_tokens' instead."},
		{"temperature for a reasoning model", chat(`"model":"o3","temperature":0.5`), "Only the default (1) value is supported."},
		{"effort for a plain model", chat(`"reasoning_effort":"low"`), "Unrecognized request argument supplied: reasoning_effort"},
		{"unknown effort", chat(`"model":"gpt-5","reasoning_effort":"huge"`), "Invalid value: 'huge'."},
		{"five stops", chat(`"stop":["a","b","c","d","e"]`), "Invalid 'stop': array too long."},
		{"empty stop", chat(`"stop":[""]`), "Invalid 'stop'"},
		{"stream_options without stream", chat(`"stream_options":{"include_usage":true}`), "only allowed when 'stream' is enabled"},
		{"top_logprobs alone", chat(`"top_logprobs":2`), "'logprobs' must be true"},
		{"logit_bias by word", chat(`"logit_bias":{"hello":1}`), "Keys are token ids"},
		{"metadata without store", chat(`"metadata":{"a":"b"}`), "only allowed when 'store' is enabled"},
		{"unknown role", chat(`"messages":[{"role":"model","content":"x"}]`), "Invalid value: 'model'."},
		{"no content", chat(`"messages":[{"role":"user"}]`), "Invalid value for 'content': expected a string, got null."},
		{"empty content", chat(`"messages":[{"role":"user","content":[]}]`), "Invalid 'messages[0].content': empty array."},
		{"content of wrong type", chat(`"messages":[{"role":"user","content":{}}]`), "expected one of a string or array of objects"},
		{"unknown part", chat(`"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]`), "Invalid value: 'image'."},
		{"image in a system message", chat(`"messages":[{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]}]`),
			"Invalid value: 'image_url'."},
		{"image of unknown type", chat(`"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/tiff;base64,AAAA"}}]}]`),
			"unsupported image"},
		{"image not in base64", chat(`"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,A?"}}]}]`),
			"not valid base64"},
		{"image address", chat(`"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"cat.png"}}]}]`), "Expected a valid URL"},
		{"assistant says nothing", chatMessages(`{"role":"assistant"}`), "expected a string, got null"},
		{"tool message out of nowhere", chatMessages(`{"role":"tool","tool_call_id":"c1","content":"x"}`),
			"must be a response to a preceeding message with 'tool_calls'"},
		{"tool message for another call", chatMessages(oneCall + `,{"role":"tool","tool_call_id":"c2","content":"x"}`),
			"must be a response to a preceeding message with 'tool_calls'"},
		{"call not answered at the end", chatMessages(oneCall), "did not have response messages: c1"},
		{"call not answered before the next turn", chatMessages(oneCall + `,{"role":"user","content":"x"}`),
			"did not have response messages: c1"},
		{"arguments as an object", chatMessages(`{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{}}}]}`),
			"Invalid type for 'messages[1].tool_calls[0].function.arguments': expected a string"},
		{"no calls", chatMessages(`{"role":"assistant","content":"x","tool_calls":[]}`), "Invalid 'messages[1].tool_calls': empty array."},
		{"long id", chatMessages(`{"role":"assistant","tool_calls":[{"id":"` + strings.Repeat("x", 65) + `","type":"function","function":{"name":"f","arguments":""}}]}`),
			"string too long. Expected a string with maximum length 64"},
		{"empty tools", chat(`"tools":[]`), "Invalid 'tools': empty array."},
		{"tool of another schema", chat(`"tools":[{"name":"f","input_schema":{}}]`), "Missing required parameter: 'tools[0].type'."},
		{"tool name", chat(`"tools":[{"type":"function","function":{"name":"a b"}}]`), "Invalid 'tools[0].function.name': string does not match pattern."},
		{"long tool name", chat(`"tools":[{"type":"function","function":{"name":"` + strings.Repeat("x", 65) + `"}}]`), "maximum length 64"},
		{"empty schema", chat(function(`{}`)), `got 'type: "None"'`},
		{"schema not of an object", chat(function(`{"type":"string"}`)), `got 'type: "string"'`},
		{"schema with alternatives", chat(function(`{"type":"object","anyOf":[]}`)), "not have 'oneOf'/'anyOf'/'allOf'"},
		{"array without items", chat(function(`{"type":"object","properties":{"a":{"type":"array"}}}`)),
			"In context=('properties', 'a'), array schema missing items."},
		{"function without properties", chat(function(`{"type":"object"}`)), "object schema missing properties"},
		{"long user", chat(`"user":"` + strings.Repeat("u", 65) + `"`), "Expected a string with maximum length 64"},
		{"more than the model gives", chat(`"max_tokens":32000`), "This model supports at most 16384 completion tokens"},
		{"stop of a reasoning model", chat(`"model":"gpt-5","stop":["a"]`), "Unsupported parameter: 'stop'"},
		{"parallel calls of an o model", chat(`"model":"o3","parallel_tool_calls":true,` + function(`{"type":"object","properties":{}}`)), "Unsupported parameter: 'parallel_tool_calls'"},
		{"tools and effort", chat(`"model":"gpt-5.4","reasoning_effort":"low",` + function(`{"type":"object","properties":{}}`)), "Function tools with reasoning_effort are not supported"},
		{"tools without effort", chat(`"model":"gpt-5.6",` + function(`{"type":"object","properties":{}}`)), "Function tools with reasoning_effort are not supported"},
		{"strict and open", chat(`"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{}}}}]`),
			"'additionalProperties' is required to be supplied and to be false"},
		{"tool_choice without tools", chat(`"tool_choice":"auto"`), "only allowed when 'tools' are specified"},
		{"tool_choice of another schema", chat(`"tools":[` + weatherFunction + `],"tool_choice":{"type":"any"}`), "Invalid value: 'any'."},
		{"tool_choice of an unknown tool", chat(`"tools":[` + weatherFunction + `],"tool_choice":{"type":"function","function":{"name":"g"}}`),
			"Tool choice 'g' not found"},
		{"parallel_tool_calls without tools", chat(`"parallel_tool_calls":true`), "only allowed when 'tools' are specified"},
		{"json_object unannounced", chat(`"response_format":{"type":"json_object"}`), "must contain the word 'json'"},
		{"strict and optional", chat(`"response_format":{"type":"json_schema","json_schema":{"name":"s","strict":true,"schema":{
			"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}}}`), "Missing 'a'."},
		{"file without a name", chat(`"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,eA=="}}]}]`),
			"Missing required parameter: 'messages[0].content[0].file.filename'."},
		{"json_schema without a name", chat(`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`),
			"Missing required parameter: 'response_format.json_schema.name'."},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := post(t, &Provider{Schema: OpenAIChat}, c.body)
			if a.status != 400 || !strings.Contains(a.body, "invalid_request_error") {
				t.Fatalf("%+v", a)
			}
			if message := member(t, a.body, "error.message").(string); !strings.Contains(message, c.message) {
				t.Errorf("got  %s\nwant %s", message, c.message)
			}
		})
	}
}

func TestOpenAITakes(t *testing.T) {
	for name, body := range map[string]string{
		"everything": chat(`"frequency_penalty":-2,"logit_bias":{"50256":-100},"logprobs":true,"top_logprobs":20,"max_tokens":5,
			"metadata":{"a":"b"},"store":true,"n":2,"seed":-9007199254740993,"service_tier":"auto","stop":null,"temperature":2,
			"top_p":0,"user":"u","tools":[` + weatherFunction + `],"tool_choice":"auto","parallel_tool_calls":false,"verbosity":"low"`),
		"parallel results in any order": chatMessages(`{"role":"assistant","content":null,"tool_calls":[
			{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},
			{"id":"c2","type":"function","function":{"name":"f","arguments":""}}]},
			{"role":"tool","tool_call_id":"c2","content":"x"},
			{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"y"}]}`),
		"files": chat(`"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,eA=="}},
			{"type":"file","file":{"file_id":"file-1"}},{"type":"input_audio","input_audio":{"data":"eA==","format":"wav"}}]}]`),
		"other kinds of tools": chat(`"tools":[{"type":"custom","custom":{"name":"c"}}],"tool_choice":{"type":"allowed_tools",
			"allowed_tools":{"mode":"auto","tools":[]}},"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[
			{"id":"c1","type":"custom","custom":{"name":"c","input":"x"}}]},{"role":"tool","tool_call_id":"c1","content":""}]`),
		"strict schema": chat(`"response_format":{"type":"json_schema","json_schema":{"name":"s","strict":true,"schema":{"type":"object",
			"additionalProperties":false,"required":["a"],"properties":{"a":{"type":"string"}}}}}`),
		"no parameters":   chat(`"tools":[{"type":"function","function":{"name":"now"}}]`),
		"reasoning model": chat(`"model":"gpt-5-mini","max_completion_tokens":50,"reasoning_effort":"high","temperature":1`),
		"system text, assistant first, same role twice": chat(`"messages":[{"role":"assistant","content":""},
			{"role":"developer","content":[{"type":"text","text":"x"}]},{"role":"user","content":"a"},{"role":"user","content":"b"}]`),
	} {
		if a := post(t, &Provider{Schema: OpenAIChat}, body); a.status != 200 {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

func TestOpenAIFrontDoor(t *testing.T) {
	p := &Provider{Schema: OpenAIChat, Key: "sk-right-key-1234"}
	s := startFake(t, p)
	for _, c := range []struct {
		name, method, path, authorization, contentType string
		status                                         int
	}{
		{"right", "POST", "/v1/chat/completions", "Bearer sk-right-key-1234", "application/json; charset=utf-8", 200},
		{"no key", "POST", "/v1/chat/completions", "", "application/json", 401},
		{"wrong key", "POST", "/v1/chat/completions", "Bearer sk-wrong-key-1234", "application/json", 401},
		{"not a bearer", "POST", "/v1/chat/completions", "sk-right-key-1234", "application/json", 401},
		{"path doubled", "POST", "/v1/v1/chat/completions", "Bearer sk-right-key-1234", "application/json", 404},
		{"path of another schema", "POST", "/v1/messages", "Bearer sk-right-key-1234", "application/json", 404},
		{"method", "GET", "/v1/chat/completions", "Bearer sk-right-key-1234", "application/json", 405},
		{"models by POST", "POST", "/v1/models", "Bearer sk-right-key-1234", "application/json", 405},
		{"content type", "POST", "/v1/chat/completions", "Bearer sk-right-key-1234", "text/plain", 400},
	} {
		r := request(t.Context(), s, p, openAIHello)
		r.Method, r.URL.Path = c.method, c.path
		r.Header.Set("Authorization", c.authorization)
		r.Header.Set("Content-Type", c.contentType)
		r.Header.Set("X-Api-Key", "of-the-client")
		a := send(t, r)
		if a.status != c.status || (a.status != 200 && member(t, a.body, "error.type") != "invalid_request_error") {
			t.Errorf("%s: %+v", c.name, a)
		}
		if strings.Contains(a.body, "key-12") {
			t.Errorf("%s: the key shows: %s", c.name, a.body)
		}
		if a.header.Get("X-Request-Id") == "" || a.header.Get("X-Ratelimit-Remaining-Requests") == "" {
			t.Errorf("%s: headers %v", c.name, a.header)
		}
	}
	if got := p.Requests()[0].Header.Get("X-Api-Key"); got != "of-the-client" {
		t.Errorf("foreign credential recorded as %q", got)
	}
}

func TestOpenAIAnswers(t *testing.T) {
	weather := `"tools":[` + weatherFunction + `],`
	ask := func(members, text string) string {
		return chat(members + `"messages":[{"role":"user","content":"` + text + `"}]`)
	}
	for _, c := range []struct {
		name, body, path string
		want             any
	}{
		{"echo", openAIHello, "choices.0.message.content", "hello from fake. fake heard: hi there"},
		{"stops", openAIHello, "choices.0.finish_reason", "stop"},
		{"model", openAIHello, "model", "gpt-4o"},
		{"usage", openAIHello, "usage.total_tokens", 9.0},
		{"cached", chat(`"messages":[{"role":"system","content":"be brief please"},{"role":"user","content":"hi"}]`),
			"usage.prompt_tokens_details.cached_tokens", 3.0},
		{"reasoning", ask(`"model":"gpt-5",`, "x"), "usage.completion_tokens_details.reasoning_tokens", 8.0},
		{"limit", ask(`"max_tokens":3,`, "x"), "choices.0.message.content", "hello from fake."},
		{"limit reached", ask(`"max_completion_tokens":3,`, "x"), "choices.0.finish_reason", "length"},
		{"stop", ask(`"stop":" heard",`, "x"), "choices.0.message.content", "hello from fake. fake"},
		{"choices", ask(`"n":2,`, "x"), "choices.1.index", 1.0},
		{"image", chat(`"messages":[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]`),
			"choices.0.message.content", "hello from fake. fake heard: see (1 image)"},
		{"call", ask(weather, "weather in Rome?"), "choices.0.message.tool_calls.0.function.arguments", `{"city":"Rome","unit":"celsius"}`},
		{"call finish", ask(weather, "weather?"), "choices.0.finish_reason", "tool_calls"},
		{"call without content", ask(weather, "weather?"), "choices.0.message.content", nil},
		{"parallel call", ask(weather, "weather in Paris and Rome"), "choices.0.message.tool_calls.1.function.arguments", `{"city":"Rome","unit":"celsius"}`},
		{"forced call", ask(weather+`"tool_choice":"required",`, "x"), "choices.0.message.tool_calls.0.function.name", "get_weather"},
		{"forbidden call", ask(weather+`"tool_choice":"none",`, "weather"), "choices.0.finish_reason", "stop"},
		{"no reason to call", ask(weather, "hi"), "choices.0.finish_reason", "stop"},
		{"results", chatMessages(oneCall + `,{"role":"tool","tool_call_id":"c1","content":"22 degrees"}`),
			"choices.0.message.content", "fake heard from the tools: 22 degrees"},
		{"JSON", ask(`"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object",
			"properties":{"n":{"type":"integer"}},"required":["n"]}}},`, "x"), "choices.0.message.content", `{"n":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := post(t, &Provider{Schema: OpenAIChat}, c.body)
			if a.status != 200 {
				t.Fatalf("%+v", a)
			}
			if diff := cmp.Diff(c.want, member(t, a.body, c.path)); diff != "" {
				t.Errorf("%s\n%s", diff, a.body)
			}
		})
	}
	a := post(t, &Provider{Schema: OpenAIChat}, ask(weather+`"parallel_tool_calls":false,`, "weather in Paris and Rome"))
	if calls := member(t, a.body, "choices.0.message.tool_calls").([]any); len(calls) != 1 {
		t.Errorf("parallel calls though forbidden: %v", calls)
	}
}

func TestOpenAIStream(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	a := post(t, p, openAIStream)
	got := datas(a.body)
	if last := got[len(got)-1]; last != "[DONE]" {
		t.Errorf("ends with %s", last)
	}
	var text string
	for _, data := range got[:len(got)-1] {
		if strings.Contains(data, `"usage"`) {
			t.Errorf("usage that nobody asked for: %s", data)
		}
		if content, ok := member(t, data, "choices.0.delta.content").(string); ok {
			text += content
		}
	}
	if text != "hello from fake. fake heard: hi there" {
		t.Errorf("text %q", text)
	}

	p = &Provider{Schema: OpenAIChat}
	got = datas(post(t, p, chat(`"stream":true,"stream_options":{"include_usage":true}`)).body)
	for i, data := range got[:len(got)-1] {
		usage, choices := member(t, data, "usage"), member(t, data, "choices").([]any)
		if last := i == len(got)-2; last != (usage != nil) || last != (len(choices) == 0) {
			t.Errorf("chunk %d: %s", i, data)
		}
	}
}

func TestOpenAIScriptedAnswer(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	p.Script(Reply{Answer: &Answer{Thinking: "hm", Text: "so", Calls: []Call{{ID: "c", Name: "f", Arguments: "{"}}, Stop: "content_filter",
		Usage: &Usage{Input: 10, Cached: 4, Output: 5, Reasoning: 2}, Model: "gpt-4o-2024"}})
	a := post(t, p, openAIHello)
	want := map[string]any{"role": "assistant", "content": "so", "refusal": nil, "annotations": []any{}, "reasoning_content": "hm",
		"tool_calls": []any{map[string]any{"id": "c", "type": "function", "function": map[string]any{"name": "f", "arguments": "{"}}}}
	if diff := cmp.Diff(want, member(t, a.body, "choices.0.message")); diff != "" {
		t.Error(diff)
	}
	got := fmt.Sprint(member(t, a.body, "choices.0.finish_reason"), member(t, a.body, "model"), member(t, a.body, "usage.total_tokens"))
	if got != "content_filtergpt-4o-202415" && got != "content_filter gpt-4o-2024 15" {
		t.Error(got)
	}
}

// What OpenAI's own SDK sends must pass, and what comes back must read well there.
func TestOpenAISDK(t *testing.T) {
	p := &Provider{Schema: OpenAIChat, Key: "sk-test"}
	client := openai.NewClient(option.WithBaseURL(startFake(t, p).URL()+"/v1"), option.WithAPIKey("sk-test"), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{
		Model: "gpt-4o",
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("be brief"),
			openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
				openai.TextContentPart("weather in Oslo and Lima"),
				openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "https://example.com/a.png"}),
			}),
		},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "get_weather", Parameters: openai.FunctionParameters{"type": "object",
				"properties": map[string]any{"location": map[string]any{"type": "string"}}, "required": []string{"location"}},
		})},
		Temperature: openai.Float(0.5),
	}
	res, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	params.Messages = append(params.Messages, res.Choices[0].Message.ToParam())
	for _, call := range res.Choices[0].Message.ToolCalls {
		params.Messages = append(params.Messages, openai.ToolMessage("cold: "+call.Function.Arguments, call.ID))
	}
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	all := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		if !all.AddChunk(stream.Current()) {
			t.Fatalf("chunk does not fit: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	want := `fake heard from the tools: cold: {"location":"Oslo"}; cold: {"location":"Lima"}`
	if got := all.Choices[0].Message.Content; got != want || all.Usage.TotalTokens == 0 {
		t.Errorf("%q, usage %+v", got, all.Usage)
	}

	params.Messages = params.Messages[:2] // the calls again, in a stream
	stream = client.Chat.Completions.NewStreaming(t.Context(), params)
	all = openai.ChatCompletionAccumulator{}
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	calls := all.Choices[0].Message.ToolCalls
	if len(calls) != 2 || calls[0].ID == calls[1].ID || calls[1].Function.Arguments != `{"location":"Lima"}` {
		t.Errorf("%+v", calls)
	}
	if _, err := client.Models.List(t.Context()); err != nil {
		t.Error(err)
	}
}
