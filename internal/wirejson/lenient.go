package wirejson

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types here read what providers write: a member of another kind than expected reads as absent,
// never as an error.

// Text is a string.
type Text string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *Text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindString {
		*t = ""
		return d.SkipValue()
	}
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	*t = Text(token.String())
	return nil
}

// Count is a number of tokens, an index or a time: never negative, and whole even if a provider
// writes 12.0.
type Count int64

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *Count) UnmarshalJSONFrom(d *jsontext.Decoder) error {
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
		*c = Count(n)
	}
	return nil
}

// Place is a Count that may be missing.
type Place struct {
	Count
	Known bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (p *Place) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	p.Known = d.PeekKind() == jsontext.KindNumber
	return p.Count.UnmarshalJSONFrom(d)
}

// Loose reads a T as far as there is one. OK tells whether there is nothing else.
type Loose[T any] struct {
	Value T
	OK    bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *Loose[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = Loose[T]{}
	v, err := d.ReadValue()
	if err != nil || v.Kind() == jsontext.KindNull {
		return err
	}
	l.OK = json.Unmarshal(v, &l.Value, Lenient) == nil
	return nil
}
