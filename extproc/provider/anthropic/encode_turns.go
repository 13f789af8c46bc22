package anthropic

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json/jsontext"
)

// turns is the conversation as it grows: user and assistant in alternation, the user first, and
// every tool call answered in the very next turn, before anything else that turn says.
type turns struct {
	list []turn[content]

	results, others content // of the user turn that is open, which is not in list yet

	ids   callIDs
	calls map[string]*openCall
	order []*openCall // calls in the order in which they were made
	left  int         // how many of them have no result yet
}

// openCall is a call of the last assistant turn, by the client's own id.
type openCall struct {
	id, written string
	path        string // where the client made it
	answered    bool
}

// messages writes the conversation.
func (e *requestEncoder) messages() *llm.Error {
	e.turns = turns{ids: newCallIDs(legalIDs(e.in.Messages))}
	for _, m := range e.in.Placed() {
		if m.Name != "" {
			e.drop(e.in.Spell(llm.MemberName))
		}
		var err *llm.Error
		switch m.Role {
		case llm.System: // written by system
		case llm.User:
			err = e.userTurn(m)
		case llm.Assistant:
			err = e.assistantTurn(m)
		default:
			err = llm.Invalid("messages", "unknown role %q", m.Role)
		}
		if err != nil {
			return err
		}
	}
	if err := e.turns.checkAnswered(); err != nil {
		return err
	}
	e.turns.closeUser()
	switch list := e.turns.list; {
	case len(list) == 0:
		return llm.Invalid("messages", "nothing is left to send: a message needs text that is not blank, an image or a file")
	case list[0].Role != string(llm.User):
		return llm.Invalid("messages", "this model's provider wants the conversation to begin with a user message")
	}
	e.trimPrefill()
	e.out.Messages = e.turns.list
	return nil
}

// trimPrefill removes the white space at the very end of a conversation that the model is to
// continue: the API refuses it.
func (e *requestEncoder) trimPrefill() {
	last := &e.turns.list[len(e.turns.list)-1]
	if last.Role != string(llm.Assistant) {
		return
	}
	if b := &last.Content[len(last.Content)-1]; b.Type == "text" {
		trimmed := strings.TrimRightFunc(*b.Text, unicode.IsSpace)
		b.Text = &trimmed
	}
}

// system joins the opening instructions, those of mid-conversation and the JSON hint, in that
// order.
func (e *requestEncoder) system() *llm.Error {
	add := func(member string, parts []llm.Part) *llm.Error {
		for i, p := range parts {
			text, ok := p.(llm.Text)
			if !ok {
				return llm.Invalid(fmt.Sprintf("%s[%d]", member, i), "system messages can only hold text")
			}
			if b, ok := e.text(text); ok {
				e.out.System = append(e.out.System, b)
			}
		}
		return nil
	}
	if err := add("system", e.in.System); err != nil {
		return err
	}
	for i, m := range e.in.Messages {
		if m.Role != llm.System {
			continue
		}
		if err := add(fmt.Sprintf("messages[%d].content", i), m.Parts); err != nil {
			return err
		}
	}
	if e.in.Format.Kind == llm.FormatJSONObject {
		e.out.System = append(e.out.System, textBlock(jsonOnly))
		e.drop(e.in.Spell(llm.MemberFormat))
	}
	e.out.System = append(e.out.System, e.hints...)
	return nil
}

// userTurn adds a user message: tool results first, whatever the client's order.
func (e *requestEncoder) userTurn(m llm.Message) *llm.Error {
	var results, others content
	for i, p := range m.Parts {
		if result, ok := p.(llm.ToolResult); ok {
			b, err := e.toolResult(m.Paths[i], result)
			if err != nil {
				return err
			}
			results = append(results, b)
			continue
		}
		b, ok, err := e.media(m.Paths[i], p)
		if err != nil {
			return err
		}
		if ok {
			others = append(others, b)
		}
	}
	e.turns.results = append(e.turns.results, results...)
	e.turns.others = append(e.turns.others, others...)
	return nil
}

// closeUser ends the open user turn, if there is one: its results come first.
func (t *turns) closeUser() {
	if len(t.results)+len(t.others) > 0 {
		t.list = append(t.list, turn[content]{Role: string(llm.User), Content: append(t.results, t.others...)})
		t.results, t.others = nil, nil
	}
}

func (e *requestEncoder) toolResult(path string, r llm.ToolResult) (block, *llm.Error) {
	call, ok := e.turns.calls[r.CallID]
	if !ok {
		return block{}, llm.Invalid(e.in.SpellIn(path, llm.MemberResultCall), "no call %q in the assistant message before it", r.CallID)
	}
	if call.answered {
		return block{}, llm.Invalid(e.in.SpellIn(path, llm.MemberResultCall), "a second result for call %q", r.CallID)
	}
	call.answered = true
	e.turns.left--
	b := block{Type: "tool_result", ToolUseID: call.written, IsError: r.IsError}
	for i, p := range r.Parts {
		part, ok, err := e.media(fmt.Sprintf("%s.content[%d]", path, i), p)
		if err != nil {
			return block{}, err
		}
		if ok {
			b.Content = append(b.Content, part)
		}
	}
	b.CacheControl = e.cache(r.Cache)
	return b, nil
}

