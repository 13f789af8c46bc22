package extproc

import "time"

// A hedged request has several attempts under way at once, and the first answer that Envoy hears of is the client's. So a failed
// attempt says nothing while another one may still answer (answer.Withheld). See docs/rationale.md, "How is hedging done?".

// startSlack is how late Envoy may be in starting the next attempt.
const startSlack = time.Second

// rival tells whether another attempt at the request may still answer.
func (a *attempt) rival() bool {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	more := len(a.x.attempts) < a.route.attempts && time.Since(a.started) < a.route.hedge+startSlack
	return more || a.x.open > a.x.held
}

// countHeld keeps the exchange's count of attempts that have failed and not said so.
func (a *attempt) countHeld(held bool) {
	if held == a.held {
		return
	}
	a.held = held
	a.note(func() {
		if held {
			a.x.held++
		} else {
			a.x.held--
		}
	})
	if held {
		a.judge()
	}
}
