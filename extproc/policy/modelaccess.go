package policy

import (
	"context"
	"fmt"

	"millrace/extproc/policy/limits"
)

// modelAccess allows some models and some tools.
type modelAccess struct{ models, tools *limits.Names }

func newModelAccess(p *params) any {
	return &modelAccess{models: p.names("models", "deny_models"), tools: p.names("tools", "deny_tools")}
}

func (m *modelAccess) ask(_ context.Context, q *question) (finding, error) {
	if model := q.session.Model; model != "" && !m.models.Allows(model) {
		return finding{acts: true, reason: fmt.Sprintf("the model %q is not allowed", model)}, nil
	}
	tools, err := q.doc.tools()
	if err != nil {
		return finding{}, err
	}
	for _, name := range tools {
		if !m.tools.Allows(name) {
			return finding{acts: true, reason: fmt.Sprintf("the tool %q is not allowed", name)}, nil
		}
	}
	return finding{}, nil
}
