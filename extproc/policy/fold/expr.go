package fold

import (
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Expr makes of an RE2 expression for text one for folded text: what the expression names is named
// as it is folded, so that people write words the way they are written. (?i) covers what the
// letters of either case become: г is r in folded text, Г stays. A class of more than maxClass
// characters stays as it is. \b, \w, \s and their like know ASCII only, here as in RE2.
func Expr(expr string) (string, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", err
	}
	return foldExpr(re).String(), nil
}

const maxClass = 5000

func foldExpr(re *syntax.Regexp) *syntax.Regexp {
	switch re.Op {
	case syntax.OpLiteral:
		return literal(re)
	case syntax.OpCharClass:
		re.Rune = class(re.Rune)
	default:
		for i, sub := range re.Sub {
			re.Sub[i] = foldExpr(sub)
		}
	}
	return re
}

// literal returns what matches the characters of a literal as each is folded.
func literal(re *syntax.Regexp) *syntax.Regexp {
	all := &syntax.Regexp{Op: syntax.OpConcat, Flags: re.Flags}
	add := func(next *syntax.Regexp) {
		if n := len(all.Sub); n > 0 && next.Op == syntax.OpLiteral && all.Sub[n-1].Op == syntax.OpLiteral {
			all.Sub[n-1].Rune = append(all.Sub[n-1].Rune, next.Rune...)
			return
		}
		all.Sub = append(all.Sub, next)
	}
	for _, r := range composed(re.Rune) {
		images := [][]rune{foldRune(r)}
		if re.Flags&syntax.FoldCase != 0 {
			for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
				images = append(images, foldRune(other))
			}
		}
		add(oneOf(images, re.Flags))
	}
	return all
}

// composed joins what Fold joins.
func composed(literal []rune) (joined []rune) {
	for _, r := range literal {
		if n := len(joined); n > 0 {
			if both := compose(joined[n-1], r); both != 0 {
				joined[n-1] = both
				continue
			}
		}
		joined = append(joined, r)
	}
	return joined
}

// oneOf matches what one character may have become.
func oneOf(images [][]rune, flags syntax.Flags) *syntax.Regexp {
	same := func(a, b []rune) bool {
		return slices.EqualFunc(a, b, func(a, b rune) bool {
			return a == b || flags&syntax.FoldCase != 0 && smallest(a) == smallest(b)
		})
	}
	any := &syntax.Regexp{Op: syntax.OpAlternate, Flags: flags}
	for _, image := range images {
		if !slices.ContainsFunc(any.Sub, func(r *syntax.Regexp) bool { return same(r.Rune, image) }) {
			any.Sub = append(any.Sub, &syntax.Regexp{Op: syntax.OpLiteral, Flags: flags, Rune: image})
		}
	}
	if len(any.Sub) == 1 {
		return any.Sub[0]
	}
	return any
}

// smallest returns the first of the characters that are equal but for case.
func smallest(r rune) rune {
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return least
}

// class adds to a class what its characters become, where that is one character.
func class(ranges []rune) []rune {
	size := 0
	for i := 0; i < len(ranges); i += 2 {
		size += int(ranges[i+1]-ranges[i]) + 1
	}
	if size > maxClass {
		return ranges
	}
	wider := slices.Clone(ranges)
	for i := 0; i < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if image := foldRune(r); len(image) == 1 && image[0] != r {
				wider = append(wider, image[0], image[0])
			}
		}
	}
	return sorted(wider)
}

// sorted puts ranges in order, without what is in two of them.
func sorted(ranges []rune) []rune {
	var pairs [][2]rune
	for i := 0; i < len(ranges); i += 2 {
		pairs = append(pairs, [2]rune{ranges[i], ranges[i+1]})
	}
	slices.SortFunc(pairs, func(a, b [2]rune) int { return int(a[0] - b[0]) })
	var merged []rune
	for _, p := range pairs {
		if n := len(merged); n > 0 && p[0] <= merged[n-1]+1 {
			merged[n-1] = max(merged[n-1], p[1])
			continue
		}
		merged = append(merged, p[0], p[1])
	}
	return merged
}

func foldRune(r rune) []rune {
	if !utf8.ValidRune(r) {
		return []rune{r}
	}
	folded, _ := Fold(string(r))
	return []rune(folded)
}
