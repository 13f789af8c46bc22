// Package errorbody reads the body of an error, whatever API, proxy or framework wrote it: OpenAI's
// and Anthropic's {"error":{…}}, the flat forms, FastAPI's list of violations, Gemini's array,
// problem details of RFC 9457. It finds the words and the codes; what they mean for a schema is for
// the schema to say. A body that breaks off is read as far as it goes. It takes one pass.
package errorbody

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Said is what an error body has said. Any of it may be missing.
type Said struct {
	Message string
	Type    string
	Code    string // a word, or a status in digits
	Param   string
	Detail  jsontext.Value // Azure's innererror, verbatim

	rank  int    // of the member that Message is from
	where string // FastAPI's loc
}

var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// maxDepth is how many objects and arrays may be around a message. Three is what is met.
const maxDepth = 8

// Read reads a JSON body. It says nothing of a body that is none.
func Read(body []byte) Said {
	r := reader{jsontext.NewDecoder(bytes.NewBuffer(bytes.TrimPrefix(body, bom)), lenient...)}
	var said Said
	switch r.PeekKind() {
	case jsontext.KindBeginArray: // one error, as a rule
		said = r.first()
	case jsontext.KindBeginObject:
		said, _ = r.object(0)
	}
	return said
}

var bom = []byte("\xef\xbb\xbf")

// maxText is what a plain text may have and still be a message. A longer one is a page or a dump.
const maxText = 500

// Text is a body that is a message as it stands: a proxy's "upstream connect error", a server's
// "404 page not found". It is "" for HTML, for JSON whether whole or torn, and for what is long.
func Text(body []byte) string {
	line := bytes.TrimSpace(bytes.TrimPrefix(body, bom))
	if len(line) == 0 || len(line) > maxText || !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 || bytes.ContainsAny(line[:1], `<{["`) {
		return ""
	}
	return string(line)
}

// ranks are the members that hold a message, and how good it is: of several the one of the lowest
// rank is taken. They may be strings, objects that hold a message again, or lists of either.
var ranks = map[string]int{
	"message": 1, "Message": 1, "msg": 1, // OpenAI, Anthropic, vLLM; AWS; some Chinese providers and pydantic
	"error_message": 2, "errorMessage": 2, "error_msg": 2, "error_description": 2, // AWS Lambda; Baidu; OAuth
	"detail": 3, "details": 3, // FastAPI, RFC 9457
	"faultstring": 3,             // Apigee
	"errors":      4, "error": 5, // Cloudflare; Ollama, Spring
	"description": 6, "title": 7, "reason": 8,
}

// containers hold an error as a whole: what they say of type and code counts, and what is beside
// them does not.
var containers = map[string]bool{"error": true, "fault": true}

type reader struct{ *jsontext.Decoder }

// object reads an object. ok is false where the body breaks off.
func (r reader) object(depth int) (said Said, ok bool) {
	if _, err := r.ReadToken(); err != nil {
		return said, false
	}
	for r.PeekKind() == jsontext.KindString {
		name, err := r.ReadToken()
		if err != nil {
			return said, false
		}
		if key := name.String(); containers[key] && r.PeekKind() == jsontext.KindBeginObject && depth < maxDepth {
			var inner Said
			inner, ok = r.object(depth + 1)
			said.take(inner)
		} else {
			ok = r.member(&said, key, depth)
		}
		if !ok {
			return said, false
		}
	}
	_, err := r.ReadToken()
	return said, err == nil
}

// take puts what a container says in the place of what is beside it. An empty one says nothing.
func (s *Said) take(inner Said) {
	if inner.Message == "" && inner.Type == "" && inner.Code == "" {
		return
	}
	outer := *s
	*s = inner
	s.rank, s.where = 0, outer.where // nothing that is still to come is better
	if s.Message == "" {
		s.Message, s.rank = outer.Message, outer.rank
	}
}

// member reads one value. It returns false where the body breaks off.
func (r reader) member(said *Said, name string, depth int) bool {
	if rank := ranks[name]; rank > 0 {
		text, ok := r.words(depth + 1)
		if text != "" && (said.Message == "" || rank < said.rank) {
			said.Message, said.rank = text, rank
		}
		return ok
	}
	switch name {
	case "type", "error_type", "__type":
		return r.word(&said.Type)
	case "status": // Google's RESOURCE_EXHAUSTED; a number is the HTTP status, which is known
		return r.word(&said.Type, jsontext.KindString)
	case "code", "statusCode", "error_code", "errorCode":
		return r.word(&said.Code, jsontext.KindString, jsontext.KindNumber)
	case "param":
		return r.word(&said.Param)
	case "loc":
		var ok bool
		said.where, ok = r.joined(".", func() (string, bool) {
			var w string
			ok := r.word(&w, jsontext.KindString, jsontext.KindNumber)
			return w, ok
		})
		return ok
	case "innererror":
		v, err := r.ReadValue()
		said.Detail = v.Clone()
		return err == nil
	}
	return r.SkipValue() == nil
}

// word reads a string, or a value of the kinds given, into to unless that has one already. Other
// values are none.
func (r reader) word(to *string, kinds ...jsontext.Kind) bool {
	kind := r.PeekKind()
	fits := len(kinds) == 0 && kind == jsontext.KindString
	for _, k := range kinds {
		fits = fits || k == kind
	}
	if !fits {
		return r.SkipValue() == nil
	}
	token, err := r.ReadToken()
	if err == nil && *to == "" {
		*to = token.String()
	}
	return err == nil
}

// words reads a message: a string, an object that holds one, or a list of either. ok is false where
// the body breaks off.
func (r reader) words(depth int) (text string, ok bool) {
	switch kind := r.PeekKind(); {
	case kind == jsontext.KindString:
		ok = r.word(&text)
		return strings.TrimSpace(text), ok
	case kind == jsontext.KindBeginObject && depth < maxDepth:
		said, ok := r.object(depth)
		if said.where != "" && said.Message != "" {
			said.Message = said.where + ": " + said.Message
		}
		return said.Message, ok
	case kind == jsontext.KindBeginArray && depth < maxDepth:
		return r.joined("; ", func() (string, bool) { return r.words(depth + 1) })
	}
	return "", r.SkipValue() == nil
}

// joined reads an array whose items one reads.
func (r reader) joined(separator string, one func() (string, bool)) (text string, ok bool) {
	if r.PeekKind() != jsontext.KindBeginArray {
		return "", r.SkipValue() == nil
	}
	if _, err := r.ReadToken(); err != nil {
		return "", false
	}
	var all []string
	for kind := r.PeekKind(); kind != jsontext.KindEndArray; kind = r.PeekKind() {
		text, ok := one()
		if text != "" {
			all = append(all, text)
		}
		if !ok {
			return strings.Join(all, separator), false
		}
	}
	_, err := r.ReadToken()
	return strings.Join(all, separator), err == nil
}

// first reads the first object of an array, or the strings in it.
func (r reader) first() Said {
	_, _ = r.ReadToken() // its kind has been seen: it cannot fail
	if r.PeekKind() == jsontext.KindBeginObject {
		said, _ := r.object(1)
		return said
	}
	var all []string
	for r.PeekKind() == jsontext.KindString {
		var text string
		if !r.word(&text) {
			break
		}
		all = append(all, text)
	}
	return Said{Message: strings.Join(all, "; ")}
}
