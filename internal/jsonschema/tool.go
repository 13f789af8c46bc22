package jsonschema

import (
	"bytes"
	"fmt"
	"slices"

	"millrace/internal/strictjson"

	"github.com/go-json-experiment/json/jsontext"
)

// Tool makes of a tool's schema one whose top level is a plain object, which every provider insists
// on: type object, properties, and none of the keywords that are refused there. The properties of
// alternatives join those of the object; that they are alternatives is said in note, which belongs
// into the tool's description, and the keywords are moved.
func Tool(schema jsontext.Value, refused []string) (object jsontext.Value, note string, moved []string, err error) {
	if k := schema.Kind(); k == 0 || k == 'n' {
		return jsontext.Value(`{"type":"object","properties":{}}`), "", nil, nil
	}
	members, err := strictjson.Scan(schema)
	if err != nil {
		return nil, "", nil, fmt.Errorf("want a JSON Schema object: %w", err)
	}
	p := strictjson.NewPatch(schema, members)
	switch kind := jsontext.Value(p.Get("type")); {
	case string(kind) == `"object"`:
	case len(kind) == 0, string(kind) == `""`, kind.Kind() == 'n', kind.Kind() == '[' && bytes.Contains(kind, []byte(`"object"`)):
		p.Set("type", []byte(`"object"`))
	default:
		return nil, "", nil, fmt.Errorf(`type: want "object", got %s`, kind)
	}
	properties := newMerge(p.Get("properties"))
	for _, m := range members {
		if !slices.Contains(refused, m.Name) {
			continue
		}
		value := schema[m.Value:m.End]
		for _, alternative := range list(value) {
			properties.add(alternative)
		}
		p.Remove(m.Name)
		moved = append(moved, m.Name)
		note += fmt.Sprintf("%s%q: %s", comma(note), m.Name, value)
	}
	switch k := jsontext.Value(p.Get("properties")).Kind(); {
	case properties.added || k != '{':
		p.Set("properties", properties.object())
	}
	if note != "" {
		note = "The arguments must also fit this JSON Schema: {" + note + "}"
	}
	return p.Bytes(), note, moved, nil
}

func comma(before string) string {
	if before == "" {
		return ""
	}
	return ", "
}

// list is the elements of an array, or the value itself.
func list(value jsontext.Value) []jsontext.Value {
	if value.Kind() != '[' {
		return []jsontext.Value{value}
	}
	var all []jsontext.Value
	d := jsontext.NewDecoder(bytes.NewBuffer(value))
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return nil
		}
		all = append(all, v.Clone())
	}
	return all
}

// merge is properties, each name once, in the order in which they came.
type merge struct {
	known map[string]bool
	out   []byte // members
	added bool
}

func newMerge(properties jsontext.Value) *merge {
	m := &merge{known: map[string]bool{}}
	m.take(properties)
	m.added = false
	return m
}

// add takes over the properties of an alternative that are not known yet.
func (m *merge) add(alternative jsontext.Value) {
	if alternative.Kind() != '{' {
		return
	}
	members, err := strictjson.Scan(alternative)
	if err != nil {
		return
	}
	for _, member := range members {
		if member.Name == "properties" {
			m.take(alternative[member.Value:member.End])
		}
	}
}

func (m *merge) take(properties jsontext.Value) {
	if properties.Kind() != '{' {
		return
	}
	members, err := strictjson.Scan(properties)
	if err != nil {
		return
	}
	for _, member := range members {
		if m.known[member.Name] {
			continue
		}
		m.known[member.Name], m.added = true, true
		if len(m.out) > 0 {
			m.out = append(m.out, ',')
		}
		m.out = append(m.out, properties[member.Start:member.End]...)
	}
}

func (m *merge) object() []byte {
	return append(append([]byte{'{'}, m.out...), '}')
}
