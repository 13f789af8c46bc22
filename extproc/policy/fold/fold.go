// Package fold makes text plain, so that tricks of writing do not hide words from patterns. Folded
// text is for matching only: what is sent stays as it was written.
//
// Folding takes away what is not seen (zero-width characters, soft hyphens, marks of direction,
// variation selectors, control characters) and the marks on letters (accents, points, strokes); it
// decodes tags, in which instructions can hide; it takes Unicode's compatibility forms apart (NFKD:
// full width, mathematical letters, ligatures, letters in circles); it writes letters that look
// Latin in Latin; quotes, dashes, spaces and line ends become those of ASCII. Kana and Hangul are
// composed. Case, runs of white space and digits in the place of letters are left to the patterns.
package fold

import (
	"encoding/binary"
	"unicode/utf8"
)

// MaxBytes is the longest that one character of the text becomes. Such a one has three bytes, so
// folded text is at most four times as long.
const MaxBytes = 12

// Fold returns the folded text, and for each byte of it, and its end, the offset in text of the
// character that it was made of. Where nothing is to be folded it returns text itself, and nil.
func Fold(text string) (folded string, at []int) {
	start := unchanged(text)
	if start == len(text) {
		return text, nil
	}
	f := folding{folded: make([]byte, len(text)+MaxBytes+1), at: make([]int, len(text)+MaxBytes+1), last: -1}
	f.n = copy(f.folded, text[:start])
	for i := range start {
		f.at[i] = i
	}
	if start > 0 { // the last character may be joined with the next
		_, size := utf8.DecodeLastRuneInString(text[:start])
		f.last = start - size
	}
	for i := start; i < len(text); {
		if f.n+MaxBytes >= len(f.folded) {
			f.grow()
		}
		if c := text[i]; c < utf8.RuneSelf && !control[c] {
			f.last = f.n
			f.folded[f.n], f.at[f.n] = c, i
			f.n++
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		switch e := entry(r); {
		case e == gone:
			f.last = -1
		case e == same:
			f.put(text[i:i+size], i)
		case e == tag:
			f.put(tags[r-firstTag:r-firstTag+1], i)
		default:
			f.put(out[e+1:int(e)+1+int(out[e])], i)
		}
		i += size
	}
	f.at[f.n] = len(text)
	return string(f.folded[:f.n]), f.at[:f.n+1]
}

// folding is what Fold has made so far.
type folding struct {
	folded []byte
	at     []int
	n      int // bytes that are made; behind them is room
	last   int // where the last character starts; -1: what came last was removed
}

// grow makes room for a character and the end.
func (f *folding) grow() {
	more := len(f.folded)/2 + 2*MaxBytes
	f.folded = append(f.folded, make([]byte, more)...)
	f.at = append(f.at, make([]int, more)...)
}

// put adds what a character of the text becomes, which is at offset from.
func (f *folding) put(char string, from int) {
	if joins(char) {
		second, size := utf8.DecodeRuneInString(char)
		if f.join(second) {
			char = char[size:]
		}
	}
	last := f.n
	for i := range len(char) {
		f.folded[f.n], f.at[f.n] = char[i], from
		f.n++
		if utf8.RuneStart(char[i]) {
			last = f.n - 1
		}
	}
	if char != "" {
		f.last = last
	}
}

// joins tells whether a text may start with a character that is joined with the one before it:
// these are all U+1161… or U+3099….
func joins(char string) bool {
	return len(char) >= 3 && (char[0] == 0xE1 && (char[1] == 0x85 || char[1] == 0x86 || char[1] == 0x87) || char[0] == 0xE3 && char[1] == 0x82)
}

// join makes one character of the last one and of this one, if there is one for both.
func (f *folding) join(second rune) bool {
	if f.last < 0 {
		return false
	}
	first, _ := utf8.DecodeRune(f.folded[f.last:f.n])
	both := compose(first, second)
	if both == 0 {
		return false
	}
	from := f.at[f.last]
	f.n = f.last + utf8.EncodeRune(f.folded[f.last:], both)
	for i := f.last; i < f.n; i++ {
		f.at[i] = from
	}
	return true
}

// Settled returns how much of a text is folded the same whatever follows it: from there on the rest
// can be folded on its own, with what follows. It leaves no more than a few characters.
func Settled(text string) int {
	n := len(text)
	for i := n - 1; i >= max(0, n-utf8.UTFMax+1); i-- { // a character that is cut
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				n = i
			}
			break
		}
	}
	r, size := utf8.DecodeLastRuneInString(text[:n])
	switch last := lastOf(r); {
	case mayLead(last):
		return n - size
	case within(last, firstVowel, vowels): // of a syllable that may go on
		r, before := utf8.DecodeLastRuneInString(text[:n-size])
		if within(lastOf(r), firstLead, leads) {
			return n - size - before
		}
	}
	return n
}

