package match

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// FindJSON finds what is in JSON text: each string, of values and of names, and each number is a
// text of its own, decoded; no match goes over its end. Offsets are in the JSON text. Half a number
// cannot be replaced, so what is found in a number is all of it.
//
// From where the text is not JSON on, the rest of it is one text as it is.
func (s *Set) FindJSON(text string) ([]Found, error) {
	v := &values{set: s, begun: s.readWhole}
	v.push(text)
	v.close()
	found := v.take()
	slices.SortFunc(found, order)
	return found, nil
}

// StreamJSON is FindJSON for text that comes in pieces; see Stream for most.
func (s *Set) StreamJSON(most int) *Stream {
	return &Stream{most: max(most, 16), texts: &values{set: s, begun: s.read}}
}

// Quote returns text as it is written within a JSON string.
func Quote(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always can be
	return strings.TrimSuffix(b.String()[1:], "\"\n")
}

// values reads the texts in JSON text. Positions are in the JSON text, but in text and origin.
type values struct {
	set    *Set
	begun  func() texts // begins one of the texts
	expect expect
	in     []byte // the objects and arrays that are open: { and [
	read   int    // up to here
	rest   string // the start of an escape or a character that is cut

	text   texts   // the string that is open, or the rest that is not JSON
	name   bool    // it is the name of a member
	origin origin  // of text
	number string  // that is open
	from   int     // where it starts, or what is not given up of it
	word   string  // what has to come of true, false or null
	found  []Found // in texts that ended
}

// expect is what may come next.
type expect uint8

const (
	value expect = iota
	valueOrEnd
	name
	nameOrEnd
	colon
	commaOrEnd
	nothing   // but white space
	inString  // or its end
	inNumber  // or what ends it
	inWord    // the rest of true, false or null
	plainText // it is not JSON
)

const maxDepth = 10_000

func (v *values) push(text string) {
	text = v.rest + text
	v.rest = ""
	for text != "" {
		n := v.next(text)
		if n == 0 {
			v.rest = text
			return
		}
		text = text[n:]
	}
}

// next reads what is next and returns its bytes. 0: more has to come first.
func (v *values) next(text string) int {
	n := 1
	switch v.expect {
	case inString:
		return v.character(text)
	case plainText:
		return v.copied(text)
	case inNumber:
		if n = len(text) - len(strings.TrimLeft(text, "0123456789+-.eE")); n == 0 {
			v.endNumber()
			return v.next(text)
		}
		v.number += text[:n]
	case inWord:
		if text[0] != v.word[0] {
			return v.give(text)
		}
		if v.word = v.word[1:]; v.word == "" {
			v.valued()
		}
	default:
		if n = len(text) - len(strings.TrimLeft(text, " \t\r\n")); n == 0 {
			if n = 1; !v.token(text[0]) {
				return v.give(text)
			}
		}
	}
	v.read += n
	return n
}

// give reads text as it is: it is not JSON.
func (v *values) give(text string) int {
	v.expect = plainText
	v.begin(v.read, false)
	return v.copied(text)
}

// token reads a byte that is no white space, if it may come now.
func (v *values) token(c byte) bool {
	switch e := v.expect; {
	case e == colon && c == ':':
		v.expect = value
	case e == commaOrEnd && c == ',' && v.in[len(v.in)-1] == '{':
		v.expect = name
	case e == commaOrEnd && c == ',':
		v.expect = value
	case c == '}' && (e == nameOrEnd || e == commaOrEnd && v.in[len(v.in)-1] == '{'),
		c == ']' && (e == valueOrEnd || e == commaOrEnd && v.in[len(v.in)-1] == '['):
		v.in = v.in[:len(v.in)-1]
		v.valued()
	case c == '"' && (e == name || e == nameOrEnd):
		v.expect = inString
		v.begin(v.read+1, true)
	case e == value || e == valueOrEnd:
		return v.value(c)
	default:
		return false
	}
	return true
}

// value reads the first byte of a value.
func (v *values) value(c byte) bool {
	switch {
	case (c == '{' || c == '[') && len(v.in) < maxDepth:
		v.in = append(v.in, c)
		v.expect = valueOrEnd
		if c == '{' {
			v.expect = nameOrEnd
		}
	case c == '"':
		v.expect = inString
		v.begin(v.read+1, false)
	case c == '-' || c >= '0' && c <= '9':
		v.expect, v.number, v.from = inNumber, string(c), v.read
	case c == 't':
		v.expect, v.word = inWord, "rue"
	case c == 'f':
		v.expect, v.word = inWord, "alse"
	case c == 'n':
		v.expect, v.word = inWord, "ull"
	default:
		return false
	}
	return true
}

