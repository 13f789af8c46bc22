// Package words makes expressions of lists of words and patterns, for the content-filter policy.
// They are for folded text (package fold), so that tricks of writing do not hide a word, and they
// do not mind case. What an expression finds says which list it is of; what follows from that is
// the policy's.
package words

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"millrace/extproc/policy/fold"
)

// Severity is how bad it is to find something of a list.
type Severity uint8

// The severities, the lowest first.
const (
	Low Severity = iota + 1
	Medium
	High
)

var severities = []string{Low: "low", Medium: "medium", High: "high"}

// ParseSeverity returns the severity of that name, as the configuration has it.
func ParseSeverity(name string) (Severity, error) {
	if i := slices.Index(severities, name); i > 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("%q is no severity: low, medium or high", name)
}

func (s Severity) String() string { return severities[s] }

// List is words and patterns of one category.
type List struct {
	Category string
	Severity Severity

	// Words are whole words and phrases: "ass" is not in "class". Any white space is between the
	// words of a phrase. Where people do not put spaces between words, as in Chinese, a word is
	// found anywhere; so it is in Hangul, where endings are written to the word.
	Words []string

	// Patterns are RE2, found anywhere; case does not matter unless they say (?-i).
	Patterns []string
}

// Pattern is an expression that the words of a list have become, some of them or all. Expr and
// Check are those of a match.Pattern for folded text.
type Pattern struct {
	List  int // its index
	Expr  string
	Check func(text string, groups []int) (from, to int, ok bool)
}

// maxAlternatives is how many words go into one expression.
const maxAlternatives = 500

// Compile makes the expressions of lists. An error says which word or pattern is meant.
func Compile(lists []List) ([]Pattern, error) {
	var patterns []Pattern
	for i, list := range lists {
		kinds, err := sorted(list.Words)
		if err != nil {
			return nil, fmt.Errorf("list %d (%s): %w", i, list.Category, err)
		}
		for kind, words := range kinds {
			for some := range slices.Chunk(words, maxAlternatives) {
				expr, err := fold.Expr(boundaries[kind].expr(strings.Join(some, "|")))
				if err != nil {
					return nil, fmt.Errorf("list %d (%s): %w", i, list.Category, err)
				}
				patterns = append(patterns, Pattern{i, expr, boundaries[kind].check})
			}
		}
		for j, p := range list.Patterns {
			expr, err := pattern(p)
			if err != nil {
				return nil, fmt.Errorf("list %d (%s): pattern %d: %w", i, list.Category, j, err)
			}
			patterns = append(patterns, Pattern{List: i, Expr: expr})
		}
	}
	return patterns, nil
}

func pattern(p string) (string, error) {
	expr, err := fold.Expr("(?i)" + p)
	if err != nil {
		return "", err
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", err
	}
	if re.MatchString("") {
		return "", fmt.Errorf("%q matches the empty text, so all of them", p)
	}
	return expr, nil
}

// The kinds of words, by what is around them.
const (
	latin  = iota // RE2 knows the boundaries of words of ASCII, as which Latin is folded
	other         // it does not know those of other letters
	within        // there are none
)

var boundaries = [...]struct {
	expr  func(alternatives string) string
	check func(text string, groups []int) (from, to int, ok bool)
}{
	latin: {expr: func(alternatives string) string { return "(?i)(?:" + alternatives + ")" }},
	// What is around the words is part of the match. So that nothing is missed, since the search
	// goes on after it, the words that follow right away are part of it too.
	other: {
		expr: func(alternatives string) string {
			const no = `[^\pL\pN\pM_]`
			return `(?i)(?:^|` + no + `)((?:` + alternatives + `)(?:` + no + `{1,3}(?:` + alternatives + `)){0,30})(?:$|` + no + `)`
		},
		check: func(_ string, groups []int) (from, to int, ok bool) { return groups[2], groups[3], true },
	},
	within: {expr: func(alternatives string) string { return "(?i)(?:" + alternatives + ")" }},
}

// sorted makes an alternative of each word, by kind, the longest first: the first that fits counts.
func sorted(words []string) (kinds [len(boundaries)][]string, err error) {
	words = slices.Clone(words)
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, word := range slices.Compact(words) {
		folded, _ := fold.Fold(word)
		if strings.TrimSpace(folded) == "" {
			return kinds, fmt.Errorf("%q is no word", word)
		}
		parts := strings.Fields(word)
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		alternative := strings.Join(parts, `\s+`)
		kind := kindOf(word, folded)
		if kind == latin {
			alternative = edge(folded, strings.TrimLeftFunc) + alternative + edge(folded, strings.TrimRightFunc)
		}
		kinds[kind] = append(kinds[kind], alternative)
	}
	return kinds, nil
}

// edge returns \b for the end of a word that has a letter or digit there: what is no letter has no
// boundary of its own.
func edge(folded string, trim func(string, func(rune) bool) string) string {
	folded = strings.TrimSpace(folded)
	if trimmed := trim(folded, func(r rune) bool {
		return r <= unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
	}); trimmed != folded {
		return `\b`
	}
	return ""
}

func kindOf(word, folded string) int {
	kind := latin
	first, _ := utf8.DecodeRuneInString(folded)
	last, _ := utf8.DecodeLastRuneInString(folded)
	if first > unicode.MaxASCII && unicode.IsLetter(first) || last > unicode.MaxASCII && unicode.IsLetter(last) { // ß
		kind = other
	}
	for _, r := range word {
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
			return within
		case unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r):
			kind = other
		}
	}
	return kind
}
