package shape

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// What a check may cost, in units of about ten nanoseconds. Without a bound, a schema whose parts
// refer to one another in several ways, as those of trees do, makes work that doubles with each
// level of a text.
const (
	maxWork     = 10_000_000
	schemaWork  = 50 // to hold a value against a schema
	numberWork  = 50 // to compare two numbers
	patternWork = 5  // a byte, for a regular expression
	maxInPlace  = 64 // schemas in a row that a value is held against: $ref, allOf, …
)

var (
	errWork    = errors.New("to hold the text against the schema is too much work")
	errDynamic = errors.New("the schema has $dynamicRef or $recursiveRef, which are not taken: write $ref")
	errNoLoad  = errors.New("nothing outside the schema is loaded: put what it refers to into its $defs")
)

// base is what the schema is called while it is compiled. Other names are never loaded.
const base = "schema:///"

type loader struct{}

func (loader) Load(string) (any, error) { return nil, errNoLoad }

// checker is a compiled schema that counts its work. One check at a time uses it.
type checker struct {
	schema *jsonschema.Schema
	left   int
}

// newChecker compiles the document, and adds the names of the properties that it has to names.
func newChecker(document any, names map[string]bool) (*checker, error) {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(loader{})
	if err := compiler.AddResource(base, document); err != nil {
		return nil, wrongSchema(err)
	}
	compiled, err := compiler.Compile(base)
	if err != nil {
		return nil, wrongSchema(err)
	}
	c := &checker{schema: compiled}
	m := meter{checker: c, depths: map[*jsonschema.Schema]int{}, names: names}
	return c, m.count(compiled)
}

// wrongSchema words what is wrong with a schema.
func wrongSchema(err error) error {
	var invalid *jsonschema.SchemaValidationError
	var wrong *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &wrong) {
		w := worst(wrong)
		return fmt.Errorf("the schema is none: at %s: %s", pointer(w.InstanceLocation, nil), strings.ReplaceAll(leaf(w), base, ""))
	}
	var load *jsonschema.LoadURLError
	if errors.As(err, &load) {
		return fmt.Errorf("the schema refers to %q: %w", strings.TrimPrefix(load.URL, base), load.Err)
	}
	return fmt.Errorf("the schema: %s", strings.ReplaceAll(err.Error(), base, ""))
}

func (c *checker) check(value any) (err error) {
	c.left = maxWork
	defer func() {
		switch p := recover().(type) {
		case nil:
		case tooMuch:
			err = errWork
		default:
			panic(p)
		}
	}()
	return c.schema.Validate(value)
}

// tooMuch is thrown where there is no work left: the validator has no other way out.
type tooMuch struct{}

func (c *checker) spend(units int) {
	if c.left -= units; c.left < 0 {
		panic(tooMuch{})
	}
}

// meter makes every schema that is compiled count. The validator asks a schema's format before it
// goes into what is inside the schema or the value, so each gets one that counts what will come.
type meter struct {
	checker *checker
	depths  map[*jsonschema.Schema]int // 0: being looked at
	next    []*jsonschema.Schema       // those that hold for parts of a value
	names   map[string]bool
}

func (m *meter) count(s *jsonschema.Schema) error {
	m.next = []*jsonschema.Schema{s}
	for len(m.next) > 0 {
		last := len(m.next) - 1
		s, m.next = m.next[last], m.next[:last]
		if _, err := m.depth(s); err != nil {
			return err
		}
	}
	return nil
}

// depth makes a schema count, and those that hold for the same value, and returns how many of them
// are in a row.
func (m *meter) depth(s *jsonschema.Schema) (int, error) {
	if depth, seen := m.depths[s]; seen {
		if depth == 0 {
			return 0, errors.New("the schema refers to itself for the same value, without end")
		}
		return depth, nil
	}
	if s.DynamicRef != nil || s.RecursiveRef != nil {
		return 0, errDynamic
	}
	m.depths[s] = 0
	depth, here := 1, inPlace(s)
	for _, part := range here {
		n, err := m.depth(part)
		if err != nil {
			return 0, err
		}
		if depth = max(depth, n+1); depth > maxInPlace {
			return 0, fmt.Errorf("the schema has more than %d schemas in a row for one value", maxInPlace)
		}
	}
	m.depths[s] = depth
	for name := range s.Properties {
		m.names[name] = true
	}
	m.next = append(m.next, deeper(s)...)
	m.wrap(s, here)
	return depth, nil
}

