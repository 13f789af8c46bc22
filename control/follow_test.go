package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/config"
	"millrace/config/store"
	"millrace/extproc"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/xds"
)

// kinds are the files that are followed. text is what the file holds when it says a word, and inUse
// is the word that is in use.
var kinds = []struct {
	name  string
	text  func(word string) string
	inUse func(p *Plane) string
}{
	{
		"configuration",
		func(word string) string { return document(word, "literal") },
		func(p *Plane) string {
			return strings.TrimSuffix(p.Config().Gateways[0].Upstreams[0].Targets[0].Host, ".test")
		},
	},
	{
		"secret",
		func(word string) string { return word + "\n" },
		func(p *Plane) string {
			return strings.TrimPrefix(p.Config().Gateways[0].Upstreams[0].Targets[0].AuthValue, "Bearer ")
		},
	},
}

func document(host, secret string) string {
	return fmt.Sprintf("gateway: {auth: none}\nproviders: {targets: [{id: a, provider: {base_url: \"http://%s.test/v1\", secret_key_ref: %s}}]}\n", host, secret)
}

// followed is a plane without an Envoy that follows one file. A test makes it look, so nothing
// waits for time to pass.
type followed struct {
	*Plane
	t   *testing.T
	log bytes.Buffer
}

func follow(t *testing.T, file string) *followed {
	t.Helper()
	f := &followed{t: t}
	var err error
	if f.Plane, err = startPlane(t, file, slog.NewTextHandler(&f.log, nil)); err != nil {
		t.Fatal(err)
	}
	return f
}

func startPlane(t *testing.T, file string, log slog.Handler) (*Plane, error) {
	return Start(t.Context(), Options{
		Sidecar:  extproc.NewServer(extproc.Options{Log: slog.New(log)}),
		Envoy:    xds.NewServer(t.Context(), slog.New(log)),
		File:     file,
		Log:      slog.New(log),
		Draining: func() bool { return false },
		Living:   func() map[string]bool { return nil },
	})
}

func (f *followed) looks(n int) {
	for range n {
		f.files.look()
	}
}

// reloads counts what was said of the file.
func (f *followed) reloads() int { return strings.Count(f.log.String(), "configuration file") }

func (f *followed) wantError(words string) {
	f.t.Helper()
	got := f.Status().File.Error
	if words == "" && got != "" || !strings.Contains(got, words) {
		f.t.Errorf("the status says %q of the file, want %q", got, words)
	}
}

// folder is where the cases work; its methods fail the test, not the caller.
type folder struct {
	t   *testing.T
	dir string
	new string // what the file is to hold after the edit
}

func (d folder) at(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, name)
}

func (d folder) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d folder) write(name, text string) {
	d.t.Helper()
	d.must(os.MkdirAll(filepath.Dir(d.at(name)), 0o700))
	d.must(os.WriteFile(d.at(name), []byte(text), 0o600))
}

// configured returns the configuration file: the one at path, or one whose secret is at path.
func (d folder) configured(kind, path string) string {
	d.t.Helper()
	if kind == "configuration" {
		return d.at(path)
	}
	file := filepath.Join(d.t.TempDir(), "config.yaml")
	d.write(file, document("host", fmt.Sprintf("{file: %q}", d.at(path))))
	return file
}

func (d folder) rename(from, to string) { d.t.Helper(); d.must(os.Rename(d.at(from), d.at(to))) }
func (d folder) remove(name string)     { d.t.Helper(); d.must(os.RemoveAll(d.at(name))) }

// link makes name a symlink to target, in one step where there is one already.
func (d folder) link(target, name string) {
	d.t.Helper()
	d.must(os.MkdirAll(filepath.Dir(d.at(name)), 0o700))
	d.must(os.Symlink(target, d.at(name+".new")))
	d.rename(name+".new", name)
}

