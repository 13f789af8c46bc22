package openai

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/wirejson"
)

// The types here read what providers write: a member of another kind than expected reads as absent,
// never as an error. Only the shape that an answer hangs on (choices are an array of objects) is
// insisted upon.

// arguments is a string of JSON; some compatibles send the object itself, which is then kept as the
// text it is.
type arguments string

func (a *arguments) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return (*wirejson.Text)(a).UnmarshalJSONFrom(d)
	}
	v, err := d.ReadValue()
	*a = arguments(v)
	return err
}

// said is an assistant's content: a string, or, from Mistral's reasoning models, a list of text and
// thinking parts (https://docs.mistral.ai/capabilities/reasoning).
type said struct{ text, thinking string }

func (s *said) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*s = said{}
	if d.PeekKind() != jsontext.KindBeginArray {
		return (*wirejson.Text)(&s.text).UnmarshalJSONFrom(d)
	}
	var texts, thoughts strings.Builder
	err := eachPart(d, func(v jsontext.Value) {
		var p struct {
			Text     wirejson.Text `json:"text"`
			Thinking thought       `json:"thinking"`
		}
		if json.Unmarshal(v, &p, wirejson.Lenient) == nil {
			texts.WriteString(string(p.Text))
			thoughts.WriteString(string(p.Thinking))
		}
	})
	s.text, s.thinking = texts.String(), thoughts.String()
	return err
}

// thought is what a thinking part says: a string, or a list of text parts. What is nested deeper is
// no thinking of theirs, and is not read: each level would be read once more than the one around
// it.
type thought string

func (t *thought) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginArray {
		return (*wirejson.Text)(t).UnmarshalJSONFrom(d)
	}
	var texts strings.Builder
	err := eachPart(d, func(v jsontext.Value) {
		var p struct {
			Text wirejson.Text `json:"text"`
		}
		if json.Unmarshal(v, &p, wirejson.Lenient) == nil {
			texts.WriteString(string(p.Text))
		}
	})
	*t = thought(texts.String())
	return err
}

// eachPart calls f for every element of the list that comes next.
func eachPart(d *jsontext.Decoder, f func(jsontext.Value)) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := d.ReadValue()
		if err != nil {
			return err
		}
		f(v)
	}
	_, err := d.ReadToken()
	return err
}

// errorMark is an object member that says "error" instead of "chat.completion" (vLLM).
type errorMark bool

func (m *errorMark) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	*m = string(v) == `"error"`
	return err
}
