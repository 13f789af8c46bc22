package extproc

import (
	"time"

	"millrace/config"
	"millrace/extproc/answer"
)

// clock is how long the attempt's answer may take.
func (a *attempt) clock() answer.Clock {
	c := answer.Clock{
		Started:    a.started,
		Answer:     a.mostWait(),
		Silence:    limit(a.target.first),
		FirstToken: limit(a.target.firstToken),
		InterChunk: a.route.interChunk,
		KeepAlive:  a.route.keepAlive,
	}
	if !a.x.head.Stream {
		c.Ends = a.x.started.Add(a.route.request)
	}
	if a.x.waits > 0 {
		c.Leaves = a.x.started.Add(a.x.waits)
	}
	return c
}

// limit is the limit as a clock has it.
func limit(d time.Duration) time.Duration {
	if d == config.Unbounded {
		return 0
	}
	return d
}

// mostWait is how long the attempt may take to a stream's head, or to the end of a whole answer.
func (a *attempt) mostWait() time.Duration {
	if a.x.head.Stream {
		return limit(min(a.target.first, a.target.firstToken))
	}
	if a.route.perTry > 0 {
		return min(a.target.whole, a.route.perTry)
	}
	return a.target.whole
}
