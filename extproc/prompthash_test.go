package extproc

import (
	"testing"

	"millrace/schema"
)

// prompt has the members of both schemas that the bodies here are in.
var prompt = schema.Of(schema.OpenAIChat).Prompt

func TestPromptHash(t *testing.T) {
	const first = `{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}]}`
	for _, c := range []struct {
		name, body string
		same       bool
	}{
		{"a later turn, another model, other settings, other order",
			`{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}],"stream":true,"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello"},{"role":"assistant","content":"hi"},{"role":"user","content":"more"}],"model":"n"}`, true},
		{"blocks with a mark for caching in place of a string",
			`{"model":"m","messages":[{"content":"be kind","role":"system"},{"role":"user","content":[{"type":"text","text":"hello","cache_control":{"type":"ephemeral"}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}]}`, true},
		{"an escape that says the same", `{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hell\u006f"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}]}`, true},
		{"another first message", `{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello!"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}]}`, false},
		{"another system prompt", `{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city"}}}}}]}`, false},
		{"other tools", `{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello"}],"tools":[{"type":"function","function":{"name":"g"}}]}`, false},
	} {
		if got := promptHash([]byte(c.body), prompt) == promptHash([]byte(first), prompt); got != c.same {
			t.Errorf("%s: same %v, want %v", c.name, got, c.same)
		}
	}
	claude := func(line, turns string) string {
		return `{"system":[` + line + `{"type":"text","text":"You are Claude Code."}],"messages":[{"role":"user","content":"Fix it"}` + turns + `]}`
	}
	billed := claude(`{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cch=0004d;"},`, "")
	for name, body := range map[string]string{
		"another count":        claude(`{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cch=01f3c;"},`, `,{"role":"assistant","content":"ok"}`),
		"no count":             claude("", ""),
		"a line of one string": `{"system":"x-anthropic-billing-header: cch=1;\nYou are Claude Code.","messages":[{"role":"user","content":"Fix it"}]}`,
	} {
		if promptHash([]byte(body), prompt) != promptHash([]byte(billed), prompt) {
			t.Errorf("Claude Code, %s: another conversation", name)
		}
	}
	openAI := func(count string) string {
		return `{"messages":[{"role":"system","content":"x-anthropic-billing-header: cch=` + count + `;\nYou are Claude Code."},{"role":"user","content":"Fix it"}]}`
	}
	if promptHash([]byte(openAI("1")), prompt) != promptHash([]byte(openAI("2")), prompt) || promptHash([]byte(openAI("1")), prompt) == promptHash([]byte(`{"messages":[{"role":"user","content":"Fix it"}]}`), prompt) {
		t.Error("Claude Code in OpenAI's schema: the count counts, or nothing does")
	}
	for _, body := range []string{`{}`, `{"messages":null,"input":"x"}`, `{"messages":[1,[],{}]}`, `{"messages":{"role":"user"}}`, `{"system":[{"text":"a"}],"messages":[]}`} {
		if len(promptHash([]byte(body), prompt)) != 32 {
			t.Errorf("%s: no hash", body)
		}
	}
}

func FuzzPromptHash(f *testing.F) {
	f.Add([]byte(`{"system":"s","messages":[{"role":"assistant"},{"role":"user","content":[{"type":"text","text":"t"}]},{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got := promptHash(body, prompt); got != "" && len(got) != 32 {
			t.Errorf("hash %q", got)
		}
	})
}

func BenchmarkPromptHash(b *testing.B) {
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}`)
	for range 200 {
		body = append(body, `,{"role":"assistant","content":"some words that a model said at some length, and then some more of them"}`...)
	}
	body = append(body, "]}"...)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		promptHash(body, prompt)
	}
}
