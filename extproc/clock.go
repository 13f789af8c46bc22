package extproc

import (
	"time"

	"millrace/config"
	"millrace/extproc/answer"
)

// clock is how long the attempt's answer may take, beside what Envoy's own clocks allow it.
func (a *attempt) clock() answer.Clock {
	c := answer.Clock{
		Started:    a.started,
		Answer:     a.mostWait(),
		Silence:    limit(a.target.first),
		FirstToken: limit(a.target.firstToken),
		CommitBy:   a.route.commitBy,
		InterChunk: a.route.interChunk,
		KeepAlive:  a.route.keepAlive,
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

// queueTime is how much longer than to its head a stream may take where connections are bounded:
// Envoy's clocks begin with the connection.
const queueTime = 5 * time.Second

// mostWait is how long the attempt may take to the target's head, or of a whole answer to its end,
// 0 where Envoy's own clock tells.
func (a *attempt) mostWait() time.Duration {
	switch {
	case a.x.head.Stream:
		wait := limit(min(a.target.first, a.target.firstToken))
		if wait > 0 && a.route.queues {
			wait += queueTime
		}
		return wait
	case a.target.whole < a.route.clock.Request:
		return limit(a.target.whole)
	}
	return 0
}
