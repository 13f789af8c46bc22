package shape

import (
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// reason says in a sentence where the text is not of the shape, and what it does not keep.
func (s *Shape) reason(err *jsonschema.ValidationError) string {
	w := worst(err)
	if _, ok := w.ErrorKind.(*kind.PropertyNames); ok {
		return leaf(w)
	}
	return fmt.Sprintf("at %s: %s", pointer(w.InstanceLocation, s.names), leaf(w))
}

// worst is the first of the things that are wrong, in the order of their places; objects have no
// order, and a reason should stay the same. What groups them is passed over, but not alternatives:
// each of these is wrong in its own way.
func worst(err *jsonschema.ValidationError) *jsonschema.ValidationError {
	switch err.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		if len(err.Causes) == 0 {
			return err
		}
		first := worst(err.Causes[0])
		for _, cause := range err.Causes[1:] {
			if w := worst(cause); compare(w, first) < 0 {
				first = w
			}
		}
		return first
	}
	return err
}

func compare(a, b *jsonschema.ValidationError) int {
	if by := slices.Compare(location(a), location(b)); by != 0 {
		return by
	}
	return strings.Compare(leaf(a), leaf(b))
}

// location is where in the text it is. Of names it is not known: the library (v6.0.3) writes the
// places of other values over it.
func location(err *jsonschema.ValidationError) []string {
	if _, ok := err.ErrorKind.(*kind.PropertyNames); ok {
		return nil
	}
	return err.InstanceLocation
}

// leaf is what is said of one thing that is wrong.
func leaf(err *jsonschema.ValidationError) string {
	keyword := keywordOf(err.ErrorKind)
	switch k := err.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("want %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Required:
		return "lacks " + list(k.Missing)
	case *kind.PropertyNames:
		_, at, _ := strings.Cut(err.SchemaURL, "#")
		return fmt.Sprintf("a name does not keep %.200q of the schema", at)
	case *kind.AnyOf, *kind.OneOf:
		return fmt.Sprintf("does not fit the alternatives of %q", keyword)
	}
	return fmt.Sprintf("does not keep %q", keyword)
}

// list quotes some of the names, which are the schema's.
func list(names []string) string {
	const most = 5
	names = slices.Sorted(slices.Values(names))
	var quoted []string
	for _, name := range names[:min(len(names), most)] {
		quoted = append(quoted, fmt.Sprintf("%.60q", name))
	}
	if len(names) > most {
		quoted = append(quoted, fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(quoted, ", ")
}

// pointer is a JSON pointer. Of names it has those that are known, nil for all of them: another one
// is the text's own, and becomes *.
func pointer(path []string, known map[string]bool) string {
	const most = 200
	var b strings.Builder
	for _, step := range path {
		if known != nil && !known[step] && !isIndex(step) {
			step = "*"
		}
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
		if b.Len() > most {
			return strings.ToValidUTF8(b.String()[:most], "") + "…"
		}
	}
	if b.Len() == 0 {
		return "the top level"
	}
	return b.String()
}

// isIndex tells whether a step is the number of an item; a longer number may be a name.
func isIndex(step string) bool {
	return len(step) <= len("99999") && strings.Trim(step, "0123456789") == ""
}
