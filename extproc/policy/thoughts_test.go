package policy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/schema"
)

// thought is one as a client has it.
type thought struct{ text, signature string }

// thinking is an answer that thinks in these pieces, signed each time one is "", and then says
// "Done."
func thinking(name schema.Name, pieces ...string) dialogue {
	d := said(name, "Done.")
	var events []llm.Event
	block := 0
	for _, piece := range pieces {
		if piece == "" {
			block++
			events = append(events, llm.Event{Kind: llm.ThinkingSignature, Signature: fmt.Sprintf("signed-%d", block), Origin: anthropicOrigin})
			continue
		}
		events = append(events, llm.Event{Kind: llm.ThinkingDelta, Text: piece})
	}
	d.events = slices.Insert(d.events, 1, events...)
	return d
}

var anthropicOrigin = llm.Origin(schema.Of(schema.AnthropicMessages).Family)

// thoughtsOf are the signed thoughts of a stream: Anthropic's blocks, or what OpenAI's clients keep
// of thinking_blocks.
func thoughtsOf(t *testing.T, stream string) (all []thought) {
	t.Helper()
	for line := range strings.Lines(stream) {
		data, isData := strings.CutPrefix(line, "data: ")
		if !isData || strings.HasPrefix(data, "[DONE]") {
			continue
		}
		var e struct {
			Type         string
			ContentBlock struct{ Type, Thinking, Signature string } `json:"content_block"`
			Delta        struct{ Thinking, Signature string }
			Choices      []struct {
				Delta struct {
					Blocks []struct{ Thinking, Signature string } `json:"thinking_blocks"`
				}
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if e.Type == "content_block_start" && e.ContentBlock.Type == "thinking" {
			all = append(all, thought{e.ContentBlock.Thinking, e.ContentBlock.Signature})
		}
		if n := len(all); n > 0 && e.Type == "content_block_delta" {
			all[n-1].text += e.Delta.Thinking
			all[n-1].signature += e.Delta.Signature
		}
		for _, c := range e.Choices {
			for _, b := range c.Delta.Blocks {
				all = append(all, thought{b.Thinking, b.Signature})
			}
		}
	}
	return all
}

// TestEditedThoughts: a thought that was edited is not signed any more, whole and streamed, however
// it is cut; others are, before it and after it (E05).
func TestEditedThoughts(t *testing.T) {
	const text = "I ask bob@example.org. "
	wants := map[string][]thought{
		"dlp: {phase: output, detect: [email]}":                {{"Hm.", "signed-1"}, {"I ask [EMAIL_1]. ", ""}, {"So be it.", "signed-3"}},
		"dlp: {phase: output, detect: [email], mode: observe}": {{"Hm.", "signed-1"}, {text, "signed-2"}, {"So be it.", "signed-3"}},
	}
	for policy, want := range wants {
		chain := chainOf(t, "{chain: [dlp], policy: {"+policy+"}}")
		bothSchemas(t, func(t *testing.T, name schema.Name) {
			start := func() *Session { return chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody) }
			for n := 1; n <= len(text); n++ {
				pieces := slices.Concat([]string{"Hm.", ""}, cuts(text, n), []string{"", "So be it.", ""})
				d := thinking(name, pieces...)
				steps, e := d.through(t, start())
				if got := thoughtsOf(t, strings.Join(steps, "")); e != nil || !slices.Equal(got, want) {
					t.Fatalf("in pieces of %d: %q, %v", n, got, e)
				}
				if said, stop := d.text(t, strings.Join(steps, "")); said != "Done." || stop != llm.StopEnd {
					t.Fatalf("in pieces of %d: %q, %s", n, said, stop)
				}
			}
			body, e := thinking(name, "Hm.", "", text, "", "So be it.", "").whole(t, start())
			if e != nil {
				t.Fatal(e)
			}
			if got := wholeThoughts(t, body); !slices.Equal(got, want) {
				t.Errorf("whole: %q", got)
			}
		})
	}
}

// wholeThoughts are the signed thoughts of a whole answer.
func wholeThoughts(t *testing.T, body string) (all []thought) {
	t.Helper()
	var answer struct {
		Content []struct{ Type, Thinking, Signature string }
		Choices []struct {
			Message struct {
				Blocks []struct{ Thinking, Signature string } `json:"thinking_blocks"`
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	for _, b := range answer.Content {
		if b.Type == "thinking" {
			all = append(all, thought{b.Thinking, b.Signature})
		}
	}
	for _, c := range answer.Choices {
		for _, b := range c.Message.Blocks {
			all = append(all, thought{b.Thinking, b.Signature})
		}
	}
	return all
}

// TestRestoredThoughts: a thought into which the client's own values are put back is edited, too,
// and so is one of a request from which they are taken out.
func TestRestoredThoughts(t *testing.T) {
	requests := map[schema.Name]string{
		schema.OpenAIChat:        `{"model":"m","messages":[{"role":"user","content":"I am a@b.com"},{"role":"assistant","content":"Yes.","thinking_blocks":[{"type":"thinking","thinking":"Say yes.","signature":"kept"},{"type":"thinking","thinking":"It is a@b.com.","signature":"gone"}]}]}`,
		schema.AnthropicMessages: `{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"I am a@b.com"},{"role":"assistant","content":[{"type":"thinking","thinking":"Say yes.","signature":"kept"},{"type":"thinking","thinking":"It is a@b.com.","signature":"gone"},{"type":"text","text":"Yes."}]}]}`,
	}
	chain := chainOf(t, "{chain: [dlp], policy: {dlp: {reversible: true, detect: [email]}}}")
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		const text = "It is [EMAIL_1]."
		for n := 1; n <= len(text); n++ {
			s := chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody)
			body, e := s.Input(t.Context(), []byte(requests[name]))
			if e != nil || !strings.Contains(string(body), `"thinking":"It is [EMAIL_1].","signature":""`) || !strings.Contains(string(body), `"signature":"kept"`) {
				t.Fatalf("%s, %v", body, e)
			}
			steps, _ := thinking(name, append(cuts(text, n), "", "Fine.", "")...).through(t, s)
			want := []thought{{"It is a@b.com.", ""}, {"Fine.", "signed-2"}}
			if got := thoughtsOf(t, strings.Join(steps, "")); !slices.Equal(got, want) {
				t.Fatalf("in pieces of %d: %q", n, got)
			}
		}
	})
}

// TestRespokenThoughts: a policy that is asked at the end of a stream may change a thought, too.
func TestRespokenThoughts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Texts []struct{ Kind, Text string } }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		var changed []any
		for i, text := range q.Texts {
			if strings.Contains(text.Text, "signed-") {
				t.Errorf("a service is shown a signature: %+v", text)
			}
			if text.Kind == "reasoning" && strings.Contains(text.Text, "Hm") {
				changed = append(changed, map[string]any{"index": i, "text": "A thought."})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"verdict": "redact", "texts": changed})
	}))
	defer server.Close()
	chain := chainOf(t, "{chain: [webhook], policy: {webhook: {phase: output, url: \""+server.URL+"\"}}}")
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		s := chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody)
		steps, e := thinking(name, "H", "m", ".", "").through(t, s)
		if got, want := thoughtsOf(t, strings.Join(steps, "")), []thought{{"A thought.", ""}}; e != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v", got, e)
		}
	})
}