// Span returns the part of the text that bytes from to to of the folded text were made of. What was
// removed after it is in it too.
func Span(at []int, from, to int) (int, int) {
	if at == nil {
		return from, to
	}
	start := at[from]
	for to > from && to < len(at)-1 && at[to] == at[to-1] { // a match ends within a character
		to++
	}
	return start, at[to]
}

// The entries of the table that are not texts.
const (
	same  = 0
	gone  = 1
	tag   = 0xFFFF // of which the table knows nothing
	texts = 2
)

const (
	firstTag = 0xE0020
	lastTag  = 0xE007E
	firstVS  = 0xE0000 // of a plane that nobody sees
	lastVS   = 0xE0FFF
)

// tags are the characters that tags stand for.
const tags = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

func entry(r rune) uint16 {
	switch {
	case r < limit:
		return blocks[index[r>>7]][r&127]
	case r >= firstTag && r <= lastTag:
		return tag
	case r >= firstVS && r <= lastVS:
		return gone
	}
	return same
}

// control are the ASCII characters that are folded.
var control = func() (is [utf8.RuneSelf]bool) {
	for c := range is {
		is[c] = entry(rune(c)) != same
	}
	return
}()

// unchanged returns how long the start of the text is that is folded already.
func unchanged(text string) int {
	i := 0
	previous := rune(0)
	for i < len(text) {
		if text[i] < utf8.RuneSelf {
			n := ascii(text[i:])
			if n == 0 {
				return i
			}
			previous = 0
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if entry(r) != same || compose(previous, r) != 0 {
			return i
		}
		previous = r
		i += size
	}
	return i
}

// ascii returns how long the start of the text is that is plain ASCII.
func ascii(text string) int {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		w := binary.LittleEndian.Uint64([]byte(text[i : i+8]))
		const ones = 0x0101010101010101
		// A byte of 0x80 and more, or less than a space, or DEL.
		if (w|(w-ones*' ')|(w+ones))&(ones*0x80) == 0 {
			continue
		}
		for j := i; j < i+8; j++ {
			if text[j] >= utf8.RuneSelf || control[text[j]] {
				return j
			}
		}
	}
	for ; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf || control[text[i]] {
			return i
		}
	}
	return i
}

// lastOf returns the last character of what a character becomes; 0 when that is of no interest.
func lastOf(r rune) rune {
	switch e := entry(r); {
	case r < utf8.RuneSelf || e == gone || e == tag:
		return 0
	case e >= texts:
		r, _ = utf8.DecodeLastRuneInString(out[e+1 : int(e)+1+int(out[e])])
	}
	return r
}

// Hangul: a syllable is made of a leading consonant, a vowel and, maybe, a trailing consonant.
// https://www.unicode.org/versions/latest/core-spec/chapter-3/#G59401
const (
	leads, vowels, trails = 19, 21, 28
	firstLead             = 0x1100
	firstVowel            = 0x1161
	beforeTrail           = 0x11A7 // no trailing consonant
	firstSyllable         = 0xAC00
)

// voiced are kana, each before what it is with a voice mark; halfVoiced with the other mark.
const (
	voiced     = "うゔかがきぎくぐけげこごさざしじすずせぜそぞただちぢつづてでとどはばひびふぶへべほぼゝゞウヴカガキギクグケゲコゴサザシジスズセゼソゾタダチヂツヅテデトドハバヒビフブヘベホボワヷヰヸヱヹヲヺヽヾ"
	halfVoiced = "はぱひぴふぷへぺほぽハパヒピフプヘペホポ"
)

const (
	voice     = 0x3099
	halfVoice = 0x309A
)

// compose returns the character that two make, 0 if they make none.
func compose(first, second rune) rune {
	switch {
	case second == voice:
		return after(voiced, first)
	case second == halfVoice:
		return after(halfVoiced, first)
	case within(second, firstVowel, vowels) && within(first, firstLead, leads):
		return firstSyllable + ((first-firstLead)*vowels+second-firstVowel)*trails
	case within(second, beforeTrail+1, trails-1) && lacksTrail(first):
		return first + second - beforeTrail
	}
	return 0
}

func within(r, first, count rune) bool { return r >= first && r < first+count }

// lacksTrail tells whether a syllable has no trailing consonant.
func lacksTrail(r rune) bool {
	return within(r, firstSyllable, leads*vowels*trails) && (r-firstSyllable)%trails == 0
}

// after returns what stands after a character in pairs of them.
func after(pairs string, r rune) rune {
	for i := 0; i < len(pairs); i += 6 { // each is of three bytes
		if first, _ := utf8.DecodeRuneInString(pairs[i:]); first == r {
			next, _ := utf8.DecodeRuneInString(pairs[i+3:])
			return next
		}
	}
	return 0
}

// mayLead tells whether a character may be joined with one that follows.
func mayLead(r rune) bool {
	return within(r, firstLead, leads) || lacksTrail(r) || r >= 0x3000 && r < 0x3100 && after(voiced, r) != 0
}
