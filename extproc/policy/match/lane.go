package match

import (
	"slices"
	"unicode/utf8"
)

// A lane reads one text with the automaton of a plane, and decides what is a match where that
// points to. Positions count from the start of the text.
type lane struct {
	plane *plane
	text  string // from base on
	base  int
	read  int // how far the automaton is

	state  *state
	begins []int // where each of its groups began

	wanted   []want
	found    []Found // decided, in no order
	searched int     // bytes that regexp has read
}

// want is an expression that may have matches which are not decided yet.
type want struct {
	expr  int
	from  int    // where its last match ended
	spots []spot // in order, apart from each other; each match that is not decided is within one
}

type spot struct{ begin, end int }

// newLanes returns lanes at the start of a text.
func newLanes(planes []*plane) (lanes []*lane) {
	for _, p := range planes {
		lanes = append(lanes, &lane{plane: p, state: p.auto.start(none)})
	}
	return lanes
}

// push reads the complete runes of text.
func (l *lane) push(text string) {
	l.text += text
	a := l.plane.auto
	for i := l.read - l.base; i < len(l.text); {
		for i < len(l.text) && l.text[i] < utf8.RuneSelf {
			m := l.state.next[a.ascii[l.text[i]]].Load()
			if m == nil || len(m.hits) > 0 || !m.same && len(l.wanted) > 0 {
				break
			}
			if !m.same {
				l.regroup(m, l.base+i)
			}
			l.state = m.to
			i++
		}
		if l.read = l.base + i; i == len(l.text) {
			break
		}
		r, n := rune(l.text[i]), 1
		if r >= utf8.RuneSelf {
			if !utf8.FullRuneInString(l.text[i:]) {
				break
			}
			r, n = utf8.DecodeRuneInString(l.text[i:])
		}
		i += n
		l.take(a.step(l.state, a.class(r)), n)
	}
	l.decide(l.open())
}

// take follows a move that reads n bytes.
func (l *lane) take(m *move, n int) {
	if len(m.hits) > 0 {
		l.hit(m.hits, n)
	}
	if !m.same {
		l.regroup(m, l.read)
	}
	l.state = m.to
	l.read += n
	if len(l.wanted) > 0 && len(l.state.groups) == 0 {
		l.decide(l.read)
	}
}

// regroup follows the groups of a move whose rune is at a position.
func (l *lane) regroup(m *move, at int) {
	for i, from := range m.from { // from is i or more, or -1
		begin := at
		if from >= 0 {
			begin = l.begins[from]
		}
		if i == len(l.begins) {
			l.begins = append(l.begins, begin)
		} else {
			l.begins[i] = begin
		}
	}
	l.begins = l.begins[:len(m.from)]
}

func (l *lane) hit(hits []hit, n int) {
	for _, h := range hits {
		begin, end := l.read, l.read+n
		if h.group >= 0 {
			begin = l.begins[h.group]
		}
		if h.before {
			end = l.read
		}
		begin = l.rune(max(begin, end-l.plane.auto.most[h.expr]))
		i := slices.IndexFunc(l.wanted, func(w want) bool { return w.expr == h.expr })
		if i < 0 {
			i = len(l.wanted)
			l.wanted = append(l.wanted, want{expr: h.expr})
		}
		l.wanted[i].add(spot{begin, end})
	}
}

// add puts a spot after the others, or makes one of those that it overlaps.
func (w *want) add(s spot) {
	for n := len(w.spots); n > 0 && w.spots[n-1].end > s.begin; n-- {
		s.begin, s.end = min(s.begin, w.spots[n-1].begin), max(s.end, w.spots[n-1].end)
		w.spots = w.spots[:n-1]
	}
	w.spots = append(w.spots, s)
}

// open is where the earliest match may begin that can still change or come to be.
func (l *lane) open() int {
	open := l.read
	for i, begin := range l.begins {
		open = min(open, max(begin, l.read-l.state.longest[i]))
	}
	return l.rune(open)
}

