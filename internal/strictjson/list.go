package strictjson

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Items are the values of a list; they share its bytes.
func Items(list []byte) ([]jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(list))
	if _, err := d.ReadToken(); err != nil {
		return nil, explain(err)
	}
	var all []jsontext.Value
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := d.ReadValue()
		if err != nil {
			return nil, explain(err)
		}
		end := int(d.InputOffset())
		all = append(all, list[end-len(v):end])
	}
	return all, nil
}

// List writes values as a list.
func List(values []jsontext.Value) jsontext.Value {
	size := 2
	for _, v := range values {
		size += len(v) + 1
	}
	out := append(make(jsontext.Value, 0, size), '[')
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}
