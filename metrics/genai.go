package metrics

import (
	"strconv"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// What OpenTelemetry calls things that events say in our words
// (https://github.com/open-telemetry/semantic-conventions-genai).

// Operation is the value of gen_ai.operation.name.
func Operation(e *millracev1.Event) string {
	if isCount(e) {
		return "count_tokens"
	}
	return "chat"
}

// ProviderName is the value of gen_ai.provider.name for a provider that is named so here.
func ProviderName(ours string) string {
	if p, ok := schema.Named(ours); ok && p.OTel != "" {
		return p.OTel
	}
	return ours
}

// ErrorType is the value of error.type for a request's end, "" where it is none: a status that
// providers give, or timeout, or that no answer came, or no end of it.
func ErrorType(e *millracev1.Event) string {
	switch {
	case e.Status == 0:
		return "client_left"
	case e.Status < 400 && e.Error != "":
		return "broken_off"
	case e.Status < 400:
		return ""
	}
	switch e.Status {
	case 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529:
		return strconv.Itoa(int(e.Status))
	}
	return class(e.Status)
}

// Decisive is the attempt that a request ended with: the one whose answer the client got, else the
// last; nil when there was none.
func Decisive(e *millracev1.Event) *millracev1.Attempt {
	for i := len(e.Attempts) - 1; i >= 0; i-- {
		if a := e.Attempts[i]; e.Target != "" && a.Target == e.Target && a.Status == e.Status {
			return a
		}
	}
	if n := len(e.Attempts); n > 0 {
		return e.Attempts[n-1]
	}
	return nil
}

// FirstTokenMs is how long the first token of a stream took, from the beginning of its attempt; 0
// where that is not known. Where the attempt does not say it, it is when the client got its first
// byte: that comes with it.
func FirstTokenMs(e *millracev1.Event, a *millracev1.Attempt) float64 {
	if a.FirstTokenMs > 0 {
		return a.FirstTokenMs
	}
	if !e.Stream || e.Status != 200 || a.Status != 200 || e.FirstByteMs == 0 {
		return 0
	}
	return max(0, e.FirstByteMs-a.BeganMs)
}
