package match

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// An automaton reads a text once, rune by rune, for many expressions together. It says where a
// match may end and how far back the earliest match may begin that is still possible. It counts
// loosely (see loosen), so it may say so too often; it never misses a match.
//
// It is a lazy DFA: a state is made when a text first needs it, and kept for the next text. Its
// methods may be called at the same time.
//
// One that is anchored looks for matches that begin where it starts, and so it is started at many
// places (see scan). It has far fewer states, since they know nothing of the text before.
type automaton struct {
	anchored bool
	insts    []inst
	entries  [][]uint32 // instructions: where all expressions begin, then where they go on after a head
	most     []int      // by expression: the most bytes that a match has, or endless
	spread   []spread   // by expression, if anchored

	ascii [utf8.RuneSelf]uint16 // classes
	above []span                // of the runes above, by their first rune
	in    [][]bool              // by set and class
	sorts []kind                // by class
	usual int                   // classes that ASCII has; they come first

	opening [][64]atomic.Pointer[opening] // by entry and flags
	walks   sync.Pool

	room  int          // for states
	moves atomic.Int64 // since the states were last forgotten
	mu    sync.Mutex   // guards known
	known map[string]*state

	// If it is anchored.
	runs    int                           // that are followed at a time: see maxRuns
	starts  atomic.Pointer[[kinds]*state] // by what is before
	dead    *state                        // nothing may match any more
	nowhere move                          // leads there
	opens   [kinds][utf8.RuneSelf]pair    // what a match may begin with, after a kind
	plain   [utf8.RuneSelf]kind           // of ASCII
}

const (
	endless   = 1 << 40
	maxGroups = 4    // younger threads share the last group
	maxStates = 8192 // of 1 to 2 KB each; then the automaton forgets all of them
	maxMoves  = 8    // for each state that there is room for, of 100 bytes each
)

// inst is an instruction of package syntax, which reads a set of runes where it reads one.
type inst struct {
	op       syntax.InstOp
	set      int
	empty    syntax.EmptyOp
	out, arg uint32
	expr     int // of which this is the end
	most     int // the most bytes of a match that comes by here
}

// junction leads to an entry. It is followed when a rune is read: openers has what then matters.
const junction syntax.InstOp = 100

// kind is what an assertion can see of a rune.
type kind uint8

const (
	none kind = iota // the start or the end of the text
	newline
	word
	other
	kinds
)

var sample = [...]rune{none: -1, newline: '\n', word: 'a', other: ' '}

func around(before, after kind) syntax.EmptyOp {
	return syntax.EmptyOpContext(sample[before], sample[after])
}

// span is the runes from one on, which are of a class.
type span struct {
	from  rune
	class uint16
}

// A state has the threads of all expressions: instructions that read a rune, or that assert
// something of the next one. They are in groups by where they began, the earliest first; whoever
// reads keeps the positions. A thread that an earlier group has too is left out of the later ones.
type state struct {
	before  kind
	opening bool // nothing was read yet, by an automaton that is anchored
	groups  [][]uint32
	longest []int                                  // by group: the most bytes of a match that it may become
	limit   int                                    // so many runes a run has at most, if the automaton is anchored
	next    []atomic.Pointer[move]                 // by class, of those that ASCII has
	rare    atomic.Pointer[[]atomic.Pointer[move]] // of the others; the last is the end of the text
}

// A move is what a rune does to a state.
type move struct {
	to   *state
	from []int // by group of to: which group it was; -1 if it began with this rune
	same bool  // from is 0, 1, 2 …
	hits []hit
}

// hit says that a match of expr may end here. It begins no earlier than the group, or with the rune
// that was read if that is -1.
type hit struct {
	expr, group int
	before      bool // it ends before the rune that was read
}

func (a *automaton) class(r rune) uint16 {
	if r < utf8.RuneSelf {
		return a.ascii[r]
	}
	i, found := slices.BinarySearchFunc(a.above, r, func(s span, r rune) int { return int(s.from - r) })
	if !found {
		i--
	}
	return a.above[i].class
}

// end is the class of the end of the text.
func (a *automaton) end() uint16 { return uint16(len(a.sorts)) }

