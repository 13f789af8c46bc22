package answer_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/extproc/answer"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/redact"
	"millrace/schema"
)

// toolAsText is what an encoder would make that asks for a tool in place of a JSON schema: the
// client gets the arguments as text, and no call.
type toolAsText struct{ llm.AnswerReader }

func (r toolAsText) Whole(body []byte) (*llm.Response, error) {
	response, err := r.AnswerReader.Whole(body)
	if err != nil {
		return nil, err
	}
	for i := range response.Choices {
		c := &response.Choices[i]
		for j, p := range c.Parts {
			if call, ok := p.(llm.ToolCall); ok {
				c.Parts[j], c.Stop = llm.Text{Text: call.Arguments}, llm.StopEnd
			}
		}
	}
	return response, nil
}

func (r toolAsText) Stream() llm.StreamDecoder { return textStream{r.AnswerReader.Stream()} }

type textStream struct{ llm.StreamDecoder }

func (s textStream) Push(chunk []byte) ([]llm.Frame, error) {
	frames, err := s.StreamDecoder.Push(chunk)
	for i := range frames {
		f := &frames[i]
		f.Events = slices.DeleteFunc(f.Events, func(e llm.Event) bool { return e.Kind == llm.ToolStart || e.Kind == llm.ToolEnd })
		for j := range f.Events {
			switch e := &f.Events[j]; e.Kind {
			case llm.ToolDelta:
				*e = llm.Event{Kind: llm.TextDelta, Choice: e.Choice, Text: e.Text}
			case llm.Finish:
				e.Stop = llm.StopEnd
			}
		}
	}
	return frames, err
}

// TestReaderUndoes: what the call's reader undoes is undone in whichever of its forms the answer
// comes, and in whichever the client wants it.
func TestReaderUndoes(t *testing.T) {
	const whole = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"tool_use","id":"toolu_1","name":"person","input":{"name":"Ada"}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":7}}`
	const stream = `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"person","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"name\":\"Ada\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}

`
	client, _ := provider.Of(schema.OpenAIChat)
	target, _ := provider.Of(schema.AnthropicMessages)
	hi := []llm.Message{{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "hi"}}}}
	call, err := target.Target.EncodeRequest(&llm.Request{Messages: hi}, llm.Options{Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{"whole": whole, "stream": stream} {
		for _, wantsStream := range []bool{false, true} {
			a := answer.New(answer.Env{
				Client: client.Client, Codec: target.Target, Reader: toolAsText{call.Answer}, Asked: llm.Asked{Head: llm.Head{Stream: wantsStream}},
				MaxBytes: 1 << 20, Secrets: redact.New(), Clock: answer.Clock{Started: start},
				Fail: func(e *llm.Error, _ bool) answer.Verdict { return answer.Verdict{Told: e} },
				Room: func(int64) bool { return true },
			})
			var got strings.Builder
			for _, happen := range []func(time.Time) answer.Out{
				func(now time.Time) answer.Out {
					return a.Head(answer.Head{Status: 200, Header: func() http.Header { return nil }}, now)
				},
				func(now time.Time) answer.Out { return a.Push([]byte(says), now) },
				a.End,
			} {
				got.Write(happen(start).Body)
			}
			a.Close()
			if text := got.String(); !strings.Contains(text, `{\"name\":\"Ada\"}`) || !strings.Contains(text, `"finish_reason":"stop"`) || strings.Contains(text, "tool_calls") {
				t.Errorf("a %s answer, client wants a stream: %v: %s", name, wantsStream, text)
			}
		}
	}
}
