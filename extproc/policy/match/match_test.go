package match

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"millrace/extproc/policy/fold"
)

// exprs are of every kind that a rule may be: with context before and after, greedy and not,
// prefixes of each other, without an end.
var exprs = []string{
	`foo`, `foobar`, `foob`, `oba`, `\bfoo\b`, `^foo`, `foo$`, `(?m)^bar$`, `\Bo\B`, `(?s)a.*?b`,
	`a+`, `a{3,5}`, `(?:ab){2,}c`, `a*?`, `|abc`, `(a|ab)(c|bcd)(d*)`, `x*y?`, `(?i)key`,
	`(?i)[\w.-]{0,50}?(?:key|token)(?:[ \t\w.-]{0,20})[\s'"]{0,3}(?:=|>|:{1,3}=|:|=>)[\x60'"\s=]{0,5}([a-z0-9]{6,10})(?:[\x60'"\s;]|\\[nr]|$)`,
	`\b(sk-[a-z0-9]{8})(?:[\x60'"\s;]|\\[nr]|$)`, `sk-[a-z0-9-]{4,}`,
	`[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b`,
	`\b(?:\d[ -]?){12,18}\d\b`, `\b\d{3}-\d{2}-\d{4}\b`, `\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}\b`,
	`-----BEGIN[ A-Z]{0,20}KEY-----[\s\S]{4,}?-----END[ A-Z]{0,20}KEY-----`,
	`é+`, `[^\x00-\x7F]+`, `.\B`, `\pL{2,3}`, `[^a]{1,3}$`, `\x{FFFD}`, `(?i)straße`, `a\b.`, `\n+`, `(?:)+`, `\z`, `\Aa`,
	`[a-z0-9 ]{8,}`, `(?i)[b-f]{8,}`, `[k-z]{9,}?`, `k.{0,40}y`, `(?i)\b(?:key|token)\b[^\n]{0,30}\bfoo`, `(?s)foo.{0,20}bar`,
	`\pL{1,20}!`, `(?i)\b[a-z]{9,11}s\b`, `[[:^ascii:]]{2,9}\.`,
}

// words are what texts are made of: what the expressions want, nearly and in part.
var words = []string{
	"foo", "foobar", "fo", "o", "bar", "b", "a", "aa", "aaaa", "ab", "abc", "abcd", "c", "d", " ", "  ", "\n", ".", ",", "-", "=", ":", "'", "\"", "\\", "\\n", "{", "}", "[", "]", "_",
	"key", "KEY", "\u212aey", "token", "api_key", "abc123", "abcdef1234", "sk-", "sk-abcd1234", "sk-ab-cd", "jane.doe", "@", "example", ".com", "x", "y",
	"4111 1111 1111 1111", "1234567890123", "1", "123-45-6789", "DE89", "3704 0044 0532 0130", "-----BEGIN ", "PRIVATE KEY-----", "-----END ", "-----",
	"é", "ééé", "ß", "straße", "STRASSE", "日本", "語", "😀", "\xff", "\xe2\x82", "\xac", "\xf0\x9f", "\ufffd", "\x00", "the quick brown fox", "Zebra",
	"ééééééééééééééééé", "語語語語語語語語語語語語語", "!", "abcdefghijk", "\x80\x80\x80\x80\x80", "\u200b", "ｆｏｏ", "ｏ", "ﬁ", "fi", "f", "\u0301",
}

