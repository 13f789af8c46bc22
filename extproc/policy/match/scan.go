package match

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// A scan reads a whole text with an automaton that is anchored. Wherever something may begin it
// starts a run, and follows it until nothing may match any more. So the automaton needs not keep
// apart all that texts may have before, and a text that is not seen before needs few new states.
type scan struct {
	lane
	runs  []run
	index []int // by expression: where it is in wanted, plus 1
	steps int   // of all runs
}

// run is threads that began at one place, or at several and are the same by now.
type run struct {
	state *state
	begin int // the first place
	last  int // the last one
	runes int // before the last one
}

// maxRuns is how many are followed at a time. Then the oldest is not any more, and regexp decides.
const maxRuns = 24

// spread is how far a match goes around the place where the run of it starts.
type spread struct {
	back  int // bytes before it, at most
	runes int // that the run reads, at most
}

func (p *plane) scanner() *scan {
	return &scan{lane: lane{plane: p}, index: make([]int, len(p.exprs))}
}

// scan returns the matches in a text.
func (p *plane) scan(text string) []Found {
	s, _ := p.scans.Get().(*scan)
	if s == nil {
		s = p.scanner()
	}
	found := s.find(text)
	p.scans.Put(s)
	return found
}

func (s *scan) find(text string) []Found {
	s.text, s.read, s.steps, s.searched = text, len(text), 0, 0
	s.scan()
	for _, w := range s.wanted {
		s.index[w.expr] = 0
	}
	s.decide(len(text) + 1)
	found := s.found
	s.text, s.found, s.wanted = "", nil, s.wanted[:0]
	return found
}

func (s *scan) scan() {
	a, text := s.plane.auto, s.text
	starts := a.starts.Load()
	before, at := none, 0 // the rune that is next, counted
	s.runs = s.runs[:0]
	for i := 0; i < len(text); at++ {
		c, opens := text[i], true
		if c < utf8.RuneSelf {
			opens = i+1 == len(text) || text[i+1] >= utf8.RuneSelf || a.opens[before][c].with(text[i+1])
			if !opens && len(s.runs) == 0 {
				before = a.plain[c]
				i++
				continue
			}
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(text[i:])
		}
		class := a.class(r)
		if len(s.runs) > 0 {
			s.follow(class, i, n, at)
		}
		if opens {
			s.advance(run{starts[before], i, i, at}, class, i, n, at)
		}
		before = a.sorts[class]
		i += n
	}
	s.follow(a.end(), len(text), 0, at)
}

// follow lets all runs read a rune of n bytes.
func (s *scan) follow(class uint16, i, n, at int) {
	nowhere := &s.plane.auto.nowhere
	if len(s.runs) == 1 { // as it nearly always is
		r := &s.runs[0]
		if m := r.state.known(class); m != nil && len(m.hits) == 0 && at-r.runes < m.to.limit {
			s.steps++
			r.state = m.to
			return
		}
	}
	runs := s.runs
	s.runs = s.runs[:0]
	for _, r := range runs {
		if r.state.known(class) == nowhere {
			s.steps++
			continue
		}
		s.advance(r, class, i, n, at)
	}
}

// advance lets a run read a rune, and keeps it if something may still match.
func (s *scan) advance(r run, class uint16, i, n, at int) {
	s.steps++
	m := s.plane.auto.step(r.state, class)
	for _, h := range m.hits {
		end, runes := i+n, at+1
		if h.before {
			end, runes = i, at
		}
		if runes-r.runes <= s.plane.auto.spread[h.expr].runes {
			s.want(h.expr, r.begin, end)
		}
	}
	if r.state = m.to; at-r.runes >= m.to.limit {
		return
	}
	for k := range s.runs {
		if q := &s.runs[k]; q.state == r.state {
			if r.runes > q.runes {
				q.last, q.runes = r.last, r.runes
			}
			return
		}
	}
	if len(s.runs) == s.plane.auto.runs {
		s.giveUp(s.runs[0])
		s.runs = slices.Delete(s.runs, 0, 1)
	}
	s.runs = append(s.runs, r)
}

// giveUp wants what a run may still match.
func (s *scan) giveUp(r run) {
	a := s.plane.auto
	for _, pc := range r.state.groups[0] {
		expr := a.insts[pc].expr
		s.want(expr, r.begin, min(s.read, r.last+a.most[expr]))
	}
}

// want adds a place where a match may be.
func (s *scan) want(expr, begin, end int) {
	a := s.plane.auto
	begin = s.rune(max(0, begin-a.spread[expr].back, end-a.most[expr]))
	if s.index[expr] == 0 {
		s.wanted = append(s.wanted, want{expr: expr})
		s.index[expr] = len(s.wanted)
	}
	s.wanted[s.index[expr]-1].add(spot{begin, end})
}

