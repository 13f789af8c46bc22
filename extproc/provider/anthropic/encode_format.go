package anthropic

import (
	"strings"

	"millrace/extproc/llm"
	"millrace/internal/jsonschema"

	"github.com/go-json-experiment/json/jsontext"
)

// structured is what a model can be kept to of JSON Schema; the rest goes into descriptions, as
// Anthropic's SDKs put it there (transform_schema).
// https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations
var structured = jsonschema.Rules{
	Close: true, NoOneOf: true, MinItems: "1",
	Refused: words("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern maxItems uniqueItems " +
		"prefixItems contains minContains maxContains minProperties maxProperties patternProperties propertyNames unevaluatedItems " +
		"unevaluatedProperties dependentRequired dependentSchemas dependencies not if then else"),
	Formats: words("date-time time date duration email hostname uri ipv4 ipv6 uuid"),
}

func words(list string) map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(list) {
		all[w] = true
	}
	return all
}

// format writes structured output. A model that has none is told the schema: it runs before system
// is written.
func (e *requestEncoder) format() *llm.Error {
	f := e.in.Format
	if f.Kind != llm.FormatJSONSchema {
		return nil
	}
	path := e.in.Spell(llm.MemberSchema)
	if jsontext.Value(f.Schema).Kind() != '{' {
		return llm.Invalid(path, "want a JSON Schema object")
	}
	if !e.model.structured {
		e.hints = append(e.hints, textBlock(jsonOnly+" The object must fit this JSON Schema:\n"+string(f.Schema)))
		e.drop(e.in.Spell(llm.MemberFormat))
		return nil
	}
	adapted, err := jsonschema.Adapt(jsontext.Value(f.Schema), structured)
	if err != nil {
		return llm.Invalid(path, "not strict JSON")
	}
	if adapted.Opened {
		e.drop(path + ".additionalProperties")
	}
	for _, name := range adapted.Moved {
		e.drop(path + "." + name)
	}
	if f.Description != "" {
		e.drop(e.in.Spell(llm.MemberFormat) + ".json_schema.description")
	}
	e.out.OutputConfig = &outputConfig{Format: &outputFormat{Type: "json_schema", Schema: adapted.Schema}}
	return nil
}
