package jsonschema

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var strictest = Rules{
	Close: true, Items: true, NoOneOf: true, MinItems: "1",
	Refused: map[string]bool{"minimum": true, "maximum": true, "pattern": true, "not": true},
	Formats: map[string]bool{"date": true},
}

// TestAdapt: what is refused stands in the description, what must be there is, everything else
// keeps its bytes and its place.
func TestAdapt(t *testing.T) {
	for name, c := range map[string]struct {
		in, want string
		moved    []string
		opened   bool
	}{
		"nothing to do: the very bytes": {in: `{ "type":"object", "properties":{"b":{"const":1.0},"a":{}},"additionalProperties": false }`, want: `{ "type":"object", "properties":{"b":{"const":1.0},"a":{}},"additionalProperties": false }`},
		"closed":                        {in: `{"properties":{"a":{"type":["object","null"]}}}`, want: `{"properties":{"a":{"type":["object","null"],"additionalProperties":false}},"additionalProperties":false}`},
		"opened":                        {in: `{"type":"object","additionalProperties":{"type":"string"}}`, want: `{"type":"object","additionalProperties":false}`, opened: true},
		"moved":                         {in: `{"minimum":0,"type":"integer","maximum":10}`, want: `{"type":"integer","description":"{minimum: 0, maximum: 10}"}`, moved: []string{"minimum", "maximum"}},
		"moved behind words":            {in: `{"description":"say \"n\"","minimum":0,"items":{"pattern":"^\"$","description":""}}`, want: `{"description":"say \"n\"\n\n{minimum: 0}","items":{"description":"{pattern: \"^\\\"$\"}"}}`, moved: []string{"minimum", "pattern"}},
		"a description that is none":    {in: `{"description":1,"minimum":0}`, want: `{"description":1}`, moved: []string{"minimum"}},
		"a property of that name":       {in: `{"properties":{"minimum":{"type":"string"}},"additionalProperties":false}`, want: `{"properties":{"minimum":{"type":"string"}},"additionalProperties":false}`},
		"formats":                       {in: `{"anyOf":[{"format":"date"},{"format":"color"}]}`, want: `{"anyOf":[{"format":"date"},{"description":"{format: \"color\"}"}]}`, moved: []string{"format"}},
		"few items":                     {in: `{"type":"array","minItems":1,"items":{}}`, want: `{"type":"array","minItems":1,"items":{}}`},
		"many items":                    {in: `{"type":"array","minItems":2}`, want: `{"type":"array","description":"{minItems: 2}","items":{}}`, moved: []string{"minItems"}},
		"oneOf is anyOf":                {in: `{"oneOf":[{"minimum":1}]}`, want: `{"anyOf":[{"description":"{minimum: 1}"}]}`, moved: []string{"minimum"}},
		"oneOf beside anyOf":            {in: `{"anyOf":[true],"oneOf":[{}]}`, want: `{"anyOf":[true],"description":"{oneOf: [{}]}"}`, moved: []string{"oneOf"}},
		"anyOf beside oneOf":            {in: `{"oneOf":[{}],"anyOf":[true]}`, want: `{"anyOf":[{}],"description":"{anyOf: [true]}"}`, moved: []string{"anyOf"}},
		"no schema at all":              {in: `true`, want: `true`},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Adapt([]byte(c.in), strictest)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(a.Schema); got != c.want || a.Opened != c.opened {
				t.Errorf("got  %s, opened %v\nwant %s", got, a.Opened, c.want)
			}
			if diff := cmp.Diff(c.moved, a.Moved); diff != "" {
				t.Errorf("moved (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdaptWithoutRules: a provider that takes all of the language gets the client's bytes.
func TestAdaptWithoutRules(t *testing.T) {
	in := `{ "oneOf":[{"minimum":1}], "type":"array" }`
	a, err := Adapt([]byte(in), Rules{})
	if err != nil || string(a.Schema) != in {
		t.Errorf("got %s, %v", a.Schema, err)
	}
	if _, err := Adapt([]byte(`{"a":`), Rules{}); err == nil {
		t.Error("half a schema is taken")
	}
}

func TestStrict(t *testing.T) {
	for in, want := range map[string]bool{
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`: true,
		`{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`:                  false,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`:                              false,
		`{"items":{"type":"object"}}`: false,
		`{"type":"string"}`:           true,
	} {
		if a, err := Adapt([]byte(in), Rules{}); err != nil || a.Strict != want {
			t.Errorf("%s: strict %v, %v", in, a.Strict, err)
		}
	}
}

// TestTool: the top level is a plain object, and what else was said there is said to the model.
func TestTool(t *testing.T) {
	for name, c := range map[string]struct{ in, want, note, fails string }{
		"none":              {in: ``, want: `{"type":"object","properties":{}}`},
		"null":              {in: `null`, want: `{"type":"object","properties":{}}`},
		"empty":             {in: `{}`, want: `{"type":"object","properties":{}}`},
		"as it is":          {in: `{ "type":"object","properties":{"z":{},"a":{"const":"<&>"}}, "x": 1.0}`, want: `{ "type":"object","properties":{"z":{},"a":{"const":"<&>"}}, "x": 1.0}`},
		"no properties":     {in: `{"type":"object"}`, want: `{"type":"object","properties":{}}`},
		"null properties":   {in: `{"type":"object","properties":null}`, want: `{"type":"object","properties":{}}`},
		"no type":           {in: `{"properties":{}}`, want: `{"properties":{},"type":"object"}`},
		"or nothing at all": {in: `{"type":["object","null"],"properties":{}}`, want: `{"type":"object","properties":{}}`},
		"alternatives": {
			in:   `{"type":"object","properties":{"a":{"type":"string"}},"anyOf":[{"required":["a"]},{"properties":{"a":{},"b":{"type":"number"}}},{"$ref":"#/x"}]}`,
			want: `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"number"}}}`,
			note: `The arguments must also fit this JSON Schema: {"anyOf": [{"required":["a"]},{"properties":{"a":{},"b":{"type":"number"}}},{"$ref":"#/x"}]}`,
		},
		"two of them": {
			in:   `{"oneOf":[{"properties":{"a":{}}}],"not":{"properties":{"b":{}}},"type":"object"}`,
			want: `{"not":{"properties":{"b":{}}},"type":"object","properties":{"a":{}}}`,
			note: `The arguments must also fit this JSON Schema: {"oneOf": [{"properties":{"a":{}}}]}`,
		},
		"a string": {in: `{"type":"string"}`, fails: `type: want "object", got "string"`},
		"a list":   {in: `[]`, fails: `want a JSON Schema object`},
	} {
		t.Run(name, func(t *testing.T) {
			object, note, moved, err := Tool([]byte(c.in), []string{"anyOf", "oneOf", "allOf"})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || string(object) != c.want || note != c.note || (len(moved) > 0) != (note != "") {
				t.Errorf("got %s\nnote %s\nmoved %q, %v\nwant %s\nnote %s", object, note, moved, err, c.want, c.note)
			}
		})
	}
}

// TestAdaptIsLinear would not end in time if every level of a schema were read again for the level
// above it.
func TestAdaptIsLinear(t *testing.T) {
	const depth = 4000
	schema := strings.Repeat(`{"type":"array","minimum":1,"items":`, depth) + `{"type":"object"}` + strings.Repeat("}", depth)
	a, err := Adapt([]byte(schema), strictest)
	if err != nil || strings.Count(string(a.Schema), "additionalProperties") != 1 || strings.Count(string(a.Schema), "{minimum: 1}") != depth {
		t.Fatalf("%d closed, %d moved, error %v", strings.Count(string(a.Schema), "additionalProperties"), strings.Count(string(a.Schema), "{minimum: 1}"), err)
	}
}
