package texts

import (
	"fmt"
	"strings"
	"testing"

	"millrace/schema"
)

// conversation is a request of about that many bytes, or, with one turn of the assistant's, a whole
// answer.
func conversation(size int) []byte {
	var b strings.Builder
	b.WriteString(`{"model":"m","system":"You are a helpful assistant.","messages":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"role":"user","content":"Turn %d: %s"},`, i, strings.Repeat("What is the weather like in the north? ", 12))
		fmt.Fprintf(&b, `{"role":"assistant","content":[{"type":"text","text":"Say \"%d\".\n%s"}]}`, i, strings.Repeat("It is cold there, and windy. ", 12))
	}
	b.WriteString(`],"tools":[{"name":"f","description":"what it does","input_schema":{"type":"object"}}],"stream":true}`)
	return []byte(b.String())
}

func BenchmarkRequest(b *testing.B) {
	for _, s := range schema.All() {
		for _, size := range []int{20 << 10, 200 << 10} {
			body := conversation(size)
			b.Run(fmt.Sprintf("%s/%d", s.Name, size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Request(s, body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// wholeAnswers say 4 KB.
var wholeAnswers = map[schema.Name]string{
	schema.OpenAIChat: `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("It is cold there, and windy. ", 140) + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
	schema.AnthropicMessages: `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"` +
		strings.Repeat("It is cold there, and windy. ", 140) + `"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}`,
}

func BenchmarkAnswer(b *testing.B) {
	for _, s := range schema.All() {
		body := []byte(wholeAnswers[s.Name])
		b.Run(string(s.Name), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Answer(s, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var deltaEvents = map[schema.Name]string{
	schema.OpenAIChat:        `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" north"},"logprobs":null,"finish_reason":null}],"usage":null}`,
	schema.AnthropicMessages: `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" north"}}`,
}

func BenchmarkEvent(b *testing.B) {
	for _, s := range schema.All() {
		data := []byte(deltaEvents[s.Name])
		b.Run(string(s.Name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Event(s, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReplace(b *testing.B) {
	body := conversation(20 << 10)
	found, err := Request(schema.Of(schema.OpenAIChat), body)
	if err != nil {
		b.Fatal(err)
	}
	with := map[int]string{1: "a", len(found) / 2: "b", len(found) - 1: "{}"}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		Replace(body, found, with)
	}
}
