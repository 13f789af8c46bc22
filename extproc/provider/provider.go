// Package provider is the table of codecs: one folder and one line for each schema whose row (schema/rows.go) has operations. Where a
// provider speaks a schema that is here already, its row there is all it needs.
package provider

import (
	"millrace/extproc/llm"
	"millrace/extproc/provider/anthropic"
	"millrace/extproc/provider/openai"
	"millrace/schema"
)

// Codec is a schema in both directions. A schema that no app speaks has no Client, one that no provider speaks no Target.
type Codec struct {
	Schema *schema.Schema
	Client llm.ClientCodec
	Target llm.TargetCodec
}

var codecs = []Codec{
	{Schema: schema.Of(schema.OpenAIChat), Client: openai.Chat{}, Target: openai.Chat{}},
	{Schema: schema.Of(schema.AnthropicMessages), Client: anthropic.Messages{}, Target: anthropic.Messages{}},
}

// Of returns the codec of a schema.
func Of(name schema.Name) (Codec, bool) {
	for _, c := range codecs {
		if c.Schema.Name == name {
			return c, true
		}
	}
	return Codec{}, false
}

// Operation is what a path asks for: of which schema, which of its operations, and what the operation's pattern found in the path.
type Operation struct {
	Codec
	schema.Operation
	Params schema.Params
}

// At returns the operation that apps ask for at a path below the version.
func At(path string) (Operation, bool) {
	for _, c := range codecs {
		if o, params, ok := c.Schema.At(path); ok && c.Client != nil {
			return Operation{c, o, params}, true
		}
	}
	return Operation{}, false
}
