package shape

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func compile(t testing.TB, schema string) *Shape {
	t.Helper()
	s, err := Compile(json.RawMessage(schema))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// order is the schema of an answer as people write them.
const order = `{
	"type": "object", "required": ["id", "items"], "additionalProperties": false,
	"properties": {
		"id": {"type": "string", "pattern": "^o-[0-9]+$", "maxLength": 12},
		"items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/item"}},
		"state": {"enum": ["new", "paid"]},
		"note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
		"labels": {"type": "object", "additionalProperties": {"type": "integer"}, "propertyNames": {"maxLength": 30}}
	},
	"$defs": {"item": {"type": "object", "required": ["sku", "price"], "properties": {"sku": {"type": "string"}, "price": {"type": "number", "minimum": 0}}}}
}`

// TestCheck: what is of the shape, and what is said of what is not. No reason has a value of the
// text, nor a name that the schema has not.
func TestCheck(t *testing.T) {
	s := compile(t, order)
	for _, c := range []struct{ text, want string }{
		{`{"id":"o-1","items":[{"sku":"a","price":1.5}]}`, ""},
		{" {\"id\":\"o-1\",\"items\":[{\"sku\":\"a\",\"price\":0,\"more\":true}],\"state\":\"paid\",\"note\":null,\"labels\":{\"x\":1}}\n", ""},
		{`{"id":"o-1","items":[{"sku":"a","price":1},{"sku":"SECRET"}]}`, `at /items/1: lacks "price"`},
		{`{}`, `at the top level: lacks "id", "items"`},
		{`{"id":"SECRET","items":[{"sku":"a","price":1}]}`, `at /id: does not keep "pattern"`},
		{`{"id":"o-1","items":[{"sku":"a","price":-77}]}`, `at /items/0/price: does not keep "minimum"`},
		{`{"id":"o-1","items":[{"sku":"a","price":"SECRET"}]}`, `at /items/0/price: want number, got string`},
		{`{"id":"o-1","items":[],"state":"paid"}`, `at /items: does not keep "minItems"`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"state":"SECRET"}`, `at /state: does not keep "enum"`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"note":77}`, `at /note: does not fit the alternatives of "anyOf"`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"SECRET":1}`, `at the top level: does not keep "additionalProperties"`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"labels":{"SECRET":"x"}}`, `at /labels/*: want integer, got string`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"labels":{"4111111111111111":"x"}}`, `at /labels/*: want integer, got string`},
		{`{"id":"o-1","items":[{"sku":"a","price":1}],"labels":{"SECRETSECRETSECRETSECRETSECRETSECRET":1}}`, `a name does not keep "/properties/labels/propertyNames" of the schema`},
		{`{"id":7,"items":7}`, `at /id: want string, got number`},
		{`["SECRET"]`, `at the top level: want object, got array`},
		{``, `the text is no JSON: it is empty`},
		{`Here is the JSON: {"id":"SECRET"}`, `the text is no JSON: at byte 0`},
		{`{"id":"SECRET"`, `the text is no JSON: it ends in the middle of a value`},
		{`{"id":"SECRET"}{}`, `the text is no JSON: there is more than one value`},
		{`{"id":"o-1","id":"SECRET"}`, `the text is no JSON: an object has a name twice, at byte 12`},
		{"{\"id\":\"\xff\"}", `the text is no JSON: at byte `},
		{`{"id":1e999999999}`, `the text is no JSON: a number is too long or has too large an exponent`},
		{`{"id":` + strings.Repeat("9", 500) + `}`, `the text is no JSON: a number is too long`},
		{strings.Repeat("[", 1000), `the text is no JSON: it has more than 128 levels`},
		{"[" + strings.Repeat("1,", maxTextValues) + "1]", `the text is no JSON: it has too many values`},
		{strings.Repeat(" ", maxTextBytes+1), `the text has more than 1048576 bytes`},
	} {
		got := ""
		if err := s.Check(c.text); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%.100s: %q, want %q", c.text, got, c.want)
		}
		if strings.Contains(got, "SECRET") || strings.Contains(got, "77") || strings.Contains(got, "4111") {
			t.Errorf("%q says what the text has", got)
		}
	}
}

// TestSameReason: a text in which much is wrong has one reason, each time.
func TestSameReason(t *testing.T) {
	for _, c := range []struct{ schema, text, want string }{
		{`{"properties":{"a":{"type":"string"},"b":{"type":"string"},"c":{"minimum":1,"multipleOf":2}}}`, `{"c":-1,"b":1,"a":1}`, "at /a: want string, got number"},
		{`{"properties":{"c":{"minimum":1,"multipleOf":2}},"required":["d"],"minProperties":9}`, `{"c":-1}`, `at the top level: does not keep "minProperties"`},
		{`{"properties":{"c":{"minimum":1,"multipleOf":2}}}`, `{"c":-1}`, `at /c: does not keep "minimum"`},
		{`{"properties":{"a":{"propertyNames":{"maxLength":1}},"b":{"items":{}}}}`, `{"b":[1],"a":{"xx":1,"yy":2},"c":{}}`, `a name does not keep "/properties/a/propertyNames" of the schema`},
		{`{"properties":{"a":{"propertyNames":{"maxLength":1}},"b":{"type":"null"}}}`, `{"b":1,"a":{"xx":1}}`, `a name does not keep "/properties/a/propertyNames" of the schema`},
	} {
		s := compile(t, c.schema)
		for range 50 {
			if got := s.Check(c.text); got == nil || got.Error() != c.want {
				t.Fatalf("%v, want %s", got, c.want)
			}
		}
	}
}

// TestSchemas: drafts and keywords that people use.
func TestSchemas(t *testing.T) {
	for _, c := range []struct{ schema, good, bad string }{
		{`true`, `[1]`, ``},
		{`false`, ``, `[1]`},
		{`{}`, `{"a":1}`, ``},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","type":"number","maximum":3,"exclusiveMaximum":true}`, `2`, `3`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}],"additionalItems":false}`, `["a"]`, `["a",1]`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":{"required":["b"]}}}`, `{"a":1,"b":2}`, `{"a":1}`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","format":"date"}`, `"2026-11-29"`, `"29.11."`},
		{`{"$schema":"https://json-schema.org/draft/2020-12/schema","format":"date"}`, `"29.11."`, ``},
		{`{"$id":"https://example.com/a","$defs":{"x":{"$id":"b","type":"string"}},"$ref":"b"}`, `"a"`, `1`},
		{`{"$defs":{"x":{"$anchor":"here","type":"string"}},"items":{"$ref":"#here"}}`, `["a"]`, `[1]`},
		{`{"prefixItems":[{"const":1},{"enum":[{"a":[1]}]}],"items":false}`, `[1,{"a":[1.0]}]`, `[1,{"a":[2]}]`},
		{`{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"maxProperties":0}}`, `{"a":1,"b":1}`, `{"a":1}`},
		{`{"oneOf":[{"type":"integer"},{"minimum":2}]}`, `1`, `3`},
		{`{"not":{"type":"string"}}`, `1`, `"a"`},
		{`{"allOf":[{"properties":{"a":{}}}],"unevaluatedProperties":false}`, `{"a":1}`, `{"b":1}`},
		{`{"contains":{"const":1},"minContains":2,"uniqueItems":false}`, `[1,1]`, `[1]`},
		{`{"uniqueItems":true}`, `[1,2,"1"]`, `[1,2,1.0]`},
		{`{"patternProperties":{"^x-":{"type":"string"}},"propertyNames":{"pattern":"^[a-z-]+$"}}`, `{"x-a":"b"}`, `{"x-a":1}`},
		{`{"type":"object","properties":{"children":{"items":{"$ref":"#"}}}}`, `{"children":[{"children":[]}]}`, `{"children":[{"children":[1]}]}`},
		{`{"allOf":[{"$ref":"#/$defs/node"}],"$defs":{"node":{"properties":{"next":{"$ref":"#"}},"type":"object"}}}`, `{"next":{"next":{}}}`, `{"next":{"next":1}}`},
		{`{"type":"integer","multipleOf":0.1}`, `12345678901234567890`, `1.5`},
	} {
		s := compile(t, c.schema)
		if c.good != "" {
			if err := s.Check(c.good); err != nil {
				t.Errorf("%s: %s: %v", c.schema, c.good, err)
			}
		}
		if c.bad != "" {
			if err := s.Check(c.bad); err == nil {
				t.Errorf("%s: %s is of the shape", c.schema, c.bad)
			}
		}
	}
}

// TestWrongSchemas: what is no schema, or one that cannot be bounded, is refused, and nothing is
// loaded for it.
func TestWrongSchemas(t *testing.T) {
	chain := `{"$ref":"#/$defs/s0","$defs":{`
	for i := range 100 {
		chain += fmt.Sprintf(`"s%d":{"$ref":"#/$defs/s%d"},`, i, i+1)
	}
	chain += `"s100":{}}}`
	for name, c := range map[string]struct{ schema, want string }{
		"nothing":                 {``, "the schema is no JSON: it is empty"},
		"a list":                  {`[]`, "the schema is neither an object nor a bool"},
		"no JSON":                 {`{"type":"object"`, "the schema is no JSON"},
		"a name twice":            {`{"type":"object","type":"string"}`, "the schema is no JSON: an object has a name twice"},
		"a wrong keyword":         {`{"properties":{"a":{"minLength":"x"}}}`, "the schema is none: at /properties/a/minLength: want integer, got string"},
		"a wrong type":            {`{"type":"text"}`, "the schema is none: at /type: does not fit the alternatives"},
		"a wrong pattern":         {`{"pattern":"("}`, "the schema is none: at /pattern: does not keep \"format\""},
		"a pattern of ECMAScript": {`{"pattern":"(?=a)"}`, "/pattern"},
		"a file":                  {`{"$ref":"file:///etc/passwd"}`, "nothing outside the schema is loaded"},
		"a path":                  {`{"$ref":"other.json"}`, "nothing outside the schema is loaded"},
		"a web page":              {`{"items":{"$ref":"https://127.0.0.1:1/schema.json"}}`, "nothing outside the schema is loaded"},
		"another draft":           {`{"$schema":"https://127.0.0.1:1/draft"}`, "nothing outside the schema is loaded"},
		"a place that is not":     {`{"$ref":"#/$defs/x"}`, "the schema"},
		"a dynamic reference":     {`{"$dynamicAnchor":"n","properties":{"a":{"$dynamicRef":"#n"}}}`, "the schema has $dynamicRef"},
		"a draft as a reference":  {`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, "the schema has $dynamicRef"},
		"itself":                  {`{"$ref":"#"}`, "the schema refers to itself for the same value"},
		"itself in two steps":     {`{"anyOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"not":{"$ref":"#"}}}}`, "the schema refers to itself for the same value"},
		"many in a row":           {chain, "more than 64 schemas in a row"},
		"too long":                {`{"description":"` + strings.Repeat("x", maxSchemaBytes) + `"}`, "and at most 65536 are allowed"},
		"too many values":         {`{"enum":[` + strings.Repeat("1,", maxSchemaValues) + `1]}`, "it has too many values"},
		"too deep":                {strings.Repeat(`{"not":`, 200) + "{}" + strings.Repeat("}", 200), "more than 128 levels"},
		"a large number":          {`{"minimum":1e400000000}`, "a number is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(json.RawMessage(c.schema))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), base) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestWork: schemas and texts whose checks would take hours, or as long as the square of the text,
// end with an error. Without the bound this test does not return.
func TestWork(t *testing.T) {
	nest := func(open, inside, close string, n int) string {
		return strings.Repeat(open, n) + inside + strings.Repeat(close, n)
	}
	doubling := `{"$ref":"#/$defs/s0","$defs":{`
	for i := range 30 {
		doubling += fmt.Sprintf(`"s%d":{"allOf":[{"$ref":"#/$defs/s%d"},{"$ref":"#/$defs/s%d"}]},`, i, i+1, i+1)
	}
	doubling += `"s30":{"type":"array"}}}`
	var patterns, numbers, collisions []string
	for i := range 1000 {
		patterns = append(patterns, fmt.Sprintf(`{"pattern":"(a|aa)*%d"}`, i))
		numbers = append(numbers, fmt.Sprintf("%d.5", i))
	}
	for i := range 12_000 { // the same bytes for the validator's hash
		left := i % 10
		collisions = append(collisions, fmt.Sprintf(`["%s","%s"]`, strings.Repeat(`\u0004`, left), strings.Repeat(`\u0004`, 10-left)))
	}
	for name, c := range map[string]struct{ schema, text string }{
		"a schema that doubles": {doubling, `[]`},
		"a tree with two kinds of nodes": {`{"anyOf":[{"properties":{"l":{"$ref":"#"},"op":{"const":"+"}},"required":["op"]},{"properties":{"l":{"$ref":"#"},"op":{"const":"-"}},"required":["op"]}]}`,
			nest(`{"op":"-","l":`, `1`, `}`, 100)},
		"the same, turned round": {`{"not":{"oneOf":[{"not":{"items":{"$ref":"#"}}},{"items":{"$ref":"#"},"minItems":1},{"items":{"$ref":"#"}}]}}`, nest(`[`, `1`, `]`, 100)},
		"two names for a member": {`{"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}},"type":"object"}`, nest(`{"a":`, `1`, `}`, 100)},
		"many patterns":          {`{"anyOf":[` + strings.Join(patterns, ",") + `]}`, `"` + strings.Repeat("a", 1_000_000) + `"`},
		"many numbers":           {`{"items":{"enum":[` + strings.Join(numbers, ",") + `]}}`, `[` + strings.Repeat("7,", 90_000) + `7]`},
		"equal items":            {`{"uniqueItems":true}`, `[` + strings.Join(collisions, ",") + `]`},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, c.schema)
			for range 2 { // a checker that has had enough is used again
				if err := s.Check(c.text); err == nil || !strings.Contains(err.Error(), "too much work") {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// TestLargeText: what is large and ordinary is within the bounds.
func TestLargeText(t *testing.T) {
	s := compile(t, order)
	text := `{"id":"o-1","items":[` + strings.Repeat(`{"sku":"abcdefgh","price":12.5},`, 10_000) + `{"sku":"a","price":1}]}`
	if err := s.Check(text); err != nil {
		t.Error(err)
	}
}

func TestUnfence(t *testing.T) {
	for text, want := range map[string]string{
		"{}":                          "{}",
		"```json\n{}\n```":            "{}\n",
		"\n```JSON \r\n{}\r\n```\n":   "{}\r\n",
		"```\n[1]\n```":               "[1]\n",
		"````json\n{}\n````":          "{}\n",
		"````json\n{}\n```":           "````json\n{}\n```",
		"```yaml\na: 1\n```":          "```yaml\na: 1\n```",
		"Here:\n```json\n{}\n```":     "Here:\n```json\n{}\n```",
		"```json\n{}\n```\nThat was.": "```json\n{}\n```\nThat was.",
		"```json\n{}":                 "```json\n{}",
		"```json {} ```":              "```json {} ```",
		"``":                          "``",
		"```":                         "```",
		"``````":                      "``````",
		"":                            "",
	} {
		if got := Unfence(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestAtOnce: one shape is used by many at the same time, with counts of their own.
func TestAtOnce(t *testing.T) {
	s := compile(t, order)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				err := s.Check(fmt.Sprintf(`{"id":"o-1","items":[{"sku":"a","price":%d}]}`, i-1))
				if (err == nil) != (i > 0) {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzCheck: no text makes Check panic, and no reason has a word of the text that the schema has
// not.
func FuzzCheck(f *testing.F) {
	s := compile(f, order)
	for _, text := range []string{
		`{"id":"o-1","items":[{"sku":"a","price":1.5}],"labels":{"x":1}}`, "```json\n{}\n```", `{"id":"o-1","items":[{"sku":1}],"note":[]}`, `[1e5,{"a":null}]`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := s.Check(text)
		if got := s.Check(Unfence(text)); err == nil && got != nil {
			t.Errorf("%q is of the shape, and not without a fence: %v", text, got)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("a reason of %d bytes", len(err.Error()))
		}
		if err == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q is no JSON", text)
		}
	})
}

// FuzzCompile: no schema makes Compile or Check panic.
func FuzzCompile(f *testing.F) {
	for _, schema := range []string{order, `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"null"},{"items":{"$ref":"#"}}]}}}`, `{"$id":"x","$anchor":"y"}`, `{"$schema":"http://json-schema.org/draft-07/schema#","if":{},"then":false}`} {
		f.Add([]byte(schema))
	}
	f.Fuzz(func(t *testing.T, schema []byte) {
		s, err := Compile(schema)
		if err != nil {
			return
		}
		for _, text := range []string{`{"id":"o-1","items":[{"sku":"a","price":1.5}],"labels":{"x":1}}`, `[[null],[1,"a",{}]]`, `"a"`, `-1.5e3`} {
			s.Check(text)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s := compile(b, order)
	for _, n := range []int{2, 200} {
		text := `{"id":"o-1","items":[` + strings.Repeat(`{"sku":"abcdefgh","price":12.5},`, n) + `{"sku":"a","price":1}]}`
		b.Run(fmt.Sprintf("%dB", len(text)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := s.Check(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(json.RawMessage(order)); err != nil {
			b.Fatal(err)
		}
	}
}
