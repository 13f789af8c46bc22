package envoy

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// canaries are put where keys are, and two variables beside them that every child may have.
func canaries(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MILLRACE_ADMIN_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "PATH_OF_KEYS", "SOME_NAME_OF_A_PERSONS_OWN",
	} {
		t.Setenv(name, "canary-in-"+name)
	}
	t.Setenv("TZ", "Europe/Vienna")
	t.Setenv("LD_LIBRARY_PATH", "")
}

// clean reports what of a child's environment must not be there, and whether the child has any.
func clean(t *testing.T, child, environ string, want ...string) {
	t.Helper()
	if strings.Contains(environ, "canary-in-") {
		t.Errorf("%s got %q", child, environ)
	}
	for _, w := range append(want, "Europe/Vienna") {
		if !strings.Contains(environ, w) {
			t.Errorf("%s: %s is not in %q", child, w, environ)
		}
	}
}

// TestEnvoysEnvironment: a real Envoy gets no variable that may hold a key, and those that it
// reads.
func TestEnvoysEnvironment(t *testing.T) {
	canaries(t)
	t.Setenv("RES_OPTIONS", "ndots:1")
	p := startProxy(t, http.NotFoundHandler())
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	clean(t, "envoy", string(environ), "RES_OPTIONS=ndots:1", "PATH=")
}

// TestOtherEnvironments: nor does one that is asked for its version, nor pip, which gets its
// settings.
func TestOtherEnvironments(t *testing.T) {
	at := emptyPlaces(t)
	canaries(t)
	t.Setenv("PIP_CERT", "/etc/pip.pem")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	dir := t.TempDir()
	told := func(child string) string { return filepath.Join(dir, child) }
	fakePip(t, at, fmt.Sprintf("export -p > '%s'\n", told("version"))+printsVersion(Version()))
	python := filepath.Join(filepath.Dir(at.path), "python3")
	pip, err := os.ReadFile(python)
	if err != nil {
		t.Fatal(err)
	}
	script(t, python, fmt.Sprintf("export -p > '%s'\n", told("pip"))+string(pip))
	if _, err := Fetch(within(t), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for child, want := range map[string][]string{"version": nil, "pip": {"/etc/pip.pem", "http://127.0.0.1:1"}} {
		environ, err := os.ReadFile(told(child))
		if err != nil {
			t.Fatal(err)
		}
		clean(t, child, string(environ), want...)
	}
}

// TestNoEnvironment: where none of the names is set, a child gets nothing, not all.
func TestNoEnvironment(t *testing.T) {
	if got := environment([]string{"MILLRACE_NAME_THAT_NOBODY_SETS"}); got == nil || len(got) > 0 {
		t.Errorf("%q", got)
	}
}
