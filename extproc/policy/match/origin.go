package match

import (
	"slices"
	"unicode/utf8"
)

// An origin maps a text that was made of another one, folded or decoded, back to it. Positions
// count from the starts of both.
type origin struct {
	parts []part
	made  int // bytes
	of    int // the end of what they were made of
}

// part is a stretch of the made text.
type part struct {
	made, size int // where it starts; bytes
	of         int // where starts what it was made of

	// What each byte was made of, one of: the byte at its place; all of the next width bytes; the
	// character in raw at its offset.
	width int
	at    []int
	raw   string
}

// span is what the byte at i was made of.
func (p *part) span(i int) (from, to int) {
	switch i -= p.made; {
	case p.at != nil:
		_, n := utf8.DecodeRuneInString(p.raw[p.at[i]:])
		to := p.at[i] + n
		for next := p.next(i); to < next && joins(p.raw[to:]); to += n {
			_, n = utf8.DecodeRuneInString(p.raw[to:])
		}
		return p.of + p.at[i], p.of + to
	case p.width > 0:
		return p.of, p.of + p.width
	default:
		return p.of + i, p.of + i + 1
	}
}

// next is where in raw starts what was made into the next character.
func (p *part) next(i int) int {
	for _, at := range p.at[i:] {
		if at > p.at[i] {
			return at
		}
	}
	return len(p.raw)
}

// joins tells whether the text goes on with a rune that package fold has made one letter of with
// the one before it: the marks of kana, the vowels and endings of Hangul. Others it removes, and
// they are nobody's.
func joins(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return r == '\u3099' || r == '\u309A' || r >= '\u1160' && r <= '\u11FF'
}

func (o *origin) add(p part, of int) {
	p.made, p.of = o.made, o.of
	o.made += p.size
	o.of += of
	if n := len(o.parts); n > 0 && p.copy() && o.parts[n-1].copy() {
		o.parts[n-1].size += p.size
		return
	}
	o.parts = append(o.parts, p)
}

func (p *part) copy() bool { return p.at == nil && p.width == 0 }

// copied adds text that is the same in both.
func (o *origin) copied(size int) { o.add(part{size: size}, size) }

// decoded adds size bytes that were made of the next width together.
func (o *origin) decoded(size, width int) { o.add(part{size: size, width: width}, width) }

// folded adds what fold made of raw.
func (o *origin) folded(size int, at []int, raw string) {
	o.add(part{size: size, at: at, raw: raw}, len(raw))
}

// from is where starts what the byte at i was made of.
func (o *origin) from(i int) int {
	if p := o.part(i); p != nil {
		from, _ := p.span(i)
		return from
	}
	return o.of
}

// part is that with the byte at i; nil where nothing was made yet.
func (o *origin) part(i int) *part {
	n, _ := slices.BinarySearchFunc(o.parts, i+1, func(p part, end int) int { return p.made + p.size - end })
	if n == len(o.parts) {
		return nil
	}
	return &o.parts[n]
}

// index is the first byte that was made of what starts at of or later.
func (o *origin) index(of int) int {
	for _, p := range o.parts {
		if p.copy() && of < p.of+p.size {
			return p.made + max(0, of-p.of)
		}
		for i := p.made; !p.copy() && i < p.made+p.size; i++ {
			if from, _ := p.span(i); from >= of {
				return i
			}
		}
	}
	return o.made
}

// forget drops what was made before the byte at i.
func (o *origin) forget(i int) {
	for len(o.parts) > 0 && o.parts[0].made+o.parts[0].size <= i {
		o.parts = o.parts[1:]
	}
}

func (o *origin) trace(f Found) Found {
	last := f.To - 1
	f.From = o.from(f.From)
	if p := o.part(last); p != nil {
		_, f.To = p.span(last)
	}
	return f
}
