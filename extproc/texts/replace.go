package texts

import (
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Replace returns body with other texts: texts[i], which was found in it, becomes with[i]. All
// other bytes stay, but for what repeats an edited text (the logprobs of its choice), which becomes
// null. A text of JSON that is a value of the body becomes a string where its replacement is no
// JSON. It returns body itself where nothing is different.
func Replace(body []byte, texts []Text, with map[int]string) []byte {
	var edits, nulls []edit // both in the order of the body
	size := len(body)
	for i := range texts {
		t := &texts[i]
		text, ok := with[i]
		if !ok || text == t.Text {
			continue
		}
		edits = append(edits, edit{t.value, t, text})
		size += len(text)
		if n := len(nulls); t.quotes.to > 0 && (n == 0 || nulls[n-1].span != t.quotes) {
			nulls = append(nulls, edit{span: t.quotes})
		}
	}
	if len(edits) == 0 {
		return body
	}
	out := make([]byte, 0, size)
	from := 0
	for len(edits)+len(nulls) > 0 {
		next := &edits
		if len(edits) == 0 || len(nulls) > 0 && nulls[0].from < edits[0].from {
			next = &nulls
		}
		e := (*next)[0]
		*next = (*next)[1:]
		out = append(out, body[from:e.from]...)
		out = e.write(out)
		from = e.to
	}
	return append(out, body[from:]...)
}

// edit puts a text into a span, null where there is none.
type edit struct {
	span
	of   *Text
	text string
}

func (e *edit) write(out []byte) []byte {
	switch {
	case e.of == nil:
		return append(out, "null"...)
	case e.of.bare && e.of.takes(e.text):
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
