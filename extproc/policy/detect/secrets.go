package detect

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// The rules of gitleaks, MIT licensed (gitleaks.LICENSE), as tools/gitleaks wrote them.
//
//go:embed gitleaks.json
var gitleaks []byte

// leftOut are the rules of gitleaks that are not used, and why.
var leftOut = map[string]string{
	"pkcs12-file":           "it looks at the path of a file only",
	"hashicorp-tf-password": "its expression is any password in quotes; only the path of the file makes a rule of it",
}

// rule is a rule of gitleaks. Its field path is not read: a text has no path. The rules that are
// not left out tell enough without it.
type rule struct {
	ID         string      `json:"id"`
	Regex      string      `json:"regex"`
	Group      int         `json:"group"` // of the secret; 0 is the first that matched something
	Entropy    float64     `json:"entropy"`
	Keywords   []string    `json:"keywords"`
	Allowlists []allowlist `json:"allowlists"`
}

// allowlist is what a secret may be. Lists that look at a line or need a path as well cannot be
// judged on the match and are not read: judgeable.
type allowlist struct {
	And       bool     `json:"and"`    // all that is given must hold
	Target    string   `json:"target"` // of the expressions: the match or the line, not the secret
	Regexes   []string `json:"regexes"`
	StopWords []string `json:"stopWords"` // in lower case, anywhere in the secret
	Paths     []string `json:"paths"`
}

// farKeywords are the rules whose keyword is never in the match, but anywhere in the file. Their
// expressions tell enough without it.
var farKeywords = []string{"airtable-personnal-access-token", "facebook-access-token"}

// narrowed are parts of expressions that take any text, and what takes their place. A stream that
// names curl, or the first line of a private key, would wait for the rest of the secret while all
// kinds of text goes by.
var narrowed = map[string]struct{ any, narrow string }{
	// The headers of a PEM or PGP block, then base64, also in strings of source code, in quotes, in
	// JSON and in HTML. Prose has a full stop.
	"private-key": {`[\s\S-]{64,}?`, `[\s\\"'+,]*(?:[A-Za-z-]{3,20}:[^\n\\]{0,120}[\s\\"'+,]+(?:[nr]["'\s]*)?){0,8}[A-Za-z0-9+/=\s\\"',;<>|#*&%_-]{64,}?`},
	// A line that goes on with an option, a quote or the URL.
	"curl-auth-header": {`(?:.*?|.*?(?:[\r\n]{1,2}.*?){1,5})`, `.{0,200}?(?:[\r\n]{1,2}[\t #>]*(?:['"-]|https?:).{0,200}?){0,5}?(?:[\r\n]{1,2}[\t #>]*)?`},
	"curl-auth-user":   {`(?:.*|.*(?:[\r\n]{1,2}.*){1,5})`, `.{0,200}(?:[\r\n]{1,2}[\t #>]*(?:['"-]|https?:).{0,200}){0,5}(?:[\r\n]{1,2}[\t #>]*)?`},
}

var secrets = readRules(gitleaks)

// urlPassword is no rule of gitleaks: the password in a URL, as those of databases have it.
const urlPassword = `(?i)()\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@"'<>]{0,64}:([^\s/@"'<>]{3,128})@()`

// examplePasswords are those of documentation.
var examplePasswords = []string{"pass", "password", "passwd", "pwd", "secret", "changeme", "token"}

// readRules panics where the file is not as its tool writes it.
func readRules(file []byte) []Detector {
	var data struct {
		Allowlists []allowlist `json:"allowlists"`
		Rules      []rule      `json:"rules"`
	}
	if err := json.Unmarshal(file, &data); err != nil {
		panic(fmt.Sprintf("gitleaks.json: %v", err))
	}
	global := compileAllowlists(data.Allowlists)
	all := []Detector{{Name: "url-password", Category: Secret, Expr: urlPassword, Check: alone(func(s string) bool {
		return !slices.Contains(examplePasswords, strings.ToLower(s)) && !strings.ContainsAny(s, "${}*") && !global.allow(s, s)
	})}}
	for _, r := range data.Rules {
		if slices.Contains(farKeywords, r.ID) {
			r.Keywords = nil
		}
		if leftOut[r.ID] == "" {
			all = append(all, r.detector(global))
		}
	}
	return all
}

func (r rule) detector(global allowed) Detector {
	own := compileAllowlists(r.Allowlists)
	expr := r.Regex
	if n, is := narrowed[r.ID]; is {
		expr = strings.Replace(expr, n.any, n.narrow, 1)
	}
	if r.ID != "generic-api-key" { // its allowlist looks at the name
		// What an assignment's name begins with is not of the secret, and every word could be it.
		expr = strings.Replace(expr, `(?i)[\w.-]{0,50}?`, "(?i)", 1)
	}
	return Detector{Name: r.ID, Category: Secret, Expr: expr, Check: func(text string, groups []int) (from, to int, ok bool) {
		match := text[groups[0]:groups[1]]
		from, to = r.secret(groups)
		// As gitleaks does: the line breaks around the match are not of it.
		for ; from < to && text[from] == '\n'; from++ {
		}
		for ; from < to && text[to-1] == '\n'; to-- {
		}
		secret := text[from:to]
		ok = secret != "" && hasKeyword(match, r.Keywords) && (r.Entropy == 0 || entropy(secret) > r.Entropy) &&
			!global.allow(secret, match) && !own.allow(secret, match)
		return from, to, ok
	}}
}

func (r rule) secret(groups []int) (from, to int) {
	if r.Group > 0 {
		return groups[2*r.Group], groups[2*r.Group+1]
	}
	if from, to = chosen(groups[2:]); from < to {
		return from, to
	}
	return groups[0], groups[1]
}

func hasKeyword(match string, keywords []string) bool {
	match = strings.ToLower(match)
	return len(keywords) == 0 || slices.ContainsFunc(keywords, func(k string) bool { return strings.Contains(match, k) })
}

// entropy is Shannon's, in bits per byte; gitleaks counts runes, and its secrets are ASCII.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// allowed is what some allowlists allow.
type allowed struct {
	secrets, matches []*regexp.Regexp
	words            map[string][]string // by their first three bytes
}

func (a allowlist) judgeable() bool {
	return a.Target != "line" && !(a.And && len(a.Paths) > 0)
}

func compileAllowlists(lists []allowlist) allowed {
	a := allowed{words: map[string][]string{}}
	for _, list := range lists {
		if !list.judgeable() {
			continue
		}
		for _, expr := range list.Regexes {
			if compiled := regexp.MustCompile(expr); list.Target == "match" {
				a.matches = append(a.matches, compiled)
			} else {
				a.secrets = append(a.secrets, compiled)
			}
		}
		for _, word := range list.StopWords {
			a.words[word[:3]] = append(a.words[word[:3]], word)
		}
	}
	return a
}

func (a allowed) allow(secret, match string) bool {
	return slices.ContainsFunc(a.secrets, func(r *regexp.Regexp) bool { return r.MatchString(secret) }) ||
		slices.ContainsFunc(a.matches, func(r *regexp.Regexp) bool { return r.MatchString(match) }) ||
		a.stops(strings.ToLower(secret))
}

func (a allowed) stops(secret string) bool {
	for i := 0; len(a.words) > 0 && i+3 <= len(secret); i++ {
		if slices.ContainsFunc(a.words[secret[i:i+3]], func(word string) bool { return strings.HasPrefix(secret[i:], word) }) {
			return true
		}
	}
	return false
}