func randomText(r *rand.Rand, most int) string {
	var b strings.Builder
	for range r.IntN(most) {
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}

// pieces cuts a text anywhere.
func pieces(r *rand.Rand, text string) (cut []string) {
	most := 1 + r.IntN(12)
	for text != "" {
		n := min(len(text), 1+r.IntN(most))
		cut = append(cut, text[:n])
		text = text[n:]
	}
	return cut
}

// testFolding removes zero-width spaces, takes ligatures apart and makes wide letters narrow.
var testFolding = folding{
	text: func(text string) (string, []int) {
		var folded []byte
		var at []int
		same := true
		for i := 0; i < len(text); {
			r, n := utf8.DecodeRuneInString(text[i:])
			made := text[i : i+n]
			switch {
			case r == '\u200b':
				made = ""
			case r == 'ﬁ':
				made = "fi"
			case r >= 'ａ' && r <= 'ｚ':
				made = string('a' + r - 'ａ')
			}
			same = same && made == text[i:i+n]
			for range len(made) {
				at = append(at, i)
			}
			folded = append(folded, made...)
			i += n
		}
		if same {
			return text, nil
		}
		return string(folded), append(at, len(text))
	},
	settled: func(text string) int {
		n := len(text)
		for i := n - 1; i >= max(0, n-3); i-- {
			if utf8.RuneStart(text[i]) {
				if !utf8.FullRuneInString(text[i:]) {
					return i
				}
				break
			}
		}
		return n
	},
}

// half lets half of the matches count, and of these the middle.
func half(text string, groups []int) (from, to int, ok bool) {
	n := groups[1] - groups[0]
	if n < 3 {
		return groups[0], groups[1], n == 2
	}
	from, to = groups[0]+1, groups[1]-1
	for from > groups[0] && !utf8.RuneStart(text[from]) {
		from--
	}
	for to < groups[1] && !utf8.RuneStart(text[to]) {
		to++
	}
	return from, to, text[groups[0]]%2 == 0
}

func testPatterns() []Pattern {
	var patterns []Pattern
	for i, e := range exprs {
		p := Pattern{Expr: e, Folded: i%3 == 1}
		if i%4 == 3 {
			p.Check = half
		}
		patterns = append(patterns, p)
	}
	return patterns
}

func mustCompile(t testing.TB, patterns []Pattern) *Set {
	t.Helper()
	s, err := compileSet(patterns, testFolding)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reference finds with regexp alone.
func reference(patterns []Pattern, compiled []*regexp.Regexp, text string) []Found {
	var found []Found
	for i, p := range patterns {
		read := text
		var o origin
		if p.Folded {
			var at []int
			read, at = testFolding.text(text)
			o.folded(len(read), at, text)
		}
		for _, groups := range compiled[i].FindAllStringSubmatchIndex(read, -1) {
			if groups[0] == groups[1] {
				continue
			}
			from, to, ok := groups[0], groups[1], true
			if p.Check != nil {
				from, to, ok = p.Check(read, groups)
			}
			if !ok {
				continue
			}
			f := Found{Pattern: i, From: from, To: to}
			if p.Folded {
				f = o.trace(f)
			}
			found = append(found, f)
		}
	}
	slices.SortFunc(found, order)
	return found
}

func compileEach(patterns []Pattern) (each []*regexp.Regexp) {
	for _, p := range patterns {
		each = append(each, regexp.MustCompile(p.Expr))
	}
	return each
}

// TestJoined: a letter that was written as several runes is found as a whole.
func TestJoined(t *testing.T) {
	s, err := Compile([]Pattern{{Expr: "ガ", Folded: true}, {Expr: "한", Folded: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, letter := range []string{"ガ", "カ\u3099", "한", "\u1112\u1161\u11ab"} {
		found, err := s.Find("x " + letter + "\u200by")
		if err != nil || len(found) != 1 || found[0].From != 2 || found[0].To != 2+len(letter) {
			t.Errorf("%q: %v, %v", letter, found, err)
		}
	}
}

func TestFindIsRegexp(t *testing.T) {
	patterns := testPatterns()
	each := compileEach(patterns)
	s := mustCompile(t, patterns)
	hits := 0
	for seed := range uint64(400) {
		text := randomText(rand.New(rand.NewPCG(seed, 1)), 30)
		got, err := s.Find(text)
		if err != nil {
			t.Fatal(err)
		}
		want := reference(patterns, each, text)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, %q: %s", seed, text, difference(got, want))
		}
		hits += len(got)
	}
	if hits < 1000 {
		t.Errorf("only %d matches", hits)
	}
}

func difference(got, want []Found) string {
	var b strings.Builder
	for _, f := range got {
		if !slices.Contains(want, f) {
			fmt.Fprintf(&b, "\n got %+v %q", f, exprs[f.Pattern])
		}
	}
	for _, f := range want {
		if !slices.Contains(got, f) {
			fmt.Fprintf(&b, "\nwant %+v %q", f, exprs[f.Pattern])
		}
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "got %v, want %v", got, want)
	}
	return b.String()
}

// streamed feeds the pieces and checks what each step promises. It returns what was found, with
// offsets in the whole, and the text with each cluster of matches as one #.
func streamed(t testing.TB, w *Stream, pieces []string, most int) (found []Found, redacted string, slid bool) {
	t.Helper()
	window, start := "", 0
	take := func(s Step) {
		if s.Settled < 0 || s.Settled > len(window) {
			t.Fatalf("settled %d of %d", s.Settled, len(window))
		}
		if !slices.IsSortedFunc(s.Found, order) {
			t.Fatalf("not sorted: %v", s.Found)
		}
		for _, f := range s.Found {
			if f.From < 0 || f.From >= f.To || f.To > s.Settled {
				t.Fatalf("found %v in %d", f, s.Settled)
			}
		}
		redacted += redact(window[:s.Settled], s.Found)
		for _, f := range s.Found {
			f.From += start
			f.To += start
			found = append(found, f)
		}
		window = window[s.Settled:]
		start += s.Settled
		slid = slid || s.Slid
	}
	for _, p := range pieces {
		window += p
		s, err := w.Push(p)
		if err != nil {
			t.Fatal(err)
		}
		take(s)
		if len(window) > most {
			t.Fatalf("%d bytes are held back", len(window))
		}
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	take(s)
	if window != "" {
		t.Fatalf("left: %q", window)
	}
	return found, redacted, slid
}

func redact(text string, found []Found) string {
	var b strings.Builder
	at := 0
	for i := 0; i < len(found); {
		from, to := found[i].From, found[i].To
		for i++; i < len(found) && found[i].From < to; i++ {
			to = max(to, found[i].To)
		}
		b.WriteString(text[at:from])
		b.WriteByte('#')
		at = to
	}
	return b.String() + text[at:]
}

func TestStreamIsFind(t *testing.T) {
	all := testPatterns()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		s, patterns := some(t, r, all)
		text := randomText(r, 40)
		checkStream(t, s, patterns, r, text, seed)
	}
}

var sets = map[string]*Set{}

// some is a set of all patterns or of a few.
func some(t testing.TB, r *rand.Rand, all []Pattern) (*Set, []Pattern) {
	patterns := all
	switch n := r.IntN(3); n {
	case 0:
		i := r.IntN(len(all))
		patterns = all[i : i+1]
	case 1:
		i := r.IntN(len(all) - 4)
		patterns = all[i : i+4]
	}
	key := fmt.Sprint(patterns)
	if sets[key] == nil {
		sets[key] = mustCompile(t, patterns)
	}
	return sets[key], patterns
}

func checkStream(t testing.TB, s *Set, patterns []Pattern, r *rand.Rand, text string, seed uint64) {
	t.Helper()
	want, err := s.Find(text)
	if err != nil {
		t.Fatal(err)
	}
	cut := pieces(r, text)
	got, redacted, slid := streamed(t, s.Stream(1<<20), cut, 1<<20)
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d, %q: %s", seed, cut, difference(got, want))
	}
	if w := redact(text, want); redacted != w {
		t.Fatalf("seed %d, %q: got %q, want %q", seed, cut, redacted, w)
	}
	if slid {
		t.Fatalf("seed %d: slid", seed)
	}
}

// TestSlides: what is short is found whatever is waited for.
func TestSlides(t *testing.T) {
	all := testPatterns()
	slides := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, _ := some(t, r, all)
		text := randomText(r, 200)
		most := 16 + r.IntN(200)
		got, _, slid := streamed(t, s.Stream(most), pieces(r, text), most)
		if !slid {
			if want, _ := s.Find(text); !slices.Equal(got, want) {
				t.Fatalf("seed %d: got %v, want %v", seed, got, want)
			}
			continue
		}
		slides++
	}
	if slides < 20 {
		t.Errorf("only %d slid", slides)
	}
}

func TestSlideFindsWhatIsShort(t *testing.T) {
	s := mustCompile(t, []Pattern{{Expr: `BEGIN[\s\S]*END`}, {Expr: `\b[a-z]+@[a-z]+\.com\b`}})
	text := "BEGIN " + strings.Repeat("lorem ipsum jane@example.com, ", 500)
	for seed := range uint64(50) {
		got, redacted, slid := streamed(t, s.Stream(200), pieces(rand.New(rand.NewPCG(seed, 4)), text), 200)
		if len(got) != 500 || !slid || strings.Contains(redacted, "example") {
			t.Fatalf("seed %d: %d found, slid %v: %q", seed, len(got), slid, redacted)
		}
	}
}

// TestRealFolding: a stream that is folded piece by piece has what the whole has.
func TestRealFolding(t *testing.T) {
	patterns := testPatterns()
	for i := range patterns {
		patterns[i].Folded = i%5 > 0
	}
	s, err := Compile(patterns)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 20))
		var text strings.Builder
		for range r.IntN(10) {
			text.WriteString(randomText(r, 4) + tricks[r.IntN(len(tricks))])
		}
		checkStream(t, s, patterns, r, text.String(), seed)
		checkStreamJSON(t, s, patterns, r, `["`+Quote(text.String())+`"]`, seed)
	}
	found, err := s.Find("k\u200be\u00ady and \u200b𝐟𝐨𝐨")
	if err != nil || len(found) == 0 {
		t.Errorf("got %v, %v", found, err)
	}
}