// assistantTurn adds what the model is taken to have said: thinking first, then text and calls in
// their order.
func (e *requestEncoder) assistantTurn(m llm.Message) *llm.Error {
	var thoughts, said content
	for i, p := range m.Parts {
		switch p := p.(type) {
		case llm.Text:
			if p.Signature != "" {
				e.drop(e.in.Spell(llm.MemberSignature))
			}
			if b, ok := e.text(p); ok {
				said = append(said, b)
			}
		case llm.Refusal:
			if b, ok := e.text(llm.Text{Text: p.Text}); ok {
				said = append(said, b)
			}
		case llm.Thinking:
			if b, ok := e.thought(p); ok {
				thoughts = append(thoughts, b)
			}
		case llm.ToolCall:
			if err := e.turns.openAssistant(); err != nil {
				return err
			}
			b, err := e.toolCall(m.Paths[i], p)
			if err != nil {
				return err
			}
			said = append(said, b)
		default:
			return llm.Invalid(m.Paths[i], "%s cannot be part of an assistant message here", kindOf(p))
		}
	}
	if len(thoughts)+len(said) == 0 {
		return nil
	}
	if err := e.turns.openAssistant(); err != nil {
		return err
	}
	open := &e.turns.list[len(e.turns.list)-1]
	open.Content = append(append(open.Content, thoughts...), said...)
	return nil
}

// openAssistant makes the last turn the assistant's. Calls of an earlier one must all have their
// results by now.
func (t *turns) openAssistant() *llm.Error {
	t.closeUser()
	if n := len(t.list); n > 0 && t.list[n-1].Role == string(llm.Assistant) {
		return nil
	}
	if err := t.checkAnswered(); err != nil {
		return err
	}
	t.calls, t.order = map[string]*openCall{}, nil
	t.list = append(t.list, turn[content]{Role: string(llm.Assistant)})
	return nil
}

func (t *turns) checkAnswered() *llm.Error {
	if t.left == 0 {
		return nil
	}
	first := t.order[slices.IndexFunc(t.order, func(c *openCall) bool { return !c.answered })]
	return llm.Invalid(first.path, "no result for call %q in the messages after it", first.id)
}

// thought passes on the model's own thinking. Only the provider that signed it understands it;
// unsigned thinking would be refused.
func (e *requestEncoder) thought(p llm.Thinking) (block, bool) {
	switch {
	case p.Origin != own:
		e.drop(e.in.Spell(llm.MemberThoughts))
		return block{}, false
	case p.Redacted != "":
		return block{Type: "redacted_thinking", Data: p.Redacted}, true
	default:
		return block{Type: "thinking", Thinking: &p.Text, Signature: &p.Signature}, true
	}
}

func (e *requestEncoder) toolCall(path string, p llm.ToolCall) (block, *llm.Error) {
	if p.Name == "" {
		return block{}, llm.Invalid(e.in.SpellIn(path, llm.MemberCallName), "required")
	}
	input := jsontext.Value(strings.TrimSpace(p.Arguments))
	if len(input) == 0 {
		input = jsontext.Value("{}")
	}
	if input.Kind() != '{' || !input.IsValid() {
		return block{}, llm.Invalid(e.in.SpellIn(path, llm.MemberCallArguments), "want the text of one JSON object")
	}
	if p.Signature != "" { // the API signs thoughts alone
		e.drop(e.in.Spell(llm.MemberSignature))
	}
	t := &e.turns
	if _, again := t.calls[p.ID]; again {
		return block{}, llm.Invalid(path+".id", "a second call %q in one assistant message", p.ID)
	}
	call := &openCall{id: p.ID, written: t.ids.fit(p.ID), path: path}
	t.calls[p.ID] = call
	t.order = append(t.order, call)
	t.left++
	return block{Type: "tool_use", ID: call.written, Name: e.toolName(p.Name), Input: input, CacheControl: e.cache(p.Cache)}, nil
}

func legalIDs(messages []llm.Message) map[string]bool {
	legal := map[string]bool{}
	for _, m := range messages {
		for _, p := range m.Parts {
			call, ok := p.(llm.ToolCall)
			if ok && legalID(call.ID) {
				legal[call.ID] = true
			}
		}
	}
	return legal
}

// text writes a text block, or none when it is blank: the API refuses blank ones.
func (e *requestEncoder) text(p llm.Text) (block, bool) {
	if strings.TrimSpace(p.Text) == "" {
		return block{}, false
	}
	b := textBlock(p.Text)
	b.CacheControl = e.cache(p.Cache)
	return b, true
}

func textBlock(text string) block { return block{Type: "text", Text: &text} }

// kindOf names a part for an error.
func kindOf(p llm.Part) string {
	switch p.(type) {
	case llm.Image:
		return "an image"
	case llm.File:
		return "a file"
	case llm.Audio:
		return "audio"
	case llm.ToolCall:
		return "a tool call"
	case llm.ToolResult:
		return "a tool result"
	case llm.Thinking:
		return "thinking"
	case llm.Refusal:
		return "a refusal"
	default:
		return "text"
	}
}
