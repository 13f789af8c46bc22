// Package provider is the table of codecs: one folder, and one line for each operation that a
// schema's row (schema/rows.go) has. Where a provider speaks a schema that is here already, its row
// there is all it needs.
package provider

import (
	"millrace/extproc/llm"
	"millrace/extproc/provider/anthropic"
	"millrace/extproc/provider/openai"
	"millrace/schema"
)

// Codec is one operation of a schema in both directions. One that no app asks for has no Client,
// one that no provider is asked for no Target.
type Codec struct {
	Schema    *schema.Schema
	Operation string
	Client    llm.ClientCodec
	Target    llm.TargetCodec
}

var codecs = []Codec{
	{schema.Of(schema.OpenAIChat), schema.Conversation, openai.Chat{}, openai.Chat{}},
	{schema.Of(schema.AnthropicMessages), schema.Conversation, anthropic.Messages{}, anthropic.Messages{}},
	{schema.Of(schema.AnthropicMessages), schema.CountTokens, anthropic.CountTokens{}, anthropic.CountTokens{}},
}

// Of returns the codec of a schema's conversations.
func Of(name schema.Name) (Codec, bool) { return For(name, schema.Conversation) }

// For returns the codec of an operation of a schema.
func For(name schema.Name, operation string) (Codec, bool) {
	for _, c := range codecs {
		if c.Schema.Name == name && c.Operation == operation {
			return c, true
		}
	}
	return Codec{}, false
}

// At returns the codec of what apps ask for at a path below the version, and what the operation's
// pattern found in the path.
func At(path string) (Codec, schema.Params, bool) {
	for _, s := range schema.All() {
		if o, params, ok := s.At(path); ok {
			if c, ok := For(s.Name, o.Name); ok && c.Client != nil {
				return c, params, true
			}
		}
	}
	return Codec{}, nil, false
}
