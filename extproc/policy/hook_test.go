package policy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"millrace/schema"
)

// TestWebhook: what a guardrail says is done: in requests, in whole answers and in streams.
func TestWebhook(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Phase string
			Texts []struct{ Role, Kind, Text string }
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		answer := `{"verdict": "pass"}`
		for i, text := range q.Texts {
			switch {
			case strings.Contains(text.Text, "evil"):
				answer = `{"verdict": "block", "reason": "evil words", "category": "evil"}`
			case strings.Contains(text.Text, "name"):
				reply, _ := json.Marshal(map[string]any{"verdict": "redact", "texts": []any{map[string]any{"index": i, "text": "no \"names\""}}})
				answer = string(reply)
			}
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	chain := chainOf(t, "{chain: [webhook], policy: {webhook: {url: \""+server.URL+"\"}}}")
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		start := func() *Session { return chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody) }
		ask := func(text string) (string, error) {
			s := start()
			body, e := s.Input(t.Context(), []byte(`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"`+text+`"}]}`))
			if e != nil {
				return "", e
			}
			return string(body), nil
		}
		if body, err := ask("hello"); err != nil || !strings.Contains(body, `"hello"`) {
			t.Errorf("pass: %s, %v", body, err)
		}
		if body, err := ask("my name is Ann"); err != nil || !strings.Contains(body, `"no \"names\""`) {
			t.Errorf("redact: %s, %v", body, err)
		}
		if _, err := ask("an evil deed"); err == nil || !strings.Contains(err.Error(), `policy "webhook": evil words`) {
			t.Errorf("block: %v", err)
		}
		for _, c := range []struct{ says, want string }{{"hello", "hello"}, {"the name is Ann", `no "names"`}, {"an evil deed", ""}} {
			d := said(name, cuts(c.says, 3)...)
			steps, e := d.through(t, start())
			if got, _ := d.text(t, strings.Join(steps, "")); got != c.want || (e != nil) != (c.want == "") {
				t.Errorf("%q in a stream: %q, %v", c.says, got, e)
			}
			whole, e := d.whole(t, start())
			if quoted, _ := json.Marshal(c.want); (e != nil) != (c.want == "") || e == nil && !strings.Contains(whole, string(quoted)) {
				t.Errorf("%q whole: %s, %v", c.says, whole, e)
			}
		}
	})
}

// TestJSONSchema: an answer that is not of the shape is blocked; one that calls tools is none.
func TestJSONSchema(t *testing.T) {
	chain := chainOf(t, `{chain: [json-schema], policy: {json-schema: {fenced: true, schema: {type: object, required: [city], properties: {city: {type: string}}}}}}`)
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		for says, fits := range map[string]bool{
			`{"city": "Rome"}`:                   true,
			"```json\n{\"city\": \"Rome\"}\n```": true,
			`{"town": "Rome"}`:                   false,
			`Rome`:                               false,
		} {
			d := said(name, cuts(says, 4)...)
			start := func() *Session { return chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody) }
			if _, e := d.through(t, start()); (e == nil) != fits {
				t.Errorf("%q in a stream: %v", says, e)
			}
			_, e := d.whole(t, start())
			if (e == nil) != fits || e != nil && strings.Contains(e.Message, "Rome") {
				t.Errorf("%q whole: %v", says, e)
			}
		}
	})
}
