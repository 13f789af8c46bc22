package fakellm

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// checker walks a decoded body and keeps the first thing that is wrong with it. Everything behind a
// wrong value reads as absent, so a check is a plain list of statements and looks at its failure
// once, at the end.
type checker struct {
	style   style
	failure *Failure
	lenient bool     // members that are not known are ignored
	extra   []string // members that are known everywhere
}

// style is how a schema's API words its complaints.
type style interface {
	element(path string, i int) string
	member(path, name string) string
	missing(path string) *Failure
	unknown(path, name string) *Failure
	wrongType(path string, want kind, got any) *Failure
	wrongValue(path, got string, want []string) *Failure
	outOfRange(path string, value, least, most float64) *Failure
}

// kind is a type of JSON value that a member may want.
type kind int

const (
	aString kind = iota
	aNumber
	anInteger
	aBoolean
	aList
	anObject
	textOrList
)

// value is a value inside the body. Its path is in the schema's own notation. An absent value has
// no data; null counts as absent.
type value struct {
	c    *checker
	path string
	data any
}

func (c *checker) fail(f *Failure) {
	if c.failure == nil {
		c.failure = f
	}
}

// decode reads the body; duplicate names and invalid UTF-8 are errors.
func (c *checker) decode(body []byte, notJSON func(err error) *Failure) value {
	var root any
	err := json.Unmarshal(body, &root)
	object, ok := root.(map[string]any)
	if err == nil && !ok {
		err = fmt.Errorf("not an object")
	}
	if err != nil {
		c.fail(notJSON(err))
	}
	return value{c: c, data: object}
}

func (v value) given() bool { return v.data != nil }

// need fails when the value is absent.
func (v value) need() value {
	if !v.given() {
		v.c.fail(v.c.style.missing(v.path))
	}
	return v
}

func (v value) get(name string) value {
	object, _ := v.data.(map[string]any)
	return value{c: v.c, path: v.c.style.member(v.path, name), data: object[name]}
}

// only fails when the object has other members than these.
func (v value) only(names ...string) value {
	object := v.object()
	for _, name := range sortedNames(object) {
		if !slices.Contains(names, name) && !v.c.lenient && !slices.Contains(v.c.extra, name) {
			v.c.fail(v.c.style.unknown(v.path, name))
		}
	}
	return v
}

// as fails when the value is there and is not a T.
func as[T any](v value, want kind) T {
	t, ok := v.data.(T)
	if !ok && v.given() {
		v.c.fail(v.c.style.wrongType(v.path, want, v.data))
	}
	return t
}

func (v value) str() string            { return as[string](v, aString) }
func (v value) flag() bool             { return as[bool](v, aBoolean) }
func (v value) object() map[string]any { return as[map[string]any](v, anObject) }

func (v value) list() []value {
	elements := as[[]any](v, aList)
	all := make([]value, len(elements))
	for i, e := range elements {
		all[i] = value{c: v.c, path: v.c.style.element(v.path, i), data: e}
	}
	return all
}

// strings reads a list of strings.
func (v value) strings() []string {
	var all []string
	for _, e := range v.list() {
		all = append(all, e.str())
	}
	return all
}

func (v value) number(least, most float64) float64 {
	n := as[float64](v, aNumber)
	if v.given() && v.c.failure == nil && (n < least || n > most) {
		v.c.fail(v.c.style.outOfRange(v.path, n, least, most))
	}
	return n
}

func (v value) integer(least, most float64) int {
	if n := as[float64](v, anInteger); n != math.Trunc(n) {
		v.c.fail(v.c.style.wrongType(v.path, anInteger, v.data))
	}
	return int(v.number(least, most))
}

// word reads a string that must be one of a few.
func (v value) word(allowed ...string) string {
	s := v.str()
	if v.given() && !slices.Contains(allowed, s) {
		v.c.fail(v.c.style.wrongValue(v.path, s, allowed))
	}
	return s
}

// isText tells the two forms of content apart, and fails on any other.
func (v value) isText() bool {
	switch v.data.(type) {
	case string:
		return true
	case []any, nil:
	default:
		v.c.fail(v.c.style.wrongType(v.path, textOrList, v.data))
	}
	return false
}

// countWords is the length of everything written in a value, in words: how many tokens it counts
// for.
func countWords(data any) int {
	n := 0
	switch data := data.(type) {
	case string:
		if strings.HasPrefix(data, "data:") || len(data) > 256 && !strings.Contains(data, " ") {
			return 85 // an encoded image: what OpenAI counts for a small one
		}
		n = len(strings.Fields(data))
	case []any:
		for _, e := range data {
			n += countWords(e)
		}
	case map[string]any:
		for name, e := range data {
			if name != "type" && name != "role" {
				n += countWords(e)
			}
		}
	}
	return n
}

// sortedNames makes the first complaint about an object the same one every time.
func sortedNames(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }

// walkSchema calls visit for a JSON schema and the schemas inside it.
func walkSchema(s map[string]any, where string, visit func(where string, s map[string]any)) {
	visit(where, s)
	for _, word := range []string{"properties", "$defs", "definitions"} {
		members, _ := s[word].(map[string]any)
		for _, name := range sortedNames(members) {
			if m, ok := members[name].(map[string]any); ok {
				walkSchema(m, fmt.Sprintf("('%s', '%s')", word, name), visit)
			}
		}
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf"} {
		options, _ := s[word].([]any)
		for i, m := range options {
			if m, ok := m.(map[string]any); ok {
				walkSchema(m, fmt.Sprintf("('%s', %d)", word, i), visit)
			}
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		walkSchema(items, where+".items", visit)
	}
}