// step is where a rune of the class leads from s.
func (a *automaton) step(s *state, class uint16) *move {
	if m := s.known(class); m != nil {
		return m
	}
	if int(class) >= len(s.next) && s.rare.Load() == nil {
		rare := make([]atomic.Pointer[move], len(a.sorts)+1-len(s.next))
		s.rare.CompareAndSwap(nil, &rare)
	}
	to := s.to(class)
	if m := to.Load(); m != nil {
		return m
	}
	w, _ := a.walks.Get().(*walk)
	if w == nil {
		w = &walk{a: a, seen: newMarks(a), taken: newMarks(a)}
	}
	m := w.move(s, class)
	a.walks.Put(w)
	to.Store(m)
	a.moves.Add(1)
	return m
}

// known is the move of a class of ASCII, if it was made.
func (s *state) known(class uint16) *move {
	if int(class) < len(s.next) {
		return s.next[class].Load()
	}
	return nil
}

// to is where the move of a class is kept.
func (s *state) to(class uint16) *atomic.Pointer[move] {
	if int(class) < len(s.next) {
		return &s.next[class]
	}
	return &(*s.rare.Load())[int(class)-len(s.next)]
}

// start is the state of a text in which nothing began yet, after a rune.
func (a *automaton) start(before kind) *state {
	return a.intern(before, nil, []byte{byte(before)})
}

// intern returns the state with these groups, of which there is one.
func (a *automaton) intern(before kind, groups [][]uint32, key []byte) *state {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.known[string(key)]; ok {
		return s
	}
	if len(a.known) >= a.room || a.moves.Load() >= int64(maxMoves*a.room) {
		// Whoever reads now keeps the states that it is in; the others go.
		a.known = map[string]*state{}
		a.moves.Store(0)
		a.restart()
	}
	s := a.state(before)
	for _, g := range groups {
		most := 0
		for _, pc := range g {
			most = max(most, a.insts[pc].most)
		}
		s.groups, s.longest = append(s.groups, slices.Clone(g)), append(s.longest, most)
		s.limit = most
	}
	a.known[string(key)] = s
	return s
}

func (a *automaton) state(before kind) *state {
	return &state{before: before, next: make([]atomic.Pointer[move], a.usual)}
}

// pair tells of two characters of ASCII whether something may still match after them: for the first
// of them, one bit for each that comes next.
type pair [2]uint64

func (p *pair) with(c byte) bool { return p[c>>6&1]&(1<<(c&63)) != 0 }

// restart makes the states that nothing leads to.
func (a *automaton) restart() {
	if !a.anchored {
		return
	}
	var starts [kinds]*state
	for k := range starts {
		starts[k] = a.state(kind(k))
		starts[k].opening = true
	}
	a.starts.Store(&starts)
}

// walk follows instructions. It is scratch space, used again and again.
type walk struct {
	a     *automaton
	seen  marks // in this group, before the rune
	taken marks // by this group or an earlier one, after the rune
	lists [maxGroups + 2][]uint32
	list  []uint32
	hits  []int
	key   []byte
}

// move works out where a rune of the class leads from s.
func (w *walk) move(s *state, class uint16) *move {
	a, m, after := w.a, &move{}, none
	if class < a.end() {
		after = a.sorts[class]
	}
	flags := around(s.before, after)
	w.taken.clear()
	n := 0 // groups after the rune
	group := func(readers []uint32, from int) {
		w.list, w.hits = w.lists[n][:0], w.hits[:0]
		w.read(readers, flags, class)
		for _, expr := range w.hits {
			m.hits = append(m.hits, hit{expr, from, false})
		}
		if w.lists[n] = w.list; len(w.list) > 0 {
			m.from = append(m.from, from)
			n++
		}
	}
	for i, g := range s.groups {
		w.hits = w.hits[:0]
		w.readers(g, flags, w.lists[maxGroups+1][:0])
		w.lists[maxGroups+1] = w.list
		for _, expr := range w.hits {
			m.hits = append(m.hits, hit{expr, i, true})
		}
		if class < a.end() {
			group(w.list, i)
		}
	}
	if class < a.end() && (s.opening || !a.anchored) {
		group(a.openers(0, flags, class), -1)
	}
	if n == 0 && a.anchored {
		if m.to = a.dead; len(m.hits) == 0 {
			return &a.nowhere
		}
		return m
	}
	if n > maxGroups {
		w.lists[n-2] = append(w.lists[n-2], w.lists[n-1]...)
		n, m.from = n-1, m.from[:n-1]
	}
	m.same = n == len(s.groups)
	w.key = append(w.key[:0], byte(after))
	for i, g := range w.lists[:n] {
		slices.Sort(g)
		m.same = m.same && m.from[i] == i
		for _, pc := range g {
			w.key = binary.AppendUvarint(w.key, uint64(pc)+1)
		}
		w.key = append(w.key, 0)
	}
	m.to = a.intern(after, w.lists[:n], w.key)
	return m
}

