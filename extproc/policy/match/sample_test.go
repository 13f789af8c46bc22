package match

import (
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode"

	"millrace/extproc/policy/injection"
	wordlists "millrace/extproc/policy/words"
)

// sampleOf writes a text that re matches, more or less.
func sampleOf(r *rand.Rand, re *syntax.Regexp, b *strings.Builder) {
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && r.IntN(2) == 0 {
				c = unicode.SimpleFold(c)
			}
			b.WriteRune(c)
		}
	case syntax.OpCharClass:
		for range 20 {
			i := r.IntN(len(re.Rune)/2) * 2
			c := re.Rune[i] + rune(r.IntN(int(re.Rune[i+1]-re.Rune[i])+1))
			if c < 128 || r.IntN(20) == 0 {
				b.WriteRune(c)
				return
			}
		}
		b.WriteRune(re.Rune[0])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte("abc 12-_"[r.IntN(8)])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		lo, hi := re.Min, re.Max
		switch re.Op {
		case syntax.OpStar:
			lo, hi = 0, 4
		case syntax.OpPlus:
			lo, hi = 1, 4
		case syntax.OpQuest:
			lo, hi = 0, 1
		}
		if hi < 0 {
			hi = lo + 3
		}
		n := lo + r.IntN(min(hi-lo, 6)+1)
		if r.IntN(10) == 0 {
			n = max(0, n-1)
		}
		for range n {
			sampleOf(r, re.Sub[0], b)
		}
	case syntax.OpAlternate:
		sampleOf(r, re.Sub[r.IntN(len(re.Sub))], b)
	default:
		for _, s := range re.Sub {
			sampleOf(r, s, b)
		}
	}
}

// allPatterns are those of all kinds.
func allPatterns(t testing.TB) []Pattern {
	patterns := realPatterns()
	rules, err := injection.Rules(injection.Regexps)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		patterns = append(patterns, Pattern{Expr: r.Expr, Folded: !r.Raw}) // the checks decode
	}
	lists, err := wordlists.Compile(wordlists.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lists {
		patterns = append(patterns, Pattern{Expr: l.Expr, Folded: true, Check: l.Check})
	}
	return patterns
}

func treesOf(t testing.TB, patterns []Pattern) (trees []*syntax.Regexp) {
	for _, p := range patterns {
		tree, err := syntax.Parse(p.Expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	return trees
}

// TestSamples: texts that are full of what the real patterns want, nearly.
func TestSamples(t *testing.T) {
	patterns := allPatterns(t)
	for i := range realPatterns() {
		patterns[i].Folded = i%5 == 1
	}
	s := mustCompile(t, patterns)
	each := compileEach(patterns)
	trees := treesOf(t, patterns)
	hits := map[int]bool{}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 11))
		text := sampleText(r, trees, 1)
		got, err := s.Find(text)
		if want := reference(patterns, each, text); err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d, %q: got %v, %v, want %v", seed, text, got, err, want)
		}
		for _, f := range got {
			hits[f.Pattern] = true
		}
		checkStream(t, s, patterns, r, text, seed)
		checkStreamJSON(t, s, patterns, r, `{"a":"`+Quote(text)+`"}`, seed)
		most := 16 + r.IntN(300)
		streamed(t, s.Stream(most), pieces(r, text), most)
	}
	if len(hits) < len(patterns)/3 {
		t.Errorf("only %d of %d patterns had a match", len(hits), len(patterns))
	}
}

// sampleText writes what the trees match, or only so much of the start of it.
func sampleText(r *rand.Rand, trees []*syntax.Regexp, much float64) string {
	var b strings.Builder
	for range 1 + r.IntN(12) {
		if r.IntN(2) == 0 {
			b.WriteString(randomText(r, 5))
		}
		var one strings.Builder
		sampleOf(r, trees[r.IntN(len(trees))], &one)
		b.WriteString(strings.ToValidUTF8(one.String()[:int(float64(one.Len())*much)], ""))
		b.WriteString([]string{"", " ", "\n", "; ", "'"}[r.IntN(5)])
	}
	return b.String()
}

// TestWorkIsLinear: twice as much of a text that begins a match everywhere is at most twice the
// work, and never much for each byte.
func TestWorkIsLinear(t *testing.T) {
	patterns := allPatterns(t)
	s := mustCompile(t, patterns)
	trees := treesOf(t, patterns)
	work := func(text string) (steps, searched int) {
		for _, p := range slices.Concat(s.whole.raw, s.whole.folded) {
			if p.run == nil && p.auto.anchored {
				scan := p.scanner()
				scan.find(text)
				steps, searched = steps+scan.steps, searched+scan.searched
			}
		}
		return steps, searched
	}
	const size = 10_000
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 13))
		part := sampleText(r, trees, 0.5) // many heads
		if seed%2 == 0 {
			part = sampleText(r, trees[r.IntN(len(trees)):][:1], 0.5) // one
		}
		text := strings.Repeat(part, size/len(part)+1)
		steps, searched := work(text)
		steps2, searched2 := work(text + text)
		if steps > maxRuns*len(text) || steps2 > 2*steps+size {
			t.Errorf("%q: %d steps for %d bytes, %d for twice that", part, steps, len(text), steps2)
		}
		if searched > 20*len(text) || searched2 > 2*searched+size {
			t.Errorf("%q: regexp reads %d bytes of %d, %d of twice that", part, searched, len(text), searched2)
		}
	}
}
