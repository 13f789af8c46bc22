package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// verdicts are answers to a question of three texts.
var verdicts = []struct {
	answer string
	want   Verdict // the zero one: it is refused
	says   string  // the error
	beyond bool    // JSON Schema cannot say it
}{
	{answer: `{"verdict":"pass"}`, want: Verdict{Action: Pass}},
	{answer: ` {"verdict":"pass","texts":[],"score":0.5} `, want: Verdict{Action: Pass}},
	{answer: `{"verdict":"pass","reason":null,"category":null,"texts":null}`, want: Verdict{Action: Pass}},
	{answer: `{"verdict":"redact","texts":null}`, says: "it has no texts"},
	{answer: `{"verdict":"flag","reason":"odd","category":"tone"}`, want: Verdict{Action: Flag, Reason: "odd", Category: "tone"}},
	{answer: `{"verdict":"block","reason":"a\nb\u0000c\u202e","category":"Self harm/é"}`, want: Verdict{Action: Block, Reason: "a b c", Category: "Self_harm/_"}},
	{answer: `{"verdict":"block","reason":"` + strings.Repeat("é", 400) + `","category":"` + strings.Repeat("c", 100) + `"}`,
		want: Verdict{Action: Block, Reason: strings.Repeat("é", 150), Category: strings.Repeat("c", 64)}},
	{answer: `{"verdict":"redact","texts":[{"index":2,"text":""},{"index":0,"text":"x"}]}`, want: Verdict{Action: Redact, Texts: []Replacement{{2, ""}, {0, "x"}}}},

	{answer: `{}`, says: `verdict is ""`},
	{answer: `{"verdict":""}`, says: `verdict is ""`},
	{answer: `{"verdict":"allow"}`, says: `verdict is "allow", want pass, block, flag or redact`},
	{answer: `{"verdict":"Pass"}`, says: `verdict is "Pass"`},
	{answer: `{"Verdict":"pass"}`, says: `verdict is ""`},
	{answer: `{"verdict":true}`, says: `a wrong type at "/verdict"`},
	{answer: `{"verdict":null}`, says: `verdict is ""`},
	{answer: `{"verdict":"pass","reason":7}`, says: `a wrong type at "/reason"`},
	{answer: `{"verdict":"pass","texts":[{"index":0,"text":"x"}]}`, says: "has texts, and the verdict is pass"},
	{answer: `{"verdict":"block","texts":[{"index":0,"text":"x"}]}`, says: "has texts, and the verdict is block"},
	{answer: `{"verdict":"redact"}`, says: "it has no texts"},
	{answer: `{"verdict":"redact","texts":[]}`, says: "it has no texts"},
	{answer: `{"verdict":"redact","texts":[{"index":0}]}`, says: "texts[0] has no index or no text"},
	{answer: `{"verdict":"redact","texts":[{"text":"x"}]}`, says: "texts[0] has no index or no text"},
	{answer: `{"verdict":"redact","texts":[{"index":0,"text":"x"},{"index":1,"text":null}]}`, says: "texts[1] has no index or no text"},
	{answer: `{"verdict":"redact","texts":[{"index":-1,"text":"x"}]}`, says: "the index -1 of 3 texts"},
	{answer: `{"verdict":"redact","texts":[{"index":1.5,"text":"x"}]}`, says: `a wrong type at "/texts/0/index"`},
	{answer: `{"verdict":"redact","texts":{"index":0,"text":"x"}}`, says: `a wrong type at "/texts"`},
	{answer: `["pass"]`, says: `a wrong type at ""`},
	{answer: `"pass"`, says: `a wrong type at ""`},

	{answer: `{"verdict":"redact","texts":[{"index":3,"text":"x"}]}`, says: "the index 3 of 3 texts", beyond: true},
	{answer: `{"verdict":"redact","texts":[{"index":1,"text":"x"},{"index":1,"text":"y"}]}`, says: "the index 1 twice", beyond: true},
	{answer: `{"verdict":"block","verdict":"pass"}`, says: "the answer is no JSON, at byte", beyond: true},
	{answer: `{"verdict":"pass"}{"verdict":"block"}`, says: "the answer is no JSON, at byte", beyond: true},
	{answer: `{"verdict":"pass"`, says: "the answer is no JSON", beyond: true},
	{answer: "{\"verdict\":\"pass\",\"reason\":\"\xff\"}", says: "the answer is no JSON, at byte", beyond: true},
	{answer: ``, says: "the answer is no JSON", beyond: true},
	{answer: `null`, says: `verdict is ""`},
	{answer: `<html>`, says: "the answer is no JSON, at byte 0", beyond: true},
}

// TestReadVerdict: each answer is read as the document has it, or refused with the reason.
func TestReadVerdict(t *testing.T) {
	for _, c := range verdicts {
		got, err := readVerdict([]byte(c.answer), &Question{Texts: make([]Text, 3)})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.100s: %s", c.answer, diff)
		}
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.100s: %v, want %q", c.answer, err, c.says)
		}
	}
}

