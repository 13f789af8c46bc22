package policy

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/extproc/policy/shape"
	"millrace/extproc/texts"
)

// jsonSchema wants what an answer says to be JSON of a shape. An answer that says nothing, because
// it calls tools or declines, is none of its business.
type jsonSchema struct {
	shape  *shape.Shape
	fenced bool // a block of Markdown code around the JSON is not counted
	again  bool // an answer that is not of the shape is asked for once more
}

func newJSONSchema(p *params) any {
	s := &jsonSchema{fenced: p.boolean("fenced"), again: p.boolean("retry")}
	schema, given := p.values["schema"]
	if !given {
		p.errorf("schema", "want a JSON Schema")
		return s
	}
	raw, err := json.Marshal(schema)
	if err == nil {
		s.shape, err = shape.Compile(raw)
	}
	if err != nil {
		p.errorf("schema", "%v", err)
	}
	return s
}

func (s *jsonSchema) ask(_ context.Context, q *question) (finding, error) {
	all, err := q.doc.Texts()
	if err != nil {
		return finding{}, err
	}
	said := map[int]string{} // by choice, or of all blocks
	for _, t := range all {
		if t.Kind != texts.Said {
			continue
		}
		choice := 0
		if q.doc.several {
			choice = t.Channel.Choice
		}
		said[choice] += t.Text
	}
	for _, text := range said {
		if s.fenced {
			text = shape.Unfence(text)
		}
		if err := s.shape.Check(text); err != nil {
			return finding{acts: true, again: s.again, reason: fmt.Sprintf("the answer is not of the JSON schema: %v", err)}, nil
		}
	}
	return finding{}, nil
}
