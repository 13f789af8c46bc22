package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/policy/detect"
)

// TestPages: the figures in the pages of docs/ are those that the report prints.
func TestPages(t *testing.T) {
	t.Chdir("../..")
	for _, s := range sections {
		var report bytes.Buffer
		if err := s.print(&report); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(s.page)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := cut(string(page)); err != nil {
			t.Fatalf("%s: %v", s.page, err)
		}
		if !strings.Contains(string(page), begin+report.String()+end) {
			t.Errorf("%s has other figures: run MILLRACE_WRITE_DOCS=1 make policy-report and read the diff", s.page)
		}
	}
}

// TestDLPSamples: there are as many as the report is worth something for, and each is marked with
// categories that there are.
func TestDLPSamples(t *testing.T) {
	file, err := os.ReadFile("../../" + samplesFile)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := readSamples(file)
	if err != nil {
		t.Fatal(err)
	}
	benign := 0
	for _, s := range samples {
		if len(s.want) == 0 {
			benign++
		}
		for _, w := range s.want {
			if _, err := detect.Of([]string{w.category}); err != nil || w.from >= w.to {
				t.Errorf("a span %v in %q: %v", w, s.text, err)
			}
		}
		if strings.ContainsAny(s.text, "⟦⟧") {
			t.Errorf("a mark that was not understood: %q", s.text)
		}
	}
	if len(samples) < 300 || benign < 120 {
		t.Errorf("%d samples, of them %d with nothing in them", len(samples), benign)
	}
}

// TestScore: by hand.
func TestScore(t *testing.T) {
	samples := []sample{
		parseSample("a ⟦email:b@c⟧ d ⟦email:e@f⟧ ⟦secret:123·456⟧"),
		parseSample("nothing"),
		parseSample("not this one"),
	}
	if want := (span{"secret", 12, 18}); samples[0].want[2] != want || samples[0].text != "a b@c d e@f 123456" {
		t.Errorf("read %q, %v", samples[0].text, samples[0].want)
	}
	got := score(samples, func(text string) []span {
		return map[string][]span{
			samples[0].text: {{"email", 2, 5}, {"email", 9, 11}, {"secret", 10, 18}},
			samples[2].text: {{"phone", 0, 3}},
		}[text]
	})
	for category, want := range map[string]count{"email": {2, 1, 2, 2}, "secret": {1, 1, 1, 1}, "phone": {0, 0, 1, 0}} {
		if got.categories[category] != want {
			t.Errorf("%s: got %v, want %v", category, got.categories[category], want)
		}
	}
	if got.benign != 2 || got.clean != 1 || len(got.misses) != 2 {
		t.Errorf("got %+v", got)
	}
	if c := got.categories["email"]; c.recall() != 0.5 || c.precision() != 1 {
		t.Errorf("recall %v, precision %v", c.recall(), c.precision())
	}
}

// TestMerged: what several detectors of one category find in one place is one thing.
func TestMerged(t *testing.T) {
	f, err := newFinder()
	if err != nil {
		t.Fatal(err)
	}
	got := f.find("tel +49 30 901820")
	if want := []span{{"phone", 4, 17}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
