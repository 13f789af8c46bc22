package edges

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/schema"
)

// mayName are the files that may name a provider beside its folder and its rows: a new one is named
// in these, and nowhere else.
var mayName = []string{
	"extproc/provider/provider.go", // the line of its codec
	"cmd/millrace/demo.go",         // whom the demo plays
}

// TestProvidersAreRows: what a provider is stands in its folder and its rows. Comments may name it.
func TestProvidersAreRows(t *testing.T) {
	var named []string
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.ToSlash(strings.TrimPrefix(name, "../../"))
		if d.IsDir() {
			if skipped := []string{"bench", "e2e", "internal/fakellm", "schema"}; slices.Contains(skipped, path) || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
				return fs.SkipDir
			}
			if ok, _ := filepath.Match("extproc/provider/*", path); ok {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err == nil && namesProvider(source) {
			named = append(named, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range named {
		if !slices.Contains(mayName, path) {
			t.Errorf("%s names a provider: what it says of it belongs into its row (schema/rows.go) or its folder", path)
		}
	}
	for _, path := range mayName {
		if !slices.Contains(named, path) {
			t.Errorf("%s names no provider any more: take it off the list", path)
		}
	}
}

// namesProvider tells whether the source, its comments aside, has a provider's name in it.
func namesProvider(source []byte) bool {
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(source))
	s.Init(file, source, nil, 0) // without comments
	for {
		_, kind, text := s.Scan()
		if kind == token.EOF {
			return false
		}
		for _, name := range schema.Names() {
			if words := []string{schema.Static, "together"}; !slices.Contains(words, name) && strings.Contains(strings.ToLower(text), name) {
				return true
			}
		}
	}
}

func TestNamesAreFound(t *testing.T) {
	for source, want := range map[string]bool{
		"package p // OpenAI's":                false,
		`package p; var s = "openai.chat"`:     true,
		`package p; var s = "groq"`:            true,
		"package p; func isAnthropic() {}":     true,
		"package p; var s = `x-anthropic-y`":   true,
		"package p; /* anthropic */ var x = 1": false,
	} {
		if got := namesProvider([]byte(source)); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
}
