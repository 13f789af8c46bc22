package fakellm

import (
	"strings"
	"testing"
)

// TestDialects: what the servers refuse that speak OpenAI's schema in a way of their own, with
// their words, and what they take that OpenAI does not.
func TestDialects(t *testing.T) {
	const call = `{"role":"assistant","content":"","tool_calls":[{"id":"abcdefgh1","type":"function","function":{"name":"f","arguments":"{}"}}]}`
	const result = `{"role":"tool","tool_call_id":"abcdefgh1","content":"x"}`
	const user = `{"role":"user","content":"x"}`
	talk := func(messages string) string { return chat(`"messages":[` + messages + `]`) }
	f := function(`{"type":"object","properties":{}}`)
	for _, c := range []struct{ schema, name, body, message string }{
		{MistralChat, "plain", talk(user), ""},
		{MistralChat, "union", chat(`"user":"u"`), "Extra inputs are not permitted"},
		{MistralChat, "member of a message", talk(`{"role":"user","content":"x","name":"bob"}`), "Extra inputs are not permitted"},
		{MistralChat, "refusal", talk(user + `,{"role":"assistant","content":"x","refusal":null},` + user), "Extra inputs are not permitted"},
		{MistralChat, "stream_options", chat(`"stream":true,"stream_options":{"include_usage":true}`), "Extra inputs are not permitted"},
		{MistralChat, "developer", talk(`{"role":"developer","content":"x"}`), "developer"},
		{MistralChat, "function without parameters", chat(`"tools":[{"type":"function","function":{"name":"f"}}]`), "Field required"},
		{MistralChat, "too hot", chat(`"temperature":1.6`), "Invalid 'temperature'"},
		{MistralChat, "tools", talk(user + "," + call + "," + result), ""},
		{MistralChat, "long id", strings.ReplaceAll(talk(user+","+call+","+result), "abcdefgh1", "call_1"), "must be a-z, A-Z, 0-9, with a length of 9"},
		{MistralChat, "user behind a tool", talk(user + "," + call + "," + result + "," + user), "Unexpected role 'user' after role 'tool'"},
		{MistralChat, "ends with the assistant", talk(user + `,{"role":"assistant","content":"x"}`), "prefix"},
		{MistralChat, "prefix", talk(user + `,{"role":"assistant","content":"x","prefix":true}`), ""},

		{GroqChat, "plain", talk(user), ""},
		{GroqChat, "union", chat(`"logprobs":true`), "property 'logprobs' is unsupported"},
		{GroqChat, "several answers", chat(`"n":2`), "n"},
		{GroqChat, "member of a message", talk(`{"role":"user","content":"x","name":"bob"}`), "property 'name' is unsupported"},
		{GroqChat, "thoughts", talk(user + `,{"role":"assistant","content":"x","reasoning_content":"y"},` + user), "property 'reasoning_content' is unsupported"},
		{GroqChat, "tools", talk(user + "," + call + "," + result), ""},
		{GroqChat, "effort", chat(`"model":"openai/gpt-oss-20b","reasoning_effort":"none"`), "reasoning_effort"},

		{DeepSeekChat, "union", chat(`"made_up":1,"user":"u"`), ""},
		{DeepSeekChat, "developer", talk(`{"role":"developer","content":"x"}`), "developer"},
		{DeepSeekChat, "schema", chat(`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}}`), "This response_format type is unavailable now"},
		{DeepSeekChat, "long answer", chat(`"model":"deepseek-chat","max_tokens":8193`), "the valid range of max_tokens is [1, 8192]"},
		{DeepSeekChat, "thoughts lost", strings.Replace(talk(user+","+call+","+result), `"messages"`, `"thinking":{"type":"enabled"},"messages"`, 1), "Missing `reasoning_content` field"},
		{DeepSeekChat, "thoughts lost, always thinks", strings.Replace(talk(user+","+call+","+result), "gpt-4o", "deepseek-reasoner", 1), "Missing `reasoning_content` field"},
		{DeepSeekChat, "thoughts lost, before the user's words", strings.Replace(talk(user+","+call+","+result+","+user), `"messages"`, `"thinking":{"type":"enabled"},"messages"`, 1), ""},
		{DeepSeekChat, "thoughts kept", strings.Replace(strings.Replace(talk(user+","+call+","+result), `"messages"`, `"thinking":{"type":"enabled"},"messages"`, 1), `"content":"",`, `"content":"","reasoning_content":"",`, 1), ""},
		{DeepSeekChat, "thoughts empty, V4", strings.Replace(strings.Replace(talk(user+","+call+","+result+","+user), "gpt-4o", "deepseek-v4-pro", 1), `"content":"",`, `"content":"","reasoning_content":"",`, 1), "must be passed back to the API"},
		{DeepSeekChat, "thoughts of the answer lost, V4", strings.Replace(strings.Replace(talk(user+","+call+","+result+`,{"role":"assistant","content":"x"},`+user), "gpt-4o", "deepseek-v4-pro", 1), `"content":"",`, `"content":"","reasoning_content":"x",`, 1), "must be passed back to the API"},
		{DeepSeekChat, "thoughts of talk lost, V4", strings.Replace(talk(user+`,{"role":"assistant","content":"x"},`+user), "gpt-4o", "deepseek-v4-pro", 1), ""},
		{DeepSeekChat, "thoughts lost, V4 that does not think", strings.Replace(strings.Replace(talk(user+","+call+","+result), "gpt-4o", "deepseek-v4-pro", 1), `"messages"`, `"thinking":{"type":"disabled"},"messages"`, 1), ""},
		{DeepSeekChat, "name", strings.Replace(chat(f), `"name":"f"`, `"name":"a.b"`, 1), "string does not match pattern"},
	} {
		t.Run(c.schema+"/"+c.name, func(t *testing.T) {
			a := post(t, &Provider{Schema: c.schema}, c.body)
			if refused := a.status != 200; refused != (c.message != "") || !strings.Contains(a.body, c.message) {
				t.Errorf("%s\n%d %s", c.body, a.status, a.body)
			}
		})
	}
}

// TestMistralTellsUsage: unasked, with the last chunk; and its ids are those it takes.
func TestMistralTellsUsage(t *testing.T) {
	a := post(t, &Provider{Schema: MistralChat}, chat(`"stream":true,"tools":[`+weatherFunction+`],"messages":[{"role":"user","content":"weather in Rome"}]`))
	if a.status != 200 || strings.Count(a.body, `"usage"`) != 1 || !strings.Contains(a.body, `"finish_reason":"tool_calls"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	_, id, _ := strings.Cut(a.body, `"tool_calls":[{"index":0,"id":"`)
	if id, _, _ = strings.Cut(id, `"`); !mistralID.MatchString(id) {
		t.Errorf("id %q", id)
	}
}
