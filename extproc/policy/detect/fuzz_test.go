package detect

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzChecks: for any text, what a check chooses is in the match and is not empty, and it is the
// same whatever stands around the match.
func FuzzChecks(f *testing.F) {
	file, err := os.ReadFile("testdata/samples.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range bytes.Split(file, []byte("\n")) {
		f.Add(string(line))
	}
	var finders []finder
	for _, d := range All() {
		finders = append(finders, newFinder(d))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, f := range finders {
			for _, groups := range f.expr.FindAllStringSubmatchIndex(text, -1) {
				from, to, ok := f.d.Check(text, groups)
				if ok && (from < groups[0] || from >= to || to > groups[1]) {
					t.Fatalf("%s: %d to %d is not in the match %v of %q", f.d.Name, from, to, groups[:2], text)
				}
				if ok && utf8.ValidString(text) && !utf8.ValidString(text[from:to]) {
					t.Fatalf("%s: %q cuts a rune of %q", f.d.Name, text[from:to], text)
				}
				around := strings.Repeat("7", groups[0]) + text[groups[0]:groups[1]] + strings.Repeat("7", len(text)-groups[1])
				if f2, t2, ok2 := f.d.Check(around, groups); f2 != from || t2 != to || ok2 != ok {
					t.Fatalf("%s looks around the match %q of %q", f.d.Name, text[groups[0]:groups[1]], text)
				}
			}
		}
	})
}

func FuzzMask(f *testing.F) {
	for _, s := range []string{"4111 1111 1111 1111", "jürg@example.ch", "\xff\xfe", "１２３４５６７８９０１２３"} {
		f.Add(s)
	}
	shown := regexp.MustCompile(`[\pL\p{Nd}]`)
	f.Fuzz(func(t *testing.T, text string) {
		masked := Mask(text)
		if utf8.RuneCountInString(masked) != utf8.RuneCountInString(text) {
			t.Fatalf("%q became %q", text, masked)
		}
		if left, of := len(shown.FindAllString(masked, -1)), len(shown.FindAllString(text, -1)); left > 4 || 3*left > of {
			t.Fatalf("%q became %q, which shows %d", text, masked, left)
		}
	})
}

// BenchmarkChecks measures the check of each detector on its matches in the samples; of those for
// secrets, a few.
func BenchmarkChecks(b *testing.B) {
	file, err := os.ReadFile("testdata/samples.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	text := strings.ReplaceAll(string(file), "·", "")
	for _, d := range All() {
		matches := newFinder(d).expr.FindAllStringSubmatchIndex(text, -1)
		if len(matches) == 0 || d.Category == Secret && !slices.Contains([]string{"generic-api-key", "aws-access-token", "private-key", "url-password"}, d.Name) {
			continue
		}
		b.Run(d.Name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d.Check(text, matches[i%len(matches)])
			}
		})
	}
}
