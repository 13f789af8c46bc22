package anthropic

import (
	"net/http"
	"strings"
	"testing"

	"millrace/extproc/llm"
)

// benchBody is a request of about 20 kB.
func benchBody() []byte {
	return []byte(`{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true,"temperature":0.5,"system":"You are terse.","messages":[{"role":"user","content":"` +
		strings.Repeat("lorem ipsum ", 1700) + `"}]}`)
}

func BenchmarkReadHead(b *testing.B) {
	body := benchBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Messages{}).ReadHead(nil, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchRequest(b *testing.B) {
	body := benchBody()
	head, err := Messages{}.ReadHead(nil, body)
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]llm.Options{
		"same model":    {Model: "claude-sonnet-4-5", Headers: http.Header{"Anthropic-Version": {"2023-06-01"}}},
		"another model": {Model: "claude-opus-4-6", Headers: http.Header{"Anthropic-Version": {"2026-10-21"}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (Messages{}).PatchRequest(head, body, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTranslateRequest(b *testing.B) {
	body := benchBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Messages{}.DecodeRequest(llm.Head{Model: "claude-sonnet-4-5"}, body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := (Messages{}).EncodeRequest(r, llm.Options{Model: "claude-sonnet-4-5"}); err != nil {
			b.Fatal(err)
		}
	}
}

const benchChunk = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello, world\"}}\n\n"

// BenchmarkStreamDecoder reads one text delta per operation, as it mostly arrives: one event, one
// chunk.
func BenchmarkStreamDecoder(b *testing.B) {
	d := answerReader{}.Stream()
	chunk := []byte(benchChunk)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Push(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStreamEncoder(b *testing.B) {
	e := Messages{}.NewStreamEncoder(llm.Asked{})
	dst := make([]byte, 0, 1024)
	delta := llm.Event{Kind: llm.TextDelta, Text: "Hello, world"}
	b.ReportAllocs()
	for b.Loop() {
		dst = e.Encode(dst[:0], delta)
	}
}
