package fakellm

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// anthropic is the Messages API: https://docs.claude.com/en/api/messages.
func anthropic() *dialect {
	notFound := &Failure{Status: 404, Message: "Not found"}
	return &dialect{
		chatPath:     "/v1/messages",
		modelsPath:   "/v1/models",
		countPath:    "/v1/messages/count_tokens",
		authenticate: authenticateAnthropic,
		read:         readAnthropic,
		headers:      anthropicHead,
		answer:       anthropicAnswer,
		events:       anthropicEvents,
		failure:      anthropicFailure,
		errorEvent:   func(f Failure, id identity) Step { return Event("error", anthropicFailure(f, id)) },
		models:       anthropicModels,
		wrongPath:    func(*Request) *Failure { return notFound },
		wrongMethod:  func(*Request) *Failure { return &Failure{Status: 405, Message: "Method Not Allowed"} },
		wrongModel: func(model string) *Failure {
			return &Failure{Status: 404, Message: "model: " + model}
		},
	}
}

func anthropicHead(id identity) http.Header {
	h := http.Header{
		"Request-Id":                {id.make("req_", 0)},
		"Anthropic-Organization-Id": {"fake-" + id.provider},
	}
	reset := time.Now().Add(time.Second).UTC().Format(time.RFC3339)
	for kind, limit := range map[string][2]string{
		"Requests": {"4000", "3999"}, "Tokens": {"480000", "479000"},
		"Input-Tokens": {"400000", "399000"}, "Output-Tokens": {"80000", "80000"},
	} {
		h.Set("Anthropic-Ratelimit-"+kind+"-Limit", limit[0])
		h.Set("Anthropic-Ratelimit-"+kind+"-Remaining", limit[1])
		h.Set("Anthropic-Ratelimit-"+kind+"-Reset", reset)
	}
	return h
}

func anthropicStop(a Answer) string {
	switch {
	case a.Stop != "":
		return a.Stop
	case len(a.Calls) > 0:
		return "tool_use"
	case a.limited:
		return "max_tokens"
	case a.StopSequence != "":
		return "stop_sequence"
	default:
		return "end_turn"
	}
}

// anthropicUsage counts apart what OpenAI counts inside the input.
func anthropicUsage(u *Usage, output int) jsontext.Value {
	return obj(
		"input_tokens", u.Input-u.Cached-u.CacheWrite,
		"cache_creation_input_tokens", u.CacheWrite,
		"cache_read_input_tokens", u.Cached,
		"cache_creation", obj("ephemeral_5m_input_tokens", u.CacheWrite, "ephemeral_1h_input_tokens", 0),
		"output_tokens", output,
		"output_tokens_details", obj("thinking_tokens", min(u.Reasoning, output)),
		"service_tier", "standard",
	)
}

func anthropicMessage(a Answer, id identity, content []jsontext.Value, stop, stopSequence any, outputTokens int) jsontext.Value {
	return obj("id", id.make("msg_", 0), "type", "message", "role", "assistant", "model", a.Model, "content", content,
		"stop_reason", stop, "stop_sequence", stopSequence, "usage", anthropicUsage(a.Usage, outputTokens))
}

func anthropicAnswer(_ *conversation, a Answer, id identity) string {
	var content []jsontext.Value
	if a.Thinking != "" {
		content = append(content, obj("type", "thinking", "thinking", a.Thinking, "signature", signature(a.Thinking)))
	}
	if a.Text != "" {
		content = append(content, obj("type", "text", "text", a.Text))
	}
	for _, call := range a.Calls {
		content = append(content, obj("type", "tool_use", "id", call.ID, "name", call.Name, "input", toolInput(call.Arguments)))
	}
	return string(anthropicMessage(a, id, content, anthropicStop(a), orNull(a.StopSequence), a.Usage.Output))
}

// toolInput is the arguments as JSON; text that is not JSON becomes a string, which is no better
// than what it was.
func toolInput(arguments string) jsontext.Value {
	if arguments == "" {
		return obj()
	}
	if raw := jsontext.Value(arguments); raw.IsValid() {
		return raw
	}
	return encode(arguments)
}

// signature stands for the signed thinking that clients have to send back as it is.
func signature(thinking string) string {
	return base64.StdEncoding.EncodeToString([]byte("signed by fakellm: " + thinking))
}

func anthropicEvents(_ *conversation, a Answer, id identity) []string {
	var events []string
	emit := func(name string, members ...any) {
		events = append(events, Event(name, string(obj(append([]any{"type", name}, members...)...))).Bytes)
	}
	index := 0
	block := func(start jsontext.Value, deltas ...jsontext.Value) {
		emit("content_block_start", "index", index, "content_block", start)
		if index == 0 {
			emit("ping")
		}
		for _, delta := range deltas {
			emit("content_block_delta", "index", index, "delta", delta)
		}
		emit("content_block_stop", "index", index)
		index++
	}

	emit("message_start", "message", anthropicMessage(a, id, []jsontext.Value{}, nil, nil, 1))
	if a.Thinking != "" {
		var deltas []jsontext.Value
		for _, word := range words(a.Thinking) {
			deltas = append(deltas, obj("type", "thinking_delta", "thinking", word))
		}
		deltas = append(deltas, obj("type", "signature_delta", "signature", signature(a.Thinking)))
		block(obj("type", "thinking", "thinking", "", "signature", ""), deltas...)
	}
	if a.Text != "" {
		var deltas []jsontext.Value
		for _, word := range words(a.Text) {
			deltas = append(deltas, obj("type", "text_delta", "text", word))
		}
		block(obj("type", "text", "text", ""), deltas...)
	}
	for _, call := range a.Calls {
		deltas := []jsontext.Value{obj("type", "input_json_delta", "partial_json", "")}
		for _, piece := range pieces(call.Arguments) {
			deltas = append(deltas, obj("type", "input_json_delta", "partial_json", piece))
		}
		block(obj("type", "tool_use", "id", call.ID, "name", call.Name, "input", obj()), deltas...)
	}
	emit("message_delta", "delta", obj("stop_reason", anthropicStop(a), "stop_sequence", orNull(a.StopSequence)),
		"usage", anthropicUsage(a.Usage, a.Usage.Output))
	emit("message_stop")
	return events
}

func anthropicFailure(f Failure, id identity) string {
	kind := f.Type
	if kind == "" {
		kind = anthropicErrorType(f.Status)
	}
	return string(obj("type", "error", "error", obj("type", kind, "message", f.Message), "request_id", id.make("req_", 0)))
}

func anthropicErrorType(status int) string {
	switch status {
	case 401:
		return "authentication_error"
	case 402:
		return "billing_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 504:
		return "timeout_error"
	case 529:
		return "overloaded_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

func anthropicModels(names []string) string {
	if len(names) == 0 {
		names = []string{"claude-opus-4-8", "claude-sonnet-4-5", "claude-haiku-4-5"}
	}
	var list []jsontext.Value
	for _, name := range names {
		shown := strings.ReplaceAll(strings.TrimPrefix(name, "claude-"), "-", " ")
		list = append(list, obj("type", "model", "id", name, "display_name", "Claude "+shown, "created_at", "2025-09-29T00:00:00Z"))
	}
	return string(obj("data", list, "has_more", false, "first_id", names[0], "last_id", names[len(names)-1]))
}
