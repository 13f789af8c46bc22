package policy

// disclaimer puts text before or after that of an answer, once. An answer that calls tools is for a
// program and gets none after it.
type disclaimer struct{ before, after string }

func newDisclaimer(p *params) any {
	d := &disclaimer{before: p.prose("before"), after: p.prose("after")}
	if d.before == "" && d.after == "" {
		p.errorf("after", "want a text for before, after, or both")
	}
	return d
}

func (d *disclaimer) around(*Session) (before, after string) { return d.before, d.after }
