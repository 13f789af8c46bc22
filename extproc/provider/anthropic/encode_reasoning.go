package anthropic

import (
	"millrace/extproc/llm"
)

// minBudget is the smallest thinking budget that the API takes; a budget must also be below
// max_tokens. https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
const minBudget = 1024

// effortBudget says in tokens, for models before 4.6, what an effort word means.
var effortBudget = map[string]int64{
	"minimal": minBudget, "low": minBudget, "medium": 4096, "high": 16384, "xhigh": 32768, "max": 32768,
}

// reasoning writes thinking and output_config.effort. It runs behind messages and toolChoice, which
// can rule thinking out.
func (e *requestEncoder) reasoning() *llm.Error {
	r := e.in.Reasoning
	switch {
	case !r.Asked():
	case r.Disabled, r.Effort == "none":
		e.stopThinking()
	case e.toolForced(): // "tool_choice: any and tool are not compatible with thinking"
		e.drop(e.in.Spell(llm.MemberReasoning))
	case e.model.adaptive:
		e.thinkAdaptively()
	case e.model.budget:
		e.thinkWithBudget()
	default:
		e.drop(e.in.Spell(llm.MemberReasoning))
	}
	return nil
}

// stopThinking turns thinking off in the way the model understands.
func (e *requestEncoder) stopThinking() {
	switch e.model.off {
	case offByDefault:
	case offNever:
		e.setEffort("low")
		e.drop(e.in.Spell(llm.MemberReasoning))
	default:
		e.out.Thinking = &thinking{Type: string(e.model.off)}
	}
}

func (e *requestEncoder) thinkAdaptively() {
	effort := e.in.Reasoning.Effort
	switch budget := e.in.Reasoning.Budget; {
	case budget != nil:
		effort = llm.EffortOf(*budget)
	case effort == "minimal":
		effort = "low"
	case effort == "xhigh" && !e.model.xhigh:
		effort = "high"
	}
	switch effort {
	case "", "low", "medium", "high", "xhigh", "max":
	default:
		e.drop(e.in.Spell(llm.MemberReasoning))
		return
	}
	e.out.Thinking = &thinking{Type: "adaptive"}
	if effort == "" {
		effort = "high" // the API's default: nothing needs to be said
	} else {
		e.setEffort(effort)
	}
	if e.in.MaxTokens == nil { // thinking counts towards the limit: the default one must leave room for the answer
		*e.out.MaxTokens += min(effortBudget[effort], e.room)
	}
}

func (e *requestEncoder) setEffort(effort string) {
	if e.out.OutputConfig == nil {
		e.out.OutputConfig = &outputConfig{}
	}
	e.out.OutputConfig.Effort = effort
}

// thinkWithBudget fits the budget and max_tokens to each other: a limit that the client gave stands
// and the budget becomes at most half of it; one that it did not give is raised by the budget.
func (e *requestEncoder) thinkWithBudget() {
	budget := e.wantedBudget()
	limit := *e.out.MaxTokens
	if budget >= limit {
		if e.in.MaxTokens == nil {
			limit += min(budget, e.room)
		}
		if budget >= limit {
			budget = limit / 2
		}
	}
	if budget < minBudget || e.unthinkable() {
		e.drop(e.in.Spell(llm.MemberReasoning))
		return
	}
	e.out.MaxTokens = &limit
	e.out.Thinking = &thinking{Type: "enabled", BudgetTokens: &budget}
}

// wantedBudget is 0 for an effort word that is not known.
func (e *requestEncoder) wantedBudget() int64 {
	r := e.in.Reasoning
	switch {
	case r.Budget != nil:
		return max(*r.Budget, minBudget)
	case r.Effort == "": // adaptive without an effort
		return effortBudget["high"]
	default:
		return effortBudget[r.Effort]
	}
}

// unthinkable tells whether the conversation rules out thinking with a budget: the model cannot
// continue an assistant turn with it, and a turn of tool calls that is still being answered must
// begin with the thinking that led to them, which clients of other schemas have lost.
func (e *requestEncoder) unthinkable() bool {
	list := e.out.Messages
	last := len(list) - 1
	if list[last].Role == string(llm.Assistant) {
		return true
	}
	if last == 0 {
		return false
	}
	turn := list[last-1].Content
	calls := false
	for _, b := range turn {
		calls = calls || b.Type == "tool_use"
	}
	return calls && turn[0].Type != "thinking" && turn[0].Type != "redacted_thinking"
}

// thinks tells whether thinking has been asked for.
func (e *requestEncoder) thinks() bool {
	return e.out.Thinking != nil && (e.out.Thinking.Type == "enabled" || e.out.Thinking.Type == "adaptive")
}
