package provider

import (
	"encoding/json"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/schema"
)

// TestRowsHaveCodecs: every schema that has operations has a codec for its clients, and every provider one for its targets.
func TestRowsHaveCodecs(t *testing.T) {
	for _, s := range schema.All() {
		if c, ok := At(s.Conversation()); !ok || c.Schema != s || c.Name != schema.Conversation {
			t.Errorf("%s: who posts to %s speaks %v", s.Name, s.Conversation(), c.Schema)
		}
	}
	for _, s := range schema.All() {
		for _, o := range s.Operations {
			c, ok := At(string(o.Path))
			own, _ := Of(s.Name)
			if !ok || c.Schema != s || c.Name != o.Name || (c.Codec == own) != (o.Name == schema.Conversation) {
				t.Errorf("%s: %s is done by %T of %s", s.Name, o.Name, c.Client, c.Schema.Name)
			}
		}
	}
	for _, f := range further {
		if f.Schema.PathOf(f.operation) == "" {
			t.Errorf("%s has no row for %s", f.Schema.Name, f.operation)
		}
	}
	for _, name := range schema.Names() {
		p, _ := schema.Named(name)
		if c, ok := Of(p.Schema); name != schema.Static && (!ok || c.Target == nil) {
			t.Errorf("%s: no target speaks %s", name, p.Schema)
		}
	}
	if len(codecs) != len(schema.All()) {
		t.Errorf("%d codecs of %d schemas", len(codecs), len(schema.All()))
	}
}

// TestErrorForms: Envoy words errors by the row, the sidecar by the codec, and a client cannot tell which of them it was.
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
