package redact

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
)

// secret is one that is found everywhere.
type secret struct {
	text string
	// head and tail are the shortest beginning and end that are redacted by themselves. Every
	// secret has them: if need be they are all of it.
	head, tail []byte
	// common is how much of the beginning other keys have too ("sk-ant-api03-").
	common  int
	encoded [][]byte // what base64 makes of it, wherever in a longer text it stands
}

const (
	// leastPart is how long a beginning or an end has to be, leastOwn how much of a beginning has
	// to be the secret's own.
	leastPart = 8
	leastOwn  = 4
	// mostShown is how much of a secret is looked for beside asterisks.
	mostShown = 64
)

func compile(text string) secret {
	s := secret{text: text, common: common(text)}
	n := min(len(text), max(leastPart, s.common+leastOwn))
	if strings.HasPrefix(text, "eyJ") { // tokens of RFC 7519 begin alike; the end is the signature
		n = len(text)
	}
	for n < len(text) && plain(text[:n]) {
		n++
	}
	s.head = []byte(text[:n])
	n = leastPart
	for n < len(text) && plain(text[len(text)-n:]) {
		n++
	}
	s.tail = []byte(text[len(text)-n:])
	s.encoded = encodings(text)
	return s
}

// common is the length of what a vendor writes before the key proper: up to three short words, each
// with a dash or underscore.
func common(text string) int {
	const words, longest = 3, 8
	end := 0
	for range words {
		i := strings.IndexAny(text[end:], "-_")
		if i < 0 || i > longest {
			break
		}
		end += i + 1
	}
	return end
}

// plain tells whether a part of a secret may stand in a text for another reason: it is a word or a
// number, or the Mark's own.
func plain(part string) bool {
	if strings.Trim(part, "0123456789") == "" || strings.Contains(Mark, part) {
		return true
	}
	rest := part[1:]
	return letters(part) == len(part) && (rest == strings.ToLower(rest) || part == strings.ToUpper(part))
}

// encodings are the base64 texts that the secret is in, whatever stands before and after it: three
// alignments in two alphabets, without the characters that depend on the neighbours.
func encodings(text string) [][]byte {
	var all [][]byte
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			code := alphabet.EncodeToString(append(make([]byte, before), text...))
			first := []int{0, 2, 3}[before]
			last := len(code)
			if (before+len(text))%3 != 0 {
				last--
			}
			core := []byte(code[first:last])
			if !slices.ContainsFunc(all, func(known []byte) bool { return bytes.Equal(known, core) }) {
				all = append(all, core)
			}
		}
	}
	return all
}

// search adds where the text has the secret, its beginning, its end, or its encodings.
func (s *secret) search(found []span, text []byte) []span {
	for at := range occurrences(text, s.head) {
		n := len(s.head)
		for n < len(s.text) && at+n < len(text) && text[at+n] == s.text[n] {
			n++
		}
		found = append(found, span{at, at + n})
	}
	for at := range occurrences(text, s.tail) {
		n := len(s.tail)
		end := at + n
		for n < len(s.text) && end-n > 0 && text[end-n-1] == s.text[len(s.text)-n-1] {
			n++
		}
		found = append(found, span{end - n, end})
	}
	for _, code := range s.encoded {
		for at := range occurrences(text, code) {
			f := span{at, at + len(code)} // and the characters that are half the secret's
			if f.from > 0 && isBase64(text[f.from-1]) {
				f.from--
			}
			if f.to < len(text) && isBase64(text[f.to]) {
				f.to++
			}
			found = append(found, f)
		}
	}
	return found
}

func isBase64(c byte) bool { return isWord(c) || strings.IndexByte("+/-_", c) >= 0 }

// masked adds the forms in which a secret is shown in part: "sk-abc***wxyz", "sk-ab...yz",
// "***wxyz", "sk-abc***".
func (s Set) masked(found []span, text []byte) []span {
	for at := 0; at < len(text); {
		mask := nextMask(text, at)
		if mask.from == len(text) {
			break
		}
		for i := range s.secrets {
			if f, ok := s.secrets[i].around(text, mask); ok {
				found = append(found, f)
			}
		}
		at = mask.to
	}
	return found
}

// around widens a mask by the parts of the secret that stand beside it; false where they say too
// little to be the secret's.
func (s *secret) around(text []byte, mask span) (span, bool) {
	const (
		alone    = 4 // what has nothing on the mask's other side says at least this much
		emphasis = 3 // as many asterisks may stand before a word
	)
	before, after := s.before(text, mask.from), s.after(text, mask.to)
	f := span{mask.from - before, mask.to + after}
	switch {
	case before >= 2 && after >= 2:
		return f, true
	case after >= alone && text[mask.from] != '.' && (mask.to-mask.from > emphasis || !plain(s.text[len(s.text)-after:])):
		return span{mask.from, f.to}, true
	case before >= max(alone, s.common+2) && !plain(s.text[:before]):
		return span{f.from, mask.to}, true
	}
	return f, false
}

// before is how much of the secret's beginning ends there, as a token of its own.
func (s *secret) before(text []byte, end int) int {
	for n := min(len(s.text), end, mostShown); n > 0; n-- {
		if string(text[end-n:end]) == s.text[:n] && (n == end || !isWord(text[end-n-1])) {
			return n
		}
	}
	return 0
}

// after is how much of the secret's end begins there, as a token of its own.
func (s *secret) after(text []byte, from int) int {
	for n := min(len(s.text), len(text)-from, mostShown); n > 0; n-- {
		if string(text[from:from+n]) == s.text[len(s.text)-n:] && (from+n == len(text) || !isWord(text[from+n])) {
			return n
		}
	}
	return 0
}

// nextMask finds asterisks, dots or bullets, two at least, or an ellipsis. An empty span at the end
// of the text says that there are none.
func nextMask(text []byte, at int) span {
	for at < len(text) {
		if c := text[at]; c != '*' && c != '.' && c != "…"[0] {
			at++
			continue
		}
		mask := span{at, at}
		dots := 0
		for {
			n, counts := maskAt(text[mask.to:])
			if n == 0 {
				break
			}
			mask.to += n
			dots += counts
		}
		if dots >= 2 {
			return mask
		}
		at = max(mask.to, at+1)
	}
	return span{len(text), len(text)}
}

// maskAt is the length of the mask character that the text begins with, and for how many dots it
// stands; 0 for any other.
func maskAt(text []byte) (n, dots int) {
	switch {
	case len(text) == 0:
		return 0, 0
	case text[0] == '*' || text[0] == '.':
		return 1, 1
	case bytes.HasPrefix(text, []byte("•")):
		return len("•"), 1
	case bytes.HasPrefix(text, []byte("…")):
		return len("…"), 2
	}
	return 0, 0
}
