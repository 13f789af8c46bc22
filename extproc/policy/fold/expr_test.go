package fold

import (
	"regexp"
	"testing"
	"unicode"
)

func TestExpr(t *testing.T) {
	for name, c := range map[string]struct {
		expr       string
		match, not []string
	}{
		"Latin":                      {`(?i)\bignore\s+all\b`, []string{"IGNORE all", "ignоrе\u00a0аll", "ɪɢɴᴏʀᴇ all"}, []string{"ignored all"}},
		"Russian, either case":       {`(?i)игнорируй`, []string{"игнорируй", "ИГНОРИРУЙ", "Игнорируй", "игнopиpyи"}, []string{"игнор"}},
		"Russian, the case as it is": {`^Забудь$`, []string{"Забудь"}, []string{"забудь", "ЗАБУДЬ"}},
		"Greek":                      {`(?i)αγνόησε`, []string{"αγνόησε", "ΑΓΝΌΗΣΕ", "αγνοησε"}, nil},
		"accents":                    {`(?i)précédentes`, []string{"précédentes", "PRÉCÉDENTES", "precedentes", "pre\u0301ce\u0301dentes"}, nil},
		"a class":                    {`^[а-яё]+$`, []string{"привет", "ёж"}, []string{"hi", "Привет"}},
		"a class and (?i)":           {`^(?i)[а-я]+$`, []string{"ПРИВЕТ", "Привет"}, nil},
		"a negated class":            {`^[^"]+$`, []string{"ﬁ"}, []string{`a"`, "a”"}},
		"a class of a category":      {`^\p{Cyrillic}+$`, []string{"Привет"}, nil},
		"what is more than one":      {`^(?i)œuvre ﬁle$`, []string{"œuvre file", "ŒUVRE FILE", "oeuvre ﬁle"}, nil},
		"kana, decomposed":           {"^か\u3099$", []string{"が", "か\u3099"}, []string{"か"}},
		"Hangul":                     {"무시", []string{"무시하고", "\u1106\u116e\u1109\u1175"}, nil},
		"what is not seen":           {"^a\u200bb$", []string{"ab", "a\u200bb"}, nil},
		"repeated":                   {`^(?:да){2,3}$`, []string{"дада", "дадада"}, []string{"да"}},
		"a literal of one, repeated": {`^хe*ﬁ+$`, []string{"хfi", "хеeﬁﬁ"}, []string{"хfii"}},
		"groups":                     {`^(?P<word>да|нет)$`, []string{"да", "нет"}, []string{"д"}},
		"nothing":                    {``, []string{"", "a"}, nil},
	} {
		expr, err := Expr(c.expr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			t.Fatalf("%s: %s has become %s: %v", name, c.expr, expr, err)
		}
		for _, text := range c.match {
			if folded, _ := Fold(text); !re.MatchString(folded) {
				t.Errorf("%s: %s, which is now %s, does not match %q, which is now %q", name, c.expr, expr, text, folded)
			}
		}
		for _, text := range c.not {
			if folded, _ := Fold(text); re.MatchString(folded) {
				t.Errorf("%s: %s, which is now %s, matches %q, which is now %q", name, c.expr, expr, text, folded)
			}
		}
	}
	if _, err := Expr("a("); err == nil {
		t.Error("a( has become an expression")
	}
}

// TestExprOfEveryRune: a literal matches its own character, folded, and with (?i) that of the other
// cases.
func TestExprOfEveryRune(t *testing.T) {
	for r := rune(0); r < limit; r++ {
		if folded, _ := Fold(string(r)); folded == string(r) || r >= 0xD800 && r <= 0xDFFF {
			continue
		}
		expr, err := Expr("^(?i:" + regexp.QuoteMeta(string(r)) + ")$")
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile(expr)
		for other := unicode.SimpleFold(r); ; other = unicode.SimpleFold(other) {
			if folded, _ := Fold(string(other)); !re.MatchString(folded) {
				t.Errorf("%U: %s does not match %q, which is %U", r, expr, folded, other)
			}
			if other == r {
				break
			}
		}
	}
}