// rune is where the rune begins that the byte at i belongs to.
func (l *lane) rune(i int) int {
	for q := i; q >= max(l.base, i-utf8.UTFMax+1) && q < l.read; q-- {
		if !utf8.RuneStart(l.text[q-l.base]) {
			continue
		}
		if _, n := utf8.DecodeRuneInString(l.text[q-l.base:]); q+n > i {
			return q
		}
		break
	}
	return i
}

// decide finds the matches that begin before open.
func (l *lane) decide(open int) {
	keep := l.wanted[:0]
	for _, w := range l.wanted {
		for len(w.spots) > 0 && l.search(&w, open) {
		}
		if len(w.spots) > 0 || w.from > open {
			keep = append(keep, w)
		}
	}
	l.wanted = keep
}

// search goes one step through the first spot, and tells whether it could.
func (l *lane) search(w *want, open int) bool {
	e, s := &l.plane.exprs[w.expr], &w.spots[0]
	s.begin = max(s.begin, w.from)
	if s.begin >= open {
		return false
	}
	if s.begin >= s.end {
		w.spots = w.spots[1:]
		return true
	}
	text, groups, shift := l.find(e, *s)
	if groups == nil {
		w.spots = w.spots[1:]
		return true
	}
	begin, end := groups[0]+shift, groups[1]+shift
	switch {
	case begin >= open:
		s.begin = begin
		return false
	case begin == end:
		_, n := utf8.DecodeRuneInString(text[groups[0]:])
		w.from = begin + max(n, 1)
		return true
	}
	from, to, ok := groups[0], groups[1], true
	if e.check != nil {
		from, to, ok = e.check(text, groups)
	}
	if ok {
		l.found = append(l.found, Found{Pattern: e.index, From: from + shift, To: to + shift})
	}
	w.from = end
	return true
}

// find returns the first match in a spot. Its groups are offsets in text, which starts at shift.
func (l *lane) find(e *expr, s spot) (text string, groups []int, shift int) {
	// With the rune after the spot: no match has it, but an assertion may look at it.
	_, n := utf8.DecodeRuneInString(l.text[s.end-l.base : l.read-l.base])
	text, groups, shift = l.findBefore(e, s.begin, s.end+n)
	if groups != nil && groups[1]+shift > s.end {
		// It took the end of what it was given for the end of the text.
		return l.findBefore(e, s.begin, l.read)
	}
	return text, groups, shift
}

func (l *lane) findBefore(e *expr, from, end int) (text string, groups []int, shift int) {
	defer func() {
		if l.searched += len(text); groups != nil {
			l.searched -= len(text) - groups[1]
		}
	}()
	text = l.text[:end-l.base]
	if from == 0 {
		return text, e.at.FindStringSubmatchIndex(text), 0
	}
	_, n := utf8.DecodeLastRuneInString(text[:from-l.base])
	shift = from - n
	text = text[shift-l.base:]
	if groups = e.after.FindStringSubmatchIndex(text); groups != nil {
		_, n = utf8.DecodeRuneInString(text[groups[0]:])
		groups[0] += n
	}
	return text, groups, shift
}

// forget drops the text before open, but for the rune that assertions look back at.
func (l *lane) forget(open int) {
	_, n := utf8.DecodeLastRuneInString(l.text[:open-l.base])
	l.text = l.text[open-n-l.base:]
	l.base = open - n
}

// restart gives up what began before at and is not decided.
func (l *lane) restart(at int) {
	a, before := l.plane.auto, none
	if at > 0 {
		r, _ := utf8.DecodeLastRuneInString(l.text[:at-l.base])
		before = a.sorts[a.class(r)]
	}
	l.forget(at)
	for i := range l.wanted {
		l.wanted[i].spots = nil // they are seen again
	}
	l.state, l.begins, l.read = a.start(before), nil, at
	l.push("")
}

// close reads the end of the text.
func (l *lane) close() {
	a := l.plane.auto
	for i := l.read - l.base; i < len(l.text); i++ { // a rune that was cut
		l.take(a.step(l.state, a.class(utf8.RuneError)), 1)
	}
	if m := a.step(l.state, a.end()); len(m.hits) > 0 {
		l.hit(m.hits, 0)
	}
	l.decide(l.read + 1)
}
