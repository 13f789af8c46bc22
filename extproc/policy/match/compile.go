package match

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// build makes the automaton of exprs.
func build(exprs []expr) *automaton {
	a := &automaton{room: maxStates, known: map[string]*state{}, entries: make([][]uint32, 1)}
	c := compiler{a: a, index: map[string]int{}}
	heads := map[string][]int{} // expressions, by how they begin
	var order []*syntax.Regexp
	tails := make([]*syntax.Regexp, len(exprs))
	for i, e := range exprs {
		a.most = append(a.most, longest(e.tree, bytesOf))
		var head *syntax.Regexp
		if head, tails[i] = split(loosen(e.tree, streams)); head == nil {
			c.compileAlone(tails[i], i)
			continue
		}
		key := head.String()
		if heads[key] == nil {
			order = append(order, head)
		}
		heads[key] = append(heads[key], i)
	}
	for _, head := range order {
		c.compileHead(head, heads[head.String()], tails)
	}
	a.finish(c.sets)
	return a
}

func (a *automaton) finish(sets [][]rune) {
	a.classify(sets)
	a.opening = make([][64]atomic.Pointer[opening], len(a.entries))
}

// split takes off what re begins with, if that repeats: many rules begin with the same "any word".
// Together they need it only once. The head is nil if there is none.
func split(re *syntax.Regexp) (head, tail *syntax.Regexp) {
	if re.Op == syntax.OpConcat {
		switch re.Sub[0].Op {
		case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
			head, tail = re.Sub[0], &syntax.Regexp{Op: syntax.OpConcat, Flags: re.Flags, Sub: re.Sub[1:]}
			if needed(tail) {
				return head, tail
			}
		}
	}
	return nil, re
}

// compiler adds instructions to an automaton.
type compiler struct {
	a     *automaton
	index map[string]int // of the sets
	sets  [][]rune       // ranges: from, to, from, to …
}

// compileHead adds the expressions that begin with head.
func (c *compiler) compileHead(head *syntax.Regexp, exprs []int, tails []*syntax.Regexp) {
	most := 0
	for _, i := range exprs {
		most = max(most, c.a.most[i])
	}
	start, match := c.compile(head, inst{most: most})
	c.a.insts[match] = inst{op: junction, out: uint32(len(c.a.entries)), most: most}
	c.a.entries[0] = append(c.a.entries[0], start)
	var entry []uint32
	for _, i := range exprs {
		start, _ := c.compile(tails[i], inst{expr: i, most: c.a.most[i]})
		entry = append(entry, start)
	}
	c.a.entries = append(c.a.entries, entry)
}

// compileAlone adds an expression.
func (c *compiler) compileAlone(re *syntax.Regexp, i int) {
	start, _ := c.compile(re, inst{expr: i, most: c.a.most[i]})
	c.a.entries[0] = append(c.a.entries[0], start)
}

// compile adds the instructions of re, and returns the first and the one that ends a match.
func (c *compiler) compile(re *syntax.Regexp, like inst) (start, match uint32) {
	prog, _ := syntax.Compile(re.Simplify()) // it never fails
	base := uint32(len(c.a.insts))
	for j := range prog.Inst {
		p, in := &prog.Inst[j], like
		in.op, in.out = p.Op, base+p.Out
		switch p.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			in.op, in.arg = syntax.InstAlt, base+p.Arg
		case syntax.InstEmptyWidth:
			in.empty = syntax.EmptyOp(p.Arg)
		case syntax.InstCapture:
			in.op = syntax.InstNop
		case syntax.InstMatch:
			match = base + uint32(j)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			in.op, in.set = syntax.InstRune, c.set(rangesOf(p))
		}
		c.a.insts = append(c.a.insts, in)
	}
	return base + uint32(prog.Start), match
}

func (c *compiler) set(ranges []rune) int {
	key := fmt.Sprint(ranges)
	if _, ok := c.index[key]; !ok {
		c.index[key] = len(c.sets)
		c.sets = append(c.sets, ranges)
	}
	return c.index[key]
}

// rangesOf are the runes that an instruction reads: from, to, from, to …
func rangesOf(p *syntax.Inst) []rune {
	switch {
	case p.Op == syntax.InstRuneAny:
		return []rune{0, unicode.MaxRune}
	case p.Op == syntax.InstRuneAnyNotNL:
		return []rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
	case len(p.Rune) > 1:
		return p.Rune
	}
	r := p.Rune[0]
	ranges := []rune{r, r}
	if syntax.Flags(p.Arg)&syntax.FoldCase != 0 {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			ranges = append(ranges, f, f)
		}
	}
	return ranges
}

// classify puts runes that no set tells apart into one class.
func (a *automaton) classify(sets [][]rune) {
	own := len(sets)
	sets = append(sets, []rune{'\n', '\n'}, []rune{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'})
	edges := []rune{0}
	for _, ranges := range sets {
		for i := 0; i < len(ranges); i += 2 {
			edges = append(edges, ranges[i], ranges[i+1]+1)
		}
	}
	for r := rune(1); r <= utf8.RuneSelf; r++ {
		edges = append(edges, r)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	classes := map[string]uint16{}
	a.in = make([][]bool, own)
	signature := make([]byte, len(sets))
	for _, r := range edges {
		for i, ranges := range sets {
			signature[i] = 0
			if within(ranges, r) {
				signature[i] = 1
			}
		}
		class, ok := classes[string(signature)]
		if !ok {
			class = uint16(len(classes))
			classes[string(signature)] = class
			for i := range a.in {
				a.in[i] = append(a.in[i], signature[i] == 1)
			}
			k := other
			if signature[own] == 1 {
				k = newline
			} else if signature[own+1] == 1 {
				k = word
			}
			a.sorts = append(a.sorts, k)
		}
		if r < utf8.RuneSelf {
			a.ascii[r], a.usual = class, max(a.usual, int(class)+1)
		} else {
			a.above = append(a.above, span{r, class})
		}
	}
}

func within(ranges []rune, r rune) bool {
	for i := 0; i < len(ranges); i += 2 {
		if ranges[i] <= r && r <= ranges[i+1] {
			return true
		}
	}
	return false
}
