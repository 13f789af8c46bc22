package control

import (
	"crypto/sha256"
	"maps"
	"os"
	"syscall"
	"time"

	"millrace/config"
)

// Files are read again and again: a few small reads find every change, however the file came to be
// a different one, and nothing else that happens in a folder matters (docs/rationale.md).
const (
	lookEvery = 250 * time.Millisecond
	// mostUnrest is how many looks in a row may find the files different each time before they are
	// taken as they are. Editors and ConfigMap updates come in several steps, so two looks must
	// agree first; a file that never rests must not keep the others from being read.
	mostUnrest = 4
)

// sum is a hash of what a file holds, or of why it cannot be read.
type sum = [sha256.Size]byte

// follower looks at files and tells when they have to be read again. Only contents count.
type follower struct {
	acted  map[string]sum  // what the files held when look last said yes
	before map[string]sum  // what the look before this one found
	unrest int             // looks in a row that found something new
	linked map[string]bool // files that a folder was seen to have
}

// look looks at files once and tells whether to read them again now. files has, by path, hashes of
// what is in use; they count until look has said yes for the first time.
func (f *follower) look(files map[string]sum) bool {
	now := make(map[string]sum, len(files))
	for path := range files {
		now[path] = read(path)
	}
	before := f.before
	f.before = now
	if !f.differs(now, files) {
		f.unrest = 0
		return false
	}
	f.unrest++
	if !maps.Equal(now, before) && f.unrest < mostUnrest {
		return false
	}
	// What the reader finds may be newer than this. The next look then says yes once more.
	f.acted, f.unrest = now, 0
	return true
}

// differs compares with what was last acted upon. A file that nothing names any more is a
// difference too: it may have been what was wrong.
func (f *follower) differs(now, inUse map[string]sum) bool {
	for path := range f.acted {
		if _, ok := now[path]; !ok {
			return true
		}
	}
	for path, found := range now {
		known, ok := f.acted[path]
		if !ok {
			known = inUse[path]
		}
		if found != known {
			return true
		}
	}
	return false
}

func read(path string) sum {
	data, err := config.ReadFile(path, config.MaxDocumentBytes)
	if err != nil {
		data = []byte("cannot be read: " + err.Error())
	}
	return sha256.Sum256(data)
}

// detached says why a file cannot be followed though it can be read; "" when there is none. A file
// that is mounted by itself, as with `docker run -v FILE:FILE` and subPath, stays the same file
// when another one is put in its place outside. It then has no name left in any folder.
func (f *follower) detached(files map[string]sum) string {
	if f.linked == nil {
		f.linked = map[string]bool{}
	}
	for path := range files {
		switch {
		case linked(path):
			f.linked[path] = true
		case f.linked[path] && !linked(path): // asked again: it may have been replaced in between
			return path + ": was replaced outside of its mount, from where the new file cannot be seen: " +
				"mount the folder, or write into the file"
		}
	}
	return ""
}

// linked tells whether a file has a name in a folder. There are file systems that never say so, and
// one that is not there is not known to have lost its name.
func linked(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Nlink > 0
}
