package strictjson

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// ReplaceAt returns body with another value at the path, whose steps are names of members and
// numbers of items. It returns body itself where the path leads nowhere. Unlike Scan it takes what
// providers call JSON; of members with one name the first counts.
func ReplaceAt(body, value []byte, path ...any) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for _, step := range path {
		found := false
		switch step := step.(type) {
		case string:
			found = enterMember(d, step)
		case int:
			found = enterItem(d, step)
		}
		if !found {
			return body
		}
	}
	old, err := d.ReadValue()
	if err != nil {
		return body
	}
	end := int(d.InputOffset())
	return slices.Concat(body[:end-len(old)], value, body[end:])
}

// enterMember stops in front of the member's value.
func enterMember(d *jsontext.Decoder, name string) bool {
	if d.PeekKind() != jsontext.KindBeginObject {
		return false
	}
	if _, err := d.ReadToken(); err != nil {
		return false
	}
	for d.PeekKind() == jsontext.KindString {
		token, err := d.ReadToken()
		if err != nil {
			return false
		}
		if token.String() == name {
			return true
		}
		if d.SkipValue() != nil {
			return false
		}
	}
	return false
}

// enterItem stops in front of the item, counted from 0.
func enterItem(d *jsontext.Decoder, number int) bool {
	if d.PeekKind() != jsontext.KindBeginArray {
		return false
	}
	if _, err := d.ReadToken(); err != nil {
		return false
	}
	for range number {
		if d.PeekKind() == jsontext.KindEndArray || d.SkipValue() != nil {
			return false
		}
	}
	return d.PeekKind() != jsontext.KindEndArray
}
