package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
)

// Span is where a request, or an attempt of it, stands in a trace. Both ids come of what the
// request is known by, so that whoever has to say them need not be told.
type Span struct {
	Trace   [16]byte
	Parent  [8]byte // the client's span; zero where it has none
	ID      [8]byte // of the request's span
	Sampled bool

	request string
}

// SpanOf is that of a request by its id and its traceparent, which is well-formed or "". A client
// that has a trace decides whether it is recorded; of the others the part that sample says.
func SpanOf(request, traceparent string, sample float64) Span {
	s := Span{request: request, ID: spanID(request, 0)}
	if len(traceparent) >= len("00-") {
		_, _ = hex.Decode(s.Trace[:], []byte(traceparent[3:35])) // it is well-formed
		_, _ = hex.Decode(s.Parent[:], []byte(traceparent[36:52]))
		flags, _ := strconv.ParseUint(traceparent[53:55], 16, 8)
		s.Sampled = flags&1 == 1
		return s
	}
	sum := sha256.Sum256([]byte(request))
	s.Trace = [16]byte(sum[:])
	s.Sampled = float64(binary.BigEndian.Uint64(s.Trace[8:])) < sample*math.MaxUint64 || sample >= 1
	return s
}

// Attempt is the id of an attempt's span; they are counted from 1.
func (s Span) Attempt(n int) [8]byte { return spanID(s.request, n) }

// Traceparent is what a target is told that gets attempt number n.
func (s Span) Traceparent(n int) string {
	flags := 0
	if s.Sampled {
		flags = 1
	}
	return fmt.Sprintf("00-%x-%x-%02x", s.Trace, s.Attempt(n), flags)
}

func spanID(request string, n int) [8]byte {
	sum := sha256.Sum256(strconv.AppendInt([]byte(request+"/"), int64(n), 10))
	return [8]byte(sum[:])
}
