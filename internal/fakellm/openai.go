package fakellm

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// openAI is the Chat Completions API: https://platform.openai.com/docs/api-reference/chat.
func openAI() *dialect {
	return &dialect{
		chatPath:     "/v1/chat/completions",
		modelsPath:   "/v1/models",
		authenticate: authenticateOpenAI,
		read:         readOpenAI,
		headers:      openAIHead,
		answer:       openAIAnswer,
		events:       openAIEvents,
		failure:      openAIFailure,
		errorEvent:   func(f Failure, id identity) Step { return Event("", openAIFailure(f, id)) },
		models:       openAIModels,
		wrongPath: func(r *Request) *Failure {
			return &Failure{Status: 404, Message: fmt.Sprintf("Invalid URL (%s %s)", r.Method, r.Path)}
		},
		wrongMethod: func(r *Request) *Failure {
			return &Failure{Status: 405, Code: "method_not_supported",
				Message: fmt.Sprintf("Not allowed to %s on %s.", r.Method, r.Path)}
		},
		wrongModel: func(model string) *Failure {
			return &Failure{Status: 404, Code: "model_not_found",
				Message: fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", model)}
		},
	}
}

func openAIHead(id identity) http.Header {
	return http.Header{
		"X-Request-Id":                   {id.make("req_", 0)},
		"Openai-Organization":            {"fake-" + id.provider},
		"Openai-Processing-Ms":           {"12"},
		"Openai-Version":                 {"2020-10-01"},
		"X-Ratelimit-Limit-Requests":     {"10000"},
		"X-Ratelimit-Remaining-Requests": {"9999"},
		"X-Ratelimit-Reset-Requests":     {"6ms"},
		"X-Ratelimit-Limit-Tokens":       {"2000000"},
		"X-Ratelimit-Remaining-Tokens":   {"1999000"},
		"X-Ratelimit-Reset-Tokens":       {"30ms"},
	}
}

func openAIStop(a Answer) string {
	switch {
	case a.Stop != "":
		return a.Stop
	case len(a.Calls) > 0:
		return "tool_calls"
	case a.limited:
		return "length"
	default:
		return "stop"
	}
}

func openAIUsage(u *Usage) jsontext.Value {
	return obj(
		"prompt_tokens", u.Input, "completion_tokens", u.Output, "total_tokens", u.Input+u.Output,
		"prompt_tokens_details", obj("cached_tokens", u.Cached, "audio_tokens", 0),
		"completion_tokens_details", obj("reasoning_tokens", u.Reasoning, "audio_tokens", 0,
			"accepted_prediction_tokens", 0, "rejected_prediction_tokens", 0),
	)
}

func openAIAnswer(c *conversation, a Answer, id identity) string {
	var content any // null when the model only calls tools
	if a.Text != "" || len(a.Calls) == 0 {
		content = a.Text
	}
	message := []any{"role", "assistant", "content", content, "refusal", nil, "annotations", []any{}}
	if a.Thinking != "" { // as compatible servers do; OpenAI keeps it to itself
		message = append(message, "reasoning_content", a.Thinking)
	}
	if len(a.Calls) > 0 {
		var calls []jsontext.Value
		for _, call := range a.Calls {
			calls = append(calls, obj("id", call.ID, "type", "function",
				"function", obj("name", call.Name, "arguments", call.Arguments)))
		}
		message = append(message, "tool_calls", calls)
	}
	var choices []jsontext.Value
	for i := range c.choices {
		choices = append(choices, obj("index", i, "message", obj(message...), "logprobs", nil, "finish_reason", openAIStop(a)))
	}
	return string(obj("id", id.make("chatcmpl-", 0), "object", "chat.completion", "created", time.Now().Unix(), "model", a.Model,
		"choices", choices, "usage", openAIUsage(a.Usage), "service_tier", "default", "system_fingerprint", "fp_fake"))
}

func openAIEvents(c *conversation, a Answer, id identity) []string {
	created := time.Now().Unix()
	var events []string
	last := false
	chunk := func(choices []jsontext.Value, usage jsontext.Value) {
		members := []any{"id", id.make("chatcmpl-", 0), "object", "chat.completion.chunk", "created", created, "model", a.Model,
			"service_tier", "default", "system_fingerprint", "fp_fake", "choices", choices}
		switch {
		case c.tellsUsage && last:
			members = append(members, "usage", openAIUsage(a.Usage))
		case c.tellsUsage:
		case c.wantUsage:
			members = append(members, "usage", usage)
		}
		events = append(events, Event("", string(obj(members...))).Bytes)
	}
	for i := range c.choices {
		delta := func(finish any, members ...any) {
			chunk([]jsontext.Value{obj("index", i, "delta", obj(members...), "logprobs", nil, "finish_reason", finish)},
				jsontext.Value("null"))
		}
		if len(a.Calls) > 0 && a.Text == "" {
			delta(nil, "role", "assistant", "content", nil)
		} else {
			delta(nil, "role", "assistant", "content", "", "refusal", nil)
		}
		for _, word := range words(a.Thinking) {
			delta(nil, "reasoning_content", word)
		}
		for _, word := range words(a.Text) {
			delta(nil, "content", word)
		}
		for k, call := range a.Calls {
			delta(nil, "tool_calls", []jsontext.Value{obj("index", k, "id", call.ID, "type", "function",
				"function", obj("name", call.Name, "arguments", ""))})
			for _, piece := range pieces(call.Arguments) {
				delta(nil, "tool_calls", []jsontext.Value{obj("index", k, "function", obj("arguments", piece))})
			}
		}
		last = i == c.choices-1
		delta(openAIStop(a))
	}
	if c.wantUsage && !c.tellsUsage {
		chunk([]jsontext.Value{}, openAIUsage(a.Usage))
	}
	return append(events, Event("", "[DONE]").Bytes)
}

func openAIFailure(f Failure, _ identity) string {
	kind, code := openAIErrorType(f.Status)
	if f.Type != "" {
		kind = f.Type
	}
	if f.Code != "" {
		code = f.Code
	}
	return string(obj("error", obj("message", f.Message, "type", kind, "param", orNull(f.Param), "code", orNull(code))))
}

func openAIErrorType(status int) (kind, code string) {
	switch {
	case status == 429:
		return "requests", "rate_limit_exceeded"
	case status == 403:
		return "request_forbidden", ""
	case status >= 500:
		return "server_error", ""
	default:
		return "invalid_request_error", ""
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func openAIModels(names []string) string {
	if len(names) == 0 {
		names = []string{"gpt-4o", "gpt-4o-mini", "gpt-5"}
	}
	var list []jsontext.Value
	for _, name := range names {
		list = append(list, obj("id", name, "object", "model", "created", 1715367049, "owned_by", "system"))
	}
	return string(obj("object", "list", "data", list))
}
