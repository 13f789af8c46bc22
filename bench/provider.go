package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

// roles are what a child process of the bench can be. The argument is where it listens.
var roles = map[string]func(string) error{"provider": provide, "floor": serveFloor}

// provide is a provider that costs next to nothing: fixed answers of about 1 KB, and streams of
// tokens at a fixed pace, in the schema of the path.
func provide(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(provideOne))
}

const (
	tokens = 100                   // of a stream
	pace   = 10 * time.Millisecond // between two of them
)

func provideOne(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	schema := openAI
	if strings.HasSuffix(r.URL.Path, "/messages") {
		schema = anthropic
	}
	if !bytes.Contains(request, []byte(`"stream":true`)) && !bytes.Contains(request, []byte(`"stream": true`)) {
		w.Header().Set("content-type", "application/json")
		say(w, schema.whole)
		return
	}
	w.Header().Set("content-type", "text/event-stream")
	begin := time.Now()
	for i := range tokens {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * pace)))
		if i == 0 {
			say(w, schema.first)
		}
		say(w, schema.token)
		w.(http.Flusher).Flush()
	}
	say(w, schema.last)
}

func say(w io.Writer, s string) {
	if _, err := io.WriteString(w, s); err != nil {
		panic(http.ErrAbortHandler) // the client has gone: its own error tells
	}
}

// word is in every token, and in nothing else.
const word = "token@ "

var text = strings.Repeat("The quick brown fox jumps over the lazy dog. ", 12)

var openAI = struct{ whole, first, token, last string }{
	whole: `{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1763668000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":170,"completion_tokens":120,"total_tokens":290,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default","system_fingerprint":"fp_0"}`,
	first: openAIChunk(`{"role":"assistant","content":"","refusal":null}`, "null"),
	token: openAIChunk(`{"content":"`+word+`"}`, "null"),
	last: openAIChunk(`{}`, `"stop"`) +
		`data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1763668000,"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":170,"completion_tokens":100,"total_tokens":270}}` + "\n\n" +
		"data: [DONE]\n\n",
}

func openAIChunk(delta, finish string) string {
	return `data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1763668000,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_0","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}],"usage":null}` + "\n\n"
}

var anthropic = struct{ whole, first, token, last string }{
	whole: `{"id":"msg_0123456789abcdef","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"` + text + `"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":170,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":120,"service_tier":"standard"}}`,
	first: event("message_start", `"message":{"id":"msg_0123456789abcdef","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":170,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}`) +
		event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`) +
		"event: ping\ndata: {\"type\":\"ping\"}\n\n",
	token: event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"`+word+`"}`),
	last: event("content_block_stop", `"index":0`) +
		event("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":100}`) +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
}

func event(kind, members string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"," + members + "}\n\n"
}
