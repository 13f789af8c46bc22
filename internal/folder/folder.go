// Package folder makes folders that nobody but their owner can look into or change. It narrows the
// mode of one that is there already, and refuses one that another user could put something into. A
// lock in it tells whether its process lives.
package folder

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

const (
	private = 0o700
	sticky  = fs.ModeSticky
	root    = 0
)

// Own makes the folder with mode 0700, or sees to it that the one that is there is our own: a wider
// mode is narrowed, and the log says so. It is an error when the folder, something in it, or a
// folder or a link on the way to it is in the hands of another user. Root counts as no other user,
// nor does our own group in a folder of root's; to root, nobody is above the folder. A volume of
// root's may be open to everybody, as an emptyDir of Kubernetes is, with fsGroup too: everybody are
// the containers that mount it.
func Own(path string, log *slog.Logger) error {
	if err := os.MkdirAll(path, private); err != nil {
		return err
	}
	way, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(way)
	if err != nil {
		return err
	}
	if err := checkWay(way, real); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := narrow(real, log); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return checkEntries(real)
}

// checkWay refuses a way to the folder real that another user could turn elsewhere: a folder or a
// link on it that is theirs, or a folder in which they could put another one in the place of the
// next.
func checkWay(way, real string) error {
	for at := way; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if at != real { // that one narrow judges
			volume, err := mounted(at, info)
			if err != nil {
				return err
			}
			if err := passable(ownerOf(info), os.Geteuid(), info.Mode(), volume); err != nil {
				return fmt.Errorf("%s %w", at, err)
			}
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if err := checkLink(at, real); err != nil {
				return err
			}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// passable is why a way must not lead through a folder or link with this owner and mode, nil when
// it may.
func passable(owner, us int, mode fs.FileMode, volume bool) error {
	everybody := mode&fs.ModeSymlink == 0 && mode.Perm()&0o002 != 0 && mode&sticky == 0
	switch {
	case owner != us && owner != root && us != root: // root works in people's folders: a checkout that is mounted into a container
		return fmt.Errorf("on the way to it belongs to user %d, and this is user %d: it must be our own or root's", owner, us)
	case everybody && !(owner == root && volume):
		return fmt.Errorf("above it can be written by everybody (mode %04o), who could put another folder in its place; take that right away, or choose another folder", mode.Perm())
	}
	return nil
}

// checkLink checks the way that a link leads.
func checkLink(link, real string) error {
	target, err := os.Readlink(link)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(link))
		if err != nil {
			return err
		}
		target = filepath.Join(dir, target)
	}
	return checkWay(filepath.Clean(target), real)
}

func narrow(path string, log *slog.Logger) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	mode, us := info.Mode().Perm(), os.Geteuid()
	volume, err := mounted(path, info)
	if err != nil {
		return err
	}
	if err := ownable(ownerOf(info), us, mode, volume); err != nil {
		return err
	}
	if ownerOf(info) != us || mode&^private == 0 {
		return nil
	}
	if err := os.Chmod(path, private); err != nil {
		return fmt.Errorf("it is open to others (mode %04o): %w", mode, err)
	}
	log.Warn("the folder was open to others: its mode is narrowed", "folder", path,
		"from", fmt.Sprintf("%04o", mode), "to", fmt.Sprintf("%04o", private))
	return nil
}

// mounted tells whether a file system is mounted at the folder.
func mounted(path string, info fs.FileInfo) (bool, error) {
	above, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	return info.Sys().(*syscall.Stat_t).Dev != above.Sys().(*syscall.Stat_t).Dev, nil
}

// ownable is why a folder with this owner and mode cannot be ours, nil when it can. Whether we can
// write into one of root's, the first write tells.
func ownable(owner, us int, mode fs.FileMode, volume bool) error {
	switch {
	case owner == us:
		return nil
	case owner != root:
		return fmt.Errorf("it belongs to user %d, and this is user %d: it must be our own", owner, us)
	case mode&0o002 != 0 && !volume:
		return fmt.Errorf("it belongs to root and can be written by everybody (mode %04o): "+
			"make user %d its owner, or its group one of ours and its mode 0770", mode, us)
	}
	return nil
}

// checkEntries refuses what somebody else has put there while the folder was open to them.
func checkEntries(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if owner := ownerOf(info); owner != os.Geteuid() && owner != root {
			return fmt.Errorf("%s belongs to user %d, and this is user %d: take it away", filepath.Join(path, e.Name()), owner, os.Geteuid())
		}
	}
	return nil
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// Hold is Own, and locks the folder, by a file in it, until that is closed.
func Hold(path string, log *slog.Logger) (*os.File, error) {
	if err := Own(path, log); err != nil {
		return nil, err
	}
	return Lock(filepath.Join(path, "lock"), os.O_CREATE)
}

// Lock opens a file, with further flags of os.OpenFile, and locks it until it is closed, also by
// the end of the process. It fails with EWOULDBLOCK when somebody else has it locked. A link is not
// followed.
func Lock(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return f, nil
}
