package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTables: ratios are to the bare Envoy of the same round, and the median is taken of them, not
// of what they are made of.
func TestTables(t *testing.T) {
	bare := path{subject: &subject{name: bareName}}
	ours := path{subject: &subject{name: "millrace"}, says: sameSchema}
	r := &results{memory: map[string]float64{bareName: 70, "millrace": 150}}
	for round, took := range [][2]time.Duration{{50e6, 200e6}, {100e6, 200e6}, {40e6, 240e6}} { // 4, 2 and 6 times
		for i, p := range []path{bare, ours} {
			r.add(round, loads[0], p, &figures{requests: 1000, took: time.Second, envoy: took[i]})
		}
	}
	tables := r.tables([]path{bare, ours})
	for _, want := range []string{"| bare Envoy | 50 | 0 | 50 | 1.00 |", "| millrace, same schema | 200 | 0 | 200 | 4.00 |", "bare Envoy 70 MiB, millrace 150 MiB"} {
		if !strings.Contains(tables, want) {
			t.Errorf("%q is not in\n%s", want, tables)
		}
	}
	if strings.Contains(tables, "token") {
		t.Errorf("a table of a load that was not measured:\n%s", tables)
	}
}

// TestRewrite: only what is between the marks is replaced, and a page without them is left alone.
func TestRewrite(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	for _, c := range []struct{ before, after string }{
		{"a\n" + begins + "old\n" + ends + "z\n", "a\n" + begins + "\nnew\n" + ends + "z\n"},
		{"a\n" + begins, ""},
		{"a\n", ""},
	} {
		if err := os.WriteFile(page, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := rewrite(page, "new")
		got, _ := os.ReadFile(page)
		want := c.after
		if want == "" {
			want = c.before
		}
		if string(got) != want || (err == nil) != (c.after != "") {
			t.Errorf("%q became %q, %v", c.before, got, err)
		}
	}
}

// TestQuantile: the value that so many are below, whatever order they came in.
func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i))
	}
	if got := quantile(d, 0.5); got != 51 {
		t.Errorf("half: %d", got)
	}
	if got := quantile(d, 0.99); got != 100 {
		t.Errorf("99: %d", got)
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}