// arrangements are the ways in which editors, Kubernetes and configuration management place a file
// and change it. The file is followed at path; it lies there as a file unless place says otherwise.
// After each step the follower looks once.
var arrangements = []struct {
	name  string
	path  string // "f" when empty
	place func(d folder, text string)
	edit  []func(d folder)
}{
	{name: "written in place", edit: []func(folder){
		func(d folder) { d.write("f", d.new) },
	}},
	{name: "emptied, then written", edit: []func(folder){
		func(d folder) { d.must(os.Truncate(d.at("f"), 0)) },
		func(d folder) { d.write("f", d.new) },
	}},
	{name: "written bit by bit", edit: []func(folder){
		func(d folder) { d.write("f", d.new[:1]) },
		func(d folder) { d.write("f", d.new[:2]) },
		func(d folder) { d.write("f", d.new) },
	}},
	{name: "same size, and the time put back", edit: []func(folder){
		func(d folder) {
			info, err := os.Stat(d.at("f"))
			d.must(err)
			d.write("f", d.new)
			d.must(os.Chtimes(d.at("f"), time.Time{}, info.ModTime()))
		},
	}},
	{name: "renamed over", edit: []func(folder){
		func(d folder) { d.write("f.new", d.new) },
		func(d folder) { d.rename("f.new", "f") },
	}},
	{name: "moved to a backup, then written", edit: []func(folder){
		func(d folder) { d.rename("f", "f~") },
		func(d folder) { d.write("f", d.new) },
	}},
	{name: "copied to a backup, then written", edit: []func(folder){
		func(d folder) { d.write("f.bak", "old") },
		func(d folder) { d.write("f", d.new) },
		func(d folder) { d.remove("f.bak") },
	}},
	{name: "removed and made again", edit: []func(folder){
		func(d folder) { d.remove("f") },
		func(d folder) { d.write("f", d.new) },
	}},
	{name: "folder removed and made again", path: "x/y/f", edit: []func(folder){
		func(d folder) { d.remove("x") },
		func(d folder) { d.write("x/y/f", d.new) },
	}},
	{name: "folder renamed over", path: "x/f", edit: []func(folder){
		func(d folder) { d.write("new/f", d.new) },
		func(d folder) { d.rename("x", "old") },
		func(d folder) { d.rename("new", "x") },
	}},
	{
		name: "ConfigMap or Secret: ..data swapped",
		place: func(d folder, text string) {
			d.write("..2026_01/f", text)
			d.link("..2026_01", "..data")
			d.link("..data/f", "f")
		},
		edit: []func(folder){
			func(d folder) { d.write("..2026_02/f", d.new) },
			func(d folder) { d.link("..2026_02", "..data") },
			func(d folder) { d.remove("..2026_01") },
		},
	},
	{
		name:  "symlink, its target written in place",
		place: func(d folder, text string) { d.write("elsewhere/f", text); d.link("elsewhere/f", "f") },
		edit:  []func(folder){func(d folder) { d.write("elsewhere/f", d.new) }},
	},
	{
		name:  "symlink, its target renamed over",
		place: func(d folder, text string) { d.write("elsewhere/f", text); d.link("elsewhere/f", "f") },
		edit: []func(folder){
			func(d folder) { d.write("elsewhere/.f", d.new) },
			func(d folder) { d.rename("elsewhere/.f", "elsewhere/f") },
		},
	},
	{
		name:  "symlink to another file",
		place: func(d folder, text string) { d.write("blue", text); d.link("blue", "f") },
		edit: []func(folder){
			func(d folder) { d.write("green", d.new) },
			func(d folder) { d.link("green", "f") },
		},
	},
	{
		name: "chain of symlinks, swapped in the middle",
		place: func(d folder, text string) {
			d.write("c/f", text)
			d.link("../c/f", "b/f")
			d.link("../b/f", "a/f")
			d.link("a/f", "f")
		},
		edit: []func(folder){
			func(d folder) { d.write("d/f", d.new) },
			func(d folder) { d.link("../d/f", "b/f") },
		},
	},
	{
		name:  "symlinked folder swapped",
		path:  "current/f",
		place: func(d folder, text string) { d.write("releases/1/f", text); d.link("releases/1", "current") },
		edit: []func(folder){
			func(d folder) { d.write("releases/2/f", d.new) },
			func(d folder) { d.link("releases/2", "current") },
		},
	},
	{
		name:  "symlink becomes a file",
		place: func(d folder, text string) { d.write("elsewhere", text); d.link("elsewhere", "f") },
		edit: []func(folder){
			func(d folder) { d.remove("f") },
			func(d folder) { d.write("f", d.new) },
		},
	},
	{
		name:  "hard link, written by its other name",
		place: func(d folder, text string) { d.write("other", text); d.must(os.Link(d.at("other"), d.at("f"))) },
		edit:  []func(folder){func(d folder) { d.write("other", d.new) }},
	},
}

