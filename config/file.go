package config

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// What a file may hold, in bytes.
const (
	MaxDocumentBytes = 8 << 20  // REST takes as much
	maxSecretBytes   = 64 << 10 // more does not fit into a header
)

// ReadFile reads a regular file of at most limit bytes. Anything else is an error at once: a named
// pipe would make the reader wait for a writer, and a device can go on for ever.
func ReadFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // to open a pipe or a device can have an effect on it
	if err != nil {
		return nil, err
	}
	if err := readable(path, info, limit); err != nil {
		return nil, err
	}
	f, err := open(path, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1)) // the file may grow, or not know its size
	if err == nil && int64(len(data)) > limit {
		err = tooLarge(path, limit)
	}
	return data, err
}

// open opens a file without waiting, and refuses what may have taken its place a moment ago.
func open(path string, limit int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = readable(path, info, limit)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readable says why a file is not read.
func readable(path string, info fs.FileInfo, limit int64) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: is a %s, expected a regular file", path, kind(info.Mode()))
	}
	if info.Size() > limit {
		return tooLarge(path, limit)
	}
	return nil
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s: has more than %d bytes, which is the most that is read", path, limit)
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "folder"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
