package folder

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwn: a folder that is ours is made private, and one that others hold, or could put another in
// the place of, is refused. The rows that need another user as owner are made by root alone; other
// users test the rest, and say so.
func TestOwn(t *testing.T) {
	const stranger = 54321
	type state struct {
		dir  string
		want fs.FileMode // of dir afterwards; 0: it is refused
		says string      // the log or the error
	}
	make := func(t *testing.T, path string, mode fs.FileMode) string {
		t.Helper()
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	give := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Lchown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	link := func(t *testing.T, target, name string) {
		t.Helper()
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		root bool // only root can make it
		make func(t *testing.T, parent string) state
	}{
		"it is not there": {false, func(t *testing.T, parent string) state {
			return state{filepath.Join(parent, "a", "b"), 0o700, ""}
		}},
		"it is private": {false, func(t *testing.T, parent string) state {
			return state{make(t, filepath.Join(parent, "a"), 0o700), 0o700, ""}
		}},
		"everybody may write": {false, func(t *testing.T, parent string) state {
			return state{make(t, filepath.Join(parent, "a"), 0o777), 0o700, "from=0777 to=0700"}
		}},
		"everybody may read": {false, func(t *testing.T, parent string) state {
			return state{make(t, filepath.Join(parent, "a"), 0o755), 0o700, "from=0755 to=0700"}
		}},
		"everybody may write above it": {false, func(t *testing.T, parent string) state {
			above := make(t, filepath.Join(parent, "a"), 0o777)
			return state{make(t, filepath.Join(above, "b"), 0o700), 0, above + " above it can be written by everybody"}
		}},
		"everybody may write above it, and move only their own": {false, func(t *testing.T, parent string) state {
			above := make(t, filepath.Join(parent, "a"), 0o777|fs.ModeSticky)
			return state{make(t, filepath.Join(above, "b"), 0o700), 0o700, ""}
		}},
		"a link leads to a place above which everybody may write": {false, func(t *testing.T, parent string) state {
			above := make(t, filepath.Join(parent, "a"), 0o777)
			link(t, make(t, filepath.Join(above, "b"), 0o700), filepath.Join(parent, "link"))
			return state{filepath.Join(parent, "link"), 0, "above it can be written by everybody"}
		}},
		"a link in a place where everybody may write": {false, func(t *testing.T, parent string) state {
			open := make(t, filepath.Join(parent, "a"), 0o777)
			link(t, make(t, filepath.Join(parent, "b"), 0o700), filepath.Join(open, "link"))
			return state{filepath.Join(open, "link"), 0, open + " above it can be written by everybody"}
		}},
		"a link to a link in a place where everybody may write": {false, func(t *testing.T, parent string) state {
			open := make(t, filepath.Join(parent, "a"), 0o777)
			make(t, filepath.Join(parent, "b"), 0o700)
			link(t, "../b", filepath.Join(open, "link"))
			link(t, "a/link", filepath.Join(parent, "first"))
			return state{filepath.Join(parent, "first"), 0, open + " above it can be written by everybody"}
		}},
		"our own link": {false, func(t *testing.T, parent string) state {
			make(t, filepath.Join(parent, "b"), 0o755)
			link(t, "b", filepath.Join(parent, "link"))
			return state{filepath.Join(parent, "link"), 0o700, "from=0755 to=0700"}
		}},
		"in another user's": {true, func(t *testing.T, parent string) state {
			above := make(t, filepath.Join(parent, "a"), 0o755)
			dir := make(t, filepath.Join(above, "b"), 0o700)
			give(t, above)
			return state{dir, 0o700, ""} // we are root, see TestPassable
		}},
		"another user's link to ours": {true, func(t *testing.T, parent string) state {
			name := filepath.Join(parent, "link")
			link(t, make(t, filepath.Join(parent, "a"), 0o700), name)
			give(t, name)
			return state{name, 0o700, ""}
		}},
		"in a folder behind another user's link": {true, func(t *testing.T, parent string) state {
			name := filepath.Join(parent, "link")
			link(t, make(t, filepath.Join(parent, "a"), 0o700), name)
			give(t, name)
			return state{filepath.Join(name, "b"), 0o700, ""}
		}},
		"another user's": {true, func(t *testing.T, parent string) state {
			dir := make(t, filepath.Join(parent, "a"), 0o700)
			give(t, dir)
			return state{dir, 0, "belongs to user 54321"}
		}},
		"another user's behind a link": {true, func(t *testing.T, parent string) state {
			dir := make(t, filepath.Join(parent, "a"), 0o700)
			give(t, dir)
			link(t, dir, filepath.Join(parent, "link"))
			return state{filepath.Join(parent, "link"), 0, "belongs to user 54321"}
		}},
		"another user has put something in": {true, func(t *testing.T, parent string) state {
			dir := make(t, filepath.Join(parent, "a"), 0o777)
			name := filepath.Join(dir, "applied.tmp")
			link(t, "/etc/passwd", name)
			give(t, name)
			return state{dir, 0, name + " belongs to user 54321"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != root {
				t.Skip("only root can give a folder to another user")
			}
			s := c.make(t, t.TempDir())
			var log strings.Builder
			err := Own(s.dir, slog.New(slog.NewTextHandler(&log, nil)))
			if s.want == 0 {
				if err == nil || !strings.Contains(err.Error(), s.says) {
					t.Errorf("error %v, want %q", err, s.says)
				}
				return
			}
			info, statErr := os.Stat(s.dir)
			if err != nil || statErr != nil || info.Mode().Perm() != s.want {
				t.Fatalf("%v, %v, %v, want mode %04o", err, statErr, info, s.want)
			}
			if narrowed := s.says != ""; narrowed != (log.Len() > 0) || !strings.Contains(log.String(), s.says) {
				t.Errorf("the log says %q, want %q", &log, s.says)
			}
		})
	}
}

// TestPassable: a way must not lead through what another user could turn elsewhere. Root goes
// through people's folders.
func TestPassable(t *testing.T) {
	for name, c := range map[string]struct {
		owner, us int
		mode      fs.FileMode
		ok        bool
	}{
		"our own":           {101, 101, 0o755, true},
		"root's":            {root, 101, 0o755, true},
		"another user's":    {102, 101, 0o755, false},
		"another's link":    {102, 101, 0o777 | fs.ModeSymlink, false},
		"our own, all open": {101, 101, 0o777, false},
		"a person's":        {102, root, 0o755, true},
	} {
		if err := passable(c.owner, c.us, c.mode, false); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRootsFolder: what a user other than root makes of a folder of root's. Its group may be let
// in, everybody only in a volume.
func TestRootsFolder(t *testing.T) {
	for mode, ok := range map[fs.FileMode]bool{0o755: true, 0o770: true, 0o777: false} {
		if err := ownable(root, 101, mode, false); (err == nil) != ok {
			t.Errorf("%04o: %v", mode, err)
		}
		if err := ownable(root, 101, mode, true); err != nil {
			t.Errorf("a volume, %04o: %v", mode, err)
		}
		if ownable(102, 101, mode, true) == nil {
			t.Errorf("a volume of another user's, %04o", mode)
		}
	}
}

// TestWayThroughAVolume: a folder within a volume of root's that is open to everybody, as an
// emptyDir is, may be ours. In one that is another user's, or in a folder that is no volume, it may
// not.
func TestWayThroughAVolume(t *testing.T) {
	for _, c := range []struct {
		owner  int
		mode   fs.FileMode
		volume bool
		ok     bool
	}{
		{root, 0o777, true, true},
		{root, 0o777, false, false},
		{root, 0o777 | sticky, false, true},
		{root, 0o777 | fs.ModeSymlink, false, true}, // every link's mode is 0777
		{101, 0o755, false, true},
		{101, 0o777, true, false},
		{102, 0o700, false, false},
		{102, 0o777 | sticky, false, false},
		{102, 0o777, true, false},
	} {
		if err := passable(c.owner, 101, c.mode, c.volume); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestMounted: a volume is told from a folder.
func TestMounted(t *testing.T) {
	for path, want := range map[string]bool{"/proc": true, t.TempDir(): false} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := mounted(path, info); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}
