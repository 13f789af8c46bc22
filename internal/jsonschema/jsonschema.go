// Package jsonschema makes, of the JSON Schema that a client wrote, one that a provider takes.
// Providers take parts of the language only, each other ones; Rules says which.
//
// What need not change keeps its bytes and its order: models write their answer in the order of the
// schema. What a provider refuses is moved into the description beside it, where the model reads
// it, as Anthropic's SDKs do. Work and memory grow with the schema's size and nothing else.
package jsonschema

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Rules is what a provider takes.
type Rules struct {
	// Close gives every object additionalProperties false.
	Close bool
	// Items gives every array that says nothing of its items the schema that all items fit.
	Items bool
	// Refused are keywords that are moved into the description.
	Refused map[string]bool
	// Formats are the formats of strings that are taken; nil: all of them.
	Formats map[string]bool
	// MinItems is the largest minItems that is taken, one digit; "": any.
	MinItems string
	// OneOf is written as anyOf.
	NoOneOf bool
}

// Adapted is a schema that was made to fit.
type Adapted struct {
	Schema jsontext.Value
	Moved  []string // keywords that are in descriptions now, each once
	Opened bool     // an object wanted other additionalProperties than false, and must do without
	// Strict tells that every object, as the client wrote it, has additionalProperties false and
	// requires all its properties: what OpenAI asks of a schema that it is to keep to strictly.
	Strict bool
}

// Adapt applies the rules to a schema and those inside it. The error says that it is no strict
// JSON.
func Adapt(schema jsontext.Value, rules Rules) (Adapted, error) {
	var out bytes.Buffer
	c := copier{
		rules: rules,
		from:  jsontext.NewDecoder(bytes.NewBuffer(schema)),
		to:    jsontext.NewEncoder(&out, jsontext.PreserveRawStrings(true)),
		moved: map[string]bool{},
	}
	if err := c.schema(); err != nil {
		return Adapted{}, err
	}
	a := Adapted{Schema: schema, Moved: c.names, Opened: c.opened, Strict: !c.loose}
	if c.changed {
		a.Schema = insert(bytes.TrimSpace(out.Bytes()), c.notes)
	}
	return a, nil
}

// copier goes through a schema once; its depth is bounded by the decoder's own limit.
type copier struct {
	rules   Rules
	from    *jsontext.Decoder
	to      *jsontext.Encoder
	notes   []note // in the order of their places
	moved   map[string]bool
	names   []string
	opened  bool
	changed bool
	loose   bool // an object leaves something open
}

// note is text for a description that is written already: it goes in front of the byte at this
// offset.
type note struct {
	at   int64
	text string
}

// insert puts the notes into place, each in front of the quote that ends its description.
func insert(out []byte, notes []note) []byte {
	if len(notes) == 0 {
		return out
	}
	at := make(map[int64]string, len(notes))
	size := len(out)
	for _, n := range notes {
		at[n.at] = n.text
		size += len(n.text)
	}
	whole := make([]byte, 0, size)
	for i, b := range out {
		if b == '"' {
			whole = append(whole, at[int64(i)]...)
		}
		whole = append(whole, b)
	}
	return whole
}

// value copies the next value as it is.
func (c *copier) value() error {
	v, err := c.from.ReadValue()
	if err != nil {
		return err
	}
	return c.to.WriteValue(v)
}

// token copies the next token.
func (c *copier) token() error {
	t, err := c.from.ReadToken()
	if err != nil {
		return err
	}
	return c.to.WriteToken(t)
}

// object is what is known of a schema so far.
type object struct {
	isObject, isClosed   bool
	isArray, hasItems    bool
	hasAnyOf             bool
	properties, required int      // how many
	description          int64    // where the text of the description ends in the output; 0: there is none, -1: it is no text
	empty                bool     // it has no text
	moved                []string // "minimum: 1"
}

// schema copies one schema; whatever is no object, such as true, is copied as it is.
func (c *copier) schema() error {
	if c.from.PeekKind() != '{' {
		return c.value()
	}
	var o object
	return c.members(func(quoted jsontext.Value) error { return c.keyword(&o, quoted) }, func() error { return c.finish(&o) })
}

