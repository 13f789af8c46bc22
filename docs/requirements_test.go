// Package docs is pages; the test keeps one of them honest.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rows are the ranges that the page must have.
var rows = []struct {
	letter      string
	first, last int
}{{"A", 1, 38}, {"B", 1, 34}, {"C", 1, 32}, {"D", 1, 22}, {"E", 1, 33}}

var (
	row      = regexp.MustCompile(`(?m)^\| ([A-E]\d\d) \| (.+) \| (works|partly|not yet) \| (.+) \|$`)
	named    = regexp.MustCompile("`([a-z0-9/]+\\.)?(Test\\w+)`")
	reason   = regexp.MustCompile(`not yet: \w+`)
	function = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
)

func TestRequirements(t *testing.T) {
	page, err := os.ReadFile("requirements.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(t)
	var got, want []string
	for _, r := range rows {
		for i := r.first; i <= r.last; i++ {
			want = append(want, fmt.Sprintf("%s%02d", r.letter, i))
		}
	}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		id, state, shown := m[1], m[3], m[4]
		got = append(got, id)
		names := named.FindAllStringSubmatch(shown, -1)
		for _, n := range names {
			folder := strings.TrimSuffix(n[1], ".")
			if folder == "" {
				folder = "e2e"
			}
			if !slices.Contains(tests[folder], n[2]) {
				t.Errorf("%s: there is no %s in %s", id, n[2], folder)
			}
		}
		missing := reason.MatchString(shown)
		if is := map[string]bool{"works": len(names) > 0 && !missing, "partly": len(names) > 0 && missing, "not yet": missing}; !is[state] {
			t.Errorf("%s is said to be %q: %d tests, and what is missing is said: %v", id, state, len(names), missing)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// testsOf finds the test functions of each folder.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(name), "../"))
		for _, m := range function.FindAllStringSubmatch(string(source), -1) {
			found[folder] = append(found[folder], m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
