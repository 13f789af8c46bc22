package anthropic

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"millrace/extproc/llm"
	"millrace/internal/errorbody"
	"millrace/internal/retryafter"
	"millrace/internal/wirejson"

	"github.com/go-json-experiment/json"
)

// errorTypes reads the API's error types (https://docs.anthropic.com/en/api/errors).
// invalid_request_error and api_error say no more than a status and count only without one.
var errorTypes = map[string]llm.ErrorType{
	"authentication_error": llm.ErrAuthentication,
	"billing_error":        llm.ErrBilling,
	"permission_error":     llm.ErrPermission,
	"not_found_error":      llm.ErrNotFound,
	"conflict_error":       llm.ErrConflict,
	"request_too_large":    llm.ErrTooLarge,
	"rate_limit_error":     llm.ErrRateLimit,
	"timeout_error":        llm.ErrTimeout,
	"overloaded_error":     llm.ErrOverloaded,
}

type errorObject struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// EncodeError writes {"type":"error","error":{"type","message"}}.
func (Messages) EncodeError(e *llm.Error) []byte { return appendError(nil, e) }

func appendError(dst []byte, e *llm.Error) []byte {
	dst = append(dst, `{"type":"error","error":{"type":"`...)
	dst = append(dst, row.Error.Type(string(e.Type))...)
	dst = append(dst, `","message":`...)
	dst = wirejson.AppendQuote(dst, e.Message)
	return append(dst, "}}"...)
}

// DecodeError reads an answer that is no 2xx.
func (Messages) DecodeError(status int, h http.Header, body []byte) *llm.Error {
	said := errorbody.Read(body)
	e := &llm.Error{Type: llm.ErrorTypeOf(status), Message: said.Message, RetryAfter: retryAfter(status, h, time.Now())}
	if t, ok := errorTypes[said.Type]; ok {
		e.Type = t
	}
	if e.Message == "" {
		e.Message = unexplained(status, body)
	}
	if e.HTTPStatus() != status && status >= 400 {
		e.Status = status
	}
	return e
}

// IsError tells whether body is the error of this API: {"type":"error","error":{"type","message"}}.
func (Messages) IsError(body []byte) bool {
	var b struct {
		Type  string      `json:"type"`
		Error errorObject `json:"error"`
	}
	return json.Unmarshal(body, &b, wirejson.Lenient) == nil && b.Type == "error" && b.Error.Type != "" && b.Error.Message != ""
}

// unexplained words an error whose body says nothing in this schema: a short plain text is kept, a
// page of HTML is not.
func unexplained(status int, body []byte) string {
	if text := errorbody.Text(body); text != "" {
		return text
	}
	answer := strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status)) // 529 has no name
	return fmt.Sprintf("the provider answered %s without a readable error", answer)
}

// retryAfter is how long to wait: what the provider asks for, else, on a 429, until the limits that
// are used up are reset. https://docs.anthropic.com/en/api/rate-limits#response-headers
func retryAfter(status int, h http.Header, now time.Time) time.Duration {
	if d, ok := retryafter.Asked(h, now); ok {
		return d
	}
	if status != http.StatusTooManyRequests {
		return 0
	}
	var wait time.Duration
	for _, limit := range []string{"Requests", "Tokens", "Input-Tokens", "Output-Tokens"} {
		prefix := "Anthropic-Ratelimit-" + limit
		if left := h.Get(prefix + "-Remaining"); left != "" && left != "0" {
			continue
		}
		if at, err := time.Parse(time.RFC3339, h.Get(prefix+"-Reset")); err == nil {
			wait = max(wait, retryafter.Until(now, at))
		}
	}
	return wait
}

// failure is what an error object inside a 2xx answer or a stream means, where there is no status
// to go by.
func failure(said errorbody.Said) *llm.Error {
	t, ok := errorTypes[said.Type]
	switch {
	case ok:
	case said.Type == "invalid_request_error":
		t = llm.ErrInvalidRequest
	default:
		t = llm.ErrInternal
	}
	if said.Message == "" {
		said.Message = "the provider sent an error without a message"
	}
	return &llm.Error{Type: t, Message: said.Message}
}
