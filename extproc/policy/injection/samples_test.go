package injection

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// sample is a line of testdata/*.jsonl.
type sample struct {
	Text      string `json:"text"`
	Place     string `json:"place"` // user or tool-result
	Label     string `json:"label"` // injection or benign
	Language  string `json:"language"`
	Technique string `json:"technique"` // of an injection; of what is benign, what it is
}

func samples(t testing.TB, name string) (all []sample) {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatalf("%s: %v: %s", name, err, lines.Bytes())
		}
		all = append(all, s)
	}
	return all
}

// judge matches the rules one by one, as package regexp has them.
type judge struct {
	rules []Rule
	find  Finder
}

func newJudge(t testing.TB) *judge {
	t.Helper()
	rules, err := Rules(Regexps)
	if err != nil {
		t.Fatal(err)
	}
	find, err := Regexps(rules)
	if err != nil {
		t.Fatal(err)
	}
	return &judge{rules, find}
}

func (j *judge) verdict(text string, place Place) Verdict {
	hits, _ := j.find(text)
	return Score(j.rules, hits, place)
}

func (j *judge) names(v Verdict) (names []string) {
	for _, r := range v.Rules {
		names = append(names, j.rules[r].Name)
	}
	return names
}

func (s *sample) place() Place {
	if s.Place == "tool-result" {
		return Result
	}
	return Said
}
