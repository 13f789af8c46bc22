package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// File is a destination: a file that gets a line of JSON per record. It holds whole lines only,
// whatever happens to a write. Calls must not overlap.
type File struct {
	file  *os.File
	torn  bool   // it ends within a line
	lines []byte // of the last Send; its memory is used again
}

// OpenFile opens the file at its end. It is created with mode 0600 when it is not there. One that
// is there keeps at most mode 0640: a group may be let in to collect the lines, everybody may not.
// A pipe that nobody reads is an error: to wait for a reader would hold up the change of
// configuration that names it.
func OpenFile(path string, log *slog.Logger) (*File, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%s is a pipe or a socket that nobody reads: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	torn, err := prepare(f, log)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &File{file: f, torn: torn}, nil
}

// prepare narrows the mode and tells whether the file ends within a line, as a kill can leave it.
// Pipes and devices are taken as they are.
func prepare(f *os.File, log *slog.Logger) (torn bool, err error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	const widest = 0o640
	if mode := info.Mode().Perm(); mode&^widest != 0 {
		if err := f.Chmod(mode & widest); err != nil {
			return false, fmt.Errorf("others may use it (mode %04o, want %04o): %w", mode, mode&widest, err)
		}
		log.Warn("the events file was open to others: its mode is narrowed", "file", f.Name(),
			"from", fmt.Sprintf("%04o", mode), "to", fmt.Sprintf("%04o", mode&widest))
	}
	if info.Size() == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	if r, err := os.Open(f.Name()); err == nil { // where we may not read it, it is taken as whole
		defer r.Close()
		if _, err := r.ReadAt(last, info.Size()-1); err != nil && err != io.EOF {
			return false, err
		}
		return last[0] != '\n', nil
	}
	return false, nil
}

// Name is the file's path.
func (f *File) Name() string { return f.file.Name() }

// Send writes the records, a line each.
func (f *File) Send(records []Record) (taken int, err error) {
	f.lines = f.lines[:0]
	for _, r := range records {
		f.lines = append(append(f.lines, r.JSON...), '\n')
	}
	n, err := f.write(f.lines)
	return bytes.Count(f.lines[:n], newline), err
}

var newline = []byte("\n")

// write writes whole lines. When it fails, what it has written of the last line is taken back, and
// the number of bytes that it returns is where a line ends.
func (f *File) write(lines []byte) (int, error) {
	if f.torn {
		if _, err := f.file.Write(newline); err != nil {
			return 0, err
		}
		f.torn = false
	}
	n, err := f.file.Write(lines)
	if err == nil {
		return n, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	if part := int64(n - whole); part > 0 {
		info, statErr := f.file.Stat()
		// A pipe cannot be cut: there the next line begins on a new one.
		f.torn = statErr != nil || info.Size() < part || f.file.Truncate(info.Size()-part) != nil
	}
	return whole, err
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }
