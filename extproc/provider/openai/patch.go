package openai

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// foreign are members that only other schemas have. Towards a server of which nothing is known
// these go and everything else passes: compatibles take many members that OpenAI does not know
// (min_p, guided_json, chat_template_kwargs, repetition_penalty, ...).
var foreign = row.Foreign()

// PatchRequest implements llm.TargetCodec. body must have passed ReadHead; what changes is the
// model's name, foreign members, a top-level system (it becomes the first message), what the
// target's dialect has otherwise, and, in a streaming call, the wish for usage.
func (Chat) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	d := dialectOf(o.Dialect)
	own := !d.foreigner() && h.Model == o.Model
	f, err := fit(body, d, o, own)
	if err != nil {
		return llm.Call{}, err
	}
	if h.Model != o.Model {
		f.p.Set("model", wirejson.Quote(o.Model))
	}
	if h.Stream && !h.IncludeUsage && d.asksUsage {
		if err := askForUsage(f.p); err != nil {
			return llm.Call{}, err
		}
	}
	return llm.Call{Path: row.Conversation(), Body: f.p.Bytes(), Dropped: f.dropped.List(), Answer: answerReader{h}}, nil
}

// foreignThinking tells Anthropic's thinking from the member of the same name that
// OpenAI-compatible providers have (DeepSeek, GLM, Kimi: a bare {"type": "enabled"} or {"type":
// "disabled"}): Anthropic's enabled needs a budget, and its other types are its own.
// https://docs.claude.com/en/docs/build-with-claude/extended-thinking
func foreignThinking(value jsontext.Value) bool {
	var t struct {
		Type   string         `json:"type"`
		Budget jsontext.Value `json:"budget_tokens"`
	}
	if json.Unmarshal(value, &t) != nil {
		return false
	}
	return wirejson.Given(t.Budget) || t.Type == "adaptive" || t.Type == "between_tools"
}

var usageWanted = []byte(`{"include_usage":true}`)

// askForUsage sets stream_options.include_usage and keeps the client's other stream options.
func askForUsage(p *strictjson.Patch) error {
	options := jsontext.Value(p.Get("stream_options"))
	if !wirejson.Given(options) {
		p.Set("stream_options", usageWanted)
		return nil
	}
	members, err := strictjson.Scan(options)
	if err != nil {
		return llm.Invalid("stream_options", "want an object, got %s", wirejson.Kind(options.Kind()))
	}
	inner := strictjson.NewPatch(options, members)
	inner.Set("include_usage", []byte("true"))
	p.Set("stream_options", inner.Bytes())
	return nil
}
