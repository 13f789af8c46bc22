// Package match looks for many regular expressions at once, in whole texts and in streams, and
// finds exactly what package regexp would find with each of them.
//
// An automaton of all expressions says where a match may be. It counts loosely, so that it stays
// small; the expression itself, from package regexp, then decides what of that is a match. A text
// without such places is copied never.
//
// A stream is read once, by an automaton that also says which text can no longer become part of a
// match. A whole text needs no such answer. It is read by a scan, which starts an automaton of
// another kind wherever something may begin: that has few states, of which most are made when a set
// is compiled or soon after, and so it is quick with texts that it has not seen before.
//
// Invalid UTF-8 is read as regexp reads it: each byte is one U+FFFD.
package match

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

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
// it takes 9 MB, twice that with streams, and up to 30 MB after much text of many kinds: see
// maxStates.
type Set struct {
	whole  planes
	stream func() planes // they are made when a stream is first asked for
	fold   folding
}

type planes struct{ raw, folded []*plane }

// folding is how a text is folded; see fold.Fold and fold.Settled.
type folding struct {
	text    func(text string) (folded string, at []int)
	settled func(text string) int
}

// plane is patterns that are looked for together.
type plane struct {
	run   *classRun // it is this; the rest is nil
	auto  *automaton
	exprs []expr
	scans sync.Pool // if it is anchored
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
	var raw, folded []expr
	for i, pattern := range patterns {
		e, err := compileOne(pattern, i)
		if err != nil {
			return nil, fmt.Errorf("pattern %d: %w", i, err)
		}
		if pattern.Folded {
			folded = append(folded, e)
		} else {
			raw = append(raw, e)
		}
	}
	return &Set{
		whole:  planes{wholePlanes(raw), wholePlanes(folded)},
		stream: sync.OnceValue(func() planes { return planes{streamPlanes(raw), streamPlanes(folded)} }),
		fold:   fold,
	}, nil
}

// wholePlanes are for texts that are there as a whole.
func wholePlanes(exprs []expr) []*plane {
	var some, others []expr
	var planes []*plane
	for _, e := range exprs {
		if run := asClassRun(e); run != nil {
			planes = append(planes, &plane{run: run})
		} else if anywhere(e) {
			others = append(others, e)
		} else {
			some = append(some, e)
		}
	}
	if len(some) > 0 {
		p := &plane{auto: buildAnchored(some), exprs: some}
		p.learn()
		planes = append(planes, p)
	}
	return append(planes, streamPlanes(others)...)
}

// streamPlanes are for texts that come in pieces.
func streamPlanes(exprs []expr) []*plane {
	var quiet, loud []expr
	for _, e := range exprs {
		if isLoud(e.tree) {
			loud = append(loud, e)
		} else {
			quiet = append(quiet, e)
		}
	}
	var planes []*plane
	for _, exprs := range [][]expr{quiet, loud} {
		if len(exprs) > 0 {
			planes = append(planes, &plane{auto: build(exprs), exprs: exprs})
		}
	}
	return planes
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
	auto := build([]expr{{tree: tree}})
	s := auto.start(none)
	for i := range len(meaningless) {
		s = auto.step(s, auto.ascii[meaningless[i]]).to
	}
	return len(auto.known) > loudStates
}

// PrepareStreams makes now what streams need; else the first of them waits for it.
func (s *Set) PrepareStreams() { s.stream() }

// Find returns the matches of each pattern as regexp's FindAll has them, without the empty ones.
// They are sorted; those of different patterns may overlap. No text makes it fail today.
func (s *Set) Find(text string) ([]Found, error) {
	found := s.find(text)
	slices.SortFunc(found, order)
	return found, nil
}

// find is Find in no order.
func (s *Set) find(text string) (found []Found) {
	for _, p := range s.whole.raw {
		found = append(found, p.find(text)...)
	}
	if s.whole.folded == nil {
		return found
	}
	folded, o := s.fold.whole(text)
	for _, p := range s.whole.folded {
		for _, f := range p.find(folded) {
			found = append(found, o.trace(f))
		}
	}
	return found
}

// foldedAtOnce is how many bytes are folded at once: what fold says of a piece takes eight times
// its size, and of most pieces there is nothing to say.
const foldedAtOnce = 512

// whole folds a text, and says what was made of what.
func (f folding) whole(text string) (string, *origin) {
	o := &origin{}
	var made strings.Builder
	differs := false
	for from, size := 0, foldedAtOnce; from < len(text); {
		n := len(text) - from
		if n > size {
			if n = f.settled(text[from : from+size]); n == 0 { // no place to cut
				size *= 2
				continue
			}
		}
		piece := text[from : from+n]
		folded, at := f.text(piece)
		if at != nil && !differs {
			differs = true
			made.Grow(len(text))
			made.WriteString(text[:from])
		}
		if differs {
			made.WriteString(folded)
		}
		o.folded(len(folded), at, piece)
		from, size = from+n, foldedAtOnce
	}
	if !differs {
		return text, o
	}
	return made.String(), o
}

// find returns the matches in a text.
func (p *plane) find(text string) []Found {
	if p.run != nil {
		return p.run.find(text)
	}
	if p.auto.anchored {
		return p.scan(text)
	}
	l := &lane{plane: p, state: p.auto.start(none)}
	l.push(text)
	l.close()
	return l.found
}

func order(a, b Found) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Pattern, b.Pattern))
}
