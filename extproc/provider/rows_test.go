package provider

import (
	"encoding/json"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/schema"
)

// TestRowsHaveCodecs: every schema that has operations has a codec for its clients, and every
// provider one for its targets.
func TestRowsHaveCodecs(t *testing.T) {
	rows := map[Codec]bool{}
	for _, s := range schema.All() {
		for _, o := range s.Operations {
			path := o.Path.String() // braces are characters like others
			c, _, ok := At(path)
			if own, _ := For(s.Name, o.Name); !ok || c != own || c.Schema != s {
				t.Errorf("%s: who posts to %s is served by %T", s.Name, path, c.Client)
			}
			rows[c] = true
		}
	}
	for _, c := range codecs {
		if !rows[c] {
			t.Errorf("%s has no row for %s", c.Schema.Name, c.Operation)
		}
	}
	for _, name := range schema.Names() {
		p, _ := schema.Named(name)
		if c, ok := Of(p.Schema); name != schema.Static && (!ok || c.Target == nil) {
			t.Errorf("%s: no target speaks %s", name, p.Schema)
		}
	}
}

// TestErrorForms: Envoy words errors by the row, the sidecar by the codec, and a client cannot tell
// which of them it was.
func TestErrorForms(t *testing.T) {
	for _, c := range codecs {
		form := c.Schema.Error
		for status := 400; status < 600; status++ {
			if class := llm.ErrorTypeOf(status); form.Types[string(class)] == "" {
				t.Errorf("%s: no word for %s", c.Schema.Name, class)
			}
		}
		for class, word := range form.Types {
			e := llm.Errorf(llm.ErrorType(class), "words")
			if e.HTTPStatus() == 0 {
				t.Errorf("%s: %s is no class of errors", c.Schema.Name, class)
			}
			e.Code = "code"
			if got, want := decoded(t, c.Client.EncodeError(e)), decoded(t, []byte(strings.NewReplacer(
				schema.Message, "words", schema.ErrorType, word, schema.ErrorCode, "code").Replace(form.Body))); got != want {
				t.Errorf("%s, %s: %s, by its row %s", c.Schema.Name, class, got, want)
			}
		}
		if body := c.Client.EncodeError(llm.Errorf("unheard of", "words")); !strings.Contains(string(body), `"`+form.Other+`"`) {
			t.Errorf("%s: %s", c.Schema.Name, body)
		}
	}
}

// decoded is a body with its members in one order.
func decoded(t *testing.T, body []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(v)
	return string(again)
}
