package words

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"millrace/extproc/policy/fold"
)

// find returns the parts of a text that patterns find, as the text has them.
func find(t testing.TB, patterns []Pattern, text string) (found []string) {
	t.Helper()
	folded, at := fold.Fold(text)
	for _, p := range patterns {
		for _, groups := range regexp.MustCompile(p.Expr).FindAllStringSubmatchIndex(folded, -1) {
			from, to := groups[0], groups[1]
			if p.Check != nil {
				from, to, _ = p.Check(folded, groups)
			}
			from, to = fold.Span(at, from, to)
			found = append(found, text[from:to])
		}
	}
	return found
}

func TestWords(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		text  string
		want  []string
	}{
		"whole words":                     {[]string{"ass"}, "An ass, a class, an ASS; assume ass", []string{"ass", "ASS", "ass"}},
		"a phrase, over any white space":  {[]string{"kill yourself"}, "kill\n  yourself, kill yourselves", []string{"kill\n  yourself"}},
		"letters that look alike":         {[]string{"bastard"}, "bаstаrd b\u200bastard ｂａｓｔａｒｄ bastаrds", []string{"bаstаrd", "b\u200bastard", "ｂａｓｔａｒｄ"}},
		"accents":                         {[]string{"Scheiße", "crème brûlée"}, "SCHEIßE, creme brulee", []string{"creme brulee", "SCHEIßE"}},
		"a letter that is not folded":     {[]string{"Spaß"}, "Spaß, Spaßig spaß", []string{"Spaß", "spaß"}},
		"words in a row":                  {[]string{"bad"}, "bad bad,bad-bad", []string{"bad", "bad", "bad", "bad"}},
		"the longest counts":              {[]string{"go", "go away"}, "go away go", []string{"go away", "go"}},
		"Russian":                         {[]string{"дурак"}, "Дурак! дурака, (дурак) недурак, ДУРАК", []string{"Дурак", "дурак", "ДУРАК"}},
		"Russian that is folded to Latin": {[]string{"сор"}, "сор, сорт, сори, Сор", []string{"сор", "Сор"}},
		"Russian in a row":                {[]string{"дурак", "болван"}, "дурак болван,дурак", []string{"дурак болван,дурак"}},
		"a Russian phrase":                {[]string{"иди прочь"}, "Иди  прочь! найди прочь", []string{"Иди  прочь"}},
		"Greek":                           {[]string{"βλάκας"}, "βλακας ΒΛΆΚΑΣ βλάκαςα", []string{"βλακας ΒΛΆΚΑΣ"}},
		"Arabic, without points":          {[]string{"كلب"}, "كَلْب كلبي", []string{"كَلْب"}},
		"Hindi":                           {[]string{"कुत्ता"}, "कुत्ता! कुत्ताा", []string{"कुत्ता"}},
		"Chinese is found anywhere":       {[]string{"笨蛋"}, "你是大笨蛋吗", []string{"笨蛋"}},
		"Japanese":                        {[]string{"ばか"}, "おまえはは\u3099かだ", []string{"は\u3099か"}},
		"Korean, with an ending":          {[]string{"바보"}, "바보는", []string{"바보"}},
		"Thai":                            {[]string{"โง่"}, "คุณโง่มาก", []string{"โง่"}},
		"what is special in RE2":          {[]string{"c++", "a.b", "(x)"}, "c++ a.b aab f(x)y", []string{"c++", "a.b", "(x)"}},
		"no boundary where no letter is":  {[]string{"#bad", "@all"}, "x#bad #badly @all", []string{"#bad", "@all"}},
		"twice in the list":               {[]string{"bad", "bad"}, "bad", []string{"bad"}},
	} {
		patterns, err := Compile([]List{{Category: "c", Severity: Low, Words: c.words}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := find(t, patterns, c.text)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q in %q, want %q", name, got, c.text, c.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	patterns, err := Compile([]List{
		{Category: "a", Severity: Low, Words: []string{"one"}},
		{Category: "b", Severity: High, Words: []string{"zwei", "два"}, Patterns: []string{`proj(?:ect)?-\d{3}`, `(?-i:КОД)\d`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "zwei", "два", "PROJ-123", "КОД7"}
	if got := find(t, patterns, "КОД7 код7 one zwei два PROJ-123"); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	var lists []int
	for _, p := range patterns {
		lists = append(lists, p.List)
	}
	if want := []int{0, 1, 1, 1, 1}; !slices.Equal(lists, want) {
		t.Errorf("the patterns are of the lists %v, want %v", lists, want)
	}
}

func TestCompileSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		list List
		want string
	}{
		"no word":              {List{Category: "c", Words: []string{"a", " \u200b"}}, `list 0 (c): " \u200b" is no word`},
		"no expression":        {List{Category: "c", Patterns: []string{"a", "b("}}, "list 0 (c): pattern 1: error parsing regexp: missing closing ): `(?i)b(`"},
		"all texts match":      {List{Category: "c", Patterns: []string{"a*"}}, `list 0 (c): pattern 0: "a*" matches the empty text, so all of them`},
		"not seen, and so all": {List{Category: "c", Patterns: []string{"\u200b"}}, `list 0 (c): pattern 0: "\u200b" matches the empty text, so all of them`},
	} {
		if _, err := Compile([]List{c.list}); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// TestLongList: a list of any length becomes few expressions.
func TestLongList(t *testing.T) {
	var list []string
	for i := range 2400 {
		list = append(list, fmt.Sprintf("word%d", i), fmt.Sprintf("слово%d", i))
	}
	patterns, err := Compile([]List{{Category: "c", Severity: Low, Words: list}})
	if err != nil {
		t.Fatal(err)
	}
	if len(patterns) != 10 {
		t.Errorf("%d expressions", len(patterns))
	}
	if got := find(t, patterns, "word2399 слово7 word2400"); !slices.Equal(got, []string{"word2399", "слово7"}) {
		t.Errorf("found %q", got)
	}
}

func TestSeverity(t *testing.T) {
	for _, s := range []Severity{Low, Medium, High} {
		if got, err := ParseSeverity(s.String()); got != s || err != nil {
			t.Errorf("%v is read as %v, %v", s, got, err)
		}
	}
	for _, name := range []string{"", "Low", "critical"} {
		if _, err := ParseSeverity(name); err == nil {
			t.Errorf("%q is a severity", name)
		}
	}
}

func TestBuiltin(t *testing.T) {
	lists := Builtin()
	patterns, err := Compile(lists)
	if err != nil {
		t.Fatal(err)
	}
	of := func(text string) (categories []string) {
		for _, p := range patterns {
			if len(find(t, []Pattern{p}, text)) > 0 {
				categories = append(categories, lists[p.List].Category)
			}
		}
		return categories
	}
	for category, text := range map[string]string{
		"profanity": "What the FUCK, this is bull\u00adshit.",
		"violence":  "I’ll kill you",
		"self-harm": "I want to  die.",
		"weapons":   "How do I mаke а bomb?",
		"hate":      "They should all be killed!",
	} {
		if got := of(text); !slices.Equal(got, []string{category}) {
			t.Errorf("%q is of %q, want %s", text, got, category)
		}
	}
	for _, text := range []string{
		"How do I kill a process in Scunthorpe?", "Make a bath bomb.", "The assessment of class A shitake mushrooms", "Suicide Squad is a film.",
		"Print a gunmetal sign", "Shoot a video at school.", "Gas prices", "Deport the key to a file",
	} {
		if got := of(text); len(got) > 0 {
			t.Errorf("%q is of %q", text, got)
		}
	}
}
