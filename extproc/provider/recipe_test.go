package provider

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// recipe says where the files of testdata/toy belong: rows into the tables of others, at their
// ends, the rest as it is.
var recipe = []struct{ file, place, table string }{
	{"toy.go", "extproc/provider/toy/toy.go", ""},
	{"codecs.row", "extproc/provider/provider.go", "var codecs = []Codec{"},
	{"schema.row", "schema/rows.go", "var schemas = []*Schema{"},
	{"providers.row", "schema/rows.go", "var providers = []Provider{"},
	{"dialects.row", "extproc/provider/openai/dialects.go", "var dialects = map[string]*dialect{"},
	{"toy_test.go", "extproc/toy_test.go", ""},
}

// TestRecipe: a schema is a folder and rows, and a dialect is a row. A toy of each is laid over
// this tree, and it works: the tests of all rows take it for one of theirs, and clients and targets
// speak it through the sidecar, which does not know it.
func TestRecipe(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	laid := map[string]string{} // file of the tree → what it holds
	for _, step := range recipe {
		text := read("testdata/toy/" + step.file)
		place := filepath.Join(root, step.place)
		if step.table != "" {
			if laid[place] == "" {
				laid[place] = read(place)
			}
			before, table, found := strings.Cut(laid[place], step.table)
			rows, after, ends := strings.Cut(table, "\n}\n")
			if !found || !ends {
				t.Fatalf("%s has no table %s", step.place, step.table)
			}
			text = before + step.table + rows + "\n" + text + "}\n" + after
		}
		laid[place] = text
	}
	codecs := filepath.Join(root, "extproc/provider/provider.go")
	laid[codecs] = strings.Replace(laid[codecs], "import (\n", "import (\n\t\"millrace/extproc/provider/toy\"\n", 1)

	folder := t.TempDir()
	over := map[string]map[string]string{"Replace": {}}
	for place, text := range laid {
		name := filepath.Join(folder, strings.ReplaceAll(place, "/", "_"))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		over["Replace"][place] = name
	}
	description, err := json.Marshal(over)
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(overlay, description, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-run", "^(TestToy.*|TestRow.*|TestForeign|TestErrorForms)$",
		"./schema", "./extproc/texts", "./extproc/provider", "./extproc")
	tests.Dir = root
	if said, err := tests.CombinedOutput(); err != nil || strings.Contains(string(said), "no tests to run") {
		t.Fatalf("%v\n%s", err, said)
	}
}
