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

// At returns the codec whose apps post to this operation.
func At(operation string) (Codec, bool) {
	for _, c := range codecs {
		if _, _, ok := c.Schema.At(operation); ok && c.Client != nil {
			return c, true
		}
	}
	return Codec{}, false
}
