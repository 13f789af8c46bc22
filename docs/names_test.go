package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link   = regexp.MustCompile(`\]\(((?:\.\./)?[A-Za-z0-9_./-]+)\)`)
	before = regexp.MustCompile("((?:`[A-Za-z_.]+`(?:, | and )?)+) in \\[[^\\]]*\\]\\(([^)#]+\\.go)\\)")
	after  = regexp.MustCompile("\\[[^\\]]*\\]\\(([^)#]+\\.go)\\) ((?:`[A-Za-z_.]+`(?:, | and )?)+)")
	quoted = regexp.MustCompile("`([A-Za-z_.]+)`")
	spaces = regexp.MustCompile(`\s+`)
	aTest  = regexp.MustCompile("`(?:[a-z0-9/]+\\.)?(Test[A-Z]\\w+)")
)

// TestNames: what the pages name is there, a file where they lead, a function or a field in the
// file beside it, a test.
func TestNames(t *testing.T) {
	var tests []string
	for _, names := range testsOf(t) {
		tests = append(tests, names...)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md") {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := spaces.ReplaceAllString(string(content), " ")
		folder := filepath.Dir(page)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(folder, m[1])); err != nil {
				t.Errorf("%s leads to %s: %v", page, m[1], err)
			}
		}
		for _, m := range before.FindAllStringSubmatch(text, -1) {
			checkNames(t, page, filepath.Join(folder, m[2]), m[1])
		}
		for _, m := range after.FindAllStringSubmatch(text, -1) {
			checkNames(t, page, filepath.Join(folder, m[1]), m[2])
		}
		for _, m := range aTest.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(tests, m[1]) {
				t.Errorf("%s: there is no %s", page, m[1])
			}
		}
	}
}

func checkNames(t *testing.T, page, file, names string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%s: %v", page, err)
		return
	}
	for _, m := range quoted.FindAllStringSubmatch(names, -1) {
		name := m[1][strings.LastIndexByte(m[1], '.')+1:]
		if !regexp.MustCompile(`\b` + name + `\b`).Match(content) {
			t.Errorf("%s: %s is not in %s", page, m[1], file)
		}
	}
}
