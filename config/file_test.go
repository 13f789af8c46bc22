package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadFileIsBounded: a file of the limit is read, one of a byte more is refused, also where the
// file does not know its size.
func TestReadFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("limit 5: %q, %v", data, err)
	}
	const sizeless = "/proc/self/status" // a regular file of size 0 that holds something
	if data, err := ReadFile(sizeless, 1<<20); err != nil || len(data) < 5 {
		t.Errorf("%s: %q, %v", sizeless, data, err)
	}
	for _, path := range []string{path, sizeless} {
		if _, err := ReadFile(path, 4); err == nil || err.Error() != path+": has more than 4 bytes, which is the most that is read" {
			t.Errorf("%s, limit 4: %v", path, err)
		}
	}
}

// TestOpenNeverWaits: what takes the file's place between the look at it and its opening is refused
// as well, and does not make the reader wait.
func TestOpenNeverWaits(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{pipe: "is a pipe", dir: "is a folder", "/dev/zero": "is a device"} {
		if _, err := open(path, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestSecretFileIsReadOnce: two secrets in one file are one, though the file is another one each
// time it is read, and what was read of it is known by path.
func TestSecretFileIsReadOnce(t *testing.T) {
	const path = "/proc/sys/kernel/random/uuid"
	c := resolved(t, `providers: {targets: [
		{id: a, provider: {name: openai, secret_key_ref: {file: `+path+`}}},
		{id: b, provider: {name: openai, secret_key_ref: {file: `+path+`}}}]}`)
	targets := c.Gateways[0].Upstreams[0].Targets
	if targets[0].AuthValue != targets[1].AuthValue {
		t.Errorf("%q and %q", targets[0].AuthValue, targets[1].AuthValue)
	}
	if _, ok := c.SecretFiles[path]; !ok || len(c.SecretFiles) != 1 {
		t.Errorf("secret files: %v", c.SecretFiles)
	}
}
