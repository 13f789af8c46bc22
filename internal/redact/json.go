package redact

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep text that is JSON in a string of JSON is unescaped.
const maxDepth = 3

// views are a text, what its JSON escapes stand for, what the escapes in that stand for, and so on.
// Where none of the triggers is in it, unescaping shows nothing.
func views(text []byte, triggers [][]byte) [][]byte {
	all := [][]byte{text}
	for len(all) <= maxDepth && containsAny(all[len(all)-1], triggers) {
		all = append(all, unescaped(all[len(all)-1]))
	}
	return all
}

// escapes are the beginnings of what JSON may write in place of a character of the secrets, or of a
// mask.
func (s Set) escapes() [][]byte {
	if s.empty() {
		return nil
	}
	var all strings.Builder
	for _, one := range s.secrets {
		all.WriteString(one.text)
		for _, code := range one.encoded {
			all.Write(code)
		}
	}
	for _, token := range s.tokens {
		all.WriteString(token)
	}
	triggers := [][]byte{[]byte(`\u00`), []byte(`\u20`)}
	for char, escape := range map[string]string{"/": `\/`, `"`: `\"`, `\`: `\\`, "\t": `\t`} {
		if strings.Contains(all.String(), char) {
			triggers = append(triggers, []byte(escape))
		}
	}
	if strings.ContainsFunc(all.String(), func(r rune) bool { return r >= utf8.RuneSelf }) {
		triggers = append(triggers, []byte(`\u`))
	}
	return triggers
}

// unescaped is the text with what its JSON escapes stand for. What is no escape stays.
func unescaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := unit(text)
		if n == 1 {
			out = append(out, text[0])
		} else {
			out = utf8.AppendRune(out, r)
		}
		text = text[n:]
	}
	return out
}

// unit is the first byte or escape of the text: what it stands for, and its length.
func unit(text []byte) (rune, int) {
	if text[0] != '\\' || len(text) == 1 {
		return rune(text[0]), 1
	}
	if i := strings.IndexByte(`"\/bfnrt`, text[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	first, ok := codeUnit(text)
	if !ok {
		return rune(text[0]), 1
	}
	if utf16.IsSurrogate(first) {
		if second, ok := codeUnit(text[6:]); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return first, 6
}

// codeUnit reads \uXXXX.
func codeUnit(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	code, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(code), err == nil
}

// source says where in the text the spans of its unescaped form come from. A span that begins or
// ends within an escape has all of it.
func source(text []byte, found []span) []span {
	mapped := slices.Clone(found)
	byFrom, byTo := make([]int, len(found)), make([]int, len(found)) // indices, in the order of the spans' ends
	for i := range found {
		byFrom[i], byTo[i] = i, i
	}
	slices.SortFunc(byFrom, func(a, b int) int { return found[a].from - found[b].from })
	slices.SortFunc(byTo, func(a, b int) int { return found[a].to - found[b].to })
	at, from := 0, 0 // in the unescaped form, and in the text
	for len(byTo) > 0 {
		r, n := unit(text[from:])
		at++
		if n > 1 {
			at += utf8.RuneLen(r) - 1
		}
		for len(byFrom) > 0 && found[byFrom[0]].from < at {
			mapped[byFrom[0]].from = from
			byFrom = byFrom[1:]
		}
		from += n
		for len(byTo) > 0 && found[byTo[0]].to <= at {
			mapped[byTo[0]].to = from
			byTo = byTo[1:]
		}
	}
	return mapped
}

// stringsOf is where the strings of a valid JSON value stand, without their quotes.
func stringsOf(value []byte) []span {
	var all []span
	for at := 0; ; {
		i := bytes.IndexByte(value[at:], '"')
		if i < 0 {
			return all
		}
		from := at + i + 1
		end := from
		for value[end] != '"' {
			if value[end] == '\\' {
				end++
			}
			end++
		}
		all = append(all, span{from, end})
		at = end + 1
	}
}

// within leaves out the spans that are not within one of the parts, which are in order.
func within(parts, found []span) []span {
	return slices.DeleteFunc(found, func(f span) bool {
		i, exact := slices.BinarySearchFunc(parts, f.from, func(p span, from int) int { return p.from - from })
		if !exact {
			i--
		}
		return i < 0 || f.to > parts[i].to
	})
}
