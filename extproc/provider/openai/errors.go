package openai

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/errorbody"
	"millrace/internal/retryafter"
	"millrace/internal/wirejson"
)

// errorCodes go with errors that bring none. https://platform.openai.com/docs/guides/error-codes
var errorCodes = map[llm.ErrorType]string{
	llm.ErrAuthentication: "invalid_api_key",
	llm.ErrRateLimit:      "rate_limit_exceeded",
	llm.ErrBadGateway:     "bad_gateway",
	llm.ErrUnavailable:    "overloaded",
	llm.ErrOverloaded:     "overloaded",
	llm.ErrLoop:           "loop_detected",
}

// EncodeError implements llm.ClientCodec. innererror is Azure's.
func (Chat) EncodeError(e *llm.Error) []byte {
	var out struct {
		Error struct {
			Message    string         `json:"message"`
			Type       string         `json:"type"`
			Param      *string        `json:"param"`
			Code       *string        `json:"code"`
			InnerError jsontext.Value `json:"innererror,omitzero"`
		} `json:"error"`
	}
	out.Error.Message, out.Error.Type = e.Message, row.Error.Type(string(e.Type))
	if e.Param != "" {
		out.Error.Param = &e.Param
	}
	if code := cmp.Or(e.Code, errorCodes[e.Type]); code != "" {
		out.Error.Code = &code
	}
	if detail := jsontext.Value(e.Detail); detail.IsValid() {
		out.Error.InnerError = detail
	}
	body, err := json.Marshal(&out, wirejson.Writing)
	if err != nil { // strings and one value that was checked: cannot be
		return []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":null}}`)
	}
	return body
}

// DecodeError implements llm.TargetCodec. The status decides the class; the body gives the words.
func (Chat) DecodeError(status int, h http.Header, body []byte) *llm.Error {
	said, _ := parseError(body)
	class := llm.ErrorTypeOf(status)
	if status >= 500 && said.class() == llm.ErrOverloaded {
		class = llm.ErrOverloaded
	}
	e := said.error(class)
	if e.Message == "" {
		e.Message = errorbody.Text(body)
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the provider answered with status %d and no readable error", status)
	}
	if status >= 400 && status != e.HTTPStatus() {
		e.Status = status
	}
	e.RetryAfter = retryAfter(status, h)
	return e
}

// insideError reads an error that came with a 2xx status or inside a stream, where only its words
// tell the class.
func insideError(body []byte) *llm.Error {
	said, ok := parseError(body)
	if !ok {
		return llm.Errorf(llm.ErrBadGateway, "the provider's answer is not a chat completion")
	}
	class := said.class()
	if class == "" {
		class = llm.ErrBadGateway
	}
	e := said.error(class)
	if e.Message == "" {
		e.Message = "the provider reported an error without a message"
	}
	return e
}

// providerError is what an error body has said.
type providerError struct{ errorbody.Said }

func (p providerError) error(class llm.ErrorType) *llm.Error {
	e := &llm.Error{Type: class, Message: shortened(p.Message), Param: p.Param, Code: p.Code}
	if _, err := strconv.Atoi(p.Code); err == nil {
		e.Code = "" // a status, not a word
	}
	if wirejson.Given(p.Detail) {
		e.Detail = []byte(p.Detail)
	}
	return e
}

// classes are the codes and types that say what the matter is, where no status does.
var classes = map[string]llm.ErrorType{
	"invalid_request_error": llm.ErrInvalidRequest, "badrequesterror": llm.ErrInvalidRequest,
	"context_length_exceeded": llm.ErrInvalidRequest, "content_filter": llm.ErrInvalidRequest,
	"invalid_api_key": llm.ErrAuthentication, "authentication_error": llm.ErrAuthentication,
	"permission_error": llm.ErrPermission,
	"model_not_found":  llm.ErrNotFound, "not_found_error": llm.ErrNotFound, "notfounderror": llm.ErrNotFound,
	"request_too_large":   llm.ErrTooLarge,
	"rate_limit_exceeded": llm.ErrRateLimit, "rate_limit_error": llm.ErrRateLimit, "insufficient_quota": llm.ErrRateLimit,
	"timeout": llm.ErrTimeout, "timeout_error": llm.ErrTimeout,
	"server_error": llm.ErrInternal, "api_error": llm.ErrInternal, "internal_error": llm.ErrInternal,
	"internalservererror": llm.ErrInternal, "internal_server_error": llm.ErrInternal,
	"service_unavailable": llm.ErrUnavailable, "service_unavailable_error": llm.ErrUnavailable,
	// Google's, https://google.aip.dev/193
	"invalid_argument": llm.ErrInvalidRequest, "failed_precondition": llm.ErrInvalidRequest, "unauthenticated": llm.ErrAuthentication,
	"permission_denied": llm.ErrPermission, "not_found": llm.ErrNotFound, "resource_exhausted": llm.ErrRateLimit,
	"deadline_exceeded": llm.ErrTimeout, "internal": llm.ErrInternal, "unavailable": llm.ErrUnavailable,
	"overloaded": llm.ErrOverloaded, "overloaded_error": llm.ErrOverloaded, "engine_overloaded": llm.ErrOverloaded,
}

// class goes by the code, which is the finer word, then by the type; "" when neither says anything.
func (p providerError) class() llm.ErrorType {
	for _, word := range []string{p.Code, p.Type} {
		if class := classes[strings.ToLower(word)]; class != "" {
			return class
		}
		if status, err := strconv.Atoi(word); err == nil && status >= 400 && status < 600 {
			return llm.ErrorTypeOf(status)
		}
	}
	return ""
}

// parseError reads an error body; false when nothing in it reads as an error.
func parseError(body []byte) (providerError, bool) {
	p := providerError{errorbody.Read(body)}
	return p, p.Message != "" || p.Code != "" || p.Type != ""
}

// IsError implements llm.ClientCodec. OpenAI's SDKs read {"error":{"message":…}} and raise any
// error in a stream that has the member.
func (Chat) IsError(body []byte) bool {
	var b struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	return json.Unmarshal(body, &b, wirejson.Lenient) == nil && b.Error.Message != ""
}

// maxMessageBytes keeps providers from answering with the whole prompt.
const maxMessageBytes = 4096

func shortened(s string) string {
	if len(s) <= maxMessageBytes {
		return s
	}
	cut := maxMessageBytes
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// retryAfter reads how long to wait: what the provider asks for, else, when the limit itself was
// hit, the time until it is full again (https://platform.openai.com/docs/guides/rate-limits).
func retryAfter(status int, h http.Header) time.Duration {
	if d, ok := retryafter.Asked(h, time.Now()); ok {
		return d
	}
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	requests := resetOf(h, "Requests")
	tokens := resetOf(h, "Tokens")
	switch {
	case h.Get("X-Ratelimit-Remaining-Requests") == "0" && h.Get("X-Ratelimit-Remaining-Tokens") != "0":
		return requests
	case h.Get("X-Ratelimit-Remaining-Tokens") == "0" && h.Get("X-Ratelimit-Remaining-Requests") != "0":
		return tokens
	}
	return max(requests, tokens)
}

// resetOf reads x-ratelimit-reset-requests or -tokens: "6m0s", "20ms", or bare seconds.
func resetOf(h http.Header, what string) time.Duration {
	value := h.Get("X-Ratelimit-Reset-" + what)
	if d, err := time.ParseDuration(value); err == nil {
		return max(0, d)
	}
	return retryafter.Seconds(value)
}
