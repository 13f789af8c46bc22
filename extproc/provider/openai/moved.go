package openai

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// A conversation that was at another provider before it came here has in it what that one said, in
// members that only some APIs know, and with its ids. Clients send it all back.

// elsewhere are strings that a message holds as names, or as types of content, only where some
// provider wrote it that OpenAI is not.
var elsewhere = []string{
	`"reasoning_content"`, `"reasoning"`, `"reasoning_details"`, // DeepSeek, Kimi, GLM; Groq, Ollama; OpenRouter
	`"thinking_blocks"`,      // Anthropic, as streamout.go and response.go write it
	`"thinking"`, `"prefix"`, // Mistral
	`"extra_content"`,            // Google
	`"provider_specific_fields"`, // LiteLLM
}

// moved tells whether messages may hold any of it. It decodes nothing.
func (d *dialect) moved(messages []byte) bool {
	for _, s := range elsewhere {
		for range strictjson.Strings(messages, s) {
			return true
		}
	}
	for rest := range strictjson.Strings(messages, `"tool_call_id"`) { // every call has a result
		if id := wirejson.Unquote(strictjson.ValueAfter(rest)); d.callID(id) != id {
			return true
		}
	}
	return false
}

// thinks tells whether the provider will ask for the thoughts that led to calls.
func (f *fitting) thinks() bool {
	if !f.dialect.thinking {
		return false
	}
	var t struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(f.values["thinking"], &t)
	return f.model.thinks && t.Type == "" || t.Type != "" && t.Type != "disabled"
}

// thoughts leaves of an assistant's message the thoughts that the provider takes back, and no
// others: those of a message with thinking_blocks are Anthropic's, which has signed them; whose
// others are, nobody can tell. Where the provider asks for thoughts and there are none, something
// stands for them: they must not be empty (NousResearch/hermes-agent#18263), nor the same each
// time, or models take to repeating them (Lingtai-AI/lingtai-kernel#9). It asks wherever tools are
// called, and where it answers with their results.
// https://api-docs.deepseek.com/guides/thinking_mode
func (f *fitting) thoughts(p *strictjson.Patch, calls jsontext.Value, result string) {
	if !f.dialect.thoughts {
		f.contentThoughts(p)
	}
	if !f.dialect.thinking {
		return
	}
	own := jsontext.Value(p.Get("reasoning_content"))
	if blocks := jsontext.Value(p.Get("thinking_blocks")); wirejson.Given(blocks) && !saysNothing("thinking_blocks", blocks) && wirejson.Given(own) {
		f.removeFrom(p, "reasoning_content", own)
		own = nil
	}
	switch {
	case wirejson.Unquote(own) != "" || !f.thinks():
	case wirejson.Given(calls):
		p.Set("reasoning_content", wirejson.Quote(useOf(calls)))
	case result != "":
		p.Set("reasoning_content", wirejson.Quote("Use the result of "+result+"."))
	}
}

// useOf says what the calls are.
func useOf(calls jsontext.Value) string {
	var all []toolCall
	if json.Unmarshal(calls, &all, wirejson.Lenient) != nil {
		return "Use a tool."
	}
	var b strings.Builder
	for i, c := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("Use " + c.Function.Name + " for " + c.ID + ".")
	}
	return b.String()
}

// contentThoughts takes the thoughts out of a content that is a list. What is left is a string,
// which is all that some take.
func (f *fitting) contentThoughts(p *strictjson.Patch) {
	content := jsontext.Value(p.Get("content"))
	if content.Kind() != jsontext.KindBeginArray {
		return
	}
	list, err := strictjson.Items(content)
	if err != nil {
		return // cannot be: it has been scanned
	}
	var kept []jsontext.Value
	var said strings.Builder
	plain := true
	for _, raw := range list {
		var part struct {
			Type wirejson.Text `json:"type"`
			Text wirejson.Text `json:"text"`
		}
		err := json.Unmarshal(raw, &part, wirejson.Lenient)
		if err == nil && (part.Type == "thinking" || part.Type == "reasoning") {
			continue
		}
		plain = plain && err == nil && part.Type == "text"
		said.WriteString(string(part.Text))
		kept = append(kept, raw)
	}
	switch {
	case len(kept) == len(list):
		return
	case plain:
		p.Set("content", wirejson.Quote(said.String()))
	default:
		p.Set("content", strictjson.List(kept))
	}
	f.dropped.Add("messages[].content[].thinking")
}
