package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"
)

// Decode reads one resource or document, in YAML or JSON, into m. Unknown fields, duplicate keys,
// values of the wrong type and what breaks a rule stated in the proto are errors, all reported at
// once; the error is an Errors. Defaults are not filled in.
func Decode(data []byte, m proto.Message) error {
	data = oneLineEnd(data)
	root, err := parse("", data)
	if err != nil {
		return err
	}
	found := unread(root, "")
	if err := unmarshal(data, m); err != nil {
		found = append(found, located(root, err)...)
	}
	if len(found) == 0 {
		return nil
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(e Error) bool { // a value of the wrong type breaks its rules too: the first says it all
		again := e.Path != "" && seen[e.Path]
		seen[e.Path] = true
		return again
	})
}

// DecodeJSON is Decode for what must be JSON. Its errors have paths and no lines.
func DecodeJSON(data []byte, m proto.Message) error {
	value, err := StrictJSON(data)
	if err != nil {
		return err
	}
	if value.Kind() != '{' {
		return Errors{{Reason: "want a JSON object"}}
	}
	err = Decode(yamlSafe(value), m)
	var found Errors
	if errors.As(err, &found) {
		for i := range found {
			found[i].Line, found[i].Column = 0, 0
		}
	}
	return err
}

// StrictJSON returns the one JSON value that data is, without white space and comments. Duplicate
// keys, invalid UTF-8 and anything behind the value are errors.
func StrictJSON(data []byte) (jsontext.Value, error) {
	value := jsontext.Value(withoutComments(data))
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, Errors{{Reason: "the body is empty"}}
	}
	if err := value.Format(); err != nil {
		var syntax *jsontext.SyntacticError
		if errors.As(err, &syntax) {
			return nil, Errors{{Path: pointerPath(syntax.JSONPointer), Reason: fmt.Sprintf("not JSON at byte %d: %v", syntax.ByteOffset, syntax.Err)}}
		}
		return nil, Errors{{Reason: err.Error()}}
	}
	return value, nil
}

// withoutComments is a copy in which spaces stand for the comments that the source documents write
// in JSON: from # or // to the end of the line. All else keeps its place. Neither sign is JSON
// outside of a string.
func withoutComments(data []byte) []byte {
	data = slices.Clone(data)
	inString, comment := false, false
	for i, c := range data {
		switch {
		case comment:
			comment = c != '\n'
			if comment {
				data[i] = ' '
			}
		case inString:
			inString = c != '"' || escaped(data[:i])
		case c == '"':
			inString = true
		case c == '#', c == '/' && i+1 < len(data) && data[i+1] == '/':
			comment = true
			data[i] = ' '
		}
	}
	return data
}

// escaped tells whether the byte behind s is, by an odd number of backslashes.
func escaped(s []byte) bool {
	return (len(s)-len(bytes.TrimRight(s, `\`)))%2 == 1
}

// pointerPath writes a JSON pointer as the paths of our errors.
func pointerPath(p jsontext.Pointer) string {
	path := ""
	for step := range p.Tokens() {
		if step != "" && step[0] >= '0' && step[0] <= '9' {
			path += "[" + step + "]"
		} else {
			path = join(path, step)
		}
	}
	return path
}

// yamlSafe escapes what JSON allows in a string and YAML reads as something else: its line ends,
// and characters that it refuses.
func yamlSafe(value []byte) []byte {
	safe := make([]byte, 0, len(value))
	for _, r := range string(value) {
		switch {
		case r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r == 0xfffe, r == 0xffff:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		default:
			safe = utf8.AppendRune(safe, r)
		}
	}
	return safe
}