// tricks are ways to write something else.
var tricks = []string{"か", "\u3099", "ᄒ", "ᅡ", "ᆫ", "ﷺ", "\u200d", "𝐤𝐞𝐲", "кеу", "\U000E0066\U000E006F\U000E006F", "\u00ad", "Ⓕ", "e\u0301"}

// TestFoldedInPieces: a long text is folded in pieces, and what is found in it is what is found in
// the text that is folded at once.
func TestFoldedInPieces(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 21))
		var text strings.Builder
		for text.Len() < 6*foldedAtOnce {
			if text.WriteString(randomText(r, 40)); r.IntN(4) == 0 {
				text.WriteString(strings.Repeat(tricks[r.IntN(len(tricks))], 1+r.IntN(300)))
			}
		}
		folded, o := folding{fold.Fold, fold.Settled}.whole(text.String())
		whole, at := fold.Fold(text.String())
		if folded != whole {
			t.Fatalf("seed %d: %q\nfolded in pieces %q\nat once %q", seed, text.String(), folded, whole)
		}
		var once origin
		once.folded(len(whole), at, text.String())
		for i := range whole {
			r, size := utf8.DecodeRuneInString(whole[i:])
			letter := Found{From: i, To: i + size}
			if got, want := o.trace(letter), once.trace(letter); got != want {
				t.Fatalf("seed %d: %q at %d was made of %v, at once of %v", seed, r, i, got, want)
			}
		}
	}
}

