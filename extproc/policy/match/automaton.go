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
type automaton struct {
	insts   []inst
	entries [][]uint32 // instructions: where all expressions begin, then where they go on after a head
	most    []int      // by expression: the most bytes that a match has, or endless

	ascii [utf8.RuneSelf]uint16 // classes
	above []span                // of the runes above, by their first rune
	in    [][]bool              // by set and class
	kinds []kind                // by class

	opening [][64]atomic.Pointer[[]atomic.Pointer[[]uint32]] // by entry, flags and class: see openers
	walks   sync.Pool

	room  int          // for states
	moves atomic.Int64 // since the states were last forgotten
	mu    sync.Mutex   // guards known
	known map[string]*state
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
	groups  [][]uint32
	longest []int                  // by group: the most bytes of a match that it may become
	next    []atomic.Pointer[move] // by class; the last is the end of the text
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
func (a *automaton) end() uint16 { return uint16(len(a.kinds)) }

// step is where a rune of the class leads from s.
func (a *automaton) step(s *state, class uint16) *move {
	if m := s.next[class].Load(); m != nil {
		return m
	}
	w, _ := a.walks.Get().(*walk)
	if w == nil {
		words := (len(a.insts) + 63) / 64
		w = &walk{a: a, seen: make([]uint64, words), taken: make([]uint64, words)}
	}
	m := w.move(s, class)
	a.walks.Put(w)
	s.next[class].Store(m)
	a.moves.Add(1)
	return m
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
	}
	s := &state{before: before, next: make([]atomic.Pointer[move], len(a.kinds)+1)}
	for _, g := range groups {
		most := 0
		for _, pc := range g {
			most = max(most, a.insts[pc].most)
		}
		s.groups, s.longest = append(s.groups, slices.Clone(g)), append(s.longest, most)
	}
	a.known[string(key)] = s
	return s
}

// walk follows instructions. It is scratch space, used again and again.
type walk struct {
	a     *automaton
	seen  []uint64 // in this group, before the rune
	taken []uint64 // by this group or an earlier one, after the rune
	lists [maxGroups + 2][]uint32
	list  []uint32
	hits  []int
	key   []byte
}

// move works out where a rune of the class leads from s.
func (w *walk) move(s *state, class uint16) *move {
	a, m, after := w.a, &move{}, none
	if class < a.end() {
		after = a.kinds[class]
	}
	flags := around(s.before, after)
	clear(w.taken)
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
	if class < a.end() {
		group(a.openers(0, flags, class), -1)
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

// openers are the instructions at an entry that read a rune, if it is of the class.
func (a *automaton) openers(entry uint32, flags syntax.EmptyOp, class uint16) []uint32 {
	o := &a.opening[entry][flags]
	if o.Load() == nil {
		t := make([]atomic.Pointer[[]uint32], len(a.kinds))
		o.CompareAndSwap(nil, &t)
	}
	c := &(*o.Load())[class]
	if list := c.Load(); list != nil {
		return *list
	}
	w := walk{a: a, seen: make([]uint64, (len(a.insts)+63)/64)}
	w.readers(a.entries[entry], flags, nil) // an empty match does not count
	list := slices.DeleteFunc(w.list, func(pc uint32) bool {
		in := &a.insts[pc]
		return in.op == syntax.InstRune && !a.in[in.set][class]
	})
	list = slices.Clone(list) // most of it is gone
	c.Store(&list)
	return list
}

func add(bits []uint64, pc uint32) (added bool) {
	added = bits[pc/64]&(1<<(pc%64)) == 0
	bits[pc/64] |= 1 << (pc % 64)
	return added
}

// readers appends to list the instructions that read a rune and are reached from pcs.
func (w *walk) readers(pcs []uint32, flags syntax.EmptyOp, list []uint32) {
	clear(w.seen)
	w.list = list
	for _, pc := range pcs {
		w.follow(pc, w.seen, flags|decided)
	}
}

// read lists what readers become by reading a rune of the class.
func (w *walk) read(readers []uint32, flags syntax.EmptyOp, class uint16) {
	for _, pc := range readers {
		switch in := &w.a.insts[pc]; {
		case in.op == junction:
			w.read(w.a.openers(in.out, flags, class), flags, class)
		case w.a.in[in.set][class]:
			w.follow(in.out, w.taken, 0)
		}
	}
}

// decided is among the flags when the runes on both sides are known.
const decided syntax.EmptyOp = 1 << 7

// follow lists the instructions that read a rune and are reached from pc; those that assert too,
// where that is not decided.
func (w *walk) follow(pc uint32, seen []uint64, flags syntax.EmptyOp) {
	for add(seen, pc) {
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
