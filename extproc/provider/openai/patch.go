package openai

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
)

// foreign are the members that only another provider's schema has. Clients that may end at any of several providers send
// them side by side; OpenAI answers any of them with a 400. The list is short on purpose: what is not on it passes, for
// compatibles take many members that OpenAI does not know (top_k, min_p, guided_json, chat_template_kwargs,
// repetition_penalty, safe_prompt, ...).
var foreign = map[string]bool{
	// Anthropic Messages; thinking is told apart by foreignThinking.
	"stop_sequences": true, "anthropic_version": true, "anthropic_beta": true, "mcp_servers": true, "container": true,
	"context_management": true, "output_config": true, "output_format": true,
	// Gemini generateContent, in both of its spellings
	"contents": true, "systemInstruction": true, "system_instruction": true, "generationConfig": true,
	"generation_config": true, "safetySettings": true, "safety_settings": true, "toolConfig": true, "tool_config": true,
	"cachedContent": true, "cached_content": true,
	// Bedrock Converse
	"inferenceConfig": true, "additionalModelRequestFields": true, "additionalModelResponseFieldPaths": true,
	"guardrailConfig": true, "performanceConfig": true, "promptVariables": true, "requestMetadata": true,
}

// PatchRequest implements llm.TargetCodec. body must have passed ReadHead; what changes is the model's name, foreign
// members, a top-level system (it becomes the first message) and, in a streaming call, the wish for usage.
func (Chat) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Call{}, notStrict(err)
	}
	p := strictjson.NewPatch(body, members)
	call := llm.Call{Path: chatPath}
	for _, m := range members {
		value := body[m.Value:m.End]
		switch {
		case foreign[m.Name], m.Name == "thinking" && foreignThinking(value):
			p.Remove(m.Name)
			call.Dropped = append(call.Dropped, m.Name)
		case m.Name == "system":
			if err := moveSystem(p, value); err != nil {
				return llm.Call{}, err
			}
		}
	}
	if h.Model != o.Model {
		p.Set("model", quote(o.Model))
	}
	if h.Stream && !h.IncludeUsage {
		if err := askForUsage(p); err != nil {
			return llm.Call{}, err
		}
	}
	call.Body = p.Bytes()
	return call, nil
}

// foreignThinking tells Anthropic's thinking from the member of the same name that OpenAI-compatible providers have
// (DeepSeek, GLM, Kimi: a bare {"type": "enabled"} or {"type": "disabled"}): Anthropic's enabled needs a budget, and its
// other types are its own. https://docs.claude.com/en/docs/build-with-claude/extended-thinking
func foreignThinking(value jsontext.Value) bool {
	var t struct {
		Type   string         `json:"type"`
		Budget jsontext.Value `json:"budget_tokens"`
	}
	if json.Unmarshal(value, &t) != nil {
		return false
	}
	return given(t.Budget) || t.Type == "adaptive" || t.Type == "between_tools"
}

// moveSystem takes the top-level system out and puts it, when it says something, in front of the messages.
func moveSystem(p *strictjson.Patch, system jsontext.Value) error {
	texts, err := systemTexts(system)
	if err != nil {
		return err
	}
	p.Remove("system")
	if len(texts) == 0 {
		return nil
	}
	messages := jsontext.Value(p.Get("messages"))
	if messages.Kind() != jsontext.KindBeginArray {
		return llm.Invalid("messages", "want an array, got %s", kindName(messages.Kind()))
	}
	var all []string
	for _, t := range texts {
		all = append(all, t.Text)
	}
	text := strings.Join(all, "\n\n")
	out := make([]byte, 0, len(messages)+len(text)+64)
	out = append(out, `[{"role":"system","content":`...)
	out = append(out, quote(text)...)
	out = append(out, '}')
	rest := messages[1:]
	if rest.Kind() != jsontext.KindEndArray { // Kind skips white space
		out = append(out, ',')
	}
	p.Set("messages", append(out, rest...))
	return nil
}

var usageWanted = []byte(`{"include_usage":true}`)

// askForUsage sets stream_options.include_usage and keeps the client's other stream options.
func askForUsage(p *strictjson.Patch) error {
	options := jsontext.Value(p.Get("stream_options"))
	if !given(options) {
		p.Set("stream_options", usageWanted)
		return nil
	}
	members, err := strictjson.Scan(options)
	if err != nil {
		return llm.Invalid("stream_options", "want an object, got %s", kindName(options.Kind()))
	}
	inner := strictjson.NewPatch(options, members)
	inner.Set("include_usage", []byte("true"))
	p.Set("stream_options", inner.Bytes())
	return nil
}
