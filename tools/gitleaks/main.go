// Gitleaks writes the data that extproc/policy/detect has from the module gitleaks: its rules
// (gitleaks.json), its licence, and the samples that it keeps beside its rules
// (testdata/gitleaks.jsonl). The samples are arguments of Go functions, so the functions are run:
// in a copy of the module, in which two files are replaced by those that stand beside this one.
//
//	cd tools/gitleaks && go run . ../../extproc/policy/detect
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const module = "github.com/zricethezav/gitleaks/v8@v8.30.1"

var (
	//go:embed validate.go.txt
	validate []byte
	//go:embed regen.go.txt
	regen []byte
)

// recorded is what validate.go.txt writes of one rule.
type recorded struct {
	Rule    json.RawMessage `json:"rule"`
	Global  json.RawMessage `json:"global"`
	Samples []struct {
		Text string `json:"text"`
		Path string `json:"path"`
		Is   bool   `json:"is"`
	} `json:"samples"`
	id string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gitleaks <folder of package detect>")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gitleaks:", err)
		os.Exit(1)
	}
}

func run(to string) error {
	work, err := os.MkdirTemp("", "gitleaks")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	from, err := download(work)
	if err != nil {
		return err
	}
	rules, err := record(from, work)
	if err != nil {
		return err
	}
	if err := writeRules(filepath.Join(to, "gitleaks.json"), rules); err != nil {
		return err
	}
	if err := writeSamples(filepath.Join(to, "testdata", "gitleaks.jsonl"), rules); err != nil {
		return err
	}
	licence, err := os.ReadFile(filepath.Join(from, "LICENSE"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "gitleaks.LICENSE"), licence, 0o644)
}

func download(work string) (string, error) {
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Dir = work // outside of any module
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w: %s", module, err, out)
	}
	var answer struct{ Dir string }
	err = json.Unmarshal(out, &answer)
	return answer.Dir, err
}

// record runs the functions of the rules and returns what they gave, sorted by the rules' ids.
func record(from, work string) ([]recorded, error) {
	source := filepath.Join(work, "source")
	if err := os.CopyFS(source, os.DirFS(from)); err != nil {
		return nil, err
	}
	generate := filepath.Join(source, "cmd", "generate")
	for path, content := range map[string][]byte{"config/utils/validate.go": validate, "secrets/regen.go": regen} {
		path = filepath.Join(generate, path)
		if err := errors.Join(os.Remove(path), os.WriteFile(path, content, 0o644)); err != nil {
			return nil, err
		}
	}
	out := filepath.Join(work, "recorded.jsonl")
	command := exec.Command("go", "run", ".", filepath.Join(work, "gitleaks.toml"))
	command.Dir = filepath.Join(generate, "config")
	command.Env = append(os.Environ(), "RECORD="+out, "GOFLAGS=-mod=mod")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("run the rules of %s: %w", module, err)
	}
	file, err := os.Open(out)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var rules []recorded
	for decoder := json.NewDecoder(file); ; {
		var r recorded
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		var head struct{ ID string }
		if err := json.Unmarshal(r.Rule, &head); err != nil {
			return nil, err
		}
		r.id = head.ID
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b recorded) int { return strings.Compare(a.id, b.id) })
	return rules, nil
}

// writeRules writes one rule a line.
func writeRules(path string, rules []recorded) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\"module\":%q,\n\"allowlists\":%s,\n\"rules\":[\n", module, rules[0].Global)
	for i, r := range rules {
		if i > 0 {
			out.WriteString(",\n")
		}
		out.Write(r.Rule)
	}
	out.WriteString("\n]}\n")
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// words are what a scanner of repositories may take for a secret. They are broken by dots in the
// middle of the line, which the test takes out again: the samples would be found in this
// repository.
var words = regexp.MustCompile(`[A-Za-z0-9_/+=-]{16,}`)

func broken(text string) string {
	return words.ReplaceAllStringFunc(text, func(word string) string {
		var parts []string
		for ; len(word) > 9; word = word[9:] {
			parts = append(parts, word[:9])
		}
		return strings.Join(append(parts, word), "·")
	})
}

// writeSamples writes one sample a line, each once, sorted.
func writeSamples(path string, rules []recorded) error {
	var lines []string
	for _, r := range rules {
		for _, s := range r.Samples {
			if strings.Contains(s.Text, "·") {
				return fmt.Errorf("a sample of %s has a dot of its own", r.id)
			}
			var line bytes.Buffer
			encoder := json.NewEncoder(&line)
			encoder.SetEscapeHTML(false)
			err := encoder.Encode(struct {
				Rule string `json:"rule"`
				Is   bool   `json:"is"`
				Path string `json:"path,omitempty"`
				Text string `json:"text"`
			}{r.id, s.Is, s.Path, broken(s.Text)})
			if err != nil {
				return err
			}
			lines = append(lines, line.String())
		}
	}
	slices.Sort(lines)
	return os.WriteFile(path, []byte(strings.Join(slices.Compact(lines), "")), 0o644)
}
