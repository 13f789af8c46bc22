package extproc

import (
	"math"
	"strconv"
)

// noteQuota keeps what the target says is left of its limits.
func (a *attempt) noteQuota() {
	names := a.target.codec.Schema.Remaining
	requests, tokens := remaining(a.header, names.Requests), remaining(a.header, names.Tokens)
	if requests == nil && tokens == nil {
		return
	}
	a.note(func() { a.record.RemainingRequests, a.record.RemainingTokens = requests, tokens })
}

// remaining is the number in a header; nil where there is none.
func remaining(h headers, name string) *uint64 {
	said := ""
	if name != "" {
		said = h.get(name)
	}
	if said == "" {
		return nil
	}
	n, err := strconv.ParseFloat(said, 64)
	if err != nil || n < 0 || n >= math.MaxInt64 {
		return nil
	}
	left := uint64(n)
	return &left
}
