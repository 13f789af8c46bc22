package anthropic

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"slices"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"

	"github.com/go-json-experiment/json/jsontext"
)

// tools writes the tools, each with its schema as the client wrote it.
func (e *requestEncoder) tools() *llm.Error {
	if e.in.ToolChoice.Mode == llm.ToolNone && !e.hasCalls() {
		return nil // the model can call what it does not know of even less
	}
	for i, t := range e.in.Tools {
		path := fmt.Sprintf("tools[%d].function", i)
		if t.Name == "" {
			return llm.Invalid(path+".name", "required")
		}
		schema, err := inputSchema(path+".parameters", t.Parameters)
		if err != nil {
			return err
		}
		e.out.Tools = append(e.out.Tools, tool{
			Name: t.Name, Description: t.Description, InputSchema: schema, Strict: t.Strict, CacheControl: e.cache(t.Cache),
		})
	}
	return nil
}

// hasCalls tells whether the conversation holds tool calls; such a request keeps its tools even with tool_choice none.
func (e *requestEncoder) hasCalls() bool {
	return slices.ContainsFunc(e.in.Messages, func(m llm.Message) bool {
		return slices.ContainsFunc(m.Parts, func(p llm.Part) bool { _, ok := p.(llm.ToolCall); return ok })
	})
}

// inputSchema returns the schema with type object, which the API insists on. A schema that is an alternative at its top
// level would be refused by the provider; it is refused here, because wrapping it would change what the client's tool gets.
// https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use
func inputSchema(path string, schema stdjson.RawMessage) (jsontext.Value, *llm.Error) {
	if k := jsontext.Value(schema).Kind(); k == 0 || k == 'n' {
		return jsontext.Value(`{"type":"object","properties":{}}`), nil
	}
	members, err := strictjson.Scan(schema)
	if err != nil {
		return nil, llm.Invalid(path, "want a JSON Schema object: %v", err)
	}
	p := strictjson.NewPatch(schema, members)
	for _, alternative := range []string{"anyOf", "oneOf", "allOf"} {
		if p.Get(alternative) != nil {
			return nil, llm.Invalid(path+"."+alternative, "this model's provider takes no alternatives at the top of a tool's schema")
		}
	}
	switch kind := jsontext.Value(p.Get("type")); {
	case string(kind) == `"object"`:
	case len(kind) == 0, string(kind) == `""`, kind.Kind() == 'n', kind.Kind() == '[' && bytes.Contains(kind, []byte(`"object"`)):
		p.Set("type", []byte(`"object"`))
	default:
		return nil, llm.Invalid(path+".type", `want "object", got %s`, kind)
	}
	if len(members) == 0 {
		p.Set("properties", []byte("{}"))
	}
	return p.Bytes(), nil
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
		out.Type, out.Name = "tool", choice.Name
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
