package policy

import (
	"slices"
	"strings"

	"millrace/extproc/policy/match"
	"millrace/extproc/policy/words"
	"millrace/extproc/texts"
)

// contentFilter looks for words and patterns, by category. Where its action is to redact, the name
// of the category takes their place.
type contentFilter struct {
	lists    []words.List
	compiled []words.Pattern
}

func newContentFilter(p *params) any {
	f := &contentFilter{}
	least, _ := words.ParseSeverity(p.word("severity", "medium", "low", "high"))
	for _, l := range p.wordLists() {
		if l.Severity >= least {
			f.lists = append(f.lists, l)
		}
	}
	compiled, err := words.Compile(f.lists)
	if err != nil {
		p.errorf("lists", "%v", err)
	}
	f.compiled = compiled
	if len(p.found) == 0 && len(compiled) == 0 {
		p.errorf("severity", "no list is that severe: there is nothing to look for")
	}
	return f
}

// wordLists are the lists of the document and those built in that it names; all of these where it
// says nothing.
func (p *params) wordLists() []words.List {
	lists := p.ownLists()
	if own := (words.List{Category: customList, Severity: words.High, Words: p.list("words"), Patterns: p.list("patterns")}); len(own.Words)+len(own.Patterns) > 0 {
		lists = append(lists, own)
	}
	builtin, names := words.Builtin(), p.list("categories")
	if names == nil && len(lists) == 0 {
		return builtin
	}
	for _, name := range names {
		i := slices.IndexFunc(builtin, func(l words.List) bool { return l.Category == name })
		if i < 0 {
			var known []string
			for _, l := range builtin {
				known = append(known, l.Category)
			}
			p.errorf("categories", "there is no category %q; there are %s", name, strings.Join(known, ", "))
			continue
		}
		lists = append(lists, builtin[i])
	}
	return lists
}

const customList = "custom" // the category of words that have none

// ownLists are those of the document: objects with a category, a severity, words and patterns.
func (p *params) ownLists() []words.List {
	var all []words.List
	p.each("lists", "a list", []string{"category", "patterns", "severity", "words"}, func(one *params) {
		l := words.List{Category: one.text("category"), Words: one.list("words"), Patterns: one.list("patterns")}
		l.Severity, _ = words.ParseSeverity(one.word("severity", "high", "medium", "low"))
		if !customName.MatchString(l.Category) {
			one.errorf("category", "%s", wantName)
		}
		if len(l.Words)+len(l.Patterns) == 0 {
			one.errorf("words", "want words, patterns, or both")
		}
		all = append(all, l)
	})
	return all
}

func (f *contentFilter) patterns(Phase) []pattern {
	var all []pattern
	for _, c := range f.compiled {
		category := f.lists[c.List].Category
		all = append(all, pattern{
			Pattern:  match.Pattern{Expr: c.Expr, Folded: true, Check: c.Check},
			category: category,
			instead:  func(*Session, string) string { return "[" + strings.ToUpper(category) + "]" },
		})
	}
	return all
}

func (f *contentFilter) reads(*texts.Text) bool { return true }

func (f *contentFilter) weigh(_ *texts.Text, found []hit) []hit { return found }
