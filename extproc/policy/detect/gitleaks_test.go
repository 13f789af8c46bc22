package detect

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// theirs is a sample that gitleaks keeps beside a rule, as tools/gitleaks wrote it. Is says whether
// the rule finds something in it.
type theirs struct {
	Rule, Text string
	Is         bool
}

// exception is a sample that has another verdict here.
type exception struct {
	theirs
	Why string
}

func readLines[T any](t *testing.T, path string) (all []T) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(bytes.TrimSpace(file), []byte("\n")) {
		var s T
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, s)
	}
	return all
}

// TestGitleaks: the samples that gitleaks keeps beside its rules have the same verdicts here, rule
// by rule, but for those in testdata/gitleaks.exceptions.jsonl.
func TestGitleaks(t *testing.T) {
	finders := map[string]finder{}
	for _, d := range secrets {
		finders[d.Name] = newFinder(d)
	}
	exceptions := map[theirs]string{}
	for _, e := range readLines[exception](t, "testdata/gitleaks.exceptions.jsonl") {
		if e.Why == "" {
			t.Errorf("no reason for %s %q", e.Rule, e.Text)
		}
		exceptions[e.theirs] = e.Why
	}
	judged := 0
	for _, s := range readLines[theirs](t, "testdata/gitleaks.jsonl") {
		if leftOut[s.Rule] != "" {
			continue
		}
		f, known := finders[s.Rule]
		if !known {
			t.Fatalf("no detector %s", s.Rule)
		}
		judged++
		agrees := len(f.find(strings.ReplaceAll(s.Text, "·", ""))) > 0 == s.Is
		switch _, excepted := exceptions[s]; {
		case agrees && excepted:
			t.Errorf("an exception that is no longer needed: %s %q", s.Rule, s.Text)
		case !agrees && !excepted:
			t.Errorf("%s: found is not %v in %q", s.Rule, s.Is, s.Text)
		}
		delete(exceptions, s)
	}
	for s := range exceptions {
		t.Errorf("an exception without its sample: %s %q", s.Rule, s.Text)
	}
	if judged < 6000 {
		t.Errorf("only %d samples were judged", judged)
	}
}

// TestNarrowed: where a stream may go on that has the beginning of a secret and then prose. The
// expressions are bounded by what they take, not by a count.
func TestNarrowed(t *testing.T) {
	for name, text := range map[string]string{
		"private-key":      "It begins with -----BEGIN RSA PRIVATE KEY----- and ends alike. Then there is a text of any length, of more than sixty-four bytes, and -----END RSA PRIVATE KEY-----",
		"curl-auth-header": "Use curl for this.\nThe header is written like\n -H 'Authorization: Bearer 0123456789abcdef'\n",
		"curl-auth-user":   "Use curl for this.\nThe user is given with\n -u admin:0123456789abcdef\n",
	} {
		if got := byName(t, name).find(text); len(got) > 0 {
			t.Errorf("%s found %q", name, got)
		}
	}
}

// TestPrivateKeys: the forms in which keys are written.
func TestPrivateKeys(t *testing.T) {
	line := strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQ/+", 2)
	for name, body := range map[string]string{
		"PEM":                    "\n" + line + "\n" + line + "\n",
		"encrypted":              "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n" + line + "\n" + line + "\n",
		"encrypted, in JSON":     `\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\n` + line + `\n` + line + `\n`,
		"PGP":                    "\nVersion: GnuPG v2.0.22 (GNU/Linux)\nComment: https://example.org/a.b\n\n" + line + "\n" + line + "\n=x1+/\n",
		"JSON":                   `\n` + line + `\n` + line + `\n`,
		"JSON in JSON, PHP":      `\\n` + strings.ReplaceAll(line, "/", `\/`) + `\\n` + line + `\\n`,
		"YAML":                   "\n    " + line + "\n    " + line + "\n    ",
		"lines of Windows":       "\r\n" + line + "\r\n" + line + "\r\n",
		"strings of source code": `\n" +` + "\n\t\"" + line + `\n" +` + "\n\t\"" + line + `\n" +` + "\n\t\"",
		"an answer to a mail":    "\n> " + line + "\n> " + line + "\n> ",
		"HTML":                   "<br/>\n" + line + "<br/>\n" + line + "<br/>\n",
		"one line":               " " + line + " " + line + " ",
	} {
		text := "x -----BEGIN RSA PRIVATE KEY-----" + body + "-----END RSA PRIVATE KEY----- y"
		if got := byName(t, "private-key").find(text); len(got) != 1 || got[0] != text[2:len(text)-2] {
			t.Errorf("%s: found %q in %q", name, got, text)
		}
	}
}

// TestLeftOut: what is left out or narrowed is in the file, and what is left out is not used.
func TestLeftOut(t *testing.T) {
	var file struct{ Rules []rule }
	if err := json.Unmarshal(gitleaks, &file); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range file.Rules {
		ids[r.ID] = true
		if n, is := narrowed[r.ID]; is && strings.Count(r.Regex, n.any) != 1 {
			t.Errorf("%s has no %s any more", r.ID, n.any)
		}
		if used := slices.ContainsFunc(secrets, func(d Detector) bool { return d.Name == r.ID }); used == (leftOut[r.ID] != "") {
			t.Errorf("%s is used: %v", r.ID, used)
		}
	}
	for id := range leftOut {
		if !ids[id] {
			t.Errorf("gitleaks has no %s any more", id)
		}
	}
}

// TestFarKeywords: no match of these rules has one of their keywords for sure, and every other rule
// has samples that have.
func TestFarKeywords(t *testing.T) {
	var file struct{ Rules []rule }
	if err := json.Unmarshal(gitleaks, &file); err != nil {
		t.Fatal(err)
	}
	near := map[string]bool{}
	rules := map[string]rule{}
	exprs := map[string]*regexp.Regexp{}
	for _, r := range file.Rules {
		rules[r.ID] = r
		if leftOut[r.ID] == "" {
			exprs[r.ID] = regexp.MustCompile(r.Regex)
		}
	}
	for _, s := range readLines[theirs](t, "testdata/gitleaks.jsonl") {
		if expr := exprs[s.Rule]; expr != nil && s.Is {
			near[s.Rule] = near[s.Rule] || hasKeyword(expr.FindString(strings.ReplaceAll(s.Text, "·", "")), rules[s.Rule].Keywords)
		}
	}
	for id := range exprs {
		if near[id] == slices.Contains(farKeywords, id) {
			t.Errorf("%s: a match has a keyword: %v", id, near[id])
		}
	}
}
