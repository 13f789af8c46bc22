package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"millrace/extproc/policy/detect"
	"millrace/extproc/policy/match"
)

const samplesFile = "extproc/policy/detect/testdata/samples.jsonl"

// span is a part of a text that is of a category.
type span struct {
	category string
	from, to int
}

// sample is a text and what should be found in it.
type sample struct {
	text string
	want []span
	late bool // written when the detectors were done
}

// marked is how the file says ⟦category:text⟧. The dots in a secret are the file's: with them no
// scanner of repositories takes it for one.
var marked = regexp.MustCompile(`(?s)⟦([a-z-]+):(.*?)⟧`)

func readSamples(file []byte) (all []sample, err error) {
	for i, line := range bytes.Split(bytes.TrimSpace(file), []byte("\n")) {
		var read struct {
			Text string
			Late bool
		}
		if err := json.Unmarshal(line, &read); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		s := parseSample(read.Text)
		s.late = read.Late
		all = append(all, s)
	}
	return all, nil
}

func parseSample(text string) (s sample) {
	var plain strings.Builder
	for {
		m := marked.FindStringSubmatchIndex(text)
		if m == nil {
			plain.WriteString(text)
			s.text = plain.String()
			return s
		}
		plain.WriteString(text[:m[0]])
		category, found := text[m[2]:m[3]], text[m[4]:m[5]]
		if category == detect.Secret {
			found = strings.ReplaceAll(found, "·", "")
		}
		s.want = append(s.want, span{category, plain.Len(), plain.Len() + len(found)})
		plain.WriteString(found)
		text = text[m[1]:]
	}
}

// finder finds spans with the detectors, those of one category that overlap as one.
type finder struct {
	detectors []detect.Detector
	set       *match.Set
}

func newFinder() (f finder, err error) {
	f.detectors = detect.All()
	var patterns []match.Pattern
	for _, d := range f.detectors {
		patterns = append(patterns, match.Pattern{Expr: d.Expr, Check: d.Check})
	}
	f.set, err = match.Compile(patterns)
	return f, err
}

func (f finder) find(text string) []span {
	var found []span
	matches, _ := f.set.Find(text) // it never fails
	for _, m := range matches {
		found = append(found, span{f.detectors[m.Pattern].Category, m.From, m.To})
	}
	slices.SortFunc(found, func(a, b span) int {
		return cmp.Or(strings.Compare(a.category, b.category), a.from-b.from, b.to-a.to)
	})
	var merged []span
	for _, s := range found {
		if last := len(merged) - 1; last >= 0 && merged[last].category == s.category && s.from < merged[last].to {
			merged[last].to = max(merged[last].to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// count is what was found of one category.
type count struct {
	there, covered int // in the samples, and wholly found
	found, right   int // found, and overlapping one that is there
}

func (c count) recall() float64    { return ratio(c.covered, c.there) }
func (c count) precision() float64 { return ratio(c.right, c.found) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 1
	}
	return float64(a) / float64(b)
}

// result is the outcome over all samples.
type result struct {
	categories    map[string]count
	benign, clean int // samples with nothing in them, and those of them in which nothing was found
	misses        []string
}

func score(samples []sample, find func(string) []span) result {
	r := result{categories: map[string]count{}}
	for _, s := range samples {
		found := find(s.text)
		if len(s.want) == 0 {
			r.benign++
			if len(found) == 0 {
				r.clean++
			}
		}
		for _, w := range s.want {
			c := r.categories[w.category]
			c.there++
			if slices.ContainsFunc(found, func(f span) bool { return f.category == w.category && f.from <= w.from && w.to <= f.to }) {
				c.covered++
			} else {
				r.misses = append(r.misses, missed("not found", w, s.text))
			}
			r.categories[w.category] = c
		}
		for _, f := range found {
			c := r.categories[f.category]
			c.found++
			if slices.ContainsFunc(s.want, func(w span) bool { return f.category == w.category && f.from < w.to && w.from < f.to }) {
				c.right++
			} else {
				r.misses = append(r.misses, missed("found wrongly", f, s.text))
			}
			r.categories[f.category] = c
		}
	}
	return r
}

// missed is a line about a span. Secrets are shown by their beginning: the page is public, and
// looked through by scanners.
func missed(what string, s span, text string) string {
	found := text[s.from:s.to]
	if s.category == detect.Secret && len(found) > 4 {
		found, text = found[:4]+"…", text[:s.from]+found[:4]+"…"+text[s.to:]
	}
	return fmt.Sprintf("%s: %s %q in %q", what, s.category, found, text)
}

func (r result) print(w io.Writer) {
	fmt.Fprintln(w, "| category | in the samples | found whole | recall | found | of them right | precision |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(r.categories)) {
		c := r.categories[name]
		fmt.Fprintf(w, "| %s | %d | %d | %.3f | %d | %d | %.3f |\n", name, c.there, c.covered, c.recall(), c.found, c.right, c.precision())
	}
	fmt.Fprintf(w, "\nIn %d of them there is nothing to find, and in %d of these nothing was found. What went wrong:\n\n```\n", r.benign, r.clean)
	for _, m := range r.misses {
		fmt.Fprintln(w, m)
	}
	fmt.Fprint(w, "```\n\n")
}

func dlp(w io.Writer) error {
	file, err := os.ReadFile(samplesFile)
	if err != nil {
		return err
	}
	samples, err := readSamples(file)
	if err != nil {
		return fmt.Errorf("%s: %w", samplesFile, err)
	}
	f, err := newFinder()
	if err != nil {
		return err
	}
	for _, batch := range []struct {
		title string
		late  bool
	}{
		{"written before the detectors", false},
		{"written after the detectors, which were mended with what they showed", true},
	} {
		of := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.late != batch.late })
		fmt.Fprintf(w, "%d samples %s:\n\n", len(of), batch.title)
		score(of, f.find).print(w)
	}
	return nil
}