// TestForgets: an automaton that has no room for its states finds the same, and so does a scan that
// follows no more than two runs.
func TestForgets(t *testing.T) {
	patterns := testPatterns()
	s := mustCompile(t, patterns)
	planes := slices.Concat(s.whole.raw, s.whole.folded, s.stream().raw, s.stream().folded)
	planes = slices.DeleteFunc(planes, func(p *plane) bool { return p.run != nil })
	for _, p := range planes {
		p.auto.room, p.auto.runs = 20, 2
	}
	each := compileEach(patterns)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		text := randomText(r, 30)
		checkStream(t, s, patterns, r, text, seed)
		got, _ := s.Find(text)
		if want := reference(patterns, each, text); !slices.Equal(got, want) {
			t.Fatalf("seed %d, %q: %s", seed, text, difference(got, want))
		}
		for _, p := range planes {
			if n := len(p.auto.known); n > 20 {
				t.Fatalf("%d states", n)
			}
		}
	}
}

func TestAtTheSameTime(t *testing.T) {
	patterns := testPatterns()
	s := mustCompile(t, patterns)
	for _, p := range slices.Concat(s.whole.raw, s.stream().raw) {
		if p.run == nil {
			p.auto.room = 100
		}
	}
	each := compileEach(patterns)
	for worker := range uint64(4) {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(25) {
				r := rand.New(rand.NewPCG(seed, 8))
				text := randomText(r, 30)
				checkStream(t, s, patterns, r, text, seed)
				got, _ := s.Find(text)
				if want := reference(patterns, each, text); !slices.Equal(got, want) {
					t.Fatalf("seed %d, %q: %s", seed, text, difference(got, want))
				}
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{`a(b`, "pattern 1: error parsing regexp: missing closing ): `a(b`"},
		{`(?<=a)b`, "pattern 1: error parsing regexp: invalid named capture: `(?<=a)b`"},
		{`a{1001}`, "pattern 1: error parsing regexp: invalid repeat count: `{1001}`"},
	} {
		_, err := Compile([]Pattern{{Expr: "a"}, {Expr: c.expr}})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.expr, err, c.want)
		}
	}
}

