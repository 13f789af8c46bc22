// Package match looks for many regular expressions at once, in whole texts and in streams, and
// finds exactly what package regexp would find with each of them.
//
// An automaton of all expressions reads the text once and says where a match may end and how far
// back it may begin. It counts loosely, so that it stays small; the expression itself, from package
// regexp, then decides what of that is a match. A text without such places is read once and copied
// never. In a stream the same automaton says which text can no longer become part of a match.
//
// Invalid UTF-8 is read as regexp reads it: each byte is one U+FFFD.
package match

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"

	"millrace/extproc/policy/fold"
)

// Pattern is one expression of a Set.
type Pattern struct {
	Expr   string // RE2 syntax, as package regexp has it
	Folded bool   // it reads the folded text, else the text as it is

	// Check is asked of each match: which part of it counts, or that it does not. nil: all of it
	// does. groups are as regexp's FindStringSubmatchIndex has them, relative to text; only
	// text[groups[0]:groups[1]] may be looked at. The search goes on after the match either way.
	Check func(text string, groups []int) (from, to int, ok bool)
}

// Found is the part of a match that counts: text[From:To].
type Found struct {
	Pattern  int // its index
	From, To int

	// In JSON text.
	Number bool // it is all of a number: what takes its place needs quotes
	Name   bool // it is in the name of a member
}

// Set is a compiled list of patterns. Its methods may be called at the same time. With 240 patterns
// it takes 8 MB, and up to 30 MB after much text of many kinds: see maxStates. Text that is like
// what it has read before is read ten times as fast as text that is not.
type Set struct {
	raw, folded []*plane
	fold        folding
}

// folding is how a text is folded; see fold.Fold and fold.Settled.
type folding struct {
	text    func(text string) (folded string, at []int)
	settled func(text string) int
}

// plane is patterns that are looked for together.
type plane struct {
	auto  *automaton
	exprs []expr
}

type expr struct {
	index int // of the pattern
	tree  *syntax.Regexp
	check func(text string, groups []int) (from, to int, ok bool)
	// at finds the first match in a text, after one whose first rune is not part of it.
	at, after *regexp.Regexp
}

// Compile makes a Set. An error names the index of the pattern.
func Compile(patterns []Pattern) (*Set, error) {
	return compileSet(patterns, folding{fold.Fold, fold.Settled})
}

func compileSet(patterns []Pattern, fold folding) (*Set, error) {
	s := &Set{fold: fold}
	var err error
	if s.raw, err = compile(patterns, false); err != nil {
		return nil, err
	}
	if s.folded, err = compile(patterns, true); err != nil {
		return nil, err
	}
	return s, nil
}

func compile(patterns []Pattern, folded bool) ([]*plane, error) {
	var quiet, loud []expr
	for i, pattern := range patterns {
		if pattern.Folded != folded {
			continue
		}
		e, err := compileOne(pattern, i)
		if err != nil {
			return nil, fmt.Errorf("pattern %d: %w", i, err)
		}
		if isLoud(e.tree) {
			loud = append(loud, e)
		} else {
			quiet = append(quiet, e)
		}
	}
	var planes []*plane
	for _, exprs := range [][]expr{quiet, loud} {
		if len(exprs) == 0 {
			continue
		}
		auto, err := build(exprs)
		if err != nil {
			return nil, err
		}
		planes = append(planes, &plane{auto, exprs})
	}
	return planes, nil
}

func compileOne(p Pattern, index int) (e expr, err error) {
	e = expr{index: index, check: p.Check}
	if e.tree, err = syntax.Parse(p.Expr, syntax.Perl); err != nil {
		return e, err
	}
	if e.at, err = regexp.Compile(p.Expr); err != nil {
		return e, err
	}
	e.after, err = regexp.Compile(`(?s:.)(?:` + p.Expr + `)`)
	return e, err
}

const loudStates = 20

// isLoud tells whether an expression alone has many states in text of no meaning. States of several
// such expressions multiply with all others, so they have an automaton of their own.
func isLoud(tree *syntax.Regexp) bool {
	auto, err := build([]expr{{tree: tree}})
	if err != nil {
		return false
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	s, random := auto.start(none), uint32(1)
	for range 4000 {
		random = random*1664525 + 1013904223 // as in Numerical Recipes
		s = auto.step(s, auto.ascii[letters[random>>26]]).to
	}
	return len(auto.known) > loudStates
}

// Find returns the matches of each pattern as regexp's FindAll has them, without the empty ones.
// They are sorted; those of different patterns may overlap. No text makes it fail today.
func (s *Set) Find(text string) ([]Found, error) {
	r := s.read()
	r.push(text)
	r.close()
	found := r.take()
	slices.SortFunc(found, order)
	return found, nil
}

func order(a, b Found) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Pattern, b.Pattern))
}
