// Package anthropic is the codec of Anthropic's Messages API,
// https://docs.anthropic.com/en/api/messages: what a client asks, what a target is sent, what
// either is answered, whole or streamed.
//
// It promises that a request of another schema either means the same to Claude, loses only what
// Call.Dropped names, or is refused before it is sent; that a request of this schema keeps its
// bytes; and that an answer is read leniently and written exactly. It leaves credentials, base
// paths and HTTP to others.
package anthropic

import (
	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
	"millrace/schema"

	"github.com/go-json-experiment/json/jsontext"
)

// row is what others know of the schema too.
var row = schema.Of(schema.AnthropicMessages)

// own is the origin of what the API signs and hides. What nobody has signed has none: such thinking
// is another provider's, written here with an empty signature.
var own = llm.Origin(row.Family)

// signed is the origin of a signature of the API's, or of hidden data, if there is any.
func signed(proof string) llm.Origin {
	if proof == "" {
		return ""
	}
	return own
}

// Messages is the codec of schema.AnthropicMessages. The zero value is ready; methods may overlap.
type Messages struct{}

var (
	_ llm.ClientCodec = Messages{}
	_ llm.TargetCodec = Messages{}
)

// answerReader reads what the API answers. A call of the schema's own clients needs no more.
type answerReader struct{}

// ReadHead reads model and stream. The schema always sends usage, so IncludeUsage is always true.
func (Messages) ReadHead(_ map[string]string, body []byte) (llm.Head, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return llm.Head{}, llm.Unreadable(err)
	}
	head := llm.Head{IncludeUsage: true}
	for _, m := range members {
		value := jsontext.Value(body[m.Value:m.End])
		switch m.Name {
		case "model":
			if value.Kind() != '"' {
				return llm.Head{}, llm.Invalid("model", "want a string, got %s", wirejson.Kind(value.Kind()))
			}
			head.Model = wirejson.Unquote(value)
		case "stream":
			if value.Kind() != 't' && value.Kind() != 'f' && value.Kind() != 'n' {
				return llm.Head{}, llm.Invalid("stream", "want true or false, got %s", wirejson.Kind(value.Kind()))
			}
			head.Stream = value.Kind() == 't'
		}
	}
	return head, nil
}
