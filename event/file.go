package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// FileOptions say how a file is written.
type FileOptions struct {
	Path string
	// CloudEvents has each line be a CloudEvent, not the event alone.
	CloudEvents bool
	// MaxBytes and MaxAge are when a file is put aside, as PATH.1, and a new one begun; 0: never.
	// Only regular files are.
	MaxBytes int64
	MaxAge   time.Duration
	Keep     int // files that are put aside; the oldest is PATH.Keep
}

// File is a destination: a file that gets a line of JSON per record. It holds whole lines only,
// whatever happens to a write. Calls must not overlap.
type File struct {
	options FileOptions
	log     *slog.Logger
	file    *os.File
	regular bool
	torn    bool      // it ends within a line
	size    int64     // of a regular file
	since   time.Time // its age counts from here
	lines   []byte    // of the last Send; its memory is used again
}

// OpenFile opens the file at its end. It is created with mode 0600 when it is not there. One that
// is there keeps at most mode 0640: a group may be let in to collect the lines, everybody may not.
// A pipe that nobody reads is an error: to wait for a reader would hold up the change of
// configuration that names it.
func OpenFile(o FileOptions, log *slog.Logger) (*File, error) {
	f := &File{options: o, log: log}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// Stdout is a destination: the standard output of the process.
func Stdout(cloudEvents bool) *File {
	return &File{options: FileOptions{Path: "stdout", CloudEvents: cloudEvents}, file: os.Stdout}
}

func (f *File) open() error {
	opened, torn, err := openLines(f.options.Path, f.log)
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err != nil {
		opened.Close()
		return err
	}
	f.file, f.torn, f.regular, f.size, f.since = opened, torn, info.Mode().IsRegular(), info.Size(), time.Now()
	return nil
}

// openLines opens a file of lines, and tells whether it ends within one.
func openLines(path string, log *slog.Logger) (_ *os.File, torn bool, err error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, false, fmt.Errorf("%s is a pipe or a socket that nobody reads: %w", path, err)
	}
	if err != nil {
		return nil, false, err
	}
	if torn, err = prepare(f, log); err != nil {
		f.Close()
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return f, torn, nil
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
func (f *File) Name() string { return f.options.Path }

// Send writes the records, a line each.
func (f *File) Send(_ context.Context, records []Record) (taken int, err error) {
	if err := f.rotate(); err != nil {
		return 0, err
	}
	f.lines = f.lines[:0]
	for _, r := range records {
		if f.options.CloudEvents {
			f.lines = r.AppendCloudEvent(f.lines)
		} else {
			f.lines = append(f.lines, r.JSON...)
		}
		f.lines = append(f.lines, '\n')
	}
	n, err := f.write(f.lines)
	f.size += int64(n)
	return bytes.Count(f.lines[:n], newline), err
}

// rotate puts a file aside that is too large or too old, and begins a new one. A failure leaves
// everything where it can be tried again.
func (f *File) rotate() error {
	o := f.options
	if f.size == 0 { // its age begins with its first line
		f.since = time.Now()
	}
	large := o.MaxBytes > 0 && f.size >= o.MaxBytes
	old := o.MaxAge > 0 && time.Since(f.since) >= o.MaxAge
	if !f.regular || !large && !old {
		return nil
	}
	name := func(n int) string { return fmt.Sprintf("%s.%d", o.Path, n) }
	if _, err := os.Lstat(o.Path); err == nil { // else somebody has put it aside already
		for n := o.Keep - 1; n > 0; n-- {
			if err := os.Rename(name(n), name(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := os.Rename(o.Path, name(1)); err != nil {
			return err
		}
	}
	was := f.file
	if err := f.open(); err != nil {
		return err
	}
	return was.Close()
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
func (f *File) Close() error {
	if f.file == os.Stdout {
		return nil
	}
	return f.file.Close()
}
