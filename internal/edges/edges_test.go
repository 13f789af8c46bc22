// Package edges keeps the table of which package may import which. There is nothing here but the
// test.
package edges

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "millrace/"

// envoyProtos are Envoy's own messages. Few rooms may see them: what is said in them is said
// nowhere else.
const envoyProtos = "github.com/envoyproxy/go-control-plane"

// room is a row of the table: a package and what it may import beside the standard library. Paths
// are below the module; x/* is every package directly in x.
type room struct {
	path      string
	packages  string // of the module
	libraries string // prefixes; * is any but envoyProtos
}

// table holds every package. The first row that fits counts.
var table = []room{
	// The words that all else is said in.
	{"proto/millrace/v1", "", "*"}, // generated
	{"schema", "", ""},
	{"envoy", "schema", ""},
	{"envoy/fetch", "envoy", ""},
	{"prices", "", ""},
	{"config", "prices proto/millrace/v1 schema", "google.golang.org/protobuf buf.build go.yaml.in github.com/go-json-experiment"},
	{"engine", "internal/folder", "*"},
	{"config/*", "config engine proto/millrace/v1", "*"},

	// The data path. It never sees xds: they meet in config and envoy.
	{"extproc", "config envoy event prices schema internal/redact internal/strictjson extproc/answer extproc/llm extproc/provider extproc/policy extproc/limit extproc/texts internal/sse proto/millrace/v1", "* " + envoyProtos},
	{"extproc/llm", "", ""},
	{"extproc/texts", "extproc/llm schema", "github.com/go-json-experiment"}, // no codec: rows
	{"extproc/answer", "extproc/llm internal/redact internal/sse", ""},       // neither gRPC nor Envoy nor a schema
	{"extproc/provider", "extproc/llm extproc/provider/* schema", ""},
	{"extproc/provider/*", "schema extproc/llm internal/errorbody internal/jsonschema internal/sse internal/eventstream internal/strictjson internal/retryafter internal/wirejson", "github.com/go-json-experiment"}, // never a sibling
	{"extproc/policy", "audit config extproc/llm extproc/policy/* extproc/texts internal/sse internal/strictjson schema proto/millrace/v1", "*"},
	{"extproc/policy/limits", "extproc/llm internal/strictjson schema", "github.com/go-json-experiment"},
	{"extproc/policy/match", "extproc/policy/fold", ""},
	{"extproc/policy/webhook", "internal/outbound", "*"},
	{"extproc/policy/*", "extproc/policy/fold", "*"}, // what kinds are made of; it knows nothing of the chain
	{"extproc/policy/detect", "", ""},                // a table and checks
	{"extproc/limit", "", "*"},

	// Envoy's half. It never sees extproc.
	{"xds", "config envoy schema", "* " + envoyProtos},

	// Around both.
	{"event", "internal/outbound proto/millrace/v1", "*"},
	{"event/*", "engine event", "*"},
	{"metrics", "config envoy schema proto/millrace/v1", "*"}, // it counts events, wherever they come from
	{"trace", "event metrics proto/millrace/v1", "*"},
	{"dashboard", "control metrics proto/millrace/v1", ""}, // what there is to show, whoever counts it
	{"audit", "internal/folder", ""},                       // it knows nothing of what it records
	{"control", "config config/store envoy extproc xds proto/millrace/v1", "*"},
	{"admin", "config config/store control envoy event xds proto/millrace/v1", "*"},
	{"cmd/millrace", "*", "*"},

	// Leaves: they know no word of ours.
	{"internal/jsonschema", "internal/strictjson", "*"},
	{"internal/wirejson", "internal/strictjson", "*"},
	{"internal/*", "", "*"},

	{"e2e", "*", "*"},
	{"docs", "", ""},
	{"tools/policyreport", "extproc/policy/*", ""},
	{"tools/foldtable", "", "*"},
	{"bench", "*", "* " + envoyProtos}, // of the sidecar that does nothing
}

// tests may also use what is made for tests, and any library.
const testPackages = "internal/golden internal/fakellm internal/browser"

// testRooms are what the tests of a room may import beside what it may itself: a machine is tested
// with real parts.
var testRooms = map[string]string{"extproc": "audit",
	"extproc/answer": "extproc/provider schema", "extproc/policy": "extproc/provider", "extproc/policy/match": "extproc/policy/detect extproc/policy/injection extproc/policy/words", "extproc/texts": "extproc/provider internal/sse", "extproc/provider": "extproc/texts internal/strictjson", "control": "engine", "event/spool": "proto/millrace/v1", "internal/edges": "schema",
	"dashboard": "admin",
}

// testLibraries are what the tests of a room may use beside any ordinary library: control's have a
// fake Envoy.
var testLibraries = map[string]string{"control": envoyProtos}

// pkg is one package as `go list -json` tells of it.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestEdges(t *testing.T) {
	packages, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("only %d packages", len(packages))
	}
	for _, v := range violations(table, packages) {
		t.Error(v)
	}
}