// place puts a file that says "one" where the arrangement wants it, for either kind, and starts a
// plane that follows it.
func place(t *testing.T, kind int, path string, put func(d folder, text string)) (folder, *followed) {
	t.Helper()
	d := folder{t: t, dir: t.TempDir(), new: kinds[kind].text("two")}
	put(d, kinds[kind].text("one"))
	return d, follow(t, d.configured(kinds[kind].name, path))
}

// TestArrangementsAreFollowed: each arrangement of either kind of file is followed. An edit is
// applied once, and only after two looks have found the same; no step on the way is taken for an
// edit.
func TestArrangementsAreFollowed(t *testing.T) {
	for kind, k := range kinds {
		for _, a := range arrangements {
			t.Run(k.name+"/"+a.name, func(t *testing.T) {
				if a.path == "" {
					a.path = "f"
				}
				if a.place == nil {
					a.place = func(d folder, text string) { d.write(a.path, text) }
				}
				d, f := place(t, kind, a.path, a.place)
				f.looks(3)
				for _, step := range a.edit {
					if n := f.reloads(); n != 0 {
						t.Fatalf("%d reloads before the last step:\n%s", n, &f.log)
					}
					step(d)
					f.looks(1)
				}
				f.looks(1)
				if got := k.inUse(f.Plane); got != "two" {
					t.Errorf("%q is in use after the edit and one look more", got)
				}
				f.looks(3)
				if n := f.reloads(); n != 1 {
					t.Errorf("%d reloads for one edit:\n%s", n, &f.log)
				}
				f.wantError("")
			})
		}
	}
}

// intruders are what can stand in the file's place. None may make the reader wait, or read for
// ever.
var intruders = []struct {
	name string
	make func(d folder)
	said string
}{
	{"nothing", func(d folder) {}, "no such file"},
	{"pipe", func(d folder) { d.must(syscall.Mkfifo(d.at("f"), 0o600)) }, "is a pipe, expected a regular file"},
	{"symlink to a pipe", func(d folder) {
		d.remove("p")
		d.must(syscall.Mkfifo(d.at("p"), 0o600))
		d.link("p", "f")
	}, "is a pipe"},
	{"device without an end", func(d folder) { d.link("/dev/zero", "f") }, "is a device"},
	{"folder", func(d folder) { d.must(os.Mkdir(d.at("f"), 0o700)) }, "is a folder"},
	{"socket", func(d folder) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.at("f")})
		d.must(err)
		l.SetUnlinkOnClose(false)
		d.must(l.Close())
	}, "is a socket"},
	{"huge file", func(d folder) {
		d.write("f", "")
		d.must(os.Truncate(d.at("f"), 1<<40))
	}, "which is the most that is read"},
	{"symlink to nothing", func(d folder) { d.link("nowhere", "f") }, "no such file"},
	{"symlink to itself", func(d folder) { d.link("f", "f") }, "too many levels"},
	{"file in place of the folder", func(d folder) {
		d.must(os.RemoveAll(d.dir))
		d.must(os.WriteFile(d.dir, nil, 0o600))
	}, "not a directory"},
}

