package policy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"

	"millrace/extproc/llm"
	"millrace/schema"
)

// framed is the chain of these tests.
const framed = `{chain: [disclaimer], policy: {disclaimer: {before: "Note: ", after: " No advice."}}}`

// chunk is an event of OpenAI's, about one choice.
func chunk(choice, delta, finish string) string {
	return head + `"choices":[` + choiceOf(choice, delta, finish) + `]}`
}

const head = `{"id":"c1","object":"chat.completion.chunk","created":7,"model":"gpt","usage":null,`

func choiceOf(choice, delta, finish string) string {
	if finish != "null" {
		finish = `"` + finish + `"`
	}
	return `{"index":` + choice + `,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}`
}

// text is a block of Anthropic's.
func text(number string, deltas ...string) (events []string) {
	events = append(events, `{"type":"content_block_start","index":`+number+`,"content_block":{"type":"text","text":""}}`)
	for _, d := range deltas {
		events = append(events, `{"type":"content_block_delta","index":`+number+`,"delta":{"type":"text_delta","text":"`+d+`"}}`)
	}
	return append(events, stopOf(number))
}

func stopOf(number string) string { return `{"type":"content_block_stop","index":` + number + `}` }

const (
	ping         = `{"type":"ping"}`
	messageStart = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}`
	messageDelta = `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}`
	messageStop  = `{"type":"message_stop"}`
)

// messages are the texts of the answers in a stream, as the official SDKs read them.
func messages(t *testing.T, name schema.Name, stream string) (all []string) {
	t.Helper()
	var chat openai.ChatCompletionAccumulator
	var message anthropic.Message
	for line := range strings.Lines(stream) {
		data, isData := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !isData || data == "[DONE]" {
			continue
		}
		if name == schema.OpenAIChat {
			var c openai.ChatCompletionChunk
			if err := json.Unmarshal([]byte(data), &c); err != nil || !chat.AddChunk(c) {
				t.Errorf("the SDK does not take %s: %v", data, err)
			}
			continue
		}
		var e anthropic.MessageStreamEventUnion
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if err := message.Accumulate(e); err != nil {
			t.Errorf("the SDK does not take %s: %v", data, err)
		}
	}
	for _, c := range chat.Choices {
		all = append(all, c.Message.Content)
	}
	blocks := ""
	for _, b := range message.Content {
		blocks += b.Text
	}
	if name == schema.AnthropicMessages {
		all = append(all, blocks)
	}
	return all
}

// TestFramedStreams: the text comes once before and once after what an answer says, wherever its
// end is seen, and only where the stream comes to its end (E05).
func TestFramedStreams(t *testing.T) {
	const openAI, claude = schema.OpenAIChat, schema.AnthropicMessages
	for name, c := range map[string]struct {
		schema  schema.Name
		choices int
		events  []string
		want    []string
	}{
		"a text and its finish in one event": {openAI, 1, []string{chunk("0", `{"role":"assistant","content":"Buy"}`, "null"), chunk("0", `{"content":" low"}`, "stop"), "[DONE]"},
			[]string{"Note: Buy low No advice."}},
		"all in one event": {openAI, 1, []string{chunk("0", `{"role":"assistant","content":"Buy"}`, "stop"), "[DONE]"}, []string{"Note: Buy No advice."}},
		"a finish alone":   {openAI, 1, []string{chunk("0", `{"role":"assistant","content":"Buy"}`, "null"), chunk("0", `{}`, "stop"), "[DONE]"}, []string{"Note: Buy No advice."}},
		"usage after it": {openAI, 1, []string{chunk("0", `{"content":"Buy"}`, "null"), chunk("0", `{}`, "stop"), ": alive", head + `"choices":[]}`, "[DONE]"},
			[]string{"Note: Buy No advice."}},
		"no text":          {openAI, 1, []string{chunk("0", `{"role":"assistant","content":""}`, "null"), chunk("0", `{"content":null}`, "null"), chunk("0", `{}`, "stop"), "[DONE]"}, []string{""}},
		"a thought alone":  {openAI, 1, []string{chunk("0", `{"reasoning_content":"Hm."}`, "null"), chunk("0", `{}`, "length"), "[DONE]"}, []string{""}},
		"a refusal":        {openAI, 1, []string{chunk("0", `{"refusal":"No."}`, "null"), chunk("0", `{}`, "stop"), "[DONE]"}, []string{""}},
		"a call":           {openAI, 1, []string{chunk("0", `{"content":"I look."}`, "null"), chunk("0", `{"tool_calls":[{"index":0,"id":"i","type":"function","function":{"name":"f","arguments":"{}"}}]}`, "null"), chunk("0", `{}`, "tool_calls"), "[DONE]"}, []string{"Note: I look."}},
		"broken in a text": {openAI, 1, []string{chunk("0", `{"content":"Buy"}`, "null")}, []string{"Note: Buy"}},
		"broken at its end": {openAI, 1, []string{chunk("0", `{"content":"Buy"}`, "null"), chunk("0", `{}`, "stop")},
			[]string{"Note: Buy"}},
		"choices in turn": {openAI, 2, []string{
			chunk("0", `{"role":"assistant","content":"A"}`, "null"), chunk("1", `{"role":"assistant","content":"B"}`, "null"),
			chunk("0", `{}`, "stop"), chunk("1", `{"content":"b"}`, "null"), chunk("1", `{"content":"."}`, "stop"), "[DONE]",
		}, []string{"Note: A No advice.", "Note: Bb. No advice."}},
		"choices that end together": {openAI, 2, []string{
			head + `"choices":[` + choiceOf("0", `{"role":"assistant","content":"A"}`, "null") + "," + choiceOf("1", `{"role":"assistant","content":"B"}`, "null") + `]}`,
			head + `"choices":[` + choiceOf("1", `{"content":"b"}`, "stop") + "," + choiceOf("0", `{}`, "stop") + `]}`, "[DONE]",
		}, []string{"Note: A No advice.", "Note: Bb No advice."}},
		"choices of which one ends first, beside a text": {openAI, 2, []string{
			head + `"choices":[` + choiceOf("0", `{"content":"A"}`, "null") + "," + choiceOf("1", `{"content":"B"}`, "stop") + `]}`,
			chunk("0", `{}`, "stop"), "[DONE]",
		}, []string{"Note: A No advice.", "Note: B No advice."}},
		"a choice without text": {openAI, 2, []string{chunk("0", `{"content":"A"}`, "stop"), chunk("1", `{"content":""}`, "stop"), "[DONE]"}, []string{"Note: A No advice.", ""}},

		"blocks":               {claude, 1, slices.Concat([]string{messageStart}, text("0", "A"), text("1", "B"), []string{messageDelta, messageStop}), []string{"Note: AB No advice."}},
		"pings between blocks": {claude, 1, slices.Concat([]string{messageStart, ping}, text("0", "A"), []string{ping, ": alive", ping}, text("1", "B"), []string{ping, messageDelta, ping, messageStop}), []string{"Note: AB No advice."}},
		"a call's block":       {claude, 1, slices.Concat([]string{messageStart}, text("0", "A"), []string{`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"i","name":"n","input":{}}}`, stopOf("1"), messageDelta, messageStop}), []string{"Note: A"}},
		"a citation": {claude, 1, slices.Concat([]string{messageStart}, slices.Insert(text("0", "A"), 2,
			`{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"said","document_index":0,"document_title":"title","start_char_index":0,"end_char_index":4}}}`),
			[]string{messageDelta, messageStop}), []string{"Note: A No advice."}},
		"no text in a block":       {claude, 1, slices.Concat([]string{messageStart}, text("0"), []string{messageDelta, messageStop}), []string{""}},
		"no blocks":                {claude, 1, []string{messageStart, messageDelta, messageStop}, []string{""}},
		"broken in a block":        {claude, 1, append([]string{messageStart}, text("0", "A")[:2]...), []string{"Note: A"}},
		"broken between blocks":    {claude, 1, append([]string{messageStart}, text("0", "A")...), []string{"Note: A"}},
		"broken before its end":    {claude, 1, append(append([]string{messageStart}, text("0", "A")...), messageDelta), []string{"Note: A"}},
		"a block that ends by all": {claude, 1, append(append([]string{messageStart}, text("0", "A")[:2]...), messageDelta, messageStop), []string{"Note: A"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sessionOf(t, c.schema, framed)
			out := streamedTo(t, s, c.choices, c.events...)
			if got := messages(t, c.schema, out); !slices.Equal(got, c.want) {
				t.Errorf("%q\n%s", got, out)
			}
			changed := strings.Contains(strings.Join(c.want, ""), "Note")
			if v := s.Verdicts(); len(v) != 1 || (v[0].Verdict == "change") != changed {
				t.Errorf("verdicts: %v", v)
			}
			in := "data: " + strings.Join(c.events, "\n\ndata: ") + "\n\n"
			if in = strings.ReplaceAll(in, "data: :", ":"); !changed && out != in {
				t.Errorf("got  %s\nwant %s", out, in)
			}
			for _, once := range []string{`"role":"assistant"`, `"cited_text":"said"`, `"message_stop"`, `"usage":{`} {
				if n := strings.Count(out, once); n != strings.Count(in, once) {
					t.Errorf("%d times %s in %s", n, once, out)
				}
			}
		})
	}
}

// TestFramedWhole: the text comes once in each answer, and an answer without text has none.
func TestFramedWhole(t *testing.T) {
	const openAI, claude = schema.OpenAIChat, schema.AnthropicMessages
	for name, c := range map[string]struct {
		schema     schema.Name
		choices    int
		body, want string // "" for as it came
	}{
		"null":            {openAI, 1, `{"choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null},"finish_reason":"stop"}]}`, ""},
		"nothing":         {openAI, 1, `{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}`, ""},
		"no choices":      {openAI, 1, `{"choices":[]}`, ""},
		"a refusal":       {openAI, 1, `{"choices":[{"index":0,"message":{"content":null,"refusal":"No."}}]}`, ""},
		"a call":          {openAI, 1, `{"choices":[{"index":0,"message":{"content":"I look.","tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{}"}}]}}]}`, `{"choices":[{"index":0,"message":{"content":"Note: I look.","tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{}"}}]}}]}`},
		"a source":        {openAI, 1, `{"choices":[{"index":0,"message":{"content":"A","annotations":[{"type":"url_citation","url_citation":{"title":"t","url":"u"}}]}}]}`, `{"choices":[{"index":0,"message":{"content":"Note: A No advice.","annotations":[{"type":"url_citation","url_citation":{"title":"t","url":"u"}}]}}]}`},
		"two answers":     {openAI, 2, `{"choices":[{"index":1,"message":{"content":"B"},"logprobs":{"content":[]}},{"index":0,"message":{"content":"A"},"logprobs":null}]}`, `{"choices":[{"index":1,"message":{"content":"Note: B No advice."},"logprobs":null},{"index":0,"message":{"content":"Note: A No advice."},"logprobs":null}]}`},
		"one of two":      {openAI, 2, `{"choices":[{"index":0,"message":{"content":""}},{"index":1,"message":{"content":"B"}}]}`, `{"choices":[{"index":0,"message":{"content":""}},{"index":1,"message":{"content":"Note: B No advice."}}]}`},
		"no blocks":       {claude, 1, `{"content":[],"stop_reason":"end_turn"}`, ""},
		"a thought":       {claude, 1, `{"content":[{"type":"thinking","thinking":"Hm.","signature":"s"},{"type":"text","text":""}]}`, ""},
		"blocks":          {claude, 1, `{"content":[{"type":"thinking","thinking":"Hm.","signature":"s"},{"type":"text","text":"A"},{"type":"text","text":"B","citations":[{"cited_text":"said","document_title":"t"}]}]}`, `{"content":[{"type":"thinking","thinking":"Hm.","signature":"s"},{"type":"text","text":"Note: A"},{"type":"text","text":"B No advice.","citations":[{"cited_text":"said","document_title":"t"}]}]}`},
		"another model's": {claude, 1, `{"content":[{"type":"fallback","from":{"model":"a"},"to":{"model":"b"}},{"type":"text","text":"A"}]}`, `{"content":[{"type":"fallback","from":{"model":"a"},"to":{"model":"b"}},{"type":"text","text":"Note: A No advice."}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := sessionOf(t, c.schema, framed)
			d := said(c.schema)
			got, e := s.Answer(t.Context(), d.client.Client, llm.Asked{Head: llm.Head{Model: "m", Choices: c.choices}}).Whole([]byte(c.body))
			want := c.want
			if want == "" {
				want = c.body
			}
			if e != nil || string(got) != want {
				t.Errorf("got  %s, %v\nwant %s", got, e, want)
			}
			if v := s.Verdicts(); len(v) != 1 || (v[0].Verdict == "change") != (c.want != "") {
				t.Errorf("verdicts: %v", v)
			}
		})
	}
}

// TestFramedAndBlocked: a stream that a policy ends has the text before it, and none after it.
func TestFramedAndBlocked(t *testing.T) {
	const policies = `{chain: [dlp, disclaimer], policy: {dlp: {phase: output, action: block, detect: [email]}, disclaimer: {before: "Note: ", after: " No advice."}}}`
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		d := said(name, "As far as I know it is him: ", "bob@example.org", " is his address.")
		steps, e := d.through(t, sessionOf(t, name, policies))
		out := strings.Join(steps, "")
		if got := messages(t, name, out); e == nil || len(got) != 1 || !strings.HasPrefix(got[0], "Note: As far") || strings.Contains(out, "advice") {
			t.Errorf("%q, %v\n%s", got, e, out)
		}
	})
}

// streamed puts events of a target through the chain, and returns what the client gets.
func streamed(t *testing.T, s *Session, events ...string) string {
	t.Helper()
	return streamedTo(t, s, 1, events...)
}

// streamedTo is streamed for a client that wants several answers. An event that is a comment is
// one that begins with a colon.
func streamedTo(t *testing.T, s *Session, choices int, events ...string) string {
	t.Helper()
	d := said(schema.Name(s.Schema))
	answer := s.Answer(t.Context(), d.client.Client, llm.Asked{Head: llm.Head{Model: "m", Stream: true, Choices: choices}})
	var out []byte
	for _, e := range events {
		if !strings.HasPrefix(e, ":") {
			e = "data: " + e
		}
		var blocked *llm.Error
		if out, _, blocked = answer.Stream(out, []byte(e+"\n\n"), true); blocked != nil {
			return string(answer.Cut(out))
		}
	}
	out, _, blocked := answer.End(out)
	if blocked != nil {
		t.Fatal(blocked)
	}
	return string(out)
}
