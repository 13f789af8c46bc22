package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestLeftovers: the folder of a run that lives stays; that of one that was killed is removed, and nothing else in the folder
// for temporary files is.
func TestLeftovers(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	living, remove, err := newPrivate()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for _, dir := range []string{"millrace-123", "millrace-of-somebody", "other-1"} {
		if err := os.MkdirAll(filepath.Join(temp, dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, filepath.Join(temp, "millrace-456")); err != nil {
		t.Fatal(err)
	}
	removeLeftovers(slog.New(slog.DiscardHandler))
	for path, want := range map[string]bool{
		living: true, filepath.Join(temp, "millrace-123"): false, filepath.Join(temp, "millrace-of-somebody"): true,
		filepath.Join(temp, "other-1"): true, filepath.Join(temp, "millrace-456"): true, elsewhere: true,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	remove()
	if _, err := os.Stat(living); err == nil {
		t.Errorf("%s is still there", living)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