// TestIntrudersAreSaid: whatever stands in the place of a file, the configuration stays, the status
// and the log say why the file is not followed, once, and both the old and a new content end that.
func TestIntrudersAreSaid(t *testing.T) {
	for kind, k := range kinds {
		for _, i := range intruders {
			t.Run(k.name+"/"+i.name, func(t *testing.T) {
				d, f := place(t, kind, "f", func(d folder, text string) { d.write("f", text) })
				f.looks(1)
				for _, back := range []string{"one", "two"} {
					before := k.inUse(f.Plane)
					d.remove("f")
					i.make(d)
					f.looks(5)
					f.wantError(i.said)
					if got := k.inUse(f.Plane); got != before {
						t.Errorf("%q is in use, want %q", got, before)
					}
					if n := strings.Count(f.log.String(), i.said); n != 1 {
						t.Errorf("said %d times:\n%s", n, &f.log)
					}
					if info, err := os.Stat(d.dir); err == nil && !info.IsDir() {
						d.remove(d.dir)
					}
					d.remove("f")
					d.write("f", k.text(back))
					f.looks(2)
					f.wantError("")
					if got := k.inUse(f.Plane); got != back {
						t.Errorf("%q is in use, want %q", got, back)
					}
					f.log.Reset()
				}
			})
		}
	}
}

// TestStartRefusesIntruders: a start with something else in the place of either file ends with the
// reason, at once.
func TestStartRefusesIntruders(t *testing.T) {
	for _, k := range kinds {
		for _, i := range intruders {
			t.Run(k.name+"/"+i.name, func(t *testing.T) {
				d := folder{t: t, dir: filepath.Join(t.TempDir(), "x")}
				d.must(os.Mkdir(d.dir, 0o700))
				i.make(d)
				if _, err := startPlane(t, d.configured(k.name, "f"), slog.DiscardHandler); err == nil || !strings.Contains(err.Error(), i.said) {
					t.Errorf("start: %v, want %q", err, i.said)
				}
			})
		}
	}
}

// TestEditBeforeTheFirstLook: what changes between the start's read and the first look is applied.
func TestEditBeforeTheFirstLook(t *testing.T) {
	for kind, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, f := place(t, kind, "f", func(d folder, text string) { d.write("f", text) })
			d.write("f", d.new)
			f.looks(2)
			if got := k.inUse(f.Plane); got != "two" {
				t.Errorf("%q is in use", got)
			}
		})
	}
}

// TestEditDuringAReload: what changes while an edit is applied is applied too.
func TestEditDuringAReload(t *testing.T) {
	for kind, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, f := place(t, kind, "f", func(d folder, text string) { d.write("f", text) })
			f.Log = slog.New(&onLog{do: func() { d.write("f", k.text("three")) }})
			f.looks(1)
			d.write("f", d.new)
			f.looks(2) // the reload writes its line last
			if got := k.inUse(f.Plane); got != "two" {
				t.Errorf("%q is in use", got)
			}
			f.looks(2)
			if got := k.inUse(f.Plane); got != "three" {
				t.Errorf("%q is in use", got)
			}
		})
	}
}

// onLog does something at the first line of the log.
type onLog struct {
	slog.Handler
	do func()
}

func (*onLog) Enabled(context.Context, slog.Level) bool { return true }

func (h *onLog) Handle(context.Context, slog.Record) error {
	if h.do != nil {
		h.do()
		h.do = nil
	}
	return nil
}

// TestRestHasABound: a file that is another one at each look is read nevertheless, after mostUnrest
// looks, and does not keep an edit of another file from being applied.
func TestRestHasABound(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "key")
	d := folder{t: t, dir: t.TempDir()}
	d.write(secret, "0")
	reference := fmt.Sprintf("{file: %q}", secret)
	d.write("config.yaml", document("one", reference))
	f := follow(t, d.at("config.yaml"))
	f.looks(1)
	d.write("config.yaml", document("two", reference))
	for i := range 2 * mostUnrest {
		d.write(secret, fmt.Sprint(i+1))
		f.looks(1)
	}
	if got := kinds[0].inUse(f.Plane); got != "two" {
		t.Errorf("%q is in use", got)
	}
	if n := f.reloads(); n != 2 {
		t.Errorf("%d reloads in %d looks, want 2:\n%s", n, 2*mostUnrest, &f.log)
	}
}

