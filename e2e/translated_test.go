package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// lastBody is what the provider was last asked, by member.
func lastBody(t *testing.T, p *fakellm.Provider) map[string]json.RawMessage {
	t.Helper()
	all := p.Requests()
	if len(all) == 0 {
		t.Fatalf("%s was not asked", p.Name)
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(all[len(all)-1].Body, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

// has checks members by what they are; "" is for one that must not be there.
func has(t *testing.T, p *fakellm.Provider, want map[string]string) {
	t.Helper()
	body := lastBody(t, p)
	for name, value := range want {
		if got := string(body[name]); got != value {
			t.Errorf("%s got %s: %s, want %s", p.Name, name, got, value)
		}
	}
}

// TestUnionMembers: one body with OpenAI's and Anthropic's members gets what each means to the
// target that has it, and what was not sent is named, no more and no less (B24, B27). A server of
// which nothing is known keeps what no other provider is known by.
func TestUnionMembers(t *testing.T) {
	t.Parallel()
	official, claude, local := openAI("official"), anthropicAI("claude"), &fakellm.Provider{Name: "local", Schema: fakellm.DeepSeekChat, Key: "key-local"}
	s := provider(t, local)
	g := start(t, "", pool("model_choice: listed",
		to("official", official, provider(t, official), "models: [gpt-4o]"),
		to("claude", claude, provider(t, claude), "models: [claude-sonnet-4-5]"),
		fmt.Sprintf("{id: local, provider: {base_url: %q, secret_key_ref: %s}, models: [llama]}", s.URL()+"/v1", local.Key)))
	union := func(model string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"Hello!"}],"system":"Be kind.","max_tokens":5000,` +
			`"stop_sequences":["END"],"thinking":{"type":"enabled","budget_tokens":2000},"top_k":40,"metadata":{"user_id":"u1"},"seed":7,"made_up":true}`
	}
	system := `[{"role":"system","content":"Be kind."},{"role":"user","content":"Hello!"}]`
	post := func(path, body, dropped string) {
		t.Helper()
		g.post(path, body, "anthropic-version: 2023-06-01").want(200).header("x-millrace-dropped", dropped)
	}

	post("/v1/chat/completions", union("claude-sonnet-4-5"), "top_k, seed, made_up") // the API has no top_k beside thinking
	has(t, claude, map[string]string{
		"system": `"Be kind."`, "stop_sequences": `["END"]`, "thinking": `{"type":"enabled","budget_tokens":2000}`,
		"metadata": `{"user_id":"u1"}`, "max_tokens": "5000", "seed": "", "made_up": "",
	})
	post("/v1/chat/completions", strings.Replace(union("claude-sonnet-4-5"), "enabled", "disabled", 1), "seed, made_up")
	has(t, claude, map[string]string{"top_k": "40", "thinking": ""})

	post("/v1/chat/completions", union("gpt-4o"), "stop_sequences, thinking, top_k, metadata, made_up")
	has(t, official, map[string]string{"messages": system, "max_tokens": "5000", "seed": "7"})
	post("/v1/chat/completions", union("llama"), "stop_sequences, thinking")
	has(t, local, map[string]string{
		"messages": system, "top_k": "40", "made_up": "true", "metadata": `{"user_id":"u1"}`, "seed": "7", "system": "", "thinking": "",
	})

	// And the other way: a body of Anthropic's with OpenAI's members.
	reverse := `{"model":"%s","messages":[{"role":"user","content":"Hello!"}],"max_completion_tokens":500,"stop":"END","seed":7,"user":"u2","top_k":40}`
	post("/v1/messages", fmt.Sprintf(reverse, "gpt-4o"), "top_k")
	has(t, official, map[string]string{"max_tokens": "500", "stop": `["END"]`, "seed": "7", "user": `"u2"`})
}

// TestOutputLimits: how much a target is asked for, when the client says nothing and when it wants
// more than there is.
func TestOutputLimits(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	sa, sb := provider(t, a), provider(t, b)
	g := start(t, "", pool("model_choice: listed",
		to("a", a, sa, "models: [gpt-4o]"),
		to("a2", a, sa, "models: [small], model_map: {small: gpt-4o}, default_max_tokens: 300, max_output_tokens: 400"),
		to("b", b, sb, "models: [claude-sonnet-4-5]"),
		to("b2", b, sb, "models: [little], model_map: {little: claude-sonnet-4-5}, default_max_tokens: 300, max_output_tokens: 400")))
	chat, claude := "/v1/chat/completions", "/v1/messages"
	for _, c := range []struct {
		path, model, limit string
		p                  *fakellm.Provider
		want, dropped      string
	}{
		{chat, "claude-sonnet-4-5", "", b, "32000", ""}, // what an agent's turn takes, not a few thousand
		{claude, "gpt-4o", `"max_tokens":32000,`, a, "16384", "max_tokens"},
		{chat, "little", "", b, "300", ""},
		{chat, "little", `"max_completion_tokens":32000,`, b, "400", "max_completion_tokens"},
		{claude, "little", `"max_tokens":32000,`, b, "400", "max_tokens"},
		{claude, "little", `"max_tokens":40,`, b, "40", ""},
		{chat, "small", "", a, "300", ""},
		{chat, "small", `"max_tokens":32000,`, a, "400", "max_tokens"},
		{claude, "small", `"max_tokens":32000,`, a, "400", "max_tokens"},
		{chat, "gpt-4o", "", a, "", ""}, // its own schema asks for none
	} {
		body := fmt.Sprintf(`{"model":%q,%s"messages":[{"role":"user","content":"Hello"}]}`, c.model, c.limit)
		g.post(c.path, body, "anthropic-version: 2023-06-01").want(200).header("x-millrace-dropped", c.dropped)
		has(t, c.p, map[string]string{"max_tokens": c.want})
	}
}

// TestLongUserID: the user id of Claude Code is longer than OpenAI takes one. Equal ids arrive as
// equal ones; an id that a client writes in the target's own schema stays as it is.
func TestLongUserID(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a), "default_model: gpt-4o")))
	ask := func(user string) string {
		t.Helper()
		body := fmt.Sprintf(`{"model":"m","max_tokens":256,"messages":[{"role":"user","content":"Hello"}],"metadata":{"user_id":%q}}`, user)
		g.post("/v1/messages?beta=true", body, "anthropic-version: 2023-06-01").want(200).header("x-millrace-dropped", "")
		return string(lastBody(t, a)["user"])
	}
	long := `{"device_id":"` + strings.Repeat("0123456789abcdef", 4) + `","account_uuid":"","session_id":"7f0c2f4e-3a52-4c58-8a4f-1b6f00000000"}`
	first, again, other, short := ask(long), ask(long), ask(long+"2"), ask("me")
	if len(first) != 64+2 || first != again || first == other || short != `"me"` {
		t.Errorf("users %s, %s, %s, %s", first, again, other, short)
	}
	own := strings.Repeat("u", 65)
	g.post("/v1/chat/completions", `{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}],"user":"`+own+`"}`).want(400, "string too long")
}

// TestUsageIsNotForced: stream_options are put into a stream only where the provider is known to
// take them, and a client never sees the usage that it did not ask for.
func TestUsageIsNotForced(t *testing.T) {
	t.Parallel()
	official, mistral, local := openAI("official"), &fakellm.Provider{Name: "mi", Schema: fakellm.MistralChat, Key: "key-mi"}, openAI("local")
	s := provider(t, local)
	g := start(t, "", pool("model_choice: listed",
		to("official", official, provider(t, official), "models: [gpt-4o]"), to("mi", mistral, provider(t, mistral), "models: [mistral-small]"),
		fmt.Sprintf("{id: local, provider: {base_url: %q, secret_key_ref: %s}, models: [llama]}", s.URL()+"/v1", local.Key)))
	for _, c := range []struct {
		model, asked string
		p            *fakellm.Provider
		want         string
	}{
		{"gpt-4o", "", official, `{"include_usage":true}`},
		{"mistral-small", "", mistral, ""},
		{"mistral-small", `"stream_options":{"include_usage":true},`, mistral, ""},
		{"llama", "", local, ""},
		{"llama", `"stream_options":{"include_usage":true},`, local, `{"include_usage":true}`},
	} {
		body := fmt.Sprintf(`{"model":%q,"stream":true,%s"messages":[{"role":"user","content":"Hello"}]}`, c.model, c.asked)
		answer := g.post("/v1/chat/completions", body).want(200, "[DONE]").Body
		if seen := strings.Contains(answer, `"choices":[],"usage":{`); seen != (c.asked != "" && c.want != "") {
			t.Errorf("%s, %q: usage chunk: %v\n%s", c.model, c.asked, seen, answer)
		}
		has(t, c.p, map[string]string{"stream_options": c.want})
	}
}

// TestSchemasAreAdapted: what a provider refuses of a JSON Schema is said in its descriptions, and
// named.
func TestSchemasAreAdapted(t *testing.T) {
	t.Parallel()
	an, ds := anthropicAI("an"), &fakellm.Provider{Name: "ds", Schema: fakellm.DeepSeekChat, Key: "key-ds"}
	g := start(t, "", pool("model_choice: listed",
		to("an", an, provider(t, an), "models: [claude-sonnet-4-5]"), to("ds", ds, provider(t, ds), "models: [deepseek-chat]")))
	body := func(model string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"Count"}],"tools":[{"type":"function","function":{"name":"a.b","parameters":` +
			`{"anyOf":[{"properties":{"x":{"type":"string"}}}]}}}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":` +
			`{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n"]}}}}`
	}
	g.post("/v1/chat/completions", body("claude-sonnet-4-5")).want(200, `{\"n\":1}`).
		header("x-millrace-dropped", "tools[].function.parameters.anyOf, response_format.json_schema.schema.minimum")
	g.post("/v1/chat/completions", strings.Replace(strings.Replace(body("deepseek-chat"), "a.b", "ab", 1), `"anyOf":[`, `"type":"object","properties":{},"x":[`, 1)).
		want(200).header("x-millrace-dropped", "response_format")
	if system := string(lastBody(t, ds)["messages"]); !strings.Contains(system, `\"minimum\":1`) {
		t.Errorf("the model is not told the schema: %s", system)
	}
}

