package texts

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/golden"
	"millrace/internal/sse"
	"millrace/schema"
)

// TestUntold lists the strings of all the codecs' golden cases that are no texts, by their places.
// Read it: a place that a model reads or writes at does not belong there. A file is a schema.
func TestUntold(t *testing.T) {
	golden.Run(t, "testdata/untold/*.txtar", func(c *golden.Case) {
		s := schema.Of(schema.Name(c.Name))
		requests, answers, events := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for f := range fixtures(c.T) {
			data := bytes.TrimSpace(f.data)
			if _, err := codecOf(c.T, s).Client.ReadHead(nil, data); err == nil && bytes.Contains(data, []byte(`"messages"`)) {
				if found, err := Request(s, data); err == nil && strings.Contains(f.name, s.Family) {
					untold(requests, data, found)
				}
				continue
			}
			if answering(data) != s {
				continue
			}
			if _, err := readerOf(c.T, s).Whole(data); err == nil {
				if found, err := Answer(s, data); err == nil {
					untold(answers, data, found)
				}
			}
			parser := sse.Parser{MaxBytes: 1 << 20}
			_ = parser.Push(append(data, "\n\n"...), func(e sse.Event) {
				if found, err := Event(s, e.Data); err == nil {
					untold(events, e.Data, found.Texts)
				}
			})
		}
		c.Output("want-requests", listed(requests))
		c.Output("want-answers", listed(answers))
		c.Output("want-events", listed(events))
	})
}

func listed(places map[string]bool) []byte {
	return []byte(strings.Join(slices.Sorted(maps.Keys(places)), "\n"))
}

// untold adds the places of the strings, but for empty ones, that are in none of the texts.
func untold(places map[string]bool, body []byte, found []Text) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), lenient...)
	for {
		token, err := d.ReadToken()
		if err != nil {
			return
		}
		if kind, n := d.StackIndex(d.StackDepth()); token.Kind() != '"' || kind == '{' && n%2 == 1 || token.String() == "" {
			continue
		}
		at := int(d.InputOffset())
		if slices.ContainsFunc(found, func(f Text) bool { return f.value.from < at && at <= f.value.to }) {
			continue
		}
		places[placeOf(d)] = true
	}
}

// placeOf is the place of the token that was read last, as schema.Texts writes it.
func placeOf(d *jsontext.Decoder) string {
	var b strings.Builder
	depth := 0
	for name := range d.StackPointer().Tokens() {
		depth++
		switch kind, _ := d.StackIndex(depth); {
		case kind == '[':
			b.WriteString("[]")
		case b.Len() == 0:
			b.WriteString(name)
		default:
			b.WriteString("." + name)
		}
	}
	return b.String()
}
