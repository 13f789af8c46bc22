package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// moderation asks an endpoint of the shape of POST /v1/moderations:
// https://platform.openai.com/docs/api-reference/moderations. It blocks what is flagged.
type moderation struct {
	model     string
	threshold float64 // 0: the service's own
}

// asked are the texts of a question that have something in them: the endpoint refuses others.
func asked(q *Question) (texts []string, indexes []int) {
	for i, t := range q.Texts {
		if strings.TrimSpace(t.Text) != "" {
			texts, indexes = append(texts, t.Text), append(indexes, i)
		}
	}
	return texts, indexes
}

func (moderation) has(q *Question) bool {
	texts, _ := asked(q)
	return len(texts) > 0
}

func (m moderation) write(q *Question) ([]byte, error) {
	texts, _ := asked(q)
	return json.Marshal(struct {
		Model string   `json:"model,omitzero"`
		Input []string `json:"input"`
	}{m.model, texts}, jsontext.AllowInvalidUTF8(true))
}

// result is what is said of one text. A category that a model does not know may be null.
type result struct {
	Flagged    *bool               `json:"flagged"`
	Categories map[string]*bool    `json:"categories"`
	Scores     map[string]*float64 `json:"category_scores"`
}

func (m moderation) read(answer []byte, q *Question) (Verdict, error) {
	var from struct {
		Results []result `json:"results"`
	}
	if err := json.Unmarshal(answer, &from); err != nil {
		return Verdict{}, wrongAnswer(err)
	}
	_, indexes := asked(q)
	if len(from.Results) != len(indexes) {
		return Verdict{}, fmt.Errorf("the answer has %d results for %d texts", len(from.Results), len(indexes))
	}
	for i, r := range from.Results {
		names, flagged, err := m.flagged(r)
		if err != nil {
			return Verdict{}, fmt.Errorf("the answer's results[%d] %w", i, err)
		}
		if flagged {
			v := Verdict{Action: Block, Reason: cut(fmt.Sprintf("text %d: %s", indexes[i], strings.Join(names, ", ")), maxReason)}
			if len(names) > 0 {
				v.Category = category(names[0])
			}
			return v, nil
		}
	}
	return Verdict{Action: Pass}, nil
}

// flagged tells whether a text is, and for what, the highest score first.
func (m moderation) flagged(r result) (names []string, is bool, err error) {
	score := func(name string) float64 {
		if s := r.Scores[name]; s != nil {
			return *s
		}
		return 0
	}
	if m.threshold > 0 {
		if len(r.Scores) == 0 {
			return nil, false, errors.New("has no category_scores, which the threshold is for")
		}
		for name := range r.Scores {
			if score(name) >= m.threshold {
				names = append(names, name)
			}
		}
		is = len(names) > 0
	} else {
		if r.Flagged == nil {
			return nil, false, errors.New("does not say whether it is flagged")
		}
		is = *r.Flagged
		for name, set := range r.Categories {
			if set != nil && *set {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(score(b), score(a)), strings.Compare(a, b)) })
	return names, is, nil
}
