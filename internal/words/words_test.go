// Package words holds the rules of language that a test can keep: one word, one meaning, and lines
// that fit.
package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// ambiguous are the words that have meant several things at once.
var ambiguous = []string{"answered", "bare", "closed", "ended", "head", "held", "open", "over", "place", "refusal", "refused", "said", "told"}

// TestOneMeaning: within a package each of these words names one kind of thing. A method and a
// field of one name are two; so are fields of different types.
func TestOneMeaning(t *testing.T) {
	kinds := map[string]map[string]string{} // package and word, to the kinds and where one is
	files := token.NewFileSet()
	eachFile(t, ".go", func(path string, content []byte) {
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
			return
		}
		file, err := parser.ParseFile(files, path, content, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		eachName(file, func(name *ast.Ident, kind string) {
			if !slices.Contains(ambiguous, name.Name) {
				return
			}
			key := filepath.Dir(path) + ": " + name.Name
			if kinds[key] == nil {
				kinds[key] = map[string]string{}
			}
			kinds[key][kind] = files.Position(name.Pos()).String()
		})
	})
	if len(kinds) == 0 {
		t.Error("no word was found: this test shows nothing")
	}
	for key, of := range kinds {
		if len(of) > 1 {
			t.Errorf("%s is %d things: %v", key, len(of), of)
		}
	}
}

// eachName calls each for what a file declares at its top level, and for the fields of its structs.
func eachName(file *ast.File, each func(name *ast.Ident, kind string)) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil {
				each(d.Name, "a method")
			} else {
				each(d.Name, "a function")
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						each(name, "a value")
					}
				case *ast.TypeSpec:
					each(s.Name, "a type")
					if structure, is := s.Type.(*ast.StructType); is {
						for _, f := range structure.Fields.List {
							for _, name := range f.Names {
								each(name, "a field of type "+types.ExprString(f.Type))
							}
						}
					}
				}
			}
		}
	}
}

var (
	comment = regexp.MustCompile(`^[\t ]*// `)
	prose   = regexp.MustCompile(`^ {0,3}([-*] |[0-9]+\. )?[A-Za-z\[(` + "`" + `"]`)
)

// TestLinesFit: comments and the prose of pages are at most 100 columns wide. What cannot be broken
// is left: a word, a table, a drawing, code.
func TestLinesFit(t *testing.T) {
	const width = 100
	wide := func(line string) bool { return len([]rune(strings.ReplaceAll(line, "\t", "    "))) > width }
	comments := func(path string, content []byte) {
		if strings.HasSuffix(path, ".pb.go") {
			return
		}
		for i, line := range strings.Split(string(content), "\n") {
			text := strings.TrimPrefix(strings.TrimLeft(line, "\t "), "// ")
			if comment.MatchString(line) && wide(line) && strings.Contains(text, " ") && !strings.HasPrefix(text, " ") {
				t.Errorf("%s:%d is wider than %d columns", path, i+1, width)
			}
		}
	}
	eachFile(t, ".go", comments)
	eachFile(t, ".proto", comments)
	eachFile(t, ".md", func(path string, content []byte) {
		code := false
		for i, line := range strings.Split(string(content), "\n") {
			if strings.HasPrefix(strings.TrimLeft(line, " "), "```") {
				code = !code
			}
			if !code && prose.MatchString(line) && wide(line) && !written(path) {
				t.Errorf("%s:%d is wider than %d columns", path, i+1, width)
			}
		}
	})
}

// written tells whether a program writes the page.
func written(path string) bool {
	return slices.Contains([]string{"failure-modes.md", "performance.md"}, filepath.Base(path))
}

// eachFile calls each for the repository's own files of that kind.
func eachFile(t *testing.T, kind string, each func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || filepath.Base(filepath.Dir(path)) == "proto" && d.Name() != "millrace"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != kind:
			return nil
		}
		content, err := os.ReadFile(path)
		if err == nil {
			each(path, content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
