package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"

	"millrace/extproc/llm"
)

// TestCut: a stream that a policy ends is complete to its client, choice by choice, and repeats no
// word of the answer.
func TestCut(t *testing.T) {
	const role = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"secret"},"finish_reason":null}]}`
	for name, c := range map[string]struct {
		first string // the event, with data:
		open  []int
		want  string
	}{
		"one choice": {role, []int{0},
			`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}`},
		"two of three choices": {role, []int{2, 0},
			`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}` + "\n\n" +
				`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","choices":[{"index":2,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}`},
		"what chunks repeat": {`data: {"choices":[],"system_fingerprint":"fp","service_tier":null,"provider":"P","usage":null,"obfuscation":"x","prompt_filter_results":[{}],"model":"m\"","created":5.0,"id":"i"}`, []int{0},
			`data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"m\"","system_fingerprint":"fp","service_tier":null,"provider":"P","usage":null,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}`},
		"usage is not repeated": {`data: {"id":"i","created":5,"model":"m","usage":{"prompt_tokens":3},"choices":[]}`, []int{0},
			`data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}`},
		"sloppy": {`data: {"id":7,"id":"i","created":5,"model":["m"],"choices":[]}`, []int{0},
			`data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}]}`},
		"nothing is open": {role, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(Chat{}.Cut([]byte("before"), []byte(strings.TrimPrefix(c.first, "data: ")), c.open, llm.StopRefusal))
			want := "before" + c.want + "\n\n" + streamEnd
			if c.want == "" {
				want = "before" + streamEnd
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestCutIsComplete: our own reader takes a cut stream for one that is complete, and so does
// OpenAI's.
func TestCutIsComplete(t *testing.T) {
	begun := `{"id":"i","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}`
	second := `{"id":"i","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":"b"},"finish_reason":null}]}`
	for name, c := range map[string]struct {
		first  string
		before []string
		open   []int
		stops  int
	}{
		"in mid-stream":       {begun, []string{begun}, []int{0}, 1},
		"with two choices":    {begun, []string{begun, second}, []int{0, 1}, 2},
		"before anything":     {"", nil, nil, 1},
		"behind what is none": {"}", []string{begun}, []int{0}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var stream []byte
			for _, event := range c.before {
				stream = append(stream, "data: "+event+"\n\n"...)
			}
			stream = Chat{}.Cut(stream, []byte(c.first), c.open, llm.StopRefusal)
			d := answerReader{llm.Head{Choices: c.stops}}.Stream()
			frames, err := d.Push(stream)
			if err != nil || !d.Complete() {
				t.Fatalf("complete: %t, %v, of %s", d.Complete(), err, stream)
			}
			var stops, ends int
			for _, f := range frames {
				for _, e := range f.Events {
					switch e.Kind {
					case llm.Finish:
						stops++
						if e.Stop != llm.StopRefusal {
							t.Errorf("choice %d stops with %s", e.Choice, e.Stop)
						}
					case llm.End:
						ends++
					case llm.Failure, llm.UsageReport:
						t.Errorf("tells %s", line(e))
					}
				}
			}
			if c.first != "}" { // what the chunks repeat is the first's
				official(t, string(stream))
			}
			if stops != c.stops || ends != 1 {
				t.Errorf("%d stops and %d ends in %s", stops, ends, stream)
			}
		})
	}
}

// official reads a cut stream as OpenAI's own client does.
func official(t *testing.T, stream string) {
	t.Helper()
	var answer openai.ChatCompletionAccumulator
	for data := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"+streamEnd), "\n\n") {
		var chunk openai.ChatCompletionChunk
		if err := json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), &chunk); err != nil || !answer.AddChunk(chunk) {
			t.Errorf("OpenAI's own client does not take %s: %v", data, err)
		}
	}
	for _, choice := range answer.Choices {
		if choice.FinishReason != "content_filter" {
			t.Errorf("OpenAI's own client reads %q of choice %d", choice.FinishReason, choice.Index)
		}
	}
	if len(answer.Choices) == 0 {
		t.Error("OpenAI's own client reads no choice")
	}
}

// TestSay: what a policy adds to an answer is a chunk like the others, without what only one of
// them has.
func TestSay(t *testing.T) {
	for before, want := range map[string]string{
		`{"id":"i","object":"chat.completion.chunk","created":5,"model":"m","system_fingerprint":"fp","usage":null,"choices":[{"index":1,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}`: `data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"m","system_fingerprint":"fp","usage":null,"choices":[{"index":1,"delta":{"content":"\"b\""},"logprobs":null,"finish_reason":null}]}` + "\n\n",
		`{"id":"i","created":5,"model":"m","usage":{"total_tokens":3},"choices":[]}`: `data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":1,"delta":{"content":"\"b\""},"logprobs":null,"finish_reason":null}]}` + "\n\n",
	} {
		if got := string(Chat{}.Say(nil, []byte(before), 1, `"b"`)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
