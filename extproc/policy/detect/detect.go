// Package detect has what the policy kind dlp looks for: a table of detectors, each an expression
// and a check of what it matched. It runs no expression: that is the work of package match. Names,
// addresses and dates of birth are not here, for they cannot be told by their form.
package detect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The categories. A placeholder shows its category.
const (
	Email      = "email"
	Phone      = "phone"
	CreditCard = "credit-card"
	IBAN       = "iban"
	NationalID = "national-id"
	IPAddress  = "ip-address"
	Crypto     = "crypto-address"
	Secret     = "secret"
)

// Detector finds one kind of thing.
type Detector struct {
	Name     string // of the one who asks for it by name; unique
	Category string
	Expr     string // RE2
	// Check says which part of a match counts, or that it does not. It is nil where each match
	// counts as a whole. groups are as of FindStringSubmatchIndex. Nothing but
	// text[groups[0]:groups[1]] is looked at. Calls may overlap.
	Check func(text string, groups []int) (from, to int, ok bool)
}

// All returns all detectors: those for personal data in the order of the documentation, then those
// for secrets by name.
func All() []Detector {
	return slices.Concat(emails, phones, cards, ibans, nationalIDs, addresses, wallets, secrets)
}

// Of returns the detectors that have one of these names or categories, in the order of All and each
// once.
func Of(names []string) ([]Detector, error) {
	all := All()
	known := map[string]bool{}
	for _, d := range all {
		known[d.Name], known[d.Category] = true, true
	}
	var unknown []string
	for _, name := range names {
		if !known[name] {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if len(unknown) > 0 {
		personal := slices.DeleteFunc(slices.Clone(all), func(d Detector) bool { return d.Category == Secret })
		return nil, fmt.Errorf("no detector and no category is named %s; there are the categories %s, the detectors %s, and for secrets the rules of gitleaks by their names",
			strings.Join(unknown, ", "), listed(all, func(d Detector) string { return d.Category }), listed(personal, func(d Detector) string { return d.Name }))
	}
	return slices.DeleteFunc(all, func(d Detector) bool {
		return !slices.Contains(names, d.Name) && !slices.Contains(names, d.Category)
	}), nil
}

func listed(all []Detector, of func(Detector) string) string {
	var names []string
	for _, d := range all {
		if name := of(d); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// alone returns the check of an expression of the form (before)??(?:(a)|(b)|…)(after)?: what may
// not stand around is in the first and in the last group, and a match that has it does not count.
// Of the groups between them the first that matched is what was found, if valid agrees. A nil valid
// does.
//
// RE2 cannot look around. What stands around is therefore part of the match, and only when it is
// wrong: a separator that two things share is never taken by the first.
func alone(valid func(string) bool) func(string, []int) (int, int, bool) {
	return func(text string, groups []int) (from, to int, ok bool) {
		if n := len(groups); groups[2] < groups[3] || groups[n-2] < groups[n-1] {
			return 0, 0, false
		}
		from, to = chosen(groups[4 : len(groups)-2])
		return from, to, from < to && (valid == nil || valid(text[from:to]))
	}
}

// chosen returns the span of the first group that matched something.
func chosen(groups []int) (from, to int) {
	for i := 0; i < len(groups); i += 2 {
		if groups[i] < groups[i+1] {
			return groups[i], groups[i+1]
		}
	}
	return 0, 0
}

// digits returns the digits of s.
func digits(s string) string { return only(s, isDigit) }

// only returns the bytes of s that are such.
func only(s string, such func(byte) bool) string {
	kept := make([]byte, 0, len(s))
	for i := range len(s) {
		if such(s[i]) {
			kept = append(kept, s[i])
		}
	}
	return string(kept)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isAlnum(c byte) bool { return isDigit(c) || isUpper(c) || 'a' <= c && c <= 'z' }

// lengths returns how long the runs of digits in s are.
func lengths(s string) (runs []int) {
	n := 0
	for i := range len(s) {
		if isDigit(s[i]) {
			n++
			continue
		}
		if n > 0 {
			runs = append(runs, n)
		}
		n = 0
	}
	if n > 0 {
		runs = append(runs, n)
	}
	return runs
}

// noBreak are the spaces at which no line is broken, as they stand in a class.
const noBreak = `\x{A0}\x{202F}`

func between[T cmp.Ordered](low, x, high T) bool { return low <= x && x <= high }
