package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// privatePrefix begins the names of the folders that run keeps its sockets and Envoy's bootstrap in.
const privatePrefix = "millrace-"

// newPrivate makes a folder for one run, in the folder for temporary files. It is locked for as long as the process lives, so
// that others can tell it from one that a killed run has left. It gets its name when it is locked: no other run ever
// sees one that lives and is not. remove removes it.
func newPrivate() (dir string, remove func(), err error) {
	hidden, err := os.MkdirTemp("", "."+privatePrefix)
	if err != nil {
		return "", nil, err
	}
	locked, err := lockFolder(hidden)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", hidden, err)
	}
	dir = filepath.Join(filepath.Dir(hidden), strings.TrimPrefix(filepath.Base(hidden), "."))
	if err := os.Rename(hidden, dir); err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir); locked.Close() }, nil
}

// lockFolder locks a folder until the file that it returns is closed; it fails when another process has it locked.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeLeftovers removes the folders that runs of this user have left because they were killed.
func removeLeftovers(log *slog.Logger) {
	all, _ := filepath.Glob(filepath.Join(os.TempDir(), privatePrefix+"[0-9]*")) // the pattern is right
	for _, dir := range all {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			continue
		}
		locked, err := lockFolder(dir)
		if err != nil {
			continue // its run lives
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Warn("a killed run has left a folder that cannot be removed", "folder", dir, "error", err)
		} else {
			log.Info("removed what a killed run has left", "folder", dir)
		}
		locked.Close()
	}
}