// valued ends a value.
func (v *values) valued() {
	v.expect = commaOrEnd
	if len(v.in) == 0 {
		v.expect = nothing
	}
}

// begin begins a text at the byte that is read next.
func (v *values) begin(at int, name bool) {
	v.text, v.name, v.origin = v.begun(), name, origin{of: at}
}

// end ends the text that is open.
func (v *values) end() {
	v.text.close()
	v.takeText()
	v.text = nil
}

// character reads characters of a string, or its end.
func (v *values) character(text string) int {
	switch n := strings.IndexAny(text, `"\`); {
	case n < 0:
		return v.copied(text)
	case n > 0:
		return v.copied(text[:n])
	case text[0] == '"':
		v.end()
		v.read++
		if v.valued(); v.name {
			v.expect = colon
		}
		return 1
	}
	r, n := escaped(text)
	switch {
	case n == 0:
		return 0
	case n < 0:
		v.end()
		return v.give(text)
	}
	v.origin.decoded(utf8.RuneLen(r), n)
	v.text.push(string(r))
	v.read += n
	return n
}

func (v *values) copied(text string) int {
	v.origin.copied(len(text))
	v.text.push(text)
	v.read += len(text)
	return len(text)
}

// escaped reads an escape. n is 0 when more of it has to come, and -1 when it is none.
func escaped(text string) (r rune, n int) {
	if len(text) < 2 {
		return 0, 0
	}
	if i := strings.IndexByte(`"\/bfnrt`, text[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	r, n = unit(text)
	if n <= 0 || !utf16.IsSurrogate(r) {
		return r, n
	}
	low, m := unit(text[n:])
	if m == 0 {
		return 0, 0
	}
	if both := utf16.DecodeRune(r, low); m > 0 && both != utf8.RuneError {
		return both, n + m
	}
	return utf8.RuneError, n
}

// unit reads \u and four digits.
func unit(text string) (r rune, n int) {
	for i := range 6 {
		if i == len(text) {
			return 0, 0
		}
		c := text[i]
		switch digit := strings.IndexByte("0123456789abcdef", c|0x20); {
		case i == 0 && c == '\\', i == 1 && c == 'u':
		case i >= 2 && digit >= 0 && (c >= 'A' || c <= '9' && c >= '0'):
			r = r<<4 | rune(digit)
		default:
			return 0, -1
		}
	}
	return r, 6
}

func (v *values) endNumber() {
	v.findNumber()
	v.number = ""
	v.valued()
}

// findNumber finds what is in the number that is open, each pattern once.
func (v *values) findNumber() {
	found, _ := v.set.Find(v.number)
	seen := map[int]bool{}
	for _, f := range found {
		if !seen[f.Pattern] && v.from < v.read {
			v.found = append(v.found, Found{Pattern: f.Pattern, From: v.from, To: v.read, Number: true})
		}
		seen[f.Pattern] = true
	}
}

// close ends the text. What it cuts off, an escape, is a text of its own.
func (v *values) close() {
	if v.number != "" {
		v.endNumber()
	}
	if v.text != nil {
		v.end()
	}
	if v.rest != "" {
		v.give(v.rest)
		v.end()
		v.rest = ""
	}
}

func (v *values) open() int {
	if v.text != nil {
		return v.origin.from(v.text.open())
	}
	if v.number != "" {
		return v.from
	}
	return v.read
}

func (v *values) takeText() {
	for _, f := range v.text.take() {
		f = v.origin.trace(f)
		f.Name = v.name
		v.found = append(v.found, f)
	}
	v.origin.forget(v.text.open())
}

func (v *values) take() []Found {
	if v.text != nil {
		v.takeText()
	}
	found := v.found
	v.found = nil
	return found
}

func (v *values) decide(at int) {
	if v.text != nil {
		v.text.decide(v.origin.index(at))
	} else if v.number != "" {
		v.findNumber()
	}
}

func (v *values) restart(at int) {
	if v.text != nil {
		v.text.restart(v.origin.index(at))
	}
	if v.number != "" {
		v.number, v.from = "0", v.read
	}
}

func (v *values) start(at int) int {
	if v.text != nil {
		return v.origin.from(v.text.start(v.origin.index(at)))
	}
	return v.read
}
