package anthropic

import (
	"strconv"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// foreign are members of other schemas that this one has none of. A client that writes one body for many providers sends
// them; the API would refuse the request for each: "Extra inputs are not permitted".
var foreign = map[string]bool{
	// https://platform.openai.com/docs/api-reference/chat/create
	"audio": true, "frequency_penalty": true, "function_call": true, "functions": true, "logit_bias": true, "logprobs": true,
	"max_completion_tokens": true, "modalities": true, "moderation": true, "n": true, "parallel_tool_calls": true,
	"prediction": true, "presence_penalty": true, "prompt_cache_key": true, "prompt_cache_options": true,
	"prompt_cache_retention": true, "reasoning_effort": true, "response_format": true, "safety_identifier": true,
	"seed": true, "stop": true, "store": true, "stream_options": true, "top_logprobs": true, "user": true,
	"verbosity": true, "web_search_options": true,
	// https://platform.openai.com/docs/api-reference/responses/create
	"input": true, "instructions": true, "max_output_tokens": true, "previous_response_id": true, "reasoning": true,
	// https://ai.google.dev/api/generate-content
	"contents": true, "generationConfig": true, "generation_config": true, "safetySettings": true, "safety_settings": true,
	"systemInstruction": true, "system_instruction": true, "toolConfig": true, "tool_config": true, "cachedContent": true,
}

// PatchRequest passes a request of this schema on. It sets the model, takes out foreign members, and takes out the sampling
// parameters where the target's version has none or where the gateway itself put a model that refuses them into the place
// of the client's.
func (Messages) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Call{}, llm.Errorf(llm.ErrInvalidRequest, "request body is not strict JSON: %v", err)
	}
	call := llm.Call{Path: messagesPath, Headers: callHeaders(o)}
	p := strictjson.NewPatch(body, members)
	renamed := h.Model != o.Model
	if renamed {
		quoted, err := jsontext.AppendQuote(nil, o.Model)
		if err != nil {
			return llm.Call{}, llm.Errorf(llm.ErrInternal, "the model's name is not UTF-8")
		}
		p.Set("model", quoted)
	}
	sampling := takesSampling(targetVersion(o)) && (!renamed || traitsOf(o.Model).sampling)
	for _, m := range members {
		if m.Name == "stream" && body[m.Value] == 'n' { // null, which says what leaving it out says, is OpenAI's
			p.Remove(m.Name)
		}
		if foreign[m.Name] || !sampling && isSampling(m.Name) {
			p.Remove(m.Name)
			call.Dropped = append(call.Dropped, m.Name)
		}
	}
	call.Dropped = append(call.Dropped, patchLimit(p, o, renamed)...)
	call.Body = p.Bytes()
	return call, nil
}

// patchLimit fills in max_tokens where the target has a default, and lowers it to what the target gives; a model that the gateway
// put into the place of the client's has a bound, and a way of thinking, of its own. It returns what it changed of the client's.
func patchLimit(p *strictjson.Patch, o llm.Options, renamed bool) (changed []string) {
	var model traits
	if renamed {
		model = traitsOf(o.Model)
	}
	most := maxOutput(model, o)
	limit, ok := integer(p.Get("max_tokens"))
	switch {
	case ok && limit > most:
		limit = most
		p.Set("max_tokens", strconv.AppendInt(nil, limit, 10))
		changed = append(changed, "max_tokens")
	case p.Get("max_tokens") == nil && o.MaxTokens > 0:
		limit = min(o.MaxTokens, most)
		p.Set("max_tokens", strconv.AppendInt(nil, limit, 10))
	}
	var t thinking
	if json.Unmarshal(p.Get("thinking"), &t) != nil {
		return changed
	}
	if kind, budget := fitThinking(t, model, renamed, limit, len(changed) > 0); kind != t.Type || budget != t.BudgetTokens {
		changed = append(changed, "thinking")
		if kind == "" {
			p.Remove("thinking")
			return changed
		}
		t.Type, t.BudgetTokens = kind, budget
		if written, err := json.Marshal(t, requestJSON); err == nil {
			p.Set("thinking", written)
		}
	}
	return changed
}

// fitThinking is the type and the budget of a thinking that fits the limit and the model that the gateway chose; "" for none.
func fitThinking(t thinking, model traits, renamed bool, limit int64, lowered bool) (kind string, budget *int64) {
	kind, budget = t.Type, t.BudgetTokens
	switch {
	case !renamed, model.output == 0: // nothing is known of the model
	case kind == "enabled" && model.adaptive:
		return "adaptive", nil
	case kind == "adaptive" && !model.adaptive:
		if n := min(effortBudget["high"], limit/2); model.budget && n >= minBudget {
			return "enabled", &n
		}
		return "", nil
	case kind == "enabled" && !model.budget:
		return "", nil
	}
	if lowered && kind == "enabled" && budget != nil && *budget >= limit {
		if n := limit / 2; n >= minBudget {
			return kind, &n
		}
		return "", nil
	}
	return kind, budget
}

func isSampling(name string) bool { return name == "temperature" || name == "top_p" || name == "top_k" }