// TestSecretMountedAfterTheDocument: a document that names a file which is not there yet is applied
// once the file is, and what is wrong is said until then.
func TestSecretMountedAfterTheDocument(t *testing.T) {
	d := folder{t: t, dir: t.TempDir()}
	d.write("config.yaml", document("one", "literal"))
	f := follow(t, d.at("config.yaml"))
	f.looks(1)
	d.write("config.yaml", document("two", fmt.Sprintf("{file: %q}", d.at("key"))))
	f.looks(5)
	f.wantError("key: no such file")
	if n := f.reloads(); n != 1 {
		t.Errorf("%d reloads, want 1:\n%s", n, &f.log)
	}
	d.write("key", "word")
	f.looks(2)
	f.wantError("")
	if host, key := kinds[0].inUse(f.Plane), kinds[1].inUse(f.Plane); host != "two" || key != "word" {
		t.Errorf("%q and %q are in use", host, key)
	}
}

// TestSecretOfTheStore: a secret's file that only the store names is followed too, and what was
// wrong with it ends when the store no longer names it.
func TestSecretOfTheStore(t *testing.T) {
	d := folder{t: t, dir: t.TempDir()}
	d.write("config.yaml", document("one", "literal"))
	f := follow(t, d.at("config.yaml"))
	stored := func(revision uint64, targets string) {
		t.Helper()
		doc, err := config.Load("stored", []byte("upstreams: [{name: extra, targets: ["+targets+"]}]"))
		d.must(err)
		state := &millracev1.State{SchemaVersion: store.SchemaVersion, Documents: []*millracev1.Document{{
			Gateway: &millracev1.Gateway{Id: f.current().file.Gateway.Name}, Upstreams: doc.Upstreams,
		}}}
		d.must(f.take(store.Version{Revision: revision, State: state}))
	}
	d.write("key", "one")
	f.looks(1)
	stored(1, fmt.Sprintf("{id: b, provider: {name: openai, secret_key_ref: {file: %q}}}", d.at("key")))
	f.looks(3)
	if n := f.reloads(); n != 0 {
		t.Errorf("%d reloads, though no file has changed:\n%s", n, &f.log)
	}
	d.write("key", "two")
	f.looks(2)
	for _, u := range f.Config().Gateways[0].Upstreams {
		if u.Name == "extra" && u.Targets[0].AuthValue != "Bearer two" {
			t.Errorf("%q is in use", u.Targets[0].AuthValue)
		}
	}
	d.remove("key")
	f.looks(2)
	f.wantError("key: no such file")
	stored(2, "{id: b, provider: {name: openai, secret_key_ref: literal}}")
	f.looks(2)
	f.wantError("")
}

// TestFileMountedByItself: a file that was mounted by itself and replaced outside is still read,
// and the status says that it cannot be followed. The mount is played by a descriptor under /proc:
// it too leads to a file that no folder has any more, until it is given another file.
func TestFileMountedByItself(t *testing.T) {
	for kind, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			outside := folder{t: t, dir: t.TempDir()}
			outside.write("f", k.text("one"))
			mount, err := os.Open(outside.at("f"))
			outside.must(err)
			defer mount.Close()
			path := fmt.Sprintf("/proc/self/fd/%d", mount.Fd())
			d, f := place(t, kind, path, func(folder, string) {})
			f.looks(2)
			f.wantError("")

			outside.write("f", k.text("six")) // in place: seen
			f.looks(2)
			if got := k.inUse(f.Plane); got != "six" {
				t.Errorf("%q is in use", got)
			}

			outside.write("f.new", d.new)
			outside.rename("f.new", "f")
			f.looks(3)
			f.wantError(path + ": was replaced outside of its mount")
			if n := strings.Count(f.log.String(), "outside of its mount"); n != 1 {
				t.Errorf("said %d times:\n%s", n, &f.log)
			}

			again, err := os.Open(outside.at("f"))
			outside.must(err)
			defer again.Close()
			outside.must(syscall.Dup3(int(again.Fd()), int(mount.Fd()), 0))
			f.looks(2)
			f.wantError("")
			if got := k.inUse(f.Plane); got != "two" {
				t.Errorf("%q is in use", got)
			}
		})
	}
}
