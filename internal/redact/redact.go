// Package redact takes secrets out of text that others wrote: a provider quotes the key that it did
// not like, as it is, in part, escaped or encoded. What was taken out is replaced by Mark. JSON
// stays JSON, and text without a secret stays the same bytes.
//
// What a secret looks like decides where it is looked for (New). A dummy key must not eat words:
// "test" is never looked for. A secret that is split over two texts is not found.
package redact

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mark stands where a secret stood.
const Mark = "[redacted]"

// Set is the secrets to take out. The zero value has none. It is never changed, so its methods may
// overlap.
type Set struct {
	secrets  []secret
	tokens   []string // secrets that count only as a whole token
	triggers [][]byte // escapes that a secret may hide behind
}

// New makes a Set of the values of headers that carry credentials. Of "Bearer KEY" the key is the
// secret. There are three sorts:
//   - A secret of 8 bytes with letters and digits, of 12 with letters or digits and anything else,
//     or of 20, and of at least 6 different bytes, is found everywhere: whole, as base64 (within a
//     longer text too), by its beginning or its end ("sk-abcde…"), and where a part of it stands
//     beside asterisks or an ellipsis ("sk-abc***wxyz").
//   - Any other of 5 bytes with a letter and something that is none ("key-a", "sk-dummy") is found
//     where it is a whole token. A model may say such a thing, so Certain leaves these out.
//   - The rest is words and numbers ("password", "x"), and is not looked for.
func New(values ...string) Set { return Set{}.With(values...) }

// With is the set with further secrets.
func (s Set) With(values ...string) Set {
	s.secrets, s.tokens = slices.Clip(s.secrets), slices.Clip(s.tokens)
	for _, v := range values {
		v = withoutScheme(v)
		switch {
		case slices.ContainsFunc(s.secrets, func(known secret) bool { return known.text == v }):
		case certain(v):
			s.secrets = append(s.secrets, compile(v))
		case len(v) >= 5 && letters(v) > 0 && letters(v) < len(v):
			s.tokens = append(s.tokens, v)
		}
	}
	s.triggers = s.escapes()
	return s
}

// Certain is the set without the secrets that a model's words may hold by chance.
func (s Set) Certain() Set {
	s.tokens = nil
	s.triggers = s.escapes()
	return s
}

func (s Set) empty() bool { return len(s.secrets)+len(s.tokens) == 0 }

// withoutScheme is what stands after the name of an HTTP authentication scheme, if there is one.
func withoutScheme(v string) string {
	if scheme, rest, ok := strings.Cut(v, " "); ok && len(scheme) <= 8 && letters(scheme) == len(scheme) {
		return strings.TrimLeft(rest, " ")
	}
	return v
}

// certain tells whether text that holds the secret holds it for no other reason.
func certain(v string) bool {
	digits := 0
	different := map[byte]bool{}
	for i := range len(v) {
		different[v[i]] = true
		if v[i] >= '0' && v[i] <= '9' {
			digits++
		}
	}
	letters := letters(v)
	least := 12
	switch {
	case letters > 0 && digits > 0:
		least = 8
	case letters == len(v) || digits == len(v):
		least = 20
	}
	return len(v) >= least && len(different) >= 6
}

func letters(s string) int {
	n := 0
	for i := range len(s) {
		if isLetter(s[i]) {
			n++
		}
	}
	return n
}

// isLetter takes every byte beyond ASCII for one.
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf }

