package policy

import (
	"slices"

	"millrace/extproc/llm"
	"millrace/extproc/policy/injection"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
)

// promptInjection looks for what is written to turn a model against the one who runs it, in what
// users say and, more so, in what tools and documents bring.
type promptInjection struct {
	rules     []injection.Rule
	threshold int
}

func newPromptInjection(p *params) any {
	rules, err := injection.Rules(quickly)
	if err != nil {
		p.errorf("rules", "%v", err) // a bug of ours
	}
	known := map[string]bool{}
	for _, r := range rules {
		known[r.Name], known[r.Category] = true, true
	}
	without := p.list("without")
	for _, name := range without {
		if !known[name] {
			p.errorf("without", "there is no rule and no category %q", name)
		}
	}
	rules = slices.DeleteFunc(rules, func(r injection.Rule) bool {
		return slices.Contains(without, r.Name) || slices.Contains(without, r.Category)
	})
	return &promptInjection{rules, p.countOr("threshold", injection.Threshold, 100)}
}

// quickly looks for the rules as the chain does, in what they decode.
func quickly(rules []injection.Rule) (injection.Finder, error) {
	var patterns []match.Pattern
	for _, r := range rules {
		patterns = append(patterns, match.Pattern{Expr: r.Expr, Folded: !r.Raw, Check: r.Check})
	}
	set, err := match.Compile(patterns)
	if err != nil {
		return nil, err
	}
	return func(text string) (hits []injection.Hit, err error) {
		found, err := set.Find(text)
		for _, f := range found {
			hits = append(hits, injection.Hit{Rule: f.Pattern, At: f.From})
		}
		return hits, err
	}, nil
}

func (i *promptInjection) patterns(Phase) []pattern {
	var all []pattern
	for n, r := range i.rules {
		all = append(all, pattern{Pattern: match.Pattern{Expr: r.Expr, Folded: !r.Raw, Check: r.Check}, category: r.Category, rule: n})
	}
	return all
}

func (i *promptInjection) reads(t *texts.Text) bool { return t.Role == llm.User }

func (i *promptInjection) weigh(t *texts.Text, found []hit) []hit {
	place := injection.Said
	if t.Kind == texts.Result {
		place = injection.Result
	}
	var hits []injection.Hit
	for _, h := range found {
		hits = append(hits, injection.Hit{Rule: h.pattern.rule, At: h.From})
	}
	v := injection.Score(i.rules, hits, place)
	if v.Score < i.threshold {
		return nil
	}
	// Each rule once: how often it was written says nothing.
	var all []hit
	for _, rule := range v.Rules {
		all = append(all, found[slices.IndexFunc(found, func(h hit) bool { return h.pattern.rule == rule })])
	}
	return all
}