// opening is the instructions that read a rune where an entry begins: all, and by class.
type opening struct {
	all []uint32
	of  []atomic.Pointer[[]uint32]
}

// openers are the instructions at an entry that read a rune, if it is of the class.
func (a *automaton) openers(entry uint32, flags syntax.EmptyOp, class uint16) []uint32 {
	p := &a.opening[entry][flags]
	if p.Load() == nil {
		w := walk{a: a, seen: newMarks(a)}
		w.readers(a.entries[entry], flags, nil) // an empty match does not count
		p.CompareAndSwap(nil, &opening{w.list, make([]atomic.Pointer[[]uint32], len(a.sorts))})
	}
	o := p.Load()
	c := &o.of[class]
	if list := c.Load(); list != nil {
		return *list
	}
	list := slices.DeleteFunc(slices.Clone(o.all), func(pc uint32) bool {
		in := &a.insts[pc]
		return in.op == syntax.InstRune && !a.in[in.set][class]
	})
	list = slices.Clone(list) // most of it is gone
	c.Store(&list)
	return list
}

// marks is a set of instructions that is soon cleared.
type marks struct {
	round uint32
	in    []uint32 // by instruction: the round in which it was added
}

func newMarks(a *automaton) marks { return marks{1, make([]uint32, len(a.insts))} }

func (m *marks) clear() {
	if m.round++; m.round == 0 {
		clear(m.in)
		m.round = 1
	}
}

func (m *marks) add(pc uint32) (added bool) {
	added = m.in[pc] != m.round
	m.in[pc] = m.round
	return added
}

// readers appends to list the instructions that read a rune and are reached from pcs.
func (w *walk) readers(pcs []uint32, flags syntax.EmptyOp, list []uint32) {
	w.seen.clear()
	w.list = list
	for _, pc := range pcs {
		w.follow(pc, &w.seen, flags|decided)
	}
}

// read lists what readers become by reading a rune of the class.
func (w *walk) read(readers []uint32, flags syntax.EmptyOp, class uint16) {
	for _, pc := range readers {
		switch in := &w.a.insts[pc]; {
		case in.op == junction:
			w.read(w.a.openers(in.out, flags, class), flags, class)
		case w.a.in[in.set][class]:
			w.follow(in.out, &w.taken, 0)
		}
	}
}

// decided is among the flags when the runes on both sides are known.
const decided syntax.EmptyOp = 1 << 7

// follow lists the instructions that read a rune and are reached from pc; those that assert too,
// where that is not decided.
func (w *walk) follow(pc uint32, seen *marks, flags syntax.EmptyOp) {
	for seen.add(pc) {
		switch in := &w.a.insts[pc]; in.op {
		case syntax.InstAlt:
			w.follow(in.out, seen, flags)
			pc = in.arg
		case syntax.InstNop:
			pc = in.out
		case syntax.InstEmptyWidth:
			if flags&decided == 0 {
				w.list = append(w.list, pc)
				return
			}
			if in.empty&^flags != 0 {
				return
			}
			pc = in.out
		case syntax.InstMatch:
			w.hits = append(w.hits, in.expr)
			return
		case syntax.InstRune, junction:
			w.list = append(w.list, pc)
			return
		default: // InstFail
			return
		}
	}
}
