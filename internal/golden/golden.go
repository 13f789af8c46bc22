// Package golden runs test cases that are files: a txtar archive holds a first line that says what
// the case shows, the inputs, and the outputs that are wanted. `make golden` (go test -golden)
// rewrites the outputs; read the diff as code.
package golden

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("golden", false, "rewrite the outputs of golden cases instead of comparing them")

// Case is one archive, its inputs by file name.
type Case struct {
	T    *testing.T
	Name string
	in   map[string][]byte
	out  []txtar.File
}

// Input returns an input file without its last newline, nil when the case has none of that name.
func (c *Case) Input(name string) []byte {
	data, ok := c.in[name]
	if !ok {
		return nil
	}
	return bytes.TrimSuffix(data, []byte("\n"))
}

// Output states one output of the case. Names that begin with "want" are outputs; all others are
// inputs.
func (c *Case) Output(name string, data []byte) {
	c.T.Helper()
	if !strings.HasPrefix(name, "want") {
		c.T.Fatalf("output %q: the name must begin with want", name)
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		data = append(slices.Clip(data), '\n')
	}
	c.out = append(c.out, txtar.File{Name: name, Data: data})
}

// Run runs f for every case that matches the glob, and compares the outputs it stated, their order
// included. A glob without a match fails: a test that finds no case shows nothing.
func Run(t *testing.T, glob string, f func(*Case)) {
	t.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden case matches %s (%v)", glob, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(archive.Comment)) == 0 {
				t.Fatalf("%s: the first line must say what the case shows", path)
			}
			c := &Case{T: t, Name: name, in: map[string][]byte{}}
			var inputs, wants []txtar.File
			for _, file := range archive.Files {
				if strings.HasPrefix(file.Name, "want") {
					wants = append(wants, file)
					continue
				}
				inputs = append(inputs, file)
				c.in[file.Name] = file.Data
			}
			f(c)
			if t.Failed() {
				return
			}
			if *update {
				archive.Files = append(inputs, c.out...)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(text(wants), text(c.out)); diff != "" {
				t.Errorf("%s (-want +got), `make golden` rewrites it:\n%s", path, diff)
			}
		})
	}
}

func text(files []txtar.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, fmt.Sprintf("-- %s --\n%s", f.Name, f.Data))
	}
	return out
}

// EveryCut checks that f gives one result however its input is cut: whole, byte by byte, and in two
// at every offset. f gets fresh chunks each time and may keep them.
func EveryCut(t *testing.T, input []byte, f func(chunks [][]byte) string) {
	t.Helper()
	want := f([][]byte{bytes.Clone(input)})
	check := func(how string, chunks [][]byte) {
		t.Helper()
		if got := f(chunks); got != want {
			t.Fatalf("%s (-whole +cut):\n%s", how, cmp.Diff(want, got))
		}
	}
	var single [][]byte
	for _, b := range bytes.Clone(input) {
		single = append(single, []byte{b})
	}
	check("byte by byte", single)
	for i := 1; i < len(input); i++ {
		check(fmt.Sprintf("cut at byte %d", i), [][]byte{bytes.Clone(input[:i]), bytes.Clone(input[i:])})
	}
}