// keyword copies a member of a schema, or moves it.
func (c *copier) keyword(o *object, quoted jsontext.Value) error {
	name := unquote(quoted)
	switch {
	case name == "oneOf" && c.rules.NoOneOf && !o.hasAnyOf:
		quoted, o.hasAnyOf, c.changed = jsontext.Value(`"anyOf"`), true, true
	case c.rules.Refused[name], name == "oneOf" && c.rules.NoOneOf, name == "anyOf" && o.hasAnyOf:
		return c.move(o, name)
	case name == "format" && c.rules.Formats != nil, name == "minItems" && c.rules.MinItems != "":
		return c.perhaps(o, quoted, name)
	case name == "anyOf":
		o.hasAnyOf = true
	}
	if err := c.to.WriteValue(quoted); err != nil {
		return err
	}
	switch name {
	case "type":
		v, err := c.from.ReadValue()
		if err != nil {
			return err
		}
		o.isObject = o.isObject || strings.Contains(string(v), `"object"`)
		o.isArray = o.isArray || strings.Contains(string(v), `"array"`)
		return c.to.WriteValue(v)
	case "properties":
		o.isObject = true
		return c.schemas(&o.properties)
	case "required":
		v, err := c.from.ReadValue()
		if err != nil {
			return err
		}
		o.required = len(list(v))
		return c.to.WriteValue(v)
	case "description":
		return c.description(o)
	case "$defs", "definitions", "patternProperties", "dependentSchemas":
		return c.schemas(new(int))
	case "items", "prefixItems", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "contains":
		o.hasItems = o.hasItems || strings.HasSuffix(strings.ToLower(name), "items")
		return c.schemaOrList()
	case "additionalProperties":
		if !c.rules.Close {
			o.isClosed = c.from.PeekKind() == 'f'
			return c.schema()
		}
		o.isClosed = true
		v, err := c.from.ReadValue()
		if err != nil {
			return err
		}
		c.opened = c.opened || v.Kind() != 'f'
		c.changed = c.changed || v.Kind() != 'f'
		return c.to.WriteToken(jsontext.False)
	default:
		return c.value()
	}
}

// move takes the next value out of the schema.
func (c *copier) move(o *object, name string) error {
	v, err := c.from.ReadValue()
	if err != nil {
		return err
	}
	o.moved = append(o.moved, name+": "+string(v))
	if !c.moved[name] {
		c.moved[name] = true
		c.names = append(c.names, name)
	}
	return nil
}

// perhaps copies a keyword that is taken with some values only, or moves it.
func (c *copier) perhaps(o *object, quoted jsontext.Value, name string) error {
	v, err := c.from.ReadValue()
	if err != nil {
		return err
	}
	taken := name == "format" && (v.Kind() != '"' || c.rules.Formats[unquote(v)]) ||
		name == "minItems" && len(v) == 1 && string(v) <= c.rules.MinItems
	if taken {
		if err := c.to.WriteValue(quoted); err != nil {
			return err
		}
		return c.to.WriteValue(v)
	}
	o.moved = append(o.moved, name+": "+string(v))
	if !c.moved[name] {
		c.moved[name] = true
		c.names = append(c.names, name)
	}
	return nil
}

// description copies a description and notes where more can be said.
func (c *copier) description(o *object) error {
	v, err := c.from.ReadValue()
	if err != nil {
		return err
	}
	if err := c.to.WriteValue(v); err != nil {
		return err
	}
	o.description = -1
	if v.Kind() == '"' {
		o.description, o.empty = c.to.OutputOffset()-1, len(v) == 2
	}
	return nil
}

// finish adds to a schema what its provider wants in it.
func (c *copier) finish(o *object) error {
	add := func(name string, v jsontext.Value) error {
		c.changed = true
		if err := c.to.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		return c.to.WriteValue(v)
	}
	if len(o.moved) > 0 {
		c.changed = true
		text := "{" + strings.Join(o.moved, ", ") + "}"
		switch {
		case o.description < 0:
		case o.description > 0:
			if !o.empty {
				text = "\n\n" + text
			}
			quoted := quote(text)
			c.notes = append(c.notes, note{at: o.description, text: string(quoted[1 : len(quoted)-1])})
		default:
			if err := add("description", quote(text)); err != nil {
				return err
			}
		}
	}
	c.loose = c.loose || o.isObject && (!o.isClosed || o.required < o.properties)
	if c.rules.Items && o.isArray && !o.hasItems {
		if err := add("items", jsontext.Value("{}")); err != nil {
			return err
		}
	}
	if c.rules.Close && o.isObject && !o.isClosed {
		return add("additionalProperties", jsontext.Value("false"))
	}
	return nil
}

// members copies an object: each gets the name and copies both; last may add members.
func (c *copier) members(each func(quoted jsontext.Value) error, last func() error) error {
	if err := c.token(); err != nil {
		return err
	}
	for c.from.PeekKind() == '"' {
		quoted, err := c.from.ReadValue()
		if err != nil {
			return err
		}
		if err := each(quoted.Clone()); err != nil {
			return err
		}
	}
	if err := last(); err != nil {
		return err
	}
	return c.token()
}

// schemas copies an object whose values are schemas, and counts them.
func (c *copier) schemas(count *int) error {
	if c.from.PeekKind() != '{' {
		return c.value()
	}
	return c.members(func(quoted jsontext.Value) error {
		*count++
		if err := c.to.WriteValue(quoted); err != nil {
			return err
		}
		return c.schema()
	}, func() error { return nil })
}

func (c *copier) schemaOrList() error {
	if c.from.PeekKind() != '[' {
		return c.schema()
	}
	if err := c.token(); err != nil {
		return err
	}
	for k := c.from.PeekKind(); k != ']' && k != 0; k = c.from.PeekKind() {
		if err := c.schema(); err != nil {
			return err
		}
	}
	return c.token()
}

func unquote(quoted jsontext.Value) string {
	text, _ := jsontext.AppendUnquote(nil, quoted)
	return string(text)
}

func quote(text string) jsontext.Value {
	quoted, _ := jsontext.AppendQuote(nil, text) // fails on invalid UTF-8 only, having replaced it
	return quoted
}
