package anthropic

import (
	"bytes"
	"slices"
	"strconv"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// foreign are members of other schemas that this one has none of: the API would refuse the request
// for each, "Extra inputs are not permitted".
var foreign = row.Foreign()

// PatchRequest passes a request of this schema on. It sets the model, takes out foreign members and
// what only another provider takes back (moved.go), and takes out the sampling parameters where the
// target's version has none or where the gateway itself put a model that refuses them into the
// place of the client's.
func (Messages) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	call, err := patchRequest(h, body, o, patchLimit)
	call.Path, call.Answer = row.Conversation(), answerReader{}
	return call, err
}

// patchRequest patches what all operations have. fitLimit fits what the one at hand has of a limit,
// as patchLimit does.
func patchRequest(h llm.Head, body []byte, o llm.Options, fitLimit func(*strictjson.Patch, llm.Options, traits) (int64, bool)) (llm.Call, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Call{}, llm.Unreadable(err)
	}
	call := llm.Call{Headers: callHeaders(o)}
	p := strictjson.NewPatch(body, members)
	renamed := h.Model != o.Model
	if renamed {
		quoted, err := jsontext.AppendQuote(nil, o.Model)
		if err != nil {
			return llm.Call{}, llm.Errorf(llm.ErrInternal, "the model's name is not UTF-8")
		}
		p.Set("model", quoted)
	}
	var model traits // of the model that the gateway put into the place of the client's
	if renamed {
		model = traitsOf(o.Model)
	}
	var dropped llm.Names
	sampling := takesSampling(targetVersion(o)) && (!renamed || model.sampling)
	for _, m := range members {
		if m.Name == "stream" && body[m.Value] == 'n' { // null, which says what leaving it out says, is OpenAI's
			p.Remove(m.Name)
		}
		if foreign[m.Name] || !sampling && isSampling(m.Name) {
			p.Remove(m.Name)
			dropped.Add(m.Name)
		}
	}
	limit, lowered := fitLimit(p, o, model)
	if lowered {
		dropped.Add("max_tokens")
	}
	var t thinking
	given := json.Unmarshal(p.Get("thinking"), &t) == nil
	kind, budget := fitThinking(t, model, limit, lowered)
	headless, err := patchMessages(p, kind == "enabled", &dropped)
	if err != nil {
		return llm.Call{}, llm.Unreadable(err)
	}
	if headless {
		kind, budget = "", nil
	}
	if given && (kind != t.Type || budget != t.BudgetTokens) {
		dropped.Add("thinking")
		patchThinking(p, t, kind, budget, &dropped)
	}
	call.Body, call.Dropped = p.Bytes(), dropped.List()
	return call, nil
}

// patchMessages takes out of the messages what only another provider takes back. headless tells
// that, after that, the turn of calls that is being answered does not begin with thinking, which
// rules out thinking with a budget: "Expected `thinking` or `redacted_thinking`, but found
// `tool_use`".
func patchMessages(p *strictjson.Patch, budget bool, dropped *llm.Names) (headless bool, err error) {
	messages := p.Get("messages")
	legal, found := suspect(messages, budget)
	if !found {
		return false, nil
	}
	m := mover{ids: newCallIDs(legal)}
	moved, err := m.move(messages)
	if err != nil {
		return false, err
	}
	if moved != nil {
		p.Set("messages", moved)
	}
	if m.dropped {
		dropped.Add("messages[].content[].thinking")
	}
	return budget && m.headless(), nil
}

// patchLimit fills in max_tokens where the target has a default, and lowers it to what the target
// gives; a model that the gateway put into the place of the client's has a bound of its own. It
// returns the limit, and whether it lowered the client's.
func patchLimit(p *strictjson.Patch, o llm.Options, model traits) (limit int64, lowered bool) {
	most := maxOutput(model, o)
	limit, ok := integer(p.Get("max_tokens"))
	switch {
	case ok && limit > most:
		limit, lowered = most, true
		p.Set("max_tokens", strconv.AppendInt(nil, limit, 10))
	case p.Get("max_tokens") == nil && o.MaxTokens > 0:
		limit = min(o.MaxTokens, most)
		p.Set("max_tokens", strconv.AppendInt(nil, limit, 10))
	}
	return limit, lowered
}

// fitThinking is the type and the budget of a thinking that fits the limit and the model that the
// gateway chose; "" for none.
func fitThinking(t thinking, model traits, limit int64, lowered bool) (kind string, budget *int64) {
	kind, budget = t.Type, t.BudgetTokens
	switch {
	case model.output == 0: // the client's own, or one of which nothing is known
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

// patchThinking writes another thinking, or with kind "" none. Without it nothing can be cleared of
// thinking: "`clear_thinking_20251015` strategy requires `thinking` to be enabled"
// (anthropics/claude-code#11971).
func patchThinking(p *strictjson.Patch, t thinking, kind string, budget *int64, dropped *llm.Names) {
	if kind != "" {
		t.Type, t.BudgetTokens = kind, budget
		if written, err := json.Marshal(t, requestJSON); err == nil {
			p.Set("thinking", written)
		}
		return
	}
	p.Remove("thinking")
	if management := p.Get("context_management"); bytes.Contains(management, []byte(`"clear_thinking_`)) {
		dropped.Add("context_management")
		if rest := withoutClearing(management); rest != nil {
			p.Set("context_management", rest)
		} else {
			p.Remove("context_management")
		}
	}
}

// withoutClearing is context_management without the edits that clear thinking, nil where there are
// no others.
func withoutClearing(management jsontext.Value) jsontext.Value {
	members, err := strictjson.Scan(management)
	if err != nil {
		return management // no object: the API will say so
	}
	p := strictjson.NewPatch(management, members)
	edits, err := strictjson.Items(p.Get("edits"))
	if err != nil {
		return management
	}
	edits = slices.DeleteFunc(edits, func(e jsontext.Value) bool { return bytes.Contains(e, []byte(`"clear_thinking_`)) })
	if len(edits) == 0 {
		return nil
	}
	p.Set("edits", strictjson.List(edits))
	return p.Bytes()
}

func isSampling(name string) bool { return name == "temperature" || name == "top_p" || name == "top_k" }
