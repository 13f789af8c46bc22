// Package openai speaks OpenAI's Chat Completions, as a client's schema and as a target's: the real
// API, Azure's, and the many compatibles (vLLM, Ollama, OpenRouter, ...), whose liberties are
// tolerated when reading and never taken when writing.
//
// A client of this schema in front of a target of this schema has its bytes patched (patch.go).
// Everything else goes through the llm vocabulary: request.go and parts.go read requests, call.go
// writes them, response.go does whole answers, streamin.go and streamout.go streamed ones,
// errors.go failures. What is published is at https://platform.openai.com/docs/api-reference/chat;
// what only compatibles do says so where it is handled.
package openai

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
	"millrace/schema"
)

// row is what others know of the schema too.
var row = schema.Of(schema.OpenAIChat)

// Chat is the codec of schema.OpenAIChat. Its zero value is ready.
type Chat struct{}

var (
	_ llm.ClientCodec = Chat{}
	_ llm.TargetCodec = Chat{}
)

// answerReader reads what a server of the schema answers to a request with this head.
type answerReader struct{ head llm.Head }

// ReadHead implements llm.ClientCodec. Of the path it needs nothing. Only the members that decide
// about the call are looked at; that the others make sense is up to DecodeRequest, or to a target
// of the same schema.
func (Chat) ReadHead(_ map[string]string, body []byte) (llm.Head, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Head{}, llm.Unreadable(err)
	}
	var h llm.Head
	var messages bool
	for _, m := range members {
		value := jsontext.Value(body[m.Value:m.End])
		switch m.Name {
		case "model":
			err = unmarshal("model", value, &h.Model)
		case "stream":
			err = unmarshal("stream", value, &h.Stream)
		case "n":
			var n int // what else it is, its target says
			if json.Unmarshal(value, &n) == nil && n > 0 {
				h.Choices = min(n, maxChoices)
			}
		case "stream_options":
			var o streamOptions
			err = unmarshal("stream_options", value, &o)
			h.IncludeUsage = o.IncludeUsage
		case "messages":
			messages = true
			if value.Kind() != jsontext.KindBeginArray {
				err = llm.Invalid("messages", "want an array, got %s", wirejson.Kind(value.Kind()))
			}
		}
		if err != nil {
			return llm.Head{}, err
		}
	}
	if !messages {
		return llm.Head{}, llm.Invalid("messages", "required")
	}
	h.IncludeUsage = h.IncludeUsage && h.Stream
	return h, nil
}

// unmarshal reads a client's value, which stands at path in its body.
func unmarshal(path string, raw []byte, into any) error {
	if err := wirejson.Unmarshal(path, raw, into); err != nil {
		return llm.Unreadable(err)
	}
	return nil
}
