package texts

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Replace returns body with other texts: texts[i], which was found in it, becomes with[i]. All
// other bytes stay, but for what an edit makes untrue: what repeats the text (the logprobs of its
// choice) becomes null, and what signs it is emptied, as are the signatures that the caller knows
// to be invalid. A text of JSON that is a value of the body becomes a string where its replacement
// is no JSON. It returns body itself where nothing is different.
func Replace(body []byte, texts []Text, with map[int]string, invalid ...Signature) []byte {
	var edits []edit
	size := len(body)
	for i := range texts {
		t := &texts[i]
		text, ok := with[i]
		if !ok || text == t.Text {
			continue
		}
		edits = append(edits, edit{t.value, t, text})
		size += len(text)
		if t.quotes.to > 0 {
			edits = append(edits, edit{span: t.quotes, text: "null"})
		}
		if t.signature.to > 0 {
			edits = append(edits, edit{span: t.signature, text: unsigned(t.Kind)})
		}
	}
	for _, s := range invalid {
		edits = append(edits, edit{span: s.value, text: unsigned(Thought)})
	}
	if len(edits) == 0 {
		return body
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	edits = slices.CompactFunc(edits, func(a, b edit) bool { return a.span == b.span })
	out := make([]byte, 0, size)
	from := 0
	for i := range edits {
		e := &edits[i]
		out = append(out, body[from:e.from]...)
		out = e.write(out)
		from = e.to
	}
	return append(out, body[from:]...)
}

// unsigned is the signature of a text that nobody has signed. Thoughts of other providers have an
// empty one (docs/rationale.md, "How does a conversation move from one provider to another?"), and
// compactions that are not signed have none.
func unsigned(k Kind) string {
	if k == Thought {
		return `""`
	}
	return "null"
}

// edit puts a text into a span; where it is no text's, it is JSON.
type edit struct {
	span
	of   *Text
	text string
}

func (e *edit) write(out []byte) []byte {
	if e.of == nil || e.of.bare && e.of.takes(e.text) {
		return append(out, e.text...)
	}
	out, _ = jsontext.AppendQuote(out, e.text) // fails on invalid UTF-8 only, having replaced it
	return out
}

// takes tells whether text can stand for the JSON value.
func (t *Text) takes(text string) bool {
	v := jsontext.Value(text)
	return v.IsValid(lenient...) && utf8.ValidString(text) && (!t.object || v.Kind() == jsontext.KindBeginObject)
}
