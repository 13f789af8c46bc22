// Package provider is the table of wire formats: one row per schema, one folder per row. Where a provider speaks a schema
// that is here already, its row is in config/providers.go and no code is needed.
package provider

import (
	"millrace/extproc/llm"
	"millrace/extproc/provider/anthropic"
	"millrace/extproc/provider/openai"
)

// Codec is a schema in both directions. A schema that no app speaks has no Client, one that no provider speaks no Target.
type Codec struct {
	Schema llm.Schema
	// Family is what providers call themselves; its rate-limit headers and request ids mean something to its clients only.
	Family string
	Client llm.ClientCodec
	Target llm.TargetCodec
	// Operation is the path, below the version segment, that apps of this schema post to.
	Operation string
}

var codecs = []Codec{
	{Schema: llm.OpenAIChat, Family: "openai", Client: openai.Chat{}, Target: openai.Chat{}, Operation: "/chat/completions"},
	{Schema: llm.AnthropicMessages, Family: "anthropic", Client: anthropic.Messages{}, Target: anthropic.Messages{}, Operation: "/messages"},
}

// Of returns the codec of a schema.
func Of(s llm.Schema) (Codec, bool) {
	for _, c := range codecs {
		if c.Schema == s {
			return c, true
		}
	}
	return Codec{}, false
}

// At returns the codec whose apps post to this operation.
func At(operation string) (Codec, bool) {
	for _, c := range codecs {
		if c.Operation == operation && c.Client != nil {
			return c, true
		}
	}
	return Codec{}, false
}
