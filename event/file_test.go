package event

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := OpenFile(FileOptions{Path: path}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// limitFiles makes the kernel refuse to let a file grow beyond so many bytes: it takes a part of a
// write and refuses the rest, as a full disk does.
func limitFiles(t *testing.T, most uint64) (lift func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

// TestWholeLines: the kernel cuts a write within a line, at every place, and the file never has a
// part of one.
func TestWholeLines(t *testing.T) {
	const lines = "first line\nsecond line\nthird line\n"
	for room := range len(lines) {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.jsonl")
			f := openFile(t, path)
			lift := limitFiles(t, uint64(room))
			n, err := f.write([]byte(lines))
			if !errors.Is(err, syscall.EFBIG) {
				t.Fatalf("%d, %v", n, err)
			}
			lift()
			if n > 0 && lines[n-1] != '\n' {
				t.Errorf("%d bytes are no whole lines", n)
			}
			if n, err := f.write([]byte(lines[n:])); err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if got, _ := os.ReadFile(path); string(got) != lines {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestTornLine: where a part of a line is left by a kill, the next line begins on a new one.
func TestTornLine(t *testing.T) {
	for content, want := range map[string]string{"": "next\n", "whole\n": "whole\nnext\n", "whole\nto": "whole\nto\nnext\n"} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openFile(t, path).write([]byte("next\n")); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("after %q: %q, want %q", content, got, want)
		}
	}
}

// TestTornPipe: a pipe takes a part of a line, which cannot be taken back; the next line begins on
// a new one.
func TestTornPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	f := &File{file: w, torn: true}
	if _, err := f.write([]byte("next\n")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, err := r.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	if n == 1 { // the line end came alone
		m, err := r.Read(got[1:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if string(got[:n]) != "\nnext\n" {
		t.Errorf("%q", got[:n])
	}
}

// TestFullDevice: a device without any room says so, and is not taken for a file to narrow or cut.
func TestFullDevice(t *testing.T) {
	n, err := openFile(t, "/dev/full").write([]byte("line\n"))
	if n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestFileMode: the file is its owner's, and at most its group's to read.
func TestFileMode(t *testing.T) {
	for was, want := range map[os.FileMode]os.FileMode{0: 0o600, 0o600: 0o600, 0o640: 0o640, 0o644: 0o640, 0o666: 0o640, 0o622: 0o600} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if was != 0 {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, was); err != nil {
				t.Fatal(err)
			}
		}
		var log strings.Builder
		f, err := OpenFile(FileOptions{Path: path}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%04o: %v, %v, want %04o", was, info.Mode(), err, want)
		}
		if narrowed := was&^want != 0; narrowed != strings.Contains(log.String(), path) {
			t.Errorf("%04o: the log says %q", was, &log)
		}
	}
}

// TestPipeWithoutReader: a pipe that nobody reads is refused at once, and one that is read takes
// lines.
func TestPipeWithoutReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(FileOptions{Path: path}, quiet); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("got %v", err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	taken, err := openFile(t, path).Send(t.Context(), []Record{{JSON: []byte("{}")}, {JSON: []byte("{}")}})
	if taken != 2 || err != nil {
		t.Errorf("%d, %v", taken, err)
	}
	got := make([]byte, 100)
	if n, err := r.Read(got); err != nil || string(got[:n]) != "{}\n{}\n" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// TestRotation (A24): a file that is too large or too old is put aside whole, up to so many of
// them; one that somebody else has put aside is begun anew.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 10, Keep: 2}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	send := func(text string) {
		t.Helper()
		if _, err := f.Send(t.Context(), []Record{{JSON: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(files map[string]string) {
		t.Helper()
		for _, name := range []string{"", ".1", ".2", ".3"} {
			content, err := os.ReadFile(path + name)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if string(content) != files[name] {
				t.Errorf("%q holds %q, want %q", name, content, files[name])
			}
		}
	}
	send(`"1234"`)
	send(`"5"`)
	want(map[string]string{"": "\"1234\"\n\"5\"\n"})
	send(`"6789012"`)
	send(`"2345678"`)
	want(map[string]string{"": "\"2345678\"\n", ".1": "\"6789012\"\n", ".2": "\"1234\"\n\"5\"\n"}) // a line is never cut
	send(`"8"`)
	send(`"9"`)
	want(map[string]string{"": "\"8\"\n\"9\"\n", ".1": "\"2345678\"\n", ".2": "\"6789012\"\n"})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(`"1"`)
	send(`"2"`)
	want(map[string]string{"": "\"2\"\n", ".1": "\"2345678\"\n", ".2": "\"6789012\"\n"})
}

// TestRotationByAge: an empty file gets no older.
func TestRotationByAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	f, err := OpenFile(FileOptions{Path: path, MaxAge: time.Hour, Keep: 1, CloudEvents: true}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, old := range []bool{true, false, true} {
		if old {
			f.since = time.Now().Add(-2 * time.Hour)
		}
		if _, err := f.Send(t.Context(), []Record{{ID: "a", Source: "/b", JSON: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	now, _ := os.ReadFile(path)
	aside, err := os.ReadFile(path + ".1")
	if err != nil || strings.Count(string(now), "\n") != 1 || strings.Count(string(aside), "\n") != 2 || !strings.Contains(string(now), `{"specversion":"1.0","id":"a"`) {
		t.Errorf("%v: %q, aside %q", err, now, aside)
	}
}
