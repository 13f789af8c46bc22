package extproc

import (
	"time"

	"millrace/extproc/llm"
)

// A hedged request has several attempts under way at once, and the first answer that Envoy hears of is the client's. So a failed
// attempt says nothing while another one may still answer. See docs/rationale.md, "How is hedging done?".

// holdTick is how often an attempt that has failed looks whether there is hope yet.
const holdTick = 20 * time.Millisecond

// startSlack is how late Envoy may be in starting the next attempt.
const startSlack = time.Second

// holds tells whether the attempt must keep its failure to itself, and has it do so.
func (a *attempt) holds(e *llm.Error) bool {
	if a.route.hedge == 0 || !a.again {
		return false
	}
	if a.withheld == nil {
		a.withheld = e
		a.judge()
		a.note(func() { a.x.held++ })
	}
	return true
}

// hope tells whether another attempt at the request may still answer.
func (a *attempt) hope() bool {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	more := len(a.x.attempts) < a.route.attempts && time.Since(a.started) < a.route.hedge+startSlack
	return more || a.x.open > a.x.held
}

// stillHeld looks whether the time has come to say why the attempt failed.
func (a *attempt) stillHeld() error {
	if a.hope() {
		a.watched().by(time.Now().Add(holdTick))
		return nil
	}
	e := a.withheld
	a.noMoreHeld()
	if a.reader == nil || !a.reader.closed {
		return a.giveUp(e)
	}
	return a.reader.completeError(e)
}

// noMoreHeld is for an attempt that has said why it failed, or that is over.
func (a *attempt) noMoreHeld() {
	if a.withheld != nil {
		a.withheld = nil
		a.note(func() { a.x.held-- })
	}
}
