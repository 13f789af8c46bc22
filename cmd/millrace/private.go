package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"millrace/internal/folder"
)

// The folder that run keeps its sockets and Envoy's bootstrap in, as os.MkdirTemp names it.
const privatePattern = "millrace-*"

var privateName = regexp.MustCompile(`^millrace-[0-9]+$`)

// runLock is the file in a run's folder that is locked for as long as the run lives. A folder
// without it is not known to be a run's: a store keeps a file named "lock" in its data directory.
const runLock = "run.lock"

// newPrivate makes a folder for one run, in the folder for temporary files. remove removes it.
func newPrivate() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", privatePattern)
	if err != nil {
		return "", nil, err
	}
	locked, err := mark(dir)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir); locked.Close() }, nil
}

// mark puts a locked runLock into the folder. The file gets its name when it is locked, so that no
// other run finds it unlocked while this one lives.
func mark(dir string) (*os.File, error) {
	name := filepath.Join(dir, runLock)
	f, err := folder.Lock(name+".new", os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(name+".new", name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeLeftovers removes the folders that runs of this user have left because they were killed.
func removeLeftovers(log *slog.Logger) {
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		log.Warn("what killed runs have left is not looked for", "error", err)
	}
	for _, e := range entries {
		dir := filepath.Join(os.TempDir(), e.Name())
		if !privateName.MatchString(e.Name()) || !ours(dir) {
			continue
		}
		locked, err := folder.Lock(filepath.Join(dir, runLock), 0)
		if err != nil {
			continue // its run lives, or it is no run's
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Warn("a killed run has left a folder that cannot be removed", "folder", dir, "error", err)
		} else {
			log.Info("removed what a killed run has left", "folder", dir)
		}
		locked.Close()
	}
}

// ours tells whether this is a folder of our user's, not a link to one.
func ours(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}
