package detect

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// theirs is a sample that gitleaks keeps beside a rule, as tools/gitleaks wrote it.
type theirs struct {
	Rule, Path, Text string
	Is               bool
}

func readTheirs(t *testing.T) (all []theirs) {
	t.Helper()
	file, err := os.ReadFile("testdata/gitleaks.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(bytes.TrimSpace(file), []byte("\n")) {
		var s theirs
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatal(err)
		}
		s.Text = strings.ReplaceAll(s.Text, "·", "")
		all = append(all, s)
	}
	return all
}

func finds(expr *regexp.Regexp, d Detector, text string) bool {
	for _, groups := range expr.FindAllStringSubmatchIndex(text, -1) {
		if _, _, ok := d.Check(text, groups); ok {
			return true
		}
	}
	return false
}

func TestGitleaks(t *testing.T) {
	exprs := map[string]*regexp.Regexp{}
	byName := map[string]Detector{}
	for _, d := range secrets {
		exprs[d.Name] = regexp.MustCompile(d.Expr)
		byName[d.Name] = d
	}
	for _, s := range readTheirs(t) {
		d, ok := byName[s.Rule]
		if !ok {
			continue
		}
		if finds(exprs[s.Rule], d, s.Text) != s.Is {
			t.Errorf("%s is=%v path=%q %q", s.Rule, s.Is, s.Path, s.Text)
		}
	}
}