// wrap makes the schema count.
func (m *meter) wrap(s *jsonschema.Schema, here []*jsonschema.Schema) {
	own := schemaWork
	for _, part := range here {
		own += weight(part)
	}
	format, name := s.Format, "format"
	if format != nil {
		name = format.Name
	}
	s.Format = &jsonschema.Format{Name: name, Validate: func(value any) error {
		m.checker.spend(own + insideWork(s, value, format != nil))
		if format == nil {
			return nil
		}
		return format.Validate(value)
	}}
}

// insideWork is what it costs to hold the parts of a value against those of a schema, without what
// these will count themselves.
func insideWork(s *jsonschema.Schema, value any, formatted bool) int {
	switch value := value.(type) {
	case string:
		n := len(value) / 10
		if s.Pattern != nil || formatted {
			n += len(value) * patternWork
		}
		return n
	case json.Number:
		return numberWork
	case []any:
		each := schemaWork
		for _, part := range []any{s.Items, s.Items2020, s.Contains, s.AdditionalItems, s.UnevaluatedItems} {
			if part, ok := part.(*jsonschema.Schema); ok {
				each += weight(part)
			}
		}
		n := len(value) * each
		if s.UniqueItems {
			n += len(value)*len(value)/2 + min(len(value), 20)*size(value)
		}
		return n + listWork(s, len(value))
	case map[string]any:
		n := 0
		for name := range value {
			n += schemaWork + weight(s.Properties[name]) + weight(s.PropertyNames) + weight(s.UnevaluatedProperties)
			if additional, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
				n += weight(additional)
			}
			n += len(name) * patternWork * len(s.PatternProperties)
		}
		for _, part := range s.PatternProperties {
			n += len(value) * weight(part)
		}
		return n
	}
	return 0
}

// listWork is what the first items cost, which have schemas of their own.
func listWork(s *jsonschema.Schema, items int) int {
	first := s.PrefixItems
	if list, ok := s.Items.([]*jsonschema.Schema); ok {
		first = list
	}
	n := 0
	for _, part := range first[:min(len(first), items)] {
		n += weight(part)
	}
	return n
}

// weight is what it costs to hold a value against a schema, before its format is asked.
func weight(s *jsonschema.Schema) int {
	if s == nil {
		return 0
	}
	n := schemaWork
	if s.Enum != nil {
		n += size(s.Enum.Values)
	}
	if s.Const != nil {
		n += size(*s.Const)
	}
	return n
}

// size is what it costs to compare a value.
func size(value any) int {
	switch value := value.(type) {
	case json.Number:
		return numberWork
	case string:
		return 1 + len(value)/10
	case []any:
		n := 1
		for _, item := range value {
			n += size(item)
		}
		return n
	case map[string]any:
		n := 1
		for name, member := range value {
			n += 1 + len(name)/10 + size(member)
		}
		return n
	}
	return 1
}

// inPlace are the schemas that hold for the same value as s.
func inPlace(s *jsonschema.Schema) []*jsonschema.Schema {
	var all []*jsonschema.Schema
	add := func(parts ...*jsonschema.Schema) {
		for _, part := range parts {
			if part != nil {
				all = append(all, part)
			}
		}
	}
	add(s.Ref, s.Not, s.If, s.Then, s.Else)
	add(s.AllOf...)
	add(s.AnyOf...)
	add(s.OneOf...)
	for _, part := range s.DependentSchemas {
		add(part)
	}
	for _, part := range s.Dependencies {
		if part, ok := part.(*jsonschema.Schema); ok {
			add(part)
		}
	}
	return all
}

// deeper are the schemas that hold for parts of the value.
func deeper(s *jsonschema.Schema) []*jsonschema.Schema {
	var all []*jsonschema.Schema
	add := func(parts ...any) {
		for _, part := range parts {
			switch part := part.(type) {
			case *jsonschema.Schema:
				if part != nil {
					all = append(all, part)
				}
			case []*jsonschema.Schema:
				all = append(all, part...)
			}
		}
	}
	add(s.PropertyNames, s.AdditionalProperties, s.UnevaluatedProperties, s.Contains, s.Items, s.AdditionalItems, s.PrefixItems,
		s.Items2020, s.UnevaluatedItems, s.ContentSchema)
	for _, part := range s.Properties {
		add(part)
	}
	for _, part := range s.PatternProperties {
		add(part)
	}
	return all
}

// keywordOf is the keyword that a value does not keep.
func keywordOf(k jsonschema.ErrorKind) string {
	if path := k.KeywordPath(); len(path) > 0 {
		return path[0]
	}
	if _, ok := k.(*kind.FalseSchema); ok {
		return "false"
	}
	return "schema"
}
