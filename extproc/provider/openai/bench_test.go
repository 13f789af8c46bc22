package openai

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"millrace/extproc/llm"
)

func benchBody(textBytes int, stream bool) []byte {
	tail := ""
	if stream {
		tail = `,"stream":true`
	}
	return fmt.Appendf(nil, `{"model":"gpt-4o","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"%s"}],`+
		`"temperature":0.7,"max_tokens":256%s}`, strings.Repeat("lorem ipsum ", textBytes/12), tail)
}

var benchSizes = map[string]int{"1KB": 1 << 10, "20KB": 20 << 10}

func BenchmarkReadHead(b *testing.B) {
	for name, size := range benchSizes {
		b.Run(name, func(b *testing.B) {
			body := benchBody(size, true)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (Chat{}).ReadHead(nil, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPatchRequest(b *testing.B) {
	for name, c := range map[string]struct {
		stream bool
		model  string
	}{"nothing to do": {false, "gpt-4o"}, "model and usage": {true, "gpt-4o-mini"}} {
		for size, n := range benchSizes {
			b.Run(name+"/"+size, func(b *testing.B) {
				body := benchBody(n, c.stream)
				h, err := Chat{}.ReadHead(nil, body)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := (Chat{}).PatchRequest(h, body, llm.Options{Model: c.model}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	body := benchBody(1<<10, true)
	h, err := Chat{}.ReadHead(nil, body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Chat{}).DecodeRequest(h, body); err != nil {
			b.Fatal(err)
		}
	}
}

const benchChunk = `data: {"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion.chunk","created":1741570283,` +
	`"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_50cad350e4",` +
	`"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"9Xs2"}` + "\n\n"

// BenchmarkStreamDecode is per chunk: each Push is one frame, as providers flush them.
func BenchmarkStreamDecode(b *testing.B) {
	for name, delta := range map[string]string{
		"text": `{"content":" hello"}`,
		"tool": `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			d := answerReader{llm.Head{Stream: true}}.Stream()
			open := fmt.Appendf(nil, benchChunk, `{"role":"assistant","content":"","tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]}`)
			if _, err := d.Push(open); err != nil {
				b.Fatal(err)
			}
			chunk := fmt.Appendf(nil, benchChunk, delta)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				frames, err := d.Push(chunk)
				if err != nil || len(frames) != 1 || len(frames[0].Events) != 1 {
					b.Fatal(err, frames)
				}
			}
		})
	}
}

func BenchmarkStreamEncode(b *testing.B) {
	e := Chat{}.NewStreamEncoder(llm.Asked{Head: llm.Head{Stream: true}})
	dst := e.Encode(nil, llm.Event{Kind: llm.Start, ID: "chatcmpl-1", Model: "gpt-4o", Created: 1})
	b.ReportAllocs()
	for b.Loop() {
		dst = e.Encode(dst[:0], llm.Event{Kind: llm.TextDelta, Text: " hello"})
	}
	if !bytes.Contains(dst, []byte("hello")) {
		b.Fatal("nothing written")
	}
}
