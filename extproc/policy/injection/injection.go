// Package injection has the rules of the prompt-injection policy: expressions for folded text (see
// package fold), each with what it is worth. They are heuristics. They find what is often written
// to turn a model against the one who runs it; they do not understand text, and what is put into
// words of its own passes. docs/policies-injection.md has what they find and miss, as measured.
//
// The chain matches the rules; Score says what the matches of one text are worth.
package injection

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"millrace/extproc/policy/fold"
)

// Rule is one thing to look for.
type Rule struct {
	Name     string // of its own
	Category string
	Expr     string // RE2; over folded text, unless Raw
	Raw      bool   // over the text as it is: about what folding takes away
	Said     int    // what it is worth where a person wrote the text
	Result   int    // and in the result of a tool, or a document: what speaks to the model there is suspect

	// Check is that of match.Pattern: it may say that a match does not count.
	Check func(text string, groups []int) (from, to int, ok bool)
}

// Place is where a text stands.
type Place uint8

// What a person wrote, and what a tool or a document brought.
const (
	Said Place = iota
	Result
)

// Threshold is the score from which a text is taken for an injection, unless the configuration has
// another: one strong rule has it, or two weak ones close together.
const Threshold = 50

// Window is how close together, in bytes of the text, matches must begin for their scores to be
// added. So a long text is not worse than a short one.
const Window = 2000

// Hit is a match of a rule.
type Hit struct {
	Rule int // its index
	At   int // where in the text it begins
}

// Verdict is what the rules say of a text.
type Verdict struct {
	Score int   // at most 100
	Rules []int // the indexes of the rules that make the score, each once
}

// Score adds up, in the Window where that is the most, what the rules are worth that hit there:
// each rule once. The score of a request is the highest of its texts'.
func Score(rules []Rule, hits []Hit, place Place) Verdict {
	hits = slices.Clone(hits)
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Or(a.At-b.At, a.Rule-b.Rule) })
	var best Verdict
	count := make([]int, len(rules)) // of the hits of each rule between first and this one
	sum, first := 0, 0
	for i, hit := range hits {
		if count[hit.Rule]++; count[hit.Rule] == 1 {
			sum += rules[hit.Rule].worth(place)
		}
		for ; hits[first].At < hit.At-Window; first++ {
			rule := hits[first].Rule
			if count[rule]--; count[rule] == 0 {
				sum -= rules[rule].worth(place)
			}
		}
		if sum > best.Score {
			best = Verdict{Score: sum, Rules: worthy(rules, hits[first:i+1], place)}
		}
	}
	best.Score = min(best.Score, 100)
	return best
}

func (r *Rule) worth(place Place) int {
	if place == Result {
		return r.Result
	}
	return r.Said
}

// worthy returns the rules that are worth something, each once.
func worthy(rules []Rule, hits []Hit, place Place) (indexes []int) {
	for _, hit := range hits {
		if rules[hit.Rule].worth(place) > 0 {
			indexes = append(indexes, hit.Rule)
		}
	}
	slices.Sort(indexes)
	return slices.Compact(indexes)
}

// row is a rule as the tables have it: its name, what it is worth said and in a result, and what it
// looks for.
type row struct {
	name         string
	said, result int
	expr         string
}

// Finder returns where rules match in a text, which it folds itself.
type Finder func(text string) ([]Hit, error)

// Rules returns the rules, ready to be matched. What is encoded is decoded and looked at once more,
// by the Finder that compile makes of the other rules.
func Rules(compile func([]Rule) (Finder, error)) ([]Rule, error) {
	var rules []Rule
	for _, group := range []struct {
		category string
		rows     []row
	}{
		{"override", overrides}, {"role-marker", markers}, {"extraction", extractions}, {"jailbreak", jailbreaks},
		{"tool-result", results}, {"exfiltration", exfiltrations}, {"encoded", spelling},
	} {
		for _, r := range group.rows {
			expr, err := fold.Expr(r.expr)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.name, err)
			}
			rules = append(rules, Rule{Name: r.name, Category: group.category, Expr: expr, Said: r.said, Result: r.result})
		}
	}
	for _, r := range unseen {
		rules = append(rules, Rule{Name: r.name, Category: "hidden", Expr: r.expr, Raw: true, Said: r.said, Result: r.result})
	}
	find, err := compile(rules)
	if err != nil {
		return nil, err
	}
	return append(rules, encodings(rules, find)...), nil
}

// Regexps makes a Finder of package regexp: one search for each rule. It says what a faster one has
// to find, and is too slow for requests.
func Regexps(rules []Rule) (Finder, error) {
	exprs := make([]*regexp.Regexp, len(rules))
	for i, rule := range rules {
		var err error
		if exprs[i], err = regexp.Compile(rule.Expr); err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
		}
	}
	return func(text string) (hits []Hit, err error) {
		folded, _ := fold.Fold(text)
		for i, rule := range rules {
			in := folded
			if rule.Raw {
				in = text
			}
			for _, groups := range exprs[i].FindAllStringSubmatchIndex(in, -1) {
				ok := true
				if rule.Check != nil {
					_, _, ok = rule.Check(in, groups)
				}
				if ok {
					hits = append(hits, Hit{i, groups[0]})
				}
			}
		}
		return hits, nil
	}, nil
}
