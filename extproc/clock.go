package extproc

import (
	"time"

	"millrace/config"
	"millrace/extproc/answer"
)

// clock is how long the answer of an attempt that began then may take.
func (a asking) clock(started time.Time) answer.Clock {
	c := answer.Clock{
		Started:    started,
		Answer:     a.mostWait(),
		Silence:    limit(a.target.first),
		FirstToken: limit(a.target.firstToken),
		InterChunk: a.route.interChunk,
		KeepAlive:  a.route.keepAlive,
	}
	if request := limit(a.route.request); request > 0 && !a.x.head.Stream {
		c.Ends = a.x.started.Add(request)
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

// mostWait is how long an attempt may take to a stream's head, or to the end of a whole answer.
func (a asking) mostWait() time.Duration {
	if a.x.head.Stream {
		return limit(min(a.target.first, a.target.firstToken))
	}
	if a.route.perTry > 0 {
		return limit(min(a.target.whole, a.route.perTry))
	}
	return limit(a.target.whole)
}