func isWord(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' }

// String redacts plain text, such as a message or the value of a header.
func (s Set) String(text string) string {
	if s.empty() || text == "" {
		return text
	}
	raw := []byte(text)
	if out := s.text(raw); &out[0] != &raw[0] {
		return string(out)
	}
	return text
}

// maxPasses bounds how often a text is looked through again after something was found. What stands
// beside a Mark is looked at with other neighbours; the second pass finds nothing more as a rule.
const maxPasses = 4

// text redacts plain text, and returns it itself where there is nothing to redact.
func (s Set) text(raw []byte) []byte {
	for range maxPasses {
		found := s.find(views(raw, s.triggers))
		if len(found) == 0 {
			break
		}
		raw = replaced(raw, found)
	}
	return raw
}

// JSON redacts a JSON value: what stands in its strings, names of members included. What is no JSON
// is redacted as plain text. It returns raw itself where there is nothing to redact, and does not
// change it.
func (s Set) JSON(raw []byte) []byte {
	if !s.suspects(raw) {
		return raw
	}
	if !json.Valid(raw) {
		return s.text(raw)
	}
	for range maxPasses {
		found := within(stringsOf(raw), source(raw, s.find(views(unescaped(raw), s.triggers))))
		if len(found) == 0 {
			break
		}
		raw = replaced(raw, found)
	}
	return raw
}

// Events redacts whole server-sent events: the data of each, which is JSON as a rule, and the other
// lines. It returns raw itself where there is nothing to redact, and does not change it.
func (s Set) Events(raw []byte) []byte {
	if !s.suspects(raw) {
		return raw
	}
	out := make([]byte, 0, len(raw)+len(Mark))
	for len(raw) > 0 {
		line := raw
		if end := bytes.IndexAny(raw, "\r\n"); end >= 0 {
			line = raw[:end]
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			out = append(out, "data:"...)
			out = append(out, s.JSON(data)...)
		} else {
			out = append(out, s.text(line)...)
		}
		raw = raw[len(line):]
		if len(raw) > 0 {
			out, raw = append(out, raw[0]), raw[1:]
		}
	}
	return out
}

// suspects is the quick look at text that has nothing to redact, which is nearly all.
func (s Set) suspects(raw []byte) bool {
	return !s.empty() && (containsAny(raw, s.triggers) || len(s.search(raw)) > 0)
}

func containsAny(text []byte, any [][]byte) bool {
	return slices.ContainsFunc(any, func(one []byte) bool { return bytes.Contains(text, one) })
}

// span is a part of a text, from its first byte to the one after its last.
type span struct{ from, to int }

// find looks through a text in all its views, and returns what is to be replaced in the first of
// them.
func (s Set) find(views [][]byte) []span {
	var found []span
	for i, view := range slices.Backward(views) {
		found = append(found, s.search(view)...)
		if i > 0 {
			found = source(views[i-1], found)
		}
	}
	for i, f := range found { // a secret's beginning or end may have split a rune
		from, _ := runeAround(views[0], f.from)
		_, to := runeAround(views[0], f.to)
		found[i] = span{from, to}
	}
	return found
}

// runeAround is where the rune begins and ends that the place is inside of; the place itself where
// it is inside of none.
func runeAround(text []byte, at int) (from, to int) {
	for back := 1; back < utf8.UTFMax && back <= at && at < len(text); back++ {
		if _, n := utf8.DecodeRune(text[at-back:]); n > back {
			return at - back, at - back + n
		}
	}
	return at, at
}

// search finds the secrets that stand in the text as it is. What it finds may overlap.
func (s Set) search(text []byte) []span {
	var found []span
	for i := range s.secrets {
		found = s.secrets[i].search(found, text)
	}
	for _, token := range s.tokens {
		for at := range occurrences(text, []byte(token)) {
			if f := (span{at, at + len(token)}); f.isToken(text) {
				found = append(found, f)
			}
		}
	}
	if len(s.secrets) > 0 {
		found = s.masked(found, text)
	}
	return found
}

func (f span) isToken(text []byte) bool {
	joins := func(c byte) bool { return isWord(c) || c == '-' || c == '_' }
	return (f.from == 0 || !joins(text[f.from-1])) && (f.to == len(text) || !joins(text[f.to]))
}

// occurrences yields where part stands in text, overlaps included.
func occurrences(text, part []byte) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for from := 0; ; from++ {
			i := bytes.Index(text[from:], part)
			if i < 0 || !yield(from+i) {
				return
			}
			from += i
		}
	}
}

// replaced is a copy of the text with the Mark in place of every span.
func replaced(text []byte, found []span) []byte {
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	out := make([]byte, 0, len(text)+len(Mark))
	end := 0
	for i, f := range found {
		if i == 0 || f.from > end { // else it goes on where the one before ended
			out = append(out, text[end:f.from]...)
			out = append(out, Mark...)
		}
		end = max(end, f.to)
	}
	return append(out, text[end:]...)
}