// TestToolNamesComeBack: a name that a provider would refuse goes out as another and comes back as
// the client's own, whole and streamed, in every turn.
func TestToolNamesComeBack(t *testing.T) {
	t.Parallel()
	an := anthropicAI("an")
	g := start(t, "", pool("", to("an", an, provider(t, an), "default_model: claude-sonnet-4-5")))
	const name = "mcp.weather/get weather"
	for _, stream := range []bool{false, true} {
		body := fmt.Sprintf(`{"model":"m","stream":%v,"messages":[{"role":"user","content":"weather in Rome"},{"role":"assistant","tool_calls":[{"id":"c.1","type":"function",`+
			`"function":{"name":%q,"arguments":"{}"}}]},{"role":"tool","tool_call_id":"c.1","content":"hm"},{"role":"assistant","content":"Hm."},{"role":"user","content":"weather in Oslo"}],`+
			`"tools":[{"type":"function","function":{"name":%q,"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}],`+
			`"tool_choice":{"type":"function","function":{"name":%q}}}`, stream, name, name, name)
		answer := g.post("/v1/chat/completions", body).want(200, fmt.Sprintf(`"name":%q`, name), "Oslo").Body
		if strings.Contains(answer, "mcp_weather") {
			t.Errorf("the client sees the provider's name: %s", answer)
		}
		if asked := string(an.Requests()[len(an.Requests())-1].Body); strings.Count(asked, `"name":"mcp_weather_get_weather_`) != 3 {
			t.Errorf("the tool, its call and the choice: %s", asked)
		}
	}
}
