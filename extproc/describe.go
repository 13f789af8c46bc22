package extproc

import (
	"cmp"
	"math"
	"slices"
	"time"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/prices"
	millracev1 "millrace/proto/millrace/v1"
)

// describe completes Envoy's entry with what the exchange knows. mu is held.
func (x *exchange) describe() *millracev1.Event {
	e := x.entry
	e.Traceparent = x.trace
	e.ReadMs = milliseconds(x.reading)
	e.Path = x.path // Envoy's entry has the path of the last attempt
	if x.key != nil {
		e.Key = x.key.Name
	}
	e.Schema = string(x.client.Schema.Name)
	e.Model = x.head.Model
	e.Stream = x.head.Stream
	e.Policies = x.session.Verdicts()
	if !x.bare {
		x.order(e)
	}
	decisive := x.decisive()
	if decisive != nil && decisive == x.answered && x.status == e.Status { // else the answer was Envoy's own
		e.Target, e.Provider = decisive.Target, decisive.Provider
	}
	if !x.alone() || e.Usage == nil { // else Envoy has told it
		e.Usage = x.used()
	}
	if e.Usage == nil && e.Status == 0 && decisive != nil { // the client left before there was an answer
		e.Usage = decisive.Usage
	}
	if x.detached != nil {
		x.detached.complete(e, x.started)
	}
	if x.answered != nil && x.status < 300 {
		e.FinishReason = x.answered.FinishReason
		if x.answered.FirstTokenMs > 0 {
			e.FirstTokenMs = math.Round(1000*(x.answered.BeganMs+x.answered.FirstTokenMs)) / 1000
		}
	}
	switch {
	case x.refusal != nil:
		e.Error = x.refusal.Message
	case decisive != nil:
		e.Error = decisive.Error
	}
	e.Gateway = x.route.gateway
	if x.took != nil {
		x.took.describe(e)
		if e.Service == "" {
			e.Service = x.took.serviceOf(x.lastTarget())
		}
	}
	if !x.bare && len(x.attempts) > 0 {
		x.cost(e)
	}
	e.Capture = x.captured()
	return e
}

// describe says which rule took the request.
func (rt *route) describe(e *millracev1.Event) {
	e.Gateway, e.Service, e.Rule, e.Tags = rt.gateway, rt.service, rt.name, rt.tags
}

// serviceOf is the service of a rule of several by which a target was chosen; "" where that is not
// certain.
func (rt *route) serviceOf(t *target) string {
	if t == nil {
		return ""
	}
	return rt.services[t.config.Identity]
}

func (x *exchange) lastTarget() *target {
	for _, a := range slices.Backward(x.attempts) {
		if a.target != nil {
			return a.target
		}
	}
	return nil
}

// order says how the attempts follow each other: when each began, as the event counts, and why
// another target was asked. mu is held.
func (x *exchange) order(e *millracev1.Event) {
	before := time.Duration(0) // Envoy had the request before the sidecar
	if e.Time != nil {
		before = max(0, x.started.Sub(e.Time.AsTime()))
	}
	e.Retries = uint32(max(len(x.attempts)-1, 0))
	for i, a := range x.attempts {
		e.Attempts = append(e.Attempts, a.Attempt)
		if a.target != nil {
			a.BeganMs = milliseconds(before + a.began.Sub(x.started))
		}
		e.Hedged = e.Hedged || a.Hedged
		switch last := i == len(x.attempts)-1; {
		case last, x.attempts[i+1].Hedged:
			a.RetriedOn = ""
		case a.RetriedOn != "":
		case a.Error == noConnection:
			a.RetriedOn = config.OnConnectFailure
		case a.Status == 0:
			a.RetriedOn = config.OnNoAnswer
		}
	}
}

// cost says what each attempt has cost, and all of them together. mu is held.
func (x *exchange) cost(e *millracev1.Event) {
	b := bill{table: x.runtime.prices}
	for _, a := range x.attempts {
		b.add(a.Attempt, a.target)
	}
	e.Cost = b.total()
}

// unread is the model of a request that Envoy has served by itself: the body names it.
const unread = "?"

// bill is what the attempts of a request have cost.
type bill struct {
	table prices.Table
	sum   prices.Amount
	cost  *millracev1.Cost // of all; nil: nothing was used
	known bool             // something of it has a price
}

// add prices an attempt.
func (b *bill) add(a *millracev1.Attempt, t *target) {
	if a.Usage == nil || t == nil {
		return
	}
	a.Cost = &millracev1.Cost{Estimated: a.Usage.Estimated}
	if b.cost == nil {
		b.cost = &millracev1.Cost{}
	}
	b.cost.Estimated = b.cost.Estimated || a.Usage.Estimated
	price, known := b.table.Find(t.config.Type, t.config.Provider, a.Model)
	if !known {
		model := cmp.Or(a.Model, unread)
		a.Cost.Unpriced = []string{model}
		if !slices.Contains(b.cost.Unpriced, model) {
			b.cost.Unpriced = append(b.cost.Unpriced, model)
		}
		return
	}
	u := a.Usage
	amount := price.Cost(prices.Tokens{
		Input: int64(u.Input), CacheRead: int64(u.CacheRead), CacheWrite: int64(u.CacheWrite), Output: int64(u.Output), Reasoning: int64(u.Reasoning),
	})
	a.Cost.Usd = amount.String()
	b.sum, b.known = b.sum.Plus(amount), true
}

func (b *bill) total() *millracev1.Cost {
	if b.known {
		b.cost.Usd = b.sum.String()
	}
	return b.cost
}

// usageMessage is the usage in an event.
func usageMessage(u llm.Usage, estimated bool) *millracev1.Usage {
	return &millracev1.Usage{
		Input:      clamped(u.Input),
		Output:     clamped(u.Output),
		CacheRead:  clamped(u.CacheRead),
		CacheWrite: clamped(u.CacheWrite),
		Reasoning:  clamped(u.Reasoning),
		Estimated:  estimated,
	}
}

// used is the usage of the attempt whose answer the client got, as the sidecar has read it. mu is
// held.
func (x *exchange) used() *millracev1.Usage {
	if x.answered == nil || x.status >= 300 {
		return nil
	}
	return x.answered.Usage
}

// decisive is the attempt that the request ended with: the one that was good, else the last; nil
// when there was none. mu is held.
func (x *exchange) decisive() *millracev1.Attempt {
	if x.answered != nil && x.status < 300 {
		return x.answered
	}
	if n := len(x.attempts); n > 0 {
		return x.attempts[n-1].Attempt
	}
	return nil
}