// buildAnchored makes the automaton of exprs for scans.
func buildAnchored(exprs []expr) *automaton {
	a := &automaton{anchored: true, runs: maxRuns, room: maxStates, known: map[string]*state{}, entries: make([][]uint32, 1)}
	c := compiler{a: a, index: map[string]int{}}
	for i, e := range exprs {
		back, tree := ahead(e.tree)
		a.most = append(a.most, longest(e.tree, bytesOf))
		a.spread = append(a.spread, spread{back, longest(tree, one)})
		start, _ := c.compile(loosen(tree, scans), inst{expr: i, most: a.spread[i].runes})
		a.entries[0] = append(a.entries[0], start)
	}
	a.finish(c.sets)
	a.dead = a.state(none)
	a.nowhere.to = a.dead
	a.restart()
	for k := range kinds {
		for c := range byte(utf8.RuneSelf) {
			a.plain[c], a.opens[k][c] = a.sorts[a.ascii[c]], pair{^uint64(0), ^uint64(0)}
		}
	}
	return a
}

// learn works out what a match may begin with, so that a scan starts no runs that end right away,
// and makes states that many texts need.
func (p *plane) learn() {
	a := p.auto
	for k := range kinds {
		for c := range byte(utf8.RuneSelf) {
			a.opens[k][c] = a.pair(a.step(a.starts.Load()[k], a.ascii[c]))
		}
	}
	s := p.scanner()
	for _, text := range []string{usual, strings.ToUpper(usual), meaningless} {
		s.text, s.read = text, len(text)
		s.scan()
		s.wanted = nil
		clear(s.index)
	}
}

// ahead takes off what re begins with if that says little, and ends: what may also not be there, or
// "any word of up to 50 characters". A run starts after it. back is the most bytes that it has.
func ahead(re *syntax.Regexp) (back int, tail *syntax.Regexp) {
	parts := flat(nil, re)
	for _, little := range []func(*syntax.Regexp) bool{vague, optional} {
		n := len(parts)
		for i, part := range parts {
			if !little(part) || assertion(part) && i+1 < n && !little(parts[i+1]) {
				n = i
				break
			}
		}
		tail = &syntax.Regexp{Op: syntax.OpConcat, Flags: re.Flags, Sub: parts[n:]}
		back = longest(&syntax.Regexp{Op: syntax.OpConcat, Sub: parts[:n]}, bytesOf)
		if back <= maxBack && needed(tail) {
			return back, tail
		}
	}
	return 0, re
}

// pair tells what may come after a character that begins something by m.
func (a *automaton) pair(m *move) (p pair) {
	if m == &a.nowhere {
		return p
	}
	for c := range byte(utf8.RuneSelf) {
		next := a.step(m.to, a.ascii[c])
		if len(m.hits) > 0 || next != &a.nowhere {
			p[c>>6] |= 1 << (c & 63)
		}
	}
	return p
}

const maxBack = 500

// flat appends what re is a sequence of.
func flat(parts []*syntax.Regexp, re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpCapture:
		return flat(parts, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			parts = flat(parts, sub)
		}
		return parts
	case syntax.OpEmptyMatch:
		return parts
	}
	return append(parts, re)
}

func assertion(re *syntax.Regexp) bool {
	return re.Op >= syntax.OpBeginLine && re.Op <= syntax.OpNoWordBoundary
}

func optional(re *syntax.Regexp) bool { return !needed(re) }

// vague tells whether re is optional, or of a class of which every text is full.
func vague(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpPlus, syntax.OpRepeat:
		return wide(re) || optional(re)
	}
	return optional(re)
}

const maxSteps = 2 // for each character

// anywhere tells whether an expression begins with what is everywhere in some text, as in a run of
// base64: a scan would start there again and again.
func anywhere(e expr) bool {
	a := buildAnchored([]expr{e})
	s := (&plane{auto: a, exprs: []expr{e}}).scanner()
	s.text, s.read = meaningless, len(meaningless)
	s.scan()
	return s.steps > maxSteps*len(meaningless)
}

// usual is words that English and code are full of.
const usual = `the of and a to in is you that it he was for on are as with his they I at be this have from
or one had by word but not what all were we when your can said there use an each which she do how
their if will up other about out many then them these so some her would make like him into time has
look two more write go see number no way could people my than first water been call who its now find
long down day did get come made may part; should only because here between after also must any same
new work before give most back good need through where while system text list show tell repeat set
print return output example message request response answer question document user assistant model
rules instructions translate summarize explain please help me thanks code function value type string
int error nil true false null const var let import package class public static void def self if else
for range func (x, y) { return x[i] + 1 } # a comment // TODO /* note */ "key": "value", 'token' =>
<div class="a">, https://example.com/path?query=1&b=2, 2026-11-29T10:20:30Z, v1.2.3, 192.168.0.1,
- item one, * item two, 3. item three, | a | b |, **bold**, [link](url), key_id=abc123, a@b.example
`

// meaningless is text like base64.
var meaningless = func() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var text [4000]byte
	random := uint32(1)
	for i := range text {
		random = random*1664525 + 1013904223 // as in Numerical Recipes
		text[i] = letters[random>>26]
	}
	return string(text[:])
}()