// TestSignaturesOfTargets: signatures that come as targets write them, in pieces or after other
// events, belong to the thought before them.
func TestSignaturesOfTargets(t *testing.T) {
	const mail = "bob@example.org"
	openAI := func(deltas ...string) (events []string) {
		for _, delta := range deltas {
			events = append(events, `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":`+delta+`}]}`)
		}
		return append(events, `{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "[DONE]")
	}
	block := func(deltas ...string) (events []string) {
		events = append(events, `{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}`)
		for _, delta := range deltas {
			events = append(events, `{"type":"content_block_delta","index":1,"delta":`+delta+`}`)
		}
		return append(events, `{"type":"content_block_stop","index":1}`, `{"type":"message_stop"}`)
	}
	for name, c := range map[string]struct {
		schema schema.Name
		events []string
		kept   []string // of the signatures, which are s1, s2 and so on
	}{
		"pieces of a block, as LiteLLM writes them": {schema.OpenAIChat, openAI(
			`{"reasoning_content":"`+mail+`","thinking_blocks":[{"type":"thinking","thinking":"`+mail+`","signature":""}]}`,
			`{"reasoning_content":"","thinking_blocks":[{"type":"thinking","thinking":"","signature":"s1"}]}`,
			`{"thinking_blocks":[{"type":"thinking","thinking":"more","signature":""}]}`,
			`{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"s2"}]}`), []string{"s2"}},
		"details, as OpenRouter writes them": {schema.OpenAIChat, openAI(
			`{"reasoning":"`+mail+`","reasoning_details":[{"type":"reasoning.text","text":"`+mail+`","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.text","signature":"s1","index":0}]}`), nil},
		"a signature after words":  {schema.OpenAIChat, openAI(`{"reasoning_content":"`+mail+`"}`, `{"content":"Hi"}`, `{"thinking_blocks":[{"signature":"s1"}]}`), nil},
		"a signature of no change": {schema.OpenAIChat, openAI(`{"reasoning_content":"me"}`, `{"content":"`+mail+`"}`, `{"thinking_blocks":[{"thinking":"me","signature":"s1"}]}`), []string{"s1"}},
		"a call's":                 {schema.OpenAIChat, openAI(`{"reasoning_content":"`+mail+`"}`, `{"tool_calls":[{"index":0,"id":"i","function":{"name":"f","arguments":"{\"a\":\"`+mail+`\"}"},"extra_content":{"google":{"thought_signature":"s1"}}}]}`), []string{"s1"}},
		"a signature in pieces":    {schema.AnthropicMessages, block(`{"type":"thinking_delta","thinking":"`+mail+`"}`, `{"type":"signature_delta","signature":"s1"}`, `{"type":"signature_delta","signature":"s2"}`), nil},
		"two thoughts in an event": {schema.OpenAIChat, openAI(`{"thinking_blocks":[{"thinking":"me","signature":"s1"},{"thinking":"` + mail + `","signature":"s2"},{"thinking":"you","signature":"s3"}]}`), []string{"s1", "s3"}},
		"another block's": {schema.AnthropicMessages, append([]string{`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"` + mail + `","signature":""}}`,
			`{"type":"content_block_stop","index":0}`}, block(`{"type":"thinking_delta","thinking":"me"}`, `{"type":"signature_delta","signature":"s1"}`)...), []string{"s1"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := streamed(t, sessionOf(t, c.schema, "{chain: [dlp], policy: {dlp: {phase: output, detect: [email]}}}"), c.events...)
			for _, s := range []string{"s1", "s2", "s3"} {
				if !strings.Contains(strings.Join(c.events, ""), `"`+s+`"`) {
					continue
				}
				if kept := strings.Contains(out, `"`+s+`"`); kept != slices.Contains(c.kept, s) {
					t.Errorf("%s is kept: %t\n%s", s, kept, out)
				}
			}
			if strings.Contains(out, mail) {
				t.Errorf("not redacted: %s", out)
			}
		})
	}
}

// TestSignatureAfterFailure: where policies fail in mid-stream and the answer goes on without them,
// a thought that they have changed before is still not signed.
func TestSignatureAfterFailure(t *testing.T) {
	out := streamed(t, sessionOf(t, schema.AnthropicMessages, "{chain: [dlp], policy: {dlp: {phase: output, detect: [email], on_error: allow}}}"),
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"Ask bob@example.org about it now.","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" And then wait."}}`,
		`{"type":"ping"`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s1"}}`,
		`{"type":"content_block_stop","index":0}`)
	if !strings.Contains(out, "[EMAIL_1]") || strings.Contains(out, "s1") || !strings.Contains(out, `"signature_delta","signature":""`) {
		t.Errorf("%s", out)
	}
}
