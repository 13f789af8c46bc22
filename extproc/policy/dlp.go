package policy

import (
	"crypto/rand"
	"regexp"

	"millrace/extproc/policy/detect"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
)

// dlp looks for what must not leave the house: personal data and secrets. Where its action is to
// redact, other words take their place; where it is reversible, the client gets its own values back
// in the answer, whatever became of them on the way.
type dlp struct {
	detectors  []detect.Detector
	style      string
	reversible bool
	key        []byte // of hashes
}

// The styles of what takes the place of a value.
const (
	stylePlaceholder = "placeholder" // [EMAIL_1]: one value is always the same, within a request
	styleMask        = "mask"        // some of it stays
	styleHash        = "hash"        // one value is always the same, within the life of a process
)

func newDLP(p *params) any {
	d := &dlp{style: p.word("style", stylePlaceholder, styleMask, styleHash), reversible: p.boolean("reversible")}
	d.detectors = p.customDetectors("patterns")
	names := p.list("detect")
	if names == nil && d.detectors == nil {
		names = usualDetectors
	}
	found, err := detect.Of(names)
	if err != nil {
		p.errorf("detect", "%v", err)
	}
	d.detectors = append(d.detectors, found...)
	switch {
	case d.reversible && d.style != stylePlaceholder:
		p.errorf("reversible", "wants style: %s", stylePlaceholder)
	case d.reversible && !(p.policy.Phase.Input() && p.policy.Phase.Output()):
		p.errorf("reversible", "wants phase: both: values are put back into the answer")
	}
	if d.style == styleHash {
		d.key = make([]byte, 32)
		_, _ = rand.Read(d.key) // it never fails
	}
	return d
}

// usualDetectors are those of a policy that names none. Addresses of machines are not among them:
// what programmers ask about is full of them.
var usualDetectors = []string{detect.Email, detect.Phone, detect.CreditCard, detect.IBAN, detect.NationalID, detect.Secret}

// customDetectors are those that the document itself has: a list of {name, pattern}.
func (p *params) customDetectors(name string) []detect.Detector {
	var all []detect.Detector
	p.each(name, "a pattern", []string{"name", "pattern"}, func(one *params) {
		called, _ := one.values["name"].(string)
		expr, _ := one.values["pattern"].(string)
		if !customName.MatchString(called) {
			one.errorf("name", "%s", wantName)
		}
		switch _, err := regexp.Compile(expr); {
		case expr == "":
			one.errorf("pattern", "want a text")
		case err != nil:
			one.errorf("pattern", "%v", err)
		}
		all = append(all, detect.Detector{Name: called, Category: called, Expr: expr})
	})
	return all
}

// customName is the name of a category of the document's own.
var customName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

const wantName = "want small letters, digits and -, after a letter, at most 40"

// placeholderExpr is what detect.Placeholder writes.
const placeholderExpr = `\[[A-Z][A-Z0-9_]*_[0-9]+\]`

func (d *dlp) patterns(phase Phase) []pattern {
	var all []pattern
	if phase == Output && d.reversible { // first, so that what is put back is not taken for a finding
		all = append(all, pattern{Pattern: match.Pattern{Expr: placeholderExpr}, restores: true, instead: func(s *Session, found string) string {
			return s.vault.restore(found)
		}})
	}
	for _, one := range d.detectors {
		all = append(all, pattern{
			Pattern:  match.Pattern{Expr: one.Expr, Check: one.Check},
			category: one.Category,
			instead:  func(s *Session, found string) string { return d.instead(s, one.Category, found) },
		})
	}
	return all
}

func (d *dlp) instead(s *Session, category, found string) string {
	switch d.style {
	case styleMask:
		return detect.Mask(found)
	case styleHash:
		return detect.Hash(found, d.key)
	}
	return s.vault.placeholder(category, found)
}

func (d *dlp) reads(*texts.Text) bool { return true }

func (d *dlp) weigh(_ *texts.Text, found []hit) []hit { return found }
