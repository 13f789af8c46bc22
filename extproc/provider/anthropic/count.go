package anthropic

import (
	"math"

	"millrace/extproc/llm"
	"millrace/internal/errorbody"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
	"millrace/schema"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// CountTokens is the codec of the schema's operation of that name,
// https://docs.anthropic.com/en/api/messages-count-tokens: a request for a message without what
// bears on the answer alone, and how many tokens its prompt has. It has no streams. The zero value
// is ready; methods may overlap.
type CountTokens struct{ Messages }

var (
	_ llm.ClientCodec = CountTokens{}
	_ llm.TargetCodec = CountTokens{}
)

// ReadHead reads the model. A stream member is the API's to refuse.
func (c CountTokens) ReadHead(params map[string]string, body []byte) (llm.Head, error) {
	h, err := c.Messages.ReadHead(params, body)
	h.Stream = false
	return h, err
}

// DecodeRequest reads what is to be counted. It wants no max_tokens.
func (CountTokens) DecodeRequest(h llm.Head, body []byte) (*llm.Request, error) {
	return decodeRequest(h, body)
}

// PatchRequest is that of Messages without a limit. What the API takes for messages and not here
// (max_tokens and stream: "Extra inputs are not permitted", Wei-Shaw/sub2api#4913) stays in, as
// whatever else the client gets wrong: the API says so.
func (CountTokens) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	call, err := patchRequest(h, body, o, noLimit)
	call.Path, call.Answer = row.PathOf(schema.CountTokens), countReader{}
	return call, err
}

func noLimit(*strictjson.Patch, llm.Options, traits) (limit int64, lowered bool) {
	return math.MaxInt64, false
}

// EncodeResponse writes the count. It fails where the target has answered with something else.
func (CountTokens) EncodeResponse(_ llm.Asked, r *llm.Response) ([]byte, error) {
	if r.Counted == nil {
		return nil, notCounted()
	}
	return json.Marshal(counted{r.Counted})
}

type counted struct {
	InputTokens *int64 `json:"input_tokens"`
}

func notCounted() *llm.Error {
	return llm.Errorf(llm.ErrBadGateway, "the provider's answer has no input_tokens")
}

// countReader reads a count. A stream is read as a message, which is none.
type countReader struct{ answerReader }

func (countReader) Whole(body []byte) (*llm.Response, error) {
	var in struct {
		Type        string         `json:"type"`
		InputTokens jsontext.Value `json:"input_tokens"`
		Error       jsontext.Value `json:"error"`
	}
	err := json.Unmarshal(body, &in, wirejson.Lenient)
	if in.Type == "error" || in.Error.Kind() == '{' {
		return nil, failure(errorbody.Read(body))
	}
	n, ok := integer(in.InputTokens)
	if err != nil || !ok {
		return nil, notCounted()
	}
	return &llm.Response{Counted: &n}, nil
}

func (countReader) Patch(body []byte, _ *llm.Response) []byte { return body }
