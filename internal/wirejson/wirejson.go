// Package wirejson is what every codec does alike with the JSON on its wire: it reads a client's
// values and says where one is of the wrong kind, it reads a provider's leniently, and it writes
// strings. It knows no schema. What it reads it does not keep or change.
package wirejson

import (
	"errors"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/strictjson"
)

// Lenient reads what a strict reader refuses: a provider's slip is no reason to lose its answer.
// Invalid UTF-8 becomes U+FFFD.
var Lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// Writing writes what a client or a provider has sent as it came: strings inside raw values keep
// their spelling.
var Writing = json.JoinOptions(Lenient, jsontext.PreserveRawStrings(true))

// Mismatch is a client's value of the wrong kind.
type Mismatch struct {
	Path  string // of the member, as clients write it: messages[2].content; "" for the whole body
	Words string // "want a string, got null"
}

func (m *Mismatch) Error() string { return m.Words }

// Member is the path, for whoever makes an error for the client of it.
func (m *Mismatch) Member() string { return m.Path }

// Wanted is a type that says itself what JSON it is read from, where its kind in Go does not tell.
// Its zero value is asked.
type Wanted interface{ Wanted() string }

// Unmarshal reads a client's value, which stands at path in its body. The error is a *Mismatch, or
// says what is wrong with the JSON.
func Unmarshal(path string, raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) {
		if _, scanned := strictjson.Scan(raw); scanned != nil { // says it in the client's terms
			return scanned
		}
		return err
	}
	want, got := wanted(wrong.GoType), Kind(wrong.JSONKind)
	m := &Mismatch{Path: memberPath(path, wrong.JSONPointer), Words: "want " + want}
	if wrong.JSONKind != 0 && !(want == "an integer" && got == "a number") { // 1.5 is one
		m.Words += ", got " + got
	}
	return m
}

// memberPath writes a JSON pointer below path.
func memberPath(path string, pointer jsontext.Pointer) string {
	var b strings.Builder
	b.WriteString(path)
	for token := range pointer.Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			b.WriteString("[" + token + "]")
		case b.Len() == 0:
			b.WriteString(token)
		default:
			b.WriteString("." + token)
		}
	}
	return b.String()
}

// wanted names a Go type as a client would.
func wanted(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "another value"
	}
	if w, ok := reflect.Zero(t).Interface().(Wanted); ok {
		return w.Wanted()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "an integer"
	case reflect.Slice:
		return "an array"
	default:
		return "an object"
	}
}

var kinds = map[jsontext.Kind]string{
	jsontext.KindNull: "null", jsontext.KindFalse: "false", jsontext.KindTrue: "true", jsontext.KindString: "a string",
	jsontext.KindNumber: "a number", jsontext.KindBeginObject: "an object", jsontext.KindBeginArray: "an array",
}

// Kind names a JSON value as a client would.
func Kind(k jsontext.Kind) string {
	if name := kinds[k]; name != "" {
		return name
	}
	return "nothing"
}

// Given tells whether an optional member was there and not null.
func Given(v jsontext.Value) bool { return len(v) > 0 && v.Kind() != jsontext.KindNull }

// Quote writes a JSON string; what is not UTF-8 in it becomes U+FFFD.
func Quote(s string) jsontext.Value { return AppendQuote(make([]byte, 0, len(s)+2), s) }

// AppendQuote is Quote behind dst.
func AppendQuote[S string | []byte](dst []byte, s S) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // fails on invalid UTF-8 only, having replaced it
	return dst
}

// Unquote is what a JSON string says, "" for any other value and for none. What is not UTF-8 in it
// becomes U+FFFD.
func Unquote(v jsontext.Value) string {
	if v.Kind() != jsontext.KindString {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, v)
	return string(text)
}

// Number is a client's number as the text it was: 1.0 stays 1.0. Null reads as none.
type Number string

// Wanted implements Wanted.
func (Number) Wanted() string { return "a number" }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *Number) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case jsontext.KindNumber:
		*n = Number(v)
	case jsontext.KindNull:
		*n = ""
	default:
		return &json.SemanticError{JSONKind: v.Kind()}
	}
	return nil
}

// MarshalJSONTo implements json.MarshalerTo.
func (n Number) MarshalJSONTo(e *jsontext.Encoder) error { return e.WriteValue(jsontext.Value(n)) }
