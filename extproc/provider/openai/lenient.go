package openai

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types here read what providers write: a member of another kind than expected reads as absent, never as an error.
// Only the shape that an answer hangs on (choices are an array of objects) is insisted upon.

// text is a string.
type text string

func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindString {
		*t = ""
		return d.SkipValue()
	}
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	*t = text(token.String())
	return nil
}

// count is a number of tokens, an index or a time: never negative, and whole even if a provider writes 12.0.
type count int64

func (c *count) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*c = 0
	if d.PeekKind() != jsontext.KindNumber {
		return d.SkipValue()
	}
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(v), 10, 64) // to read a float takes more stack than a new goroutine has
	if err != nil {
		if f, err := strconv.ParseFloat(string(v), 64); err == nil && f > 0 && f < 1<<53 {
			n = int64(f)
		}
	}
	if n > 0 && n < 1<<53 {
		*c = count(n)
	}
	return nil
}

// place is a count that may be missing.
type place struct {
	count
	known bool
}

func (p *place) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	p.known = d.PeekKind() == jsontext.KindNumber
	return p.count.UnmarshalJSONFrom(d)
}

// arguments is a string of JSON; some compatibles send the object itself, which is then kept as the text it is.
type arguments string

func (a *arguments) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return (*text)(a).UnmarshalJSONFrom(d)
	}
	v, err := d.ReadValue()
	*a = arguments(v)
	return err
}

// said is an assistant's content: a string, or, from Mistral's reasoning models, a list of text and thinking parts
// (https://docs.mistral.ai/capabilities/reasoning).
type said struct{ text, thinking string }

func (s *said) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*s = said{}
	if d.PeekKind() != jsontext.KindBeginArray {
		return (*text)(&s.text).UnmarshalJSONFrom(d)
	}
	var texts, thoughts strings.Builder
	err := eachPart(d, func(v jsontext.Value) {
		var p struct {
			Text     text    `json:"text"`
			Thinking thought `json:"thinking"`
		}
		if json.Unmarshal(v, &p, lenient) == nil {
			texts.WriteString(string(p.Text))
			thoughts.WriteString(string(p.Thinking))
		}
	})
	s.text, s.thinking = texts.String(), thoughts.String()
	return err
}

// thought is what a thinking part says: a string, or a list of text parts. What is nested deeper is no thinking of theirs, and is
// not read: each level would be read once more than the one around it.
type thought string

func (t *thought) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginArray {
		return (*text)(t).UnmarshalJSONFrom(d)
	}
	var texts strings.Builder
	err := eachPart(d, func(v jsontext.Value) {
		var p struct {
			Text text `json:"text"`
		}
		if json.Unmarshal(v, &p, lenient) == nil {
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

// loose reads a T where there is one, and anything else as absent.
type loose[T any] struct {
	value T
	ok    bool
}

func (l *loose[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = loose[T]{}
	v, err := d.ReadValue()
	if err != nil || v.Kind() == jsontext.KindNull {
		return err
	}
	l.ok = json.Unmarshal(v, &l.value, lenient) == nil
	return nil
}
