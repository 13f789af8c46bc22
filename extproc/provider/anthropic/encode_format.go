package anthropic

import (
	"bytes"
	"strings"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json/jsontext"
)

// format writes structured output. The API has it since Claude 4.5; older models refuse it themselves.
// https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs
func (e *requestEncoder) format() *llm.Error {
	const path = "response_format.json_schema.schema"
	f := e.in.Format
	if f.Kind != llm.FormatJSONSchema {
		return nil
	}
	if jsontext.Value(f.Schema).Kind() != '{' {
		return llm.Invalid(path, "want a JSON Schema object")
	}
	schema, opened, err := closeObjects(jsontext.Value(f.Schema))
	if err != nil {
		return llm.Invalid(path, "not strict JSON")
	}
	if opened {
		e.drop(path + ".additionalProperties")
	}
	if f.Description != "" {
		e.drop("response_format.json_schema.description")
	}
	e.out.OutputConfig = &outputConfig{Format: &outputFormat{Type: "json_schema", Schema: schema}}
	return nil
}

// closeObjects copies a schema and gives every object in it additionalProperties false, which the API requires. opened tells
// that the client had said something else. All other members stay as they are and in their order: models write their
// answer in it.
func closeObjects(schema jsontext.Value) (closed jsontext.Value, opened bool, err error) {
	var out bytes.Buffer
	c := schemaCopier{
		from: jsontext.NewDecoder(bytes.NewBuffer(schema)),
		to:   jsontext.NewEncoder(&out, jsontext.PreserveRawStrings(true)),
	}
	if err := c.schema(); err != nil {
		return nil, false, err
	}
	return bytes.TrimSpace(out.Bytes()), c.opened, nil
}

// schemaCopier goes through a schema once; its depth is bounded by the decoder's own limit.
type schemaCopier struct {
	from   *jsontext.Decoder
	to     *jsontext.Encoder
	opened bool
}

// value copies the next value as it is.
func (c *schemaCopier) value() error {
	v, err := c.from.ReadValue()
	if err != nil {
		return err
	}
	return c.to.WriteValue(v)
}

// token copies the next token.
func (c *schemaCopier) token() error {
	t, err := c.from.ReadToken()
	if err != nil {
		return err
	}
	return c.to.WriteToken(t)
}

// schema copies one schema; whatever is no object, such as true, is copied as it is.
func (c *schemaCopier) schema() error {
	if c.from.PeekKind() != '{' {
		return c.value()
	}
	var isObject, isClosed bool
	err := c.members(func(name string) error {
		switch name {
		case "type":
			v, err := c.from.ReadValue()
			if err != nil {
				return err
			}
			isObject = isObject || strings.Contains(string(v), `"object"`)
			return c.to.WriteValue(v)
		case "properties":
			isObject = true
			return c.schemas()
		case "$defs", "definitions", "patternProperties", "dependentSchemas":
			return c.schemas()
		case "items", "prefixItems", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "contains":
			return c.schemaOrList()
		case "additionalProperties":
			isClosed = true
			v, err := c.from.ReadValue()
			if err != nil {
				return err
			}
			c.opened = c.opened || v.Kind() != 'f'
			return c.to.WriteToken(jsontext.False)
		default:
			return c.value()
		}
	}, func() error {
		if !isObject || isClosed {
			return nil
		}
		if err := c.to.WriteToken(jsontext.String("additionalProperties")); err != nil {
			return err
		}
		return c.to.WriteToken(jsontext.False)
	})
	return err
}

// members copies an object: each gets the name, already copied, and copies the value; last may add members.
func (c *schemaCopier) members(each func(name string) error, last func() error) error {
	if err := c.token(); err != nil {
		return err
	}
	for c.from.PeekKind() == '"' {
		quoted, err := c.from.ReadValue()
		if err != nil {
			return err
		}
		name := unquote(quoted)
		if err := c.to.WriteValue(quoted); err != nil {
			return err
		}
		if err := each(name); err != nil {
			return err
		}
	}
	if err := last(); err != nil {
		return err
	}
	return c.token()
}

// schemas copies an object whose values are schemas.
func (c *schemaCopier) schemas() error {
	if c.from.PeekKind() != '{' {
		return c.value()
	}
	return c.members(func(string) error { return c.schema() }, func() error { return nil })
}

func (c *schemaCopier) schemaOrList() error {
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