// TestModeration: what is asked of an endpoint of that shape, and what its answers mean. The texts
// that have nothing in them are left out, and the reason has the number of the text all the same.
func TestModeration(t *testing.T) {
	q := &Question{Texts: []Text{{Text: "a"}, {Text: " \n"}, {Text: "b"}}}
	written, err := moderation{model: "omni-moderation-latest"}.write(q)
	if want := `{"model":"omni-moderation-latest","input":["a","b"]}`; string(written) != want || err != nil {
		t.Errorf("%s, %v, want %s", written, err, want)
	}
	if written, _ = (moderation{}).write(q); string(written) != `{"input":["a","b"]}` {
		t.Errorf("without a model: %s", written)
	}
	for _, blank := range []*Question{{}, {Texts: []Text{{Text: ""}, {Text: "\t"}}}} {
		if (moderation{}).has(blank) {
			t.Errorf("%+v is asked about", blank)
		}
	}
	const clean, harsh = `{"flagged":false,"categories":{"hate":false,"illicit":null},"category_scores":{"hate":0.1,"illicit":null,"violence":0.4}}`,
		`{"flagged":true,"categories":{"hate":true,"violence":true,"sexual":false},"category_scores":{"hate":0.7,"violence":0.9,"sexual":0.2}}`
	for _, c := range []struct {
		threshold float64
		answer    string
		want      Verdict
		says      string
	}{
		{0, `{"id":"modr-1","model":"m","results":[` + clean + `,` + clean + `]}`, Verdict{Action: Pass}, ""},
		{0, `{"results":[` + clean + `,` + harsh + `]}`, Verdict{Action: Block, Reason: "text 2: violence, hate", Category: "violence"}, ""},
		{0, `{"results":[{"flagged":true},{"flagged":false}]}`, Verdict{Action: Block, Reason: "text 0:"}, ""},
		{0.8, `{"results":[` + clean + `,` + harsh + `]}`, Verdict{Action: Block, Reason: "text 2: violence", Category: "violence"}, ""},
		{0.95, `{"results":[` + clean + `,` + harsh + `]}`, Verdict{Action: Pass}, ""},
		{0.4, `{"results":[` + clean + `,` + harsh + `]}`, Verdict{Action: Block, Reason: "text 0: violence", Category: "violence"}, ""},
		{0, `{"results":[` + clean + `]}`, Verdict{}, "1 results for 2 texts"},
		{0, `{"results":[` + clean + `,{}]}`, Verdict{}, "results[1] does not say whether it is flagged"},
		{0.5, `{"results":[` + clean + `,{"flagged":false}]}`, Verdict{}, "results[1] has no category_scores"},
		{0.5, `{"results":[` + clean + `,{"category_scores":{"hate":"high"}}]}`, Verdict{}, `a wrong type at "/results/1/category_scores/hate"`},
		{0, `{"error":{"message":"no"}}`, Verdict{}, "0 results for 2 texts"},
		{0, `{"results":[` + clean + `,` + harsh + `],"results":[]}`, Verdict{}, "no JSON"},
	} {
		got, err := moderation{threshold: c.threshold}.read([]byte(c.answer), q)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v, %s: %s", c.threshold, c.answer, diff)
		}
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, %s: %v, want %q", c.threshold, c.answer, err, c.says)
		}
	}
}

// FuzzRead: no answer makes a reader panic, and what is read can be acted upon.
func FuzzRead(f *testing.F) {
	for _, c := range verdicts {
		f.Add([]byte(c.answer))
	}
	f.Add([]byte(`{"results":[{"flagged":true,"categories":{"hate":true},"category_scores":{"hate":0.7}},{"flagged":false,"category_scores":{"a":1e308}}]}`))
	q := &Question{Texts: []Text{{Text: "a"}, {Text: "b"}, {Text: ""}}}
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, read := range []func([]byte, *Question) (Verdict, error){readVerdict, moderation{}.read, moderation{threshold: 0.5}.read} {
			v, err := read(answer, q)
			if err != nil {
				if v.Action != "" || !utf8.ValidString(err.Error()) || len(err.Error()) > 300 {
					t.Errorf("%q: %+v, %v", answer, v, err)
				}
				continue
			}
			if len(v.Reason) > maxReason || len(v.Category) > maxCategory || !utf8.ValidString(v.Reason) || (len(v.Texts) > 0) != (v.Action == Redact) {
				t.Errorf("%q: %+v", answer, v)
			}
			for _, r := range v.Texts {
				if r.Index < 0 || r.Index >= len(q.Texts) {
					t.Errorf("%q: %+v", answer, v)
				}
			}
			if !json.Valid(answer) {
				t.Errorf("%q is no JSON and is read", answer)
			}
		}
	})
}
