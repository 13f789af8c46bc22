package policy

import (
	"context"

	"millrace/extproc/policy/condition"
)

// expression acts where a CEL expression holds.
type expression struct{ holds *condition.Condition }

func newExpression(p *params) any {
	compiled, err := condition.Compile(p.prose("expression"))
	if err != nil {
		p.errorf("expression", "%v", err)
	}
	return &expression{compiled}
}

func (e *expression) ask(_ context.Context, q *question) (finding, error) {
	holds, err := e.holds.Holds(q.session.facts(q.phase, q.doc))
	return finding{acts: holds}, err
}
