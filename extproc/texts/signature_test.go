package texts

import (
	"slices"
	"strings"
	"testing"

	"millrace/schema"
)

// TestSignatures: what signs a text that was edited is emptied, in requests, answers and events,
// and no other signature is; no signature is a text. In the bodies «» is what is to be edited.
func TestSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		of         *schema.Schema
		find       func(*schema.Schema, []byte) ([]Text, error)
		body, want string
	}{
		"of a request": {anthropic, Request,
			`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"«a»","signature":"s"},{"signature" : "s\n","type":"thinking","thinking":"«b»"},{"type":"thinking","thinking":"c","signature":"s"},{"type":"text","text":"«d»"}]}]}`,
			`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"«A»","signature":""},{"signature" : "","type":"thinking","thinking":"«B»"},{"type":"thinking","thinking":"c","signature":"s"},{"type":"text","text":"«D»"}]}]}`},
		"of an answer": {anthropic, Answer,
			`{"content":[{"type":"thinking","thinking":"«a»","signature":"s"},{"type":"text","text":"b"},{"type":"thinking","thinking":"c","signature":"t"},{"type":"redacted_thinking","data":"d"},{"type":"tool_use","id":"i","name":"n","input":{"signature":"«e»"}}]}`,
			`{"content":[{"type":"thinking","thinking":"«A»","signature":""},{"type":"text","text":"b"},{"type":"thinking","thinking":"c","signature":"t"},{"type":"redacted_thinking","data":"d"},{"type":"tool_use","id":"i","name":"n","input":{"SIGNATURE":"«E»"}}]}`},
		"of a compaction": {anthropic, Request,
			`{"messages":[{"role":"assistant","content":[{"type":"compaction","content":"«a»","encrypted_content":"e","signature":"s"},{"type":"compaction","content":"b","signature":"s"}]}]}`,
			`{"messages":[{"role":"assistant","content":[{"type":"compaction","content":"«A»","encrypted_content":"e","signature":null},{"type":"compaction","content":"b","signature":"s"}]}]}`},
		"that are none": {anthropic, Request,
			`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"«a»","signature":""},{"type":"thinking","thinking":"«b»","signature":null},{"type":"thinking","thinking":"«c»","signature":7},{"type":"thinking","thinking":"«d»"}]}]}`,
			`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"«A»","signature":""},{"type":"thinking","thinking":"«B»","signature":null},{"type":"thinking","thinking":"«C»","signature":7},{"type":"thinking","thinking":"«D»"}]}]}`},
		"of OpenAI's extensions": {openAI, Request,
			`{"messages":[{"role":"assistant","content":"«a»","reasoning_content":"«b»","thinking_blocks":[{"type":"thinking","thinking":"«c»","signature":"s"},{"type":"thinking","thinking":"d","signature":"s"}],"reasoning_details":[{"type":"reasoning.text","text":"«e»","signature":"s"},{"type":"reasoning.text","text":"f","signature":"s"}]},{"role":"assistant","content":[{"type":"thinking","signature":"s","thinking":[{"type":"text","text":"g"},{"type":"text","text":"«h»"}]},{"type":"thinking","signature":"s","thinking":[{"type":"text","text":"i"}]}]}]}`,
			`{"messages":[{"role":"assistant","content":"«A»","reasoning_content":"«B»","thinking_blocks":[{"type":"thinking","thinking":"«C»","signature":""},{"type":"thinking","thinking":"d","signature":"s"}],"reasoning_details":[{"type":"reasoning.text","text":"«E»","signature":""},{"type":"reasoning.text","text":"f","signature":"s"}]},{"role":"assistant","content":[{"type":"thinking","signature":"","thinking":[{"type":"text","text":"g"},{"type":"text","text":"«H»"}]},{"type":"thinking","signature":"s","thinking":[{"type":"text","text":"i"}]}]}]}`},
		"of what LiteLLM says twice": {openAI, Answer,
			`{"choices":[{"message":{"reasoning_content":"«a»","thinking_blocks":[{"thinking":"«a»","signature":"s"}],"provider_specific_fields":{"reasoning_content":"«a»","thinking_blocks":[{"type":"thinking","thinking":"«a»","signature":"s"}],"citations":[[{"type":"char_location","cited_text":"«b»","document_title":null}]],"thought_signatures":["x"]}},"provider_specific_fields":{"thinking_blocks":[{"thinking":"«a»","signature":"s"}]}}]}`,
			`{"choices":[{"message":{"reasoning_content":"«A»","thinking_blocks":[{"thinking":"«A»","signature":""}],"provider_specific_fields":{"reasoning_content":"«A»","thinking_blocks":[{"type":"thinking","thinking":"«A»","signature":""}],"citations":[[{"type":"char_location","cited_text":"«B»","document_title":null}]],"thought_signatures":["x"]}},"provider_specific_fields":{"thinking_blocks":[{"thinking":"«A»","signature":""}]}}]}`},
		"of calls": {openAI, Answer,
			`{"choices":[{"logprobs":{"content":[]},"message":{"content":"«a»","thinking_blocks":[{"signature":"s","thinking":"«b»"}],"tool_calls":[{"function":{"name":"f","arguments":"{\"q\":\"«c»\"}"},"extra_content":{"google":{"thought_signature":"s"}}}]}}]}`,
			`{"choices":[{"logprobs":null,"message":{"content":"«A»","thinking_blocks":[{"signature":"","thinking":"«B»"}],"tool_calls":[{"function":{"name":"f","arguments":"{\"Q\":\"«C»\"}"},"extra_content":{"google":{"thought_signature":"s"}}}]}}]}`},
		"of an event": {openAI, func(s *schema.Schema, body []byte) ([]Text, error) { e, err := Event(s, body); return e.Texts, err },
			`{"choices":[{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"«a»","signature":"s"},{"type":"thinking","thinking":"b","signature":"s"}]}}]}`,
			`{"choices":[{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"«A»","signature":""},{"type":"thinking","thinking":"b","signature":"s"}]}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := c.find(c.of, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			edited(t, c.body, found, "", c.want)
			for _, f := range found {
				if f.Text == "s" {
					t.Errorf("a signature is a text: %s", line(f))
				}
			}
		})
	}
}

// TestSignaturesOfEvents: an event tells which choices or blocks it signs, and after which of its
// texts; the caller may have them emptied.
func TestSignaturesOfEvents(t *testing.T) {
	for name, c := range map[string]struct {
		of               *schema.Schema
		data             string
		choices, follows []int
		want             string
	}{
		"a block's": {anthropic, `{"type":"content_block_delta","index":3,"delta":{"type":"signature_delta","signature":"s"}}`, []int{3}, []int{0},
			`{"type":"content_block_delta","index":3,"delta":{"type":"signature_delta","signature":""}}`},
		"a block with a thought": {anthropic, `{"content_block":{"type":"thinking","signature":"s","thinking":"a"},"type":"content_block_start","index":1}`, []int{1}, []int{1},
			`{"content_block":{"type":"thinking","signature":"","thinking":"a"},"type":"content_block_start","index":1}`},
		"a block without one": {anthropic, `{"type":"content_block_start","index":1,"content_block":{"type":"thinking","signature":"","thinking":""}}`, nil, nil,
			`{"type":"content_block_start","index":1,"content_block":{"type":"thinking","signature":"","thinking":""}}`},
		"after what is no text": {anthropic, `{"content_block":[{"source":{"data":"x","type":"url"}},{"thinking":"a","signature":"s"}],"index":1}`, []int{1}, []int{1},
			`{"content_block":[{"source":{"data":"x","type":"url"}},{"thinking":"a","signature":""}],"index":1}`},
		"choices": {openAI, `{"choices":[{"delta":{"reasoning_content":"a","thinking_blocks":[{"thinking":"b","signature":"s"},{"signature":"t","thinking":""}]},"index":2},{"delta":{"content":"c","reasoning_details":[{"type":"reasoning.text","signature":"u"}]},"index":1}]}`, []int{2, 2, 1}, []int{2, 2, 3},
			`{"choices":[{"delta":{"reasoning_content":"a","thinking_blocks":[{"thinking":"b","signature":""},{"signature":"","thinking":""}]},"index":2},{"delta":{"content":"c","reasoning_details":[{"type":"reasoning.text","signature":""}]},"index":1}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Event(c.of, []byte(c.data))
			if err != nil {
				t.Fatal(err)
			}
			var choices, follows []int
			for _, s := range e.Signatures {
				choices, follows = append(choices, s.Choice), append(follows, s.After)
			}
			if !slices.Equal(choices, c.choices) || !slices.Equal(follows, c.follows) {
				t.Errorf("signatures of %v, after %v", choices, follows)
			}
			if got := string(Replace([]byte(c.data), e.Texts, nil, e.Signatures...)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := string(Replace([]byte(c.data), e.Texts, map[int]string{0: "new"}, e.Signatures...)); strings.Count(got, `""`) < len(c.choices) {
				t.Errorf("with an edit: %s", got)
			}
		})
	}
}

// TestRowsOfSignatures: every signature of the rows is emptied with its text.
func TestRowsOfSignatures(t *testing.T) {
	rows := 0
	for _, s := range schema.All() {
		for _, p := range slices.Concat(s.Texts.Request, s.Texts.Answer, s.Texts.Event) {
			if p.Signature == "" {
				continue
			}
			rows++
			body := bodyWith(p.Path + "{" + p.Signature + "=s}")
			signed := 0
			for _, find := range []func(*schema.Schema, []byte) ([]Text, error){Request, Answer, func(s *schema.Schema, body []byte) ([]Text, error) {
				e, err := Event(s, body)
				return e.Texts, err
			}} {
				found, err := find(s, []byte(body))
				if err != nil {
					t.Fatal(err)
				}
				if len(found) == 1 && !strings.Contains(string(Replace([]byte(body), found, map[int]string{0: "new"})), `"s"`) {
					signed++
				}
			}
			if signed == 0 {
				t.Errorf("%s: %s keeps its signature in %s", s.Name, p.Path, body)
			}
		}
	}
	if rows == 0 {
		t.Error("no row has a signature")
	}
}
