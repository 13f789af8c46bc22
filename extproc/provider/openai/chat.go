// Package openai speaks OpenAI's Chat Completions, as a client's schema and as a target's: the real API, Azure's, and the
// many compatibles (vLLM, Ollama, OpenRouter, ...), whose liberties are tolerated when reading and never taken when writing.
//
// A client of this schema in front of a target of this schema has its bytes patched (patch.go). Everything else goes
// through the llm vocabulary: request.go and parts.go read requests, call.go writes them, response.go does whole answers,
// streamin.go and streamout.go streamed ones, errors.go failures. What is published is at
// https://platform.openai.com/docs/api-reference/chat; what only compatibles do says so where it is handled.
package openai

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
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

// ReadHead implements llm.ClientCodec. Of the path it needs nothing. Only the members that decide about the call are looked
// at; that the others make sense is up to DecodeRequest, or to a target of the same schema.
func (Chat) ReadHead(_ map[string]string, body []byte) (llm.Head, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Head{}, notStrict(err)
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
				err = llm.Invalid("messages", "want an array, got %s", kindName(value.Kind()))
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

func notStrict(err error) *llm.Error {
	return llm.Errorf(llm.ErrInvalidRequest, "request body is not strict JSON: %v", err)
}

// Ways of writing and of reading a provider. Both let through what a strict reader refuses: a provider's slip is no reason
// to lose its answer, and what a client sent has been read strictly already. Invalid UTF-8 becomes U+FFFD either way.
// Strings inside raw values (schemas) are written as they came.
var (
	writing = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(true))
	lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
)
