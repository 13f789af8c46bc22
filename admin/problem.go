package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/config"
	"millrace/config/store"
	"millrace/control"
	"millrace/event"
)

// problem is why a request was refused, as RFC 9457 writes it.
type problem struct {
	Type   string       `json:"type"` // "urn:millrace:" and a kind
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Errors []fieldError `json:"errors,omitempty"`
}

// fieldError is one field that is wrong.
type fieldError struct {
	Path   string `json:"path"` // "targets[0].weight"; "" for the whole
	Reason string `json:"reason"`
	Line   int    `json:"line,omitzero"` // of a YAML body
}

// kindOfProblem is one row of everything that a request can be refused for.
type kindOfProblem struct {
	name   string
	status int
	title  string
	code   codes.Code
}

var (
	badRequest    = kindOfProblem{"bad-request", http.StatusBadRequest, "The request cannot be understood", codes.InvalidArgument}
	unauthorized  = kindOfProblem{"unauthorized", http.StatusUnauthorized, "A valid token is needed", codes.Unauthenticated}
	tooManyWrong  = kindOfProblem{"too-many-wrong-tokens", http.StatusTooManyRequests, "Too many wrong tokens", codes.ResourceExhausted}
	forbidden     = kindOfProblem{"forbidden", http.StatusForbidden, "Not from here", codes.PermissionDenied}
	notFound      = kindOfProblem{"not-found", http.StatusNotFound, "Not found", codes.NotFound}
	badMethod     = kindOfProblem{"method-not-allowed", http.StatusMethodNotAllowed, "Not with this method", codes.Unimplemented}
	exists        = kindOfProblem{"exists", http.StatusConflict, "Exists already", codes.AlreadyExists}
	fileOwned     = kindOfProblem{"file-owned", http.StatusConflict, "Belongs to the configuration file", codes.FailedPrecondition}
	inUse         = kindOfProblem{"in-use", http.StatusConflict, "Still needed", codes.FailedPrecondition}
	stale         = kindOfProblem{"stale", http.StatusPreconditionFailed, "Changed since it was read", codes.Aborted}
	tooLarge      = kindOfProblem{"too-large", http.StatusRequestEntityTooLarge, "Too large", codes.ResourceExhausted}
	badMediaType  = kindOfProblem{"media-type", http.StatusUnsupportedMediaType, "Not in this format", codes.InvalidArgument}
	invalid       = kindOfProblem{"invalid", http.StatusUnprocessableEntity, "The configuration is not valid", codes.InvalidArgument}
	rejected      = kindOfProblem{"rejected", http.StatusUnprocessableEntity, "Envoy rejected the configuration", codes.FailedPrecondition}
	noStore       = kindOfProblem{"no-store", http.StatusConflict, "This sidecar keeps nothing", codes.FailedPrecondition}
	unavailable   = kindOfProblem{"unavailable", http.StatusServiceUnavailable, "Not now", codes.Unavailable}
	internalError = kindOfProblem{"internal", http.StatusInternalServerError, "Internal error", codes.Internal}
)

var kindsOfProblem = []kindOfProblem{badRequest, unauthorized, tooManyWrong, forbidden, notFound, badMethod, exists, fileOwned, inUse, stale, tooLarge,
	badMediaType, invalid, rejected, noStore, unavailable, internalError}

func (k kindOfProblem) because(format string, args ...any) *problem {
	return &problem{Type: "urn:millrace:" + k.name, Title: k.title, Status: k.status, Detail: fmt.Sprintf(format, args...)}
}

// at is because for one field.
func (k kindOfProblem) at(path, format string, args ...any) *problem {
	p := k.because(format, args...)
	p.Errors = []fieldError{{Path: path, Reason: p.Detail}}
	if path != "" {
		p.Detail = path + ": " + p.Detail
	}
	return p
}

// all is because for the errors of a configuration.
func (k kindOfProblem) all(found config.Errors) *problem {
	p := k.because("%d errors", len(found))
	for _, e := range found {
		p.Errors = append(p.Errors, fieldError{e.Path, e.Reason, e.Line})
	}
	if len(found) == 1 {
		p.Detail = config.Error{Path: found[0].Path, Reason: found[0].Reason}.Error()
	}
	return p
}

func (p *problem) is(k kindOfProblem) bool { return p.Type == "urn:millrace:"+k.name }

func (p *problem) Error() string { return cmp.Or(p.Detail, p.Title) }

// GRPCStatus is what a gRPC client gets.
func (p *problem) GRPCStatus() *status.Status {
	code := codes.Unknown
	for _, k := range kindsOfProblem {
		if p.is(k) {
			code = k.code
		}
	}
	s := status.New(code, p.Error())
	if len(p.Errors) == 0 {
		return s
	}
	fields := &errdetails.BadRequest{}
	for _, e := range p.Errors {
		fields.FieldViolations = append(fields.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: e.Path, Description: e.Reason})
	}
	if detailed, err := s.WithDetails(fields); err == nil {
		return detailed
	}
	return s
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers alone; invalid UTF-8 is replaced
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client is gone
}

// problemOf turns any error into what the client is told. Nothing of what we do not know is told.
func problemOf(err error) *problem {
	var p *problem
	var found config.Errors
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, control.ErrNotFound):
		return notFound.because("%v", err)
	case errors.Is(err, control.ErrStale):
		return stale.because("%v", err)
	case errors.Is(err, control.ErrFileOwned):
		return fileOwned.because("%v", err)
	case errors.Is(err, control.ErrExists):
		return exists.because("%v", err)
	case errors.Is(err, control.ErrNoStore):
		return noStore.because("%v", err)
	case errors.Is(err, store.ErrTooLarge), errors.As(err, new(*event.Refused)):
		return tooLarge.because("%v", err)
	case errors.As(err, &found):
		return invalid.all(found)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, event.ErrFull), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable.because("%v", err)
	default:
		return internalError.because("the log has more")
	}
}
