package policy

import (
	"context"
	"fmt"

	"millrace/extproc/policy/limits"
)

// requestLimits bounds how large a request is, and what the model may write for it.
type requestLimits struct {
	most   limits.Size
	output int64 // tokens; 0: what the client wants
}

func newRequestLimits(p *params) any {
	return &requestLimits{
		most: limits.Size{
			TextBytes: p.count("max_prompt_bytes", 1<<30), Tokens: int64(p.count("max_prompt_tokens", 1<<30)),
			Messages: p.count("max_messages", 1<<20), Tools: p.count("max_tools", 1<<20),
		},
		output: int64(p.count("max_output_tokens", 1<<30)),
	}
}

func (l *requestLimits) ask(_ context.Context, q *question) (finding, error) {
	all, err := q.doc.Texts()
	if err != nil {
		return finding{}, err
	}
	members, err := q.doc.Members()
	if err != nil {
		return finding{}, err
	}
	size := limits.Measure(q.session.schema, q.doc.body, members, len(all), textBytes(all))
	if reason := beyond(size, l.most); reason != "" {
		return finding{acts: true, reason: reason}, nil
	}
	if l.output == 0 || q.session.Counts { // a count has no answer to bound, and refuses a limit
		return finding{}, nil
	}
	body, changed := limits.Clamp(q.session.schema, q.doc.body, members, l.output)
	if !changed {
		return finding{}, nil
	}
	return finding{acts: true, action: verdictChange, reason: fmt.Sprintf("the answer has at most %d tokens", l.output), body: body}, nil
}

// beyond says which bound is passed, "" for none.
func beyond(size, most limits.Size) string {
	if err := size.Within(most); err != nil {
		return err.Error()
	}
	return ""
}
