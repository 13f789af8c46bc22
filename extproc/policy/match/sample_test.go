package match

import (
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode"
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

// TestSamples: texts that are full of what the real patterns want, nearly.
func TestSamples(t *testing.T) {
	patterns := realPatterns()
	for i := range patterns {
		patterns[i].Folded = i%5 == 1
	}
	s := mustCompile(t, patterns)
	each := compileEach(patterns)
	var trees []*syntax.Regexp
	for _, p := range patterns {
		tree, err := syntax.Parse(p.Expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	hits := map[int]bool{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 11))
		var b strings.Builder
		for range 1 + r.IntN(12) {
			if r.IntN(2) == 0 {
				b.WriteString(randomText(r, 5))
			}
			sampleOf(r, trees[r.IntN(len(trees))], &b)
			b.WriteString([]string{"", " ", "\n", "; ", "'"}[r.IntN(5)])
		}
		text := b.String()
		got, err := s.Find(text)
		if want := reference(patterns, each, text); err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d, %q: got %v, %v, want %v", seed, text, got, err, want)
		}
		for _, f := range got {
			hits[f.Pattern] = true
		}
		checkStream(t, s, nil, r, text, seed)
		checkStreamJSON(t, s, nil, r, `{"a":"`+Quote(text)+`"}`, seed)
		most := 16 + r.IntN(300)
		streamed(t, s.Stream(most), pieces(r, text), most)
	}
	if len(hits) < len(patterns)/3 {
		t.Errorf("only %d of %d patterns had a match", len(hits), len(patterns))
	}
}
