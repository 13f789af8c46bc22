package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// Error is one thing wrong with a document.
type Error struct {
	File   string // "" when the document did not come from a file
	Line   int    // 0 when unknown
	Column int
	Path   string // of the field, "upstreams[0].targets[1].weight"; "" when it is the document's syntax
	Reason string
}

func (e Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Errors is everything wrong with a document, in its order; never empty.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Empty refuses a document that says nothing at all: a file or a request whose content was lost on
// the way must not be taken for the wish that nothing be served.
func Empty(doc *millracev1.Document) Errors {
	said := false
	doc.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		said = f.IsList() || proto.Size(v.Message().Interface()) > 0 // a field without a value is an empty message
		return !said
	})
	if said {
		return nil
	}
	return Errors{{Reason: "holds no configuration: it is empty, or has nothing but comments and empty fields; a gateway that serves nothing is gateway: {name: default}"}}
}

// Load reads a document in YAML or JSON, fills in the defaults and checks it. file is its name for
// error messages. Unknown fields, duplicate keys, values of the wrong type and an empty document
// are errors. The error is an Errors.
func Load(file string, data []byte) (*millracev1.Document, error) {
	data = oneLineEnd(data)
	root, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	doc := &millracev1.Document{}
	var found Errors
	found = append(found, unread(root, "")...)
	if err := unmarshal(data, doc); err != nil {
		found = append(found, located(root, err)...)
	} else if empty := Empty(doc); empty != nil {
		e := empty[0]
		e.Line, e.Column = 1, 1
		found = append(found, e)
	} else {
		written := fmt.Sprintf("upstreams[%d].", len(doc.Upstreams)) // where the short form will stand
		shortForm := doc.Providers != nil
		SetDefaults(doc)
		for _, e := range Validate(doc) {
			if rest, ok := strings.CutPrefix(e.Path, written); ok && shortForm {
				e.Path = "providers." + rest
			}
			e.Line, e.Column = position(root, e.Path)
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return doc, nil
	}
	for i := range found {
		found[i].File = file
	}
	slices.SortStableFunc(found, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	samePlace := func(a, b Error) bool { return a.Line == b.Line && a.Column == b.Column && a.Path == b.Path }
	return nil, slices.CompactFunc(found, samePlace) // a value of the wrong type breaks its rules too: the first says it all
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// oneLineEnd writes all that YAML 1.1 takes for a line's end as LF, the end of the data included.
// protoyaml counts lines by LF alone, and panics when an error is in a line that it has not
// counted.
func oneLineEnd(data []byte) []byte {
	if bytes.ContainsAny(data, "\r\u0085\u2028\u2029") {
		data = []byte(lineEnds.Replace(string(data)))
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		data = append(slices.Clip(data), '\n')
	}
	return data
}

var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (?s)(.*)$`)

// parse reads the syntax. An empty document is an empty mapping; a second one is an error, for
// nobody would read it.
func parse(file string, data []byte) (*yaml.Node, error) {
	var document, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	err := d.Decode(&document)
	if err == nil {
		err = d.Decode(&second)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		e := Error{File: file, Line: 1, Column: 1, Reason: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			e.Reason = m[2]
		}
		return nil, Errors{e}
	}
	if len(second.Content) > 0 && second.Content[0].Tag != "!!null" {
		e := Error{File: file, Line: second.Content[0].Line, Column: second.Content[0].Column,
			Reason: "a second document begins here, behind a line of ---: write all of it in one"}
		return nil, Errors{e}
	}
	if len(document.Content) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}, nil
	}
	return document.Content[0], nil
}

// check applies the rules stated in the proto to a message that did not come from a file.
func check(m proto.Message) Errors {
	var invalid *protovalidate.ValidationError
	switch err := protovalidate.Validate(m); {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		var found Errors
		for _, violation := range invalid.Violations {
			found = append(found, Error{Path: protovalidate.FieldPathString(violation.Proto.GetField()), Reason: violation.Proto.GetMessage()})
		}
		return found
	default:
		return Errors{{Reason: err.Error()}}
	}
}

// unmarshal decodes strictly and checks the rules stated in the proto. Should the decoder panic, as
// it has, the document is refused.
func unmarshal(data []byte, m proto.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decoder cannot read this document: %v", p)
		}
	}()
	return protoyaml.UnmarshalOptions{Validator: rules{}, CustomUnmarshaler: scalars{}}.Unmarshal(data, m)
}

// rules are those stated in the proto, as protoyaml wants them. protovalidate keeps what it has
// compiled.
type rules struct{}

func (rules) Validate(m proto.Message) error { return protovalidate.Validate(m) }

// unread finds what the YAML decoder passes over in silence: keys that stand twice in one mapping,
// of which it takes the last, and tags by which other products refer to a value that is elsewhere
// (!ENV, !secret).
func unread(n *yaml.Node, path string) Errors {
	var found Errors
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		found = append(found, Error{Line: n.Line, Column: n.Column, Path: path,
			Reason: "has the tag " + quoted(n.Tag) + ", which means nothing here; a secret that is elsewhere is written {env: NAME} or {file: PATH}"})
	}
	switch n.Kind {
	case yaml.MappingNode:
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			at := join(path, key.Value)
			if line, again := first[key.Value]; again {
				found = append(found, Error{Line: key.Line, Column: key.Column, Path: at,
					Reason: fmt.Sprintf("duplicate key, first given in line %d", line)})
			}
			first[key.Value] = key.Line
			found = append(found, unread(n.Content[i+1], at)...)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			found = append(found, unread(item, path+"["+strconv.Itoa(i)+"]")...)
		}
	}
	return found
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

var positioned = regexp.MustCompile(`^:(\d+):(\d+) ([^\n]*)`)

// located turns the decoder's errors, which know a line and a column, into ours, which also know
// the path.
func located(root *yaml.Node, err error) Errors {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var found Errors
	for _, err := range all {
		e := Error{Line: 1, Column: 1, Reason: err.Error()}
		if m := positioned.FindStringSubmatch(err.Error()); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			e.Column, _ = strconv.Atoi(m[2])
			e.Path = pathAt(root, "", e.Line, e.Column)
			e.Reason = plain(m[3], e.Path)
		}
		found = append(found, e)
	}
	return found
}

// plain takes what only the decoder's author needs out of its words: the field path we already
// show, the rule's id and the protobuf type names.
func plain(reason, path string) string {
	if field, rest, ok := strings.Cut(reason, ": "); ok && strings.HasSuffix(path, field) {
		reason = rest
	}
	reason = ruleID.ReplaceAllString(reason, "")
	if m := unknownField.FindStringSubmatch(reason); m != nil {
		if write := elsewhere[path[strings.LastIndexByte(path, '.')+1:]]; write != "" {
			return "unknown field: write " + write
		}
		return "unknown field"
	}
	return strings.NewReplacer("expected fields for millrace.v1.", "want the fields of a ", ", got scalar", ", got a plain value").Replace(reason)
}

// elsewhere is what fields of other products are called here.
var elsewhere = map[string]string{
	"api_key":      "secret_key_ref: {env: NAME} in the provider",
	"apiKey":       "secret_key_ref: {env: NAME} in the provider",
	"api_key_env":  "secret_key_ref: {env: NAME} in the provider",
	"api_key_file": "secret_key_ref: {file: PATH} in the provider",
	"api_base":     "base_url in the provider",
	"apiBase":      "base_url in the provider",
	"baseURL":      "base_url in the provider",
	"baseUrl":      "base_url in the provider",
}

var (
	ruleID       = regexp.MustCompile(` \([a-z0-9_.]+\)$`)
	unknownField = regexp.MustCompile(`^unknown field `)
)

// pathAt finds the field whose key or value begins at the position.
func pathAt(n *yaml.Node, path string, line, column int) string {
	if n.Line == line && n.Column == column && path != "" {
		return path
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, at := n.Content[i], join(path, n.Content[i].Value)
			if key.Line == line && key.Column == column {
				return at
			}
			if found := pathAt(n.Content[i+1], at, line, column); found != "" {
				return found
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if found := pathAt(item, path+"["+strconv.Itoa(i)+"]", line, column); found != "" {
				return found
			}
		}
	}
	return ""
}

// position finds where the field is, or the nearest field above it that the document has.
func position(root *yaml.Node, path string) (line, column int) {
	n := root
	line, column = n.Line, n.Column
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := child(n, step)
		if next == nil {
			break
		}
		n = next
		line, column = n.Line, n.Column
	}
	return line, column
}

func child(n *yaml.Node, step string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
	}
	return nil
}

// AsErrors returns what is wrong one by one, also when err is no Errors.
func AsErrors(err error) Errors {
	var es Errors
	if errors.As(err, &es) {
		return es
	}
	return Errors{{Reason: err.Error()}}
}
