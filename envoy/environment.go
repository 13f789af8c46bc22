package envoy

import (
	"os"
	"slices"
	"strings"
)

// What children get of our environment. The rest is where people put keys: those of the targets,
// the admin token, a cloud's. A name that ends with * stands for all that begin so.
var (
	// The C library, the loader and a wrapper script in Envoy's place read the first ones. The
	// others are Envoy's own (seen by putting a getenv of ours in front of it, 1.40): its name
	// resolver's, and whether it counts the CPUs of its cgroup. It also knows names AWS_… and
	// GRPC_…, for extensions that our configuration has none of.
	envoyReads = []string{
		"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH",
		"LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES", "ENVOY_CGROUP_CPU_DETECTION",
	}
	// pip's settings and configuration files (https://pip.pypa.io/en/stable/topics/configuration/),
	// Python's own, and how to get through a proxy.
	pipReads = []string{
		"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_*", "LD_LIBRARY_PATH",
		"PIP_*", "PYTHON*", "PYENV_*", "VIRTUAL_ENV", "XDG_*", "NETRC",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
	}
)

// environment is the part of ours that has these names, never nil: exec.Cmd would take that for
// all.
func environment(names []string) []string {
	kept := []string{}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if slices.ContainsFunc(names, func(want string) bool {
			begin, family := strings.CutSuffix(want, "*")
			return name == want || family && strings.HasPrefix(name, begin)
		}) {
			kept = append(kept, variable)
		}
	}
	return kept
}
