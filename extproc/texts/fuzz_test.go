package texts

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"millrace/schema"
)

// FuzzReplace: whatever is put in the place of a text, the body stays JSON, the text is read from
// it again, and all others are what they were. Equal bodies have equal texts.
func FuzzReplace(f *testing.F) {
	for _, body := range []string{
		`{"messages":[{"role":"user","content":"a"},{"content":[{"type":"text","text":"b\n"},{"source":{"data":"c","type":"text"}}],"role":"tool"}]}`,
		`{"content":[{"type":"tool_use","input":{"a":"\ud800"}},{"type":"text","text":"b","citations":[{"cited_text":"c"}]}],"index":3}`,
		`{"choices":[{"index":1,"delta":{"content":"a","tool_calls":[{"index":2,"function":{"arguments":{"x":1}}}]},"message":{"content":"b"},"logprobs":{},"finish_reason":"stop"}]}`,
		`{"type":"content_block_delta","index":1,"delta":{"partial_json":"{"}}`,
		`{"index":1,"content_block":[{"thinking":"a","signature":"s"},{"source":{"data":"b","type":"url"}},{"signature":"t","thinking":"c"}]}`,
		`{"choices":[{"delta":{"thinking_blocks":[{"thinking":"a","signature":"s"},{"signature":"t"}]},"logprobs":{"signature":"u"},"index":2}]}`,
	} {
		for _, text := range []string{"", "x", "\"\\\xff", `{"a":1}`, `{}`, `"s"`, ` null `} {
			f.Add([]byte(body), text, uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, text string, pick uint8) {
		for _, s := range schema.All() {
			for name, find := range map[string]func([]byte) ([]Text, error){
				"request": func(body []byte) ([]Text, error) { return Request(s, body) },
				"answer":  func(body []byte) ([]Text, error) { return Answer(s, body) },
				"event":   func(body []byte) ([]Text, error) { e, err := Event(s, body); return e.Texts, err },
			} {
				found, err := find(bytes.Clone(body))
				if err != nil || len(found) == 0 {
					continue
				}
				for i, f := range found {
					if f.Text == "" || !utf8.ValidString(f.Text) || f.Role == "" || i > 0 && f.value.from < found[i-1].value.to {
						t.Fatalf("%s, %s: %+v in %s", s.Name, name, found, body)
					}
				}
				i := int(pick) % len(found)
				out := Replace(body, found, map[int]string{i: text})
				if !jsontext.Value(out).IsValid(lenient...) {
					t.Fatalf("%s, %s: %s is no JSON", s.Name, name, out)
				}
				again, err := find(out)
				if err != nil {
					t.Fatal(err)
				}
				replaced(t, found, again, i, text)
			}
			e, err := Event(s, bytes.Clone(body))
			if err != nil {
				continue
			}
			for i, sign := range e.Signatures {
				if sign.After > len(e.Texts) || i > 0 && sign.After < e.Signatures[i-1].After {
					t.Fatalf("%s: signatures %+v of %d texts in %s", s.Name, e.Signatures, len(e.Texts), body)
				}
			}
			out := Replace(body, e.Texts, map[int]string{int(pick): text}, e.Signatures...)
			if again, err := Event(s, out); err != nil || len(e.Signatures) > 0 && len(again.Signatures) >= len(e.Signatures) && bytes.Count(body, []byte("signature")) == len(e.Signatures) {
				t.Fatalf("%s: %s is still signed: %v", s.Name, out, err)
			}
		}
	})
}

// replaced checks that the texts are the same but for the one at i. It may be gone where what has
// come in its place is no text.
func replaced(t *testing.T, before, after []Text, i int, text string) {
	t.Helper()
	want, got := lines(before), lines(after)
	if len(after) == len(before)-1 && (text == "" || before[i].bare && (same(text, "{}") || same(text, "null"))) {
		want = append(want[:i], want[i+1:]...)
	} else if len(after) == len(before) {
		if before[i].bare && !before[i].object && !before[i].takes(text) {
			quoted, _ := jsontext.AppendQuote(nil, text)
			text = string(quoted)
		} else if !utf8.ValidString(text) {
			text = after[i].Text
		}
		if got := after[i].Text; got != text && got != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, got)
		}
		want[i] = got[i]
	}
	if !slices.Equal(want, got) {
		t.Errorf("-before +after:\n%s", cmp.Diff(want, got))
	}
}
