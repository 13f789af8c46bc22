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

// further are the codecs of operations that are no conversation. A target is asked for one with the client's own codec.
var further = []struct {
	operation string
	Codec
}{
	{schema.CountTokens, Codec{schema.Of(schema.AnthropicMessages), anthropic.CountTokens{}, anthropic.CountTokens{}}},
}

// Of returns the codec of a schema's conversations.
func Of(name schema.Name) (Codec, bool) {
	for _, c := range codecs {
		if c.Schema.Name == name {
			return c, true
		}
	}
	return Codec{}, false
}

// Operation is what a path asks for: with which codec, which of the schema's operations, and what the operation's pattern found in the path.
type Operation struct {
	Codec
	schema.Operation
	Params schema.Params
}

// At returns the operation that apps ask for at a path below the version.
func At(path string) (Operation, bool) {
	for _, c := range codecs {
		if o, params, ok := c.Schema.At(path); ok && c.Client != nil {
			return Operation{c.of(o.Name), o, params}, true
		}
	}
	return Operation{}, false
}

// of is the codec of another operation of the schema.
func (c Codec) of(operation string) Codec {
	for _, f := range further {
		if f.Schema == c.Schema && f.operation == operation {
			return f.Codec
		}
	}
	return c
}
