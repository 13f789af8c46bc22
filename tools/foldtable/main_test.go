package main

import (
	"bytes"
	"os"
	"testing"
)

// TestTable: the committed table is what this program writes. A Go with a newer Unicode may write
// another one.
func TestTable(t *testing.T) {
	data, err := os.ReadFile("../../" + folder + "/confusables.txt")
	if err != nil {
		t.Fatal(err)
	}
	want, err := write(runes(confusables(data)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + folder + "/table.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("table.go is stale: run go run ./tools/foldtable, and read what has changed")
	}
}
