package anthropic

import (
	"fmt"
	"slices"
	"strings"

	"millrace/extproc/llm"
	"millrace/internal/jsonschema"
	"millrace/internal/strictjson"

	"github.com/go-json-experiment/json/jsontext"
)

// refusedAtTop: "input_schema does not support oneOf, allOf, or anyOf at the top level".
// https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use
var refusedAtTop = []string{"oneOf", "allOf", "anyOf"}

// tools writes the tools, each with its schema as the client wrote it, as far as that is taken.
func (e *requestEncoder) tools() *llm.Error {
	if e.in.ToolChoice.Mode == llm.ToolNone && !e.hasCalls() {
		return nil // the model can call what it does not know of even less
	}
	for i, t := range e.in.Tools {
		path := fmt.Sprintf("[%d]", i)
		if t.Name == "" {
			return llm.Invalid(strings.Replace(e.in.Spell(llm.MemberTool), "[]", path, 1)+".name", "required")
		}
		schema, note, moved, err := jsonschema.Tool(jsontext.Value(t.Parameters), refusedAtTop)
		if err != nil {
			return llm.Invalid(strings.Replace(e.in.Spell(llm.MemberToolSpec), "[]", path, 1), "%v", err)
		}
		if name := illegalProperty(schema); name != "" {
			return llm.Invalid(strings.Replace(e.in.Spell(llm.MemberToolSpec), "[]", path, 1)+".properties",
				"this model's provider takes no property called %q: letters, digits, _, . and -, 64 at most", name)
		}
		for _, name := range moved {
			e.drop(e.in.Spell(llm.MemberToolSpec) + "." + name)
		}
		out := tool{Name: e.toolName(t.Name), Description: t.Description, InputSchema: schema, Strict: t.Strict, CacheControl: e.cache(t.Cache)}
		if note != "" {
			out.Description = strings.TrimPrefix(out.Description+"\n\n"+note, "\n\n")
		}
		if t.Strict != nil && *t.Strict {
			e.strict(&out)
		}
		e.out.Tools = append(e.out.Tools, out)
	}
	return nil
}

// propertyNames: "tools.0.custom.input_schema.properties: Property keys should match pattern
// '^[a-zA-Z0-9_.-]{1,64}$'", seen in its 400s. Another name would come back in the arguments, which
// pass as they are.
var propertyNames = llm.NameRule{Max: 64, Legal: func(c byte) bool { return c == '.' || llm.WordByte(c) }}

// illegalProperty is a property whose name is refused, "" when there is none.
func illegalProperty(schema jsontext.Value) string {
	members, err := strictjson.Scan(schema)
	if err != nil {
		return ""
	}
	properties, err := strictjson.Scan(strictjson.NewPatch(schema, members).Get("properties"))
	if err != nil {
		return ""
	}
	for _, m := range properties {
		if !propertyNames.Takes(m.Name) {
			return m.Name
		}
	}
	return ""
}

// strict makes a tool's schema one that a model can be kept to.
func (e *requestEncoder) strict(t *tool) {
	adapted, err := jsonschema.Adapt(t.InputSchema, structured)
	if err != nil || !e.model.structured || adapted.Opened { // a tool may well want members that are not named
		t.Strict = nil
		e.drop(e.in.Spell(llm.MemberTool) + ".strict")
		return
	}
	t.InputSchema = adapted.Schema
	for _, name := range adapted.Moved {
		e.drop(e.in.Spell(llm.MemberToolSpec) + "." + name)
	}
}

// hasCalls tells whether the conversation holds tool calls; such a request keeps its tools even
// with tool_choice none.
func (e *requestEncoder) hasCalls() bool {
	return slices.ContainsFunc(e.in.Messages, func(m llm.Message) bool {
		return slices.ContainsFunc(m.Parts, func(p llm.Part) bool { _, ok := p.(llm.ToolCall); return ok })
	})
}

// toolChoice writes tool_choice. https://docs.anthropic.com/en/api/messages#body-tool-choice
func (e *requestEncoder) toolChoice() *llm.Error {
	choice := e.in.ToolChoice
	forced := choice.Mode == llm.ToolAny || choice.Mode == llm.ToolNamed
	if len(e.in.Tools) == 0 {
		if forced {
			return llm.Invalid("tool_choice", "there is no tool to call")
		}
		return nil
	}
	if forced && !e.model.forced {
		return llm.Invalid("tool_choice", "%s cannot be made to call a tool; use auto", e.options.Model)
	}
	out := toolChoice{Type: string(choice.Mode)}
	switch choice.Mode {
	case "":
		out.Type = "auto"
	case llm.ToolNone:
		if e.out.Tools != nil {
			e.out.ToolChoice = &out
		}
		return nil
	case llm.ToolNamed:
		if !slices.ContainsFunc(e.in.Tools, func(t llm.Tool) bool { return t.Name == choice.Name }) {
			return llm.Invalid("tool_choice", "there is no tool %q", choice.Name)
		}
		out.Type, out.Name = "tool", e.toolName(choice.Name)
	}
	if p := e.in.ParallelToolCalls; p != nil && !*p {
		one := true
		out.DisableParallel = &one
	}
	if choice.Mode != "" || out.DisableParallel != nil {
		e.out.ToolChoice = &out
	}
	return nil
}

// toolForced tells whether the model must call a tool.
func (e *requestEncoder) toolForced() bool {
	return e.out.ToolChoice != nil && (e.out.ToolChoice.Type == "any" || e.out.ToolChoice.Type == "tool")
}
