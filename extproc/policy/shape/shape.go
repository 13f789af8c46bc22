// Package shape tells whether a text is JSON of the shape that a JSON Schema says: what the policy
// json-schema asks of an answer. Drafts 4 to 2020-12 are known, the last one when $schema does not
// say; `format` is a remark in the last two, as they have it.
//
// A schema is complete: what it refers to is in it, or one of the drafts' own schemas. Nothing is
// loaded, neither from the network nor from files. What a check may cost is bounded (work.go),
// whatever schema and text are. What a reason says of a text are the names that the schema has, and
// numbers of items; never a value.
package shape

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The bounds of what is read. Values are all of them, those inside lists and objects too.
const (
	maxSchemaBytes, maxSchemaValues = 64 << 10, 4096
	maxTextBytes, maxTextValues     = 1 << 20, 100_000

	maxDepth  = 128 // of lists and objects in one another
	maxDigits = 400 // of a number, and its largest exponent: one of more takes time to compare
)

// Shape is a compiled schema. Its methods may be called at the same time.
type Shape struct {
	document any
	names    map[string]bool // of properties that the schema has
	free     chan *checker   // a checker is used by one at a time
}

// Compile compiles a schema, an object or a bool. The error says what is wrong with it, and where.
func Compile(schema json.RawMessage) (*Shape, error) {
	if len(schema) > maxSchemaBytes {
		return nil, fmt.Errorf("the schema has %d bytes, and at most %d are allowed", len(schema), maxSchemaBytes)
	}
	document, err := read(schema, maxSchemaValues)
	if err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	switch document.(type) {
	case map[string]any, bool:
	default:
		return nil, errors.New("the schema is neither an object nor a bool")
	}
	s := &Shape{document: document, names: map[string]bool{}, free: make(chan *checker, runtime.GOMAXPROCS(0))}
	c, err := newChecker(document, s.names)
	if err != nil {
		return nil, err
	}
	s.free <- c
	return s, nil
}

// Check tells why the text is not of the shape, nil when it is. The reason is a sentence of at most
// a few hundred bytes.
func (s *Shape) Check(text string) error {
	if len(text) > maxTextBytes {
		return fmt.Errorf("the text has more than %d bytes", maxTextBytes)
	}
	value, err := read([]byte(text), maxTextValues)
	if err != nil {
		return fmt.Errorf("the text is no JSON: %w", err)
	}
	c, err := s.checker()
	if err != nil {
		return err
	}
	err = c.check(value)
	select {
	case s.free <- c:
	default:
	}
	var wrong *jsonschema.ValidationError
	if errors.As(err, &wrong) {
		return errors.New(s.reason(wrong))
	}
	return err
}

// checker takes one that is free, or makes one more.
func (s *Shape) checker() (*checker, error) {
	select {
	case c := <-s.free:
		return c, nil
	default:
		return newChecker(s.document, map[string]bool{})
	}
}

// Unfence returns what is inside a text that is one block of Markdown code and nothing else, as
// models like to write JSON: ```json, lines, ```. Any other text is returned as it is.
func Unfence(text string) string {
	trimmed := strings.TrimSpace(text)
	fence := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
	if len(fence) < len("```") {
		return text
	}
	language, inside, lines := strings.Cut(trimmed[len(fence):], "\n")
	language = strings.TrimSpace(language)
	inside, ends := strings.CutSuffix(inside, fence)
	if !lines || !ends || language != "" && !strings.EqualFold(language, "json") {
		return text
	}
	return inside
}
