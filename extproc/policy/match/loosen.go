package match

import (
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// How far an automaton counts. Each count multiplies its states: a class of which every text is
// full is counted over and over, from each of its characters.
const (
	countNarrow = 32
	countWide   = 4
	countFirst  = 8 // of an expression that is nothing but a wide class
)

// counting is how far it counts what takes nearly any character: of a line, of the whole text.
type counting struct{ line, text int }

var (
	streams = counting{256, 256} // without a count their threads would never end
	scans   = counting{0, 640}   // the end of the line ends them too
)

// loosen returns an expression that matches all that re matches, and more: it forgets how often
// something repeats where counting would be dear.
func loosen(re *syntax.Regexp, how counting) *syntax.Regexp {
	loose, _ := loosened(re, how, true, false)
	return loose
}

// loosened is told whether a match may begin here and whether more has to come after re, and tells
// whether a match may begin after re.
func loosened(re *syntax.Regexp, how counting, leading, more bool) (*syntax.Regexp, bool) {
	switch re.Op {
	case syntax.OpCapture:
		return loosened(re.Sub[0], how, leading, more)
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return re, false
	case syntax.OpConcat, syntax.OpAlternate, syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
	default:
		return re, leading
	}
	loose := *re
	loose.Sub0 = [1]*syntax.Regexp{}
	loose.Sub = make([]*syntax.Regexp, len(re.Sub))
	after := leading
	for i, sub := range re.Sub {
		switch re.Op {
		case syntax.OpConcat:
			loose.Sub[i], after = loosened(sub, how, after, more || slices.ContainsFunc(re.Sub[i+1:], needed))
		case syntax.OpAlternate:
			var a bool
			loose.Sub[i], a = loosened(sub, how, leading, more)
			after = i > 0 && after || a
		default:
			loose.Sub[i], after = loosened(sub, how, leading, more)
		}
	}
	switch re.Op {
	case syntax.OpStar, syntax.OpQuest:
		after = leading
	case syntax.OpRepeat:
		after = after || leading && re.Min == 0
		count(&loose, how, leading, more)
	}
	return &loose, after
}

// count forgets how often re repeats, beyond what an automaton counts.
func count(re *syntax.Regexp, how counting, leading, more bool) {
	exact, least := countNarrow, countNarrow
	switch sub := re.Sub[0]; {
	case leading && more && wide(sub):
		exact, least = 0, 1
	case leading && wide(sub):
		exact, least = countFirst, countFirst
	case takesAny(sub):
		exact, least = how.text, countWide
		if !takesLines(sub) {
			exact = how.line
		}
	case wide(sub):
		exact, least = countWide*size(sub), countWide
	}
	if max(re.Min, re.Max)*size(re.Sub[0]) > exact {
		re.Min, re.Max = min(re.Min, least), -1
	}
}

// needed tells whether re cannot match nothing.
func needed(re *syntax.Regexp) bool {
	_, empty := loosened(re, streams, true, false)
	return !empty
}

// wide tells whether re has a class of which every text is full.
func wide(re *syntax.Regexp) bool {
	return takesAny(re) || re.Op == syntax.OpCharClass && letters(re) > 3 || slices.ContainsFunc(re.Sub, wide)
}

// takesAny tells whether re is a class of nearly all.
func takesAny(re *syntax.Regexp) bool {
	return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL ||
		re.Op == syntax.OpCharClass && letters(re) > 20 && within(re.Rune, ' ') && within(re.Rune, '.') && within(re.Rune, '(')
}

// takesLines tells whether re takes the ends of lines too.
func takesLines(re *syntax.Regexp) bool {
	return re.Op == syntax.OpAnyChar || re.Op == syntax.OpCharClass && within(re.Rune, '\n')
}

// letters is how many of the alphabet a class has.
func letters(class *syntax.Regexp) (n int) {
	for r := 'a'; r <= 'z'; r++ {
		if within(class.Rune, r) || within(class.Rune, unicode.ToUpper(r)) {
			n++
		}
	}
	return n
}

// size is about the number of instructions that re becomes.
func size(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpRepeat:
		return max(re.Min+1, re.Max) * size(re.Sub[0])
	}
	for _, sub := range re.Sub {
		n += size(sub)
	}
	return n
}

// longest is the most that a match of re has, or endless: of bytes, if width is bytesOf.
func longest(re *syntax.Regexp, width func(rune) int) int {
	switch re.Op {
	case syntax.OpLiteral:
		n := 0
		for _, r := range re.Rune {
			widest := width(r)
			if re.Flags&syntax.FoldCase != 0 {
				for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
					widest = max(widest, width(f))
				}
			}
			n += widest
		}
		return n
	case syntax.OpCharClass:
		return width(re.Rune[len(re.Rune)-1])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return width(utf8.MaxRune)
	case syntax.OpCapture, syntax.OpQuest:
		return longest(re.Sub[0], width)
	case syntax.OpStar, syntax.OpPlus:
		return times(longest(re.Sub[0], width), endless)
	case syntax.OpRepeat:
		if re.Max < 0 {
			return times(longest(re.Sub[0], width), endless)
		}
		return times(longest(re.Sub[0], width), re.Max)
	case syntax.OpConcat:
		n := 0
		for _, sub := range re.Sub {
			n = min(n+longest(sub, width), endless)
		}
		return n
	case syntax.OpAlternate:
		n := 0
		for _, sub := range re.Sub {
			n = max(n, longest(sub, width))
		}
		return n
	default:
		return 0
	}
}

// bytesOf is the most bytes that are read as r.
func bytesOf(r rune) int {
	if n := utf8.RuneLen(r); n > 0 {
		return n
	}
	return utf8.UTFMax // no text has it
}

// one is the width of a rune, in runes.
func one(rune) int { return 1 }

func times(n, m int) int {
	if n == 0 || m == 0 {
		return 0
	}
	if n >= endless/m {
		return endless
	}
	return n * m
}