// TestViolationsAreFound: the test above is worth something only if a wrong import fails it.
func TestViolationsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		p    pkg
		want []string
	}{
		"all is well":             {pkg{ImportPath: "millrace/xds", Imports: []string{"net/netip", "millrace/config", "millrace/envoy", envoyProtos + "/envoy/type/v3"}}, nil},
		"xds imports extproc":     {pkg{ImportPath: "millrace/xds", Imports: []string{"millrace/extproc"}}, []string{"xds imports extproc"}},
		"extproc imports xds":     {pkg{ImportPath: "millrace/extproc", Imports: []string{"millrace/config", "millrace/xds"}}, []string{"extproc imports xds"}},
		"in a test too":           {pkg{ImportPath: "millrace/extproc", TestImports: []string{"millrace/xds", "millrace/internal/fakellm"}}, []string{"a test of extproc imports xds"}},
		"in an external test too": {pkg{ImportPath: "millrace/extproc", XTestImports: []string{"millrace/extproc", "millrace/xds"}}, []string{"a test of extproc imports xds"}},
		"a provider its sibling":  {pkg{ImportPath: "millrace/extproc/provider/openai", Imports: []string{"millrace/extproc/provider/anthropic"}}, []string{"extproc/provider/openai imports extproc/provider/anthropic"}},
		"a provider Envoy":        {pkg{ImportPath: "millrace/extproc/provider/openai", Imports: []string{envoyProtos + "/envoy/type/v3"}}, []string{"extproc/provider/openai imports " + envoyProtos + "/envoy/type/v3"}},
		"a policy Envoy":          {pkg{ImportPath: "millrace/extproc/policy", Imports: []string{"example.com/words", envoyProtos + "/envoy/type/v3"}}, []string{"extproc/policy imports " + envoyProtos + "/envoy/type/v3"}},
		"llm a library":           {pkg{ImportPath: "millrace/extproc/llm", Imports: []string{"strings", "github.com/google/go-cmp/cmp"}}, []string{"extproc/llm imports github.com/google/go-cmp/cmp"}},
		"llm one in a test":       {pkg{ImportPath: "millrace/extproc/llm", TestImports: []string{"github.com/google/go-cmp/cmp"}}, nil},
		"config Envoy":            {pkg{ImportPath: "millrace/config", Imports: []string{envoyProtos + "/envoy/type/v3"}}, []string{"config imports " + envoyProtos + "/envoy/type/v3"}},
		"a demo in production":    {pkg{ImportPath: "millrace/event", Imports: []string{"millrace/internal/fakellm"}}, []string{"event imports internal/fakellm"}},
		"no row":                  {pkg{ImportPath: "millrace/util"}, []string{"util has no row in the table of internal/edges"}},
		"a prefix is no package":  {pkg{ImportPath: "millrace/config", Imports: []string{"google.golang.org/protobufs"}}, []string{"config imports google.golang.org/protobufs"}},
		"wildcards are one level": {pkg{ImportPath: "millrace/extproc/provider", Imports: []string{"millrace/extproc/provider/openai/wire"}}, []string{"extproc/provider imports extproc/provider/openai/wire"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := violations(table, []pkg{c.p}); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// violations are the imports that the table does not allow, in words.
func violations(table []room, packages []pkg) []string {
	var found []string
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(table, func(r room) bool { return fits(r.path, name) })
		if i < 0 {
			found = append(found, name+" has no row in the table of internal/edges")
			continue
		}
		for _, imported := range p.Imports {
			if !table[i].allows(imported) {
				found = append(found, fmt.Sprintf("%s imports %s", name, strings.TrimPrefix(imported, module)))
			}
		}
		inTests := room{packages: strings.Join([]string{table[i].packages, testPackages, testRooms[name], name}, " "), libraries: "* " + table[i].libraries + " " + testLibraries[name]}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if !inTests.allows(imported) {
				found = append(found, fmt.Sprintf("a test of %s imports %s", name, strings.TrimPrefix(imported, module)))
			}
		}
	}
	return found
}

func (r room) allows(imported string) bool {
	if ours, ok := strings.CutPrefix(imported, module); ok {
		return slices.ContainsFunc(strings.Fields(r.packages), func(pattern string) bool { return pattern == "*" || fits(pattern, ours) })
	}
	if host, _, _ := strings.Cut(imported, "/"); !strings.Contains(host, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(strings.Fields(r.libraries), func(library string) bool {
		return library == "*" && !within(imported, envoyProtos) || within(imported, library)
	})
}

// fits tells whether a pattern of the table names the package.
func fits(pattern, name string) bool {
	ok, err := path.Match(pattern, name) // * stops at a slash
	return ok && err == nil
}

// within tells whether the package is the library's or below it.
func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

// list asks the go command for every package of the module.
func list() ([]pkg, error) {
	if err := dependOnSources(); err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	command := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var packages []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// dependOnSources looks at every folder of the module, so that the go command does not repeat a
// result from before a change: what it runs for us it does not see.
func dependOnSources() error {
	return filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && len(d.Name()) > 2 && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir // .git, .cache
		}
		return err
	})
}
