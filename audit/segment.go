package audit

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// segment is one file of the log.
type segment struct {
	path  string
	first uint64 // sequence of its first record
	began time.Time
}

func segmentName(first uint64) string { return fmt.Sprintf("audit-%012d.jsonl", first) }

// segmentsOf lists the segments of a folder in order.
func segmentsOf(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		number, isAudit := strings.CutPrefix(e.Name(), "audit-")
		number, isSegment := strings.CutSuffix(number, ".jsonl")
		if !isAudit || !isSegment {
			continue
		}
		first, err := strconv.ParseUint(number, 10, 64)
		if err != nil || segmentName(first) != e.Name() {
			return nil, fmt.Errorf("%s is not named as a segment is", filepath.Join(dir, e.Name()))
		}
		all = append(all, segment{path: filepath.Join(dir, e.Name()), first: first})
	}
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return all, nil
}

// readLines calls take for each line of a file, without its end, and returns the size of the whole
// lines and of what is left after the last. take's error ends it; the line is the one that it was
// given, from 1.
func readLines(path string, take func(line []byte) error) (whole, torn int64, line int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, 0, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, maxRecord+1)
	for line = 1; ; line++ {
		text, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if torn, err = endless(in, int64(len(text))); torn == 0 && err == nil {
				err = take(text) // which is too long
			}
			return whole, torn, line, err
		}
		if errors.Is(err, io.EOF) {
			return whole, int64(len(text)), line, nil
		}
		if err == nil {
			err = take(text[:len(text)-1])
		}
		if err != nil {
			return whole, 0, line, err
		}
		whole += int64(len(text))
	}
}

// endless reads on in a line of which so much has been read, and returns how long it is when the
// file ends within it; else 0.
func endless(in *bufio.Reader, read int64) (int64, error) {
	for {
		more, err := in.ReadSlice('\n')
		read += int64(len(more))
		switch {
		case err == nil:
			return 0, nil
		case errors.Is(err, io.EOF):
			return read, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
}

// timeOf is when the first record of a segment was written.
func timeOf(path string) (time.Time, error) {
	var first *record
	enough := errors.New("that was the first")
	_, _, _, err := readLines(path, func(line []byte) (err error) {
		if first, err = parse(line); err == nil {
			err = enough
		}
		return err
	})
	if errors.Is(err, enough) {
		return first.time(), nil
	}
	return time.Time{}, fmt.Errorf("%s: its first record cannot be read: %w", path, cmp.Or(err, io.EOF))
}

// readOnly tells whether a segment was closed for good.
func readOnly(info fs.FileInfo) bool { return info.Mode().Perm()&0o200 == 0 }

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
