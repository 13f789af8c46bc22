package webhook

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What is kept of what a service says, in bytes. It is cut and not refused: a long reason must not
// make a failure of a block, which on_error may let pass.
const maxReason, maxCategory = 300, 64

func hasTexts(q *Question) bool { return len(q.Texts) > 0 }

func writeQuestion(q *Question) ([]byte, error) {
	return json.Marshal(q, jsontext.AllowInvalidUTF8(true)) // a provider's texts may have some
}

// readVerdict reads an answer. Members that are not known are passed over; all else is strict, for
// what an answer with a mistake in it means nobody knows.
func readVerdict(answer []byte, q *Question) (Verdict, error) {
	var from struct {
		Verdict  Action `json:"verdict"`
		Reason   string `json:"reason"`
		Category string `json:"category"`
		Texts    []struct {
			Index *int    `json:"index"`
			Text  *string `json:"text"`
		} `json:"texts"`
	}
	if err := json.Unmarshal(answer, &from); err != nil {
		return Verdict{}, wrongAnswer(err)
	}
	v := Verdict{Action: from.Verdict, Reason: cut(from.Reason, maxReason), Category: category(from.Category)}
	switch v.Action {
	case Pass, Flag, Block:
		if len(from.Texts) > 0 {
			return Verdict{}, fmt.Errorf("the answer has texts, and the verdict is %s", v.Action)
		}
		return v, nil
	case Redact:
	default:
		return Verdict{}, fmt.Errorf("the answer's verdict is %.20q, want pass, block, flag or redact", v.Action)
	}
	if len(from.Texts) == 0 {
		return Verdict{}, errors.New("the answer's verdict is redact, and it has no texts")
	}
	seen := make(map[int]bool, len(from.Texts))
	for i, t := range from.Texts {
		switch {
		case t.Index == nil || t.Text == nil:
			return Verdict{}, fmt.Errorf("the answer's texts[%d] has no index or no text", i)
		case *t.Index < 0 || *t.Index >= len(q.Texts):
			return Verdict{}, fmt.Errorf("the answer's texts[%d] has the index %d of %d texts", i, *t.Index, len(q.Texts))
		case seen[*t.Index]:
			return Verdict{}, fmt.Errorf("the answer's texts have the index %d twice", *t.Index)
		}
		seen[*t.Index] = true
		v.Texts = append(v.Texts, Replacement{*t.Index, *t.Text})
	}
	return v, nil
}

// wrongAnswer says where an answer is wrong, and nothing of what it says.
func wrongAnswer(err error) error {
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("the answer is no JSON, at byte %d", syntax.ByteOffset)
	case errors.As(err, &meaning):
		return fmt.Errorf("the answer has a wrong type at %.100q", string(meaning.JSONPointer))
	}
	return errors.New("the answer is no JSON")
}

// cut makes a line of at most so many bytes.
func cut(text string, most int) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, strings.ToValidUTF8(text[:min(len(text), most)], "")))
}

// category makes a word of at most so many bytes.
func category(text string) string {
	return strings.Map(func(c rune) rune {
		if c < unicode.MaxASCII && (unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("_-./", c)) {
			return c
		}
		return '_'
	}, cut(text, maxCategory))
}