func TestNoPatterns(t *testing.T) {
	s := mustCompile(t, nil)
	if found, err := s.Find("text"); len(found) > 0 || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
	w := s.Stream(100)
	if step, _ := w.Push("text\xe2"); step.Settled != 5 {
		t.Errorf("got %+v", step)
	}
}

// TestFlows: what cannot become a match is settled with its piece.
func TestFlows(t *testing.T) {
	s := mustCompile(t, []Pattern{{Expr: `sk-[a-z0-9]{4}`}, {Expr: `\bjane\b`}, {Expr: `[a-z.]{1,64}@[a-z]{1,63}\.com`}})
	for _, c := range []struct {
		pieces  []string
		settled []int
	}{
		{[]string{"The ", "quick ", "brown"}, []int{4, 6, 0, 5}},   // a word may be an address
		{[]string{"THE", " QUICK", " BROWN"}, []int{3, 6, 6, 0}},   // no address
		{[]string{"a sk-", "12", "34", "!"}, []int{2, 0, 7, 1, 0}}, // nothing can follow it
		{[]string{"jane", " ", "doe"}, []int{0, 5, 0, 3}},
		{[]string{"a", "b@", "c", ".co", "x"}, []int{0, 0, 0, 0, 3, 5}},
		{[]string{strings.Repeat("a", 200), "b"}, []int{68, 1, 132}}, // an address is no longer
		{[]string{"É\xc3", "\x89"}, []int{2, 2, 0}},
	} {
		w := s.Stream(1000)
		var got []int
		for _, p := range c.pieces {
			step, err := w.Push(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, step.Settled)
		}
		step, _ := w.Close()
		if got = append(got, step.Settled); !slices.Equal(got, c.settled) {
			t.Errorf("%q: got %v, want %v", c.pieces, got, c.settled)
		}
	}
}

func TestCleanTextIsNotCopied(t *testing.T) {
	patterns := testPatterns()[18:24]
	for i := range patterns {
		patterns[i].Folded = false
	}
	s := mustCompile(t, patterns)
	text := strings.Repeat("Nothing is in here. ", 1000)
	if _, err := s.Find(text); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = s.Find(text) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStream(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomText(rand.New(rand.NewPCG(seed, 9)), 20), seed)
	}
	patterns := testPatterns()
	s := mustCompile(f, patterns)
	each := compileEach(patterns)
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 10))
		checkStream(t, s, patterns, r, text, seed)
		got, _ := s.Find(text)
		if want := reference(patterns, each, text); !slices.Equal(got, want) {
			t.Fatalf("%q: %s", text, difference(got, want))
		}
		checkStreamJSON(t, s, patterns, r, text, seed)
		most := 16 + r.IntN(100)
		streamed(t, s.Stream(most), pieces(r, text), most)
	})
}
