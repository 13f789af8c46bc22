package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestLeftovers: the folder of a run that lives stays; that of one that was killed is removed, and
// nothing else in the folder for temporary files is, whatever its name.
func TestLeftovers(t *testing.T) {
	temp := filepath.Join(t.TempDir(), "[x") // no pattern
	t.Setenv("TMPDIR", temp)
	elsewhere := filepath.Join(t.TempDir(), "millrace-1")
	for _, file := range []string{
		filepath.Join(temp, "millrace-123", "sub", "file"),
		filepath.Join(temp, "millrace-123", runLock),
		filepath.Join(temp, "millrace-2025", "file"),            // a person's, or of a run that knew no lock
		filepath.Join(temp, "millrace-789", "lock"),             // a data directory
		filepath.Join(temp, "millrace-2025-backup", runLock),    // a copy
		filepath.Join(temp, "millrace-321", runLock, "no-file"), // nobody's
		filepath.Join(temp, "other-1", runLock),
		filepath.Join(elsewhere, runLock),
	} {
		write(t, file)
	}
	if err := os.Symlink(elsewhere, filepath.Join(temp, "millrace-456")); err != nil {
		t.Fatal(err)
	}
	strangers := filepath.Join(temp, "millrace-987")
	write(t, filepath.Join(strangers, runLock))
	root := os.Geteuid() == 0
	if root { // others cannot give a folder away: they test the rest
		if err := os.Chown(strangers, 54321, 54321); err != nil {
			t.Fatal(err)
		}
	}
	living, remove, err := newPrivate()
	if err != nil {
		t.Fatal(err)
	}
	removeLeftovers(slog.New(slog.DiscardHandler))
	for path, want := range map[string]bool{
		filepath.Join(living, runLock):                       true,
		filepath.Join(temp, "millrace-123"):                  false,
		filepath.Join(temp, "millrace-2025", "file"):         true,
		filepath.Join(temp, "millrace-789", "lock"):          true,
		filepath.Join(temp, "millrace-2025-backup", runLock): true,
		filepath.Join(temp, "millrace-321", runLock):         true,
		filepath.Join(temp, "other-1", runLock):              true,
		filepath.Join(temp, "millrace-456"):                  true,
		filepath.Join(elsewhere, runLock):                    true,
		filepath.Join(strangers, runLock):                    root,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", path, err == nil, want)
		}
	}
	remove()
	if _, err := os.Stat(living); err == nil {
		t.Errorf("%s is still there", living)
	}
}

// TestStartTogether: runs that start at the same time, each looking for leftovers, take no living
// one's folder, and leave none of a dead one.
func TestStartTogether(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	write(t, filepath.Join(temp, "millrace-123", runLock))
	var starts sync.WaitGroup
	for range 8 {
		starts.Go(func() {
			for range 50 {
				dir, remove, err := newPrivate()
				if err != nil {
					t.Error(err)
					return
				}
				removeLeftovers(slog.New(slog.DiscardHandler))
				if _, err := os.Stat(filepath.Join(dir, runLock)); err != nil {
					t.Error(err)
				}
				remove()
			}
		})
	}
	starts.Wait()
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func write(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
