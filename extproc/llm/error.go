package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrorType is the class of an Error; it decides the HTTP status and every schema's own error type.
type ErrorType string

// Status gives each one's HTTP status.
const (
	ErrInvalidRequest ErrorType = "invalid_request"
	ErrAuthentication ErrorType = "authentication"
	ErrBilling        ErrorType = "billing"
	ErrPermission     ErrorType = "permission"
	ErrNotFound       ErrorType = "not_found"
	ErrMethod         ErrorType = "method_not_allowed"
	ErrConflict       ErrorType = "conflict"
	ErrTooLarge       ErrorType = "too_large"
	ErrRateLimit      ErrorType = "rate_limit"
	ErrTimeout        ErrorType = "timeout"
	ErrInternal       ErrorType = "internal"
	ErrBadGateway     ErrorType = "bad_gateway"
	ErrUnavailable    ErrorType = "unavailable"
	ErrOverloaded     ErrorType = "overloaded"
	ErrLoop           ErrorType = "loop"
)

var statusOf = map[ErrorType]int{
	ErrInvalidRequest: 400, ErrAuthentication: 401, ErrBilling: 402, ErrPermission: 403, ErrNotFound: 404,
	ErrMethod: 405, ErrConflict: 409, ErrTooLarge: 413, ErrRateLimit: 429, ErrTimeout: 504, ErrInternal: 500,
	ErrBadGateway: 502, ErrUnavailable: 503, ErrOverloaded: 529, ErrLoop: 508,
}

// ErrorTypeOf classes an HTTP status that came without a body that says more. 422 counts as an
// invalid request and 408 as a timeout; other unknown statuses go by their hundred.
func ErrorTypeOf(status int) ErrorType {
	for t, s := range statusOf {
		if s == status {
			return t
		}
	}
	switch {
	case status == 408:
		return ErrTimeout
	case status >= 400 && status < 500:
		return ErrInvalidRequest
	case status >= 500:
		return ErrInternal
	default:
		return ErrBadGateway
	}
}

// Error is what a client may know about a failure. Message names what was wrong. What of it is the
// provider's words may quote a credential: extproc takes those out before anyone gets them. Each
// schema encodes it in its own form.
type Error struct {
	Type    ErrorType
	Message string

	// Code and Param are OpenAI's finer words ("model_not_found", "messages[2].content"); "" when
	// there are none. Between OpenAI-shaped schemas they pass unchanged.
	Code  string
	Param string

	// Status is the provider's own HTTP status when it differs from what Type implies; 0 otherwise.
	Status int
	// RetryAfter is how long the provider asked to wait; 0 when it did not.
	RetryAfter time.Duration
	// Detail is the provider's further structured detail (Azure's innererror), verbatim; nil when
	// there is none.
	Detail json.RawMessage
}

// Errorf makes an Error whose message names what was wrong.
func Errorf(t ErrorType, format string, args ...any) *Error {
	return &Error{Type: t, Message: fmt.Sprintf(format, args...)}
}

// Invalid is an ErrInvalidRequest about one member of the request, given as the client would write
// its path ("messages[2].content").
func Invalid(param, format string, args ...any) *Error {
	return &Error{Type: ErrInvalidRequest, Param: param, Message: param + ": " + fmt.Sprintf(format, args...)}
}

// Unreadable is the error for a body that cannot be read. Where err knows whose value is wrong (a
// method Member, with the member's path) it says so; else the body is no strict JSON.
func Unreadable(err error) *Error {
	var wrong interface {
		error
		Member() string
	}
	switch {
	case !errors.As(err, &wrong):
		return Errorf(ErrInvalidRequest, "request body is not strict JSON: %v", err)
	case wrong.Member() == "":
		return Errorf(ErrInvalidRequest, "request body: %v", wrong)
	}
	return Invalid(wrong.Member(), "%v", wrong)
}

func (e *Error) Error() string { return string(e.Type) + ": " + e.Message }

// HTTPStatus is the status that goes with the error.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return statusOf[e.Type]
}

// AsError makes a client's error of any error. Codecs return nothing else; anything else is a bug
// of ours and says nothing.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf(ErrInternal, "internal error")
}
