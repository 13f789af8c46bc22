package config

import (
	"slices"
	"time"
)

// Plan is what serving a rule takes: how often a request is tried, which clocks bound it, what its
// body decides, and which messages the sidecar is asked for and why. Resolve derives it once.
// Envoy's half and the sidecar's both read it and derive nothing of it themselves, so they cannot
// disagree.
type Plan struct {
	Attempts  Attempts
	Whole     Clock // of requests for a whole answer
	Stream    Clock // of requests for a stream
	Choice    Choice
	Admission Needs          // of the admission stream, which a request of unknown size has
	Router    Needs          // of what reads the request: the router stream or, where Joined, the first attempt's upstream stream
	Upstreams []UpstreamPlan // one for each share, in the rule's order

	// Joined: nothing of the body decides which target is asked, and no policy whether one is, so
	// the first attempt's upstream stream reads the request, too. Only what is no POST has a router
	// stream.
	Joined bool
	// Detaches: the upstream stream ends at the first token of a stream of the client's own schema,
	// which is that of all targets.
	Detaches bool
	// Bare: when Envoy sends plain requests on by itself. Keys is what the router stream of these
	// is asked for where it always does; without needs there is none.
	Bare Bare
	Keys Needs
	// Request is how long a request for a whole answer may take with all its attempts, PerTry an
	// attempt at one, whatever its target may; 0: no bound. The sidecar ends them.
	Request, PerTry time.Duration
}

// Attempts is how a request is tried. Envoy has one retry policy a route, so the shares of an A/B
// test have one together: the most that any of them wants.
type Attempts struct {
	Most        int           // at least 1
	PerPriority int           // made at one priority before the next one is asked; at least 1
	Budgeted    bool          // Envoy may make fewer
	Hedge       time.Duration // when another target is asked beside one that is late; 0: one is asked at a time
	On          []string      // the conditions of any share, after which another target is asked

	Backoff     time.Duration // the first wait between two attempts; each further one is twice as long
	MaxInterval time.Duration // of those waits
	RetryAfter  time.Duration // the longest that a target's retry-after is waited for; 0: it is not
}

// RetriedOn tells whether another target is asked after a failure of this kind.
func (a Attempts) RetriedOn(condition string) bool { return slices.Contains(a.On, condition) }

// Clock is what Envoy allows requests of one kind: a little more than the sidecar, which is to be
// the first to say so.
type Clock struct {
	Request time.Duration // all attempts together; 0: no bound
	// Attempt is when an attempt is late: another one is made in its place, with Attempts.Hedge
	// beside it. 0: no bound.
	Attempt time.Duration
	Idle    time.Duration // in which the client gets nothing; 0: the listener's
}

// Choice is what a request's body decides about where the request goes.
type Choice struct {
	Rule   bool // the model decides which rule of the path it is; Envoy chooses again once the body is read
	Prefer bool // the same, for rules that nobody wrote: the model decides which targets are asked first
	Listed bool // the model decides which targets may be asked, in all upstreams of the rule
	Prompt bool // how the conversation begins decides which target is asked
	// Schemas has one target of each schema, where every upstream has targets of several: what the
	// request asks decides which of them can be told. Else it is nil.
	Schemas []*Target
}

// none tells whether the body decides nothing.
func (c Choice) none() bool {
	return !c.Rule && !c.Prefer && !c.Listed && !c.Prompt && c.Schemas == nil
}

// UpstreamPlan is what one of a rule's upstreams takes.
type UpstreamPlan struct {
	Upstream *Upstream
	Needs    Needs // of the upstream stream, for each attempt
}

// plan derives the plans of all rules, which must be complete.
func (g *Gateway) plan() {
	for _, r := range g.Rules {
		limits := r.limits(g)
		p := &Plan{
			Attempts: r.attempts(),
			Request:  limits.Request,
			PerTry:   r.perTry(limits),
			Choice:   g.choice(r),
		}
		p.Whole = Clock{Request: later(limits.Request), Attempt: later(p.PerTry)}
		p.Stream = Clock{Attempt: later(limits.FirstToken), Idle: longestWait(g, limits)}
		if hedge := p.Attempts.Hedge; hedge > 0 { // the clock for an attempt tells when it is late, and ends nothing
			p.Whole.Attempt, p.Stream.Attempt = hedge, hedge
		}
		p.Bare, p.Detaches = r.bare(), r.Shares[0].Detached
		// Whether a stream is to be detached from has to be known when its attempt begins. What
		// policies take of the time is no target's: the clock of an attempt does not run meanwhile.
		p.Joined = p.Choice.none() && p.Bare != BareFallback && !p.Detaches && !r.asksInput()
		p.Admission, p.Router = admissionNeeds(), g.routerNeeds(r, p)
		if p.Bare == BareAlways {
			p.Keys.add(Need{Message: RequestHeaders}, g.NeedsKey, "keys are checked")
		}
		for _, s := range r.Shares {
			p.Upstreams = append(p.Upstreams, UpstreamPlan{Upstream: s.Upstream, Needs: g.upstreamNeeds(r, s.Upstream, p)})
		}
		r.Plan = p
	}
}

func (r *Rule) attempts() Attempts {
	a := Attempts{Most: 1, PerPriority: len(r.Shares[0].Upstream.Targets), Hedge: r.hedge()}
	alone := true
	for _, s := range r.Shares {
		u := s.Upstream
		a.Most = max(a.Most, int(u.Attempts))
		a.PerPriority = min(a.PerPriority, u.attemptsPerPriority())
		a.Budgeted = a.Budgeted || u.Retry.BudgetPercent > 0
		a.Backoff, a.MaxInterval = max(a.Backoff, u.Retry.Backoff), max(a.MaxInterval, u.Retry.MaxInterval)
		a.RetryAfter = max(a.RetryAfter, u.Retry.MaxRetryAfter)
		alone = alone && len(u.Targets) == 1
	}
	for _, condition := range retryConditions {
		if slices.ContainsFunc(r.Shares, func(s Share) bool { return s.Upstream.retriedOn(condition) }) {
			a.On = append(a.On, condition)
		}
	}
	if !alone { // with another target to ask, waiting would be all that failover is there to save
		a.RetryAfter = 0
	}
	return a
}

// attemptsPerPriority is how many attempts a request makes at a priority before it goes on to the
// next: one at each target, as far as the attempts allow to come to the last priority.
func (u *Upstream) attemptsPerPriority() int {
	levels := u.Levels()
	if len(levels) < 2 {
		return 1
	}
	most := int(u.Attempts-1) / (len(levels) - 1)
	for _, level := range levels[:len(levels)-1] {
		most = min(most, len(level))
	}
	return max(most, 1)
}

// limits are the longest that the rule's targets may take for an attempt, and for a request with
// all its attempts: Envoy has one limit a route. What a target may take less is for the sidecar to
// keep.
func (r *Rule) limits(g *Gateway) Timeouts {
	longest := Timeouts{Request: g.Timeouts.Request}
	for _, s := range r.Shares {
		longest = longest.orLonger(s.Upstream.Limits())
	}
	return longest
}

// perTry is how long an attempt at a whole answer may take, 0 when one of the rule's upstreams does
// not bound it. Without a word of the operator's it is half of what the request has, where that
// leaves the other half for another target.
func (r *Rule) perTry(limits Timeouts) time.Duration {
	longest := time.Duration(0)
	for _, s := range r.Shares {
		perTry := s.Upstream.Retry.PerTry
		if perTry == 0 && !s.Upstream.Alone() && s.Upstream.Attempts > 1 {
			perTry = limits.Request / 2
		}
		if perTry == 0 {
			return 0
		}
		longest = max(longest, perTry)
	}
	return longest
}

// later is when Envoy ends what the sidecar has not ended in time; 0: never.
func later(limit time.Duration) time.Duration {
	if limit == 0 || limit == Unbounded {
		return 0
	}
	return limit + slack
}

// longestWait is how long a stream's client may get nothing, while the target thinks or because no
// other limit ends it: a target may talk for ever and say nothing.
func longestWait(g *Gateway, limits Timeouts) time.Duration {
	longest := max(time.Hour, limits.FirstByte+time.Minute, g.Stream.InterChunk+time.Minute)
	if limits.FirstToken < Unbounded {
		longest = max(longest, limits.FirstToken+time.Minute)
	}
	return longest
}

// hedge is when another target is asked beside one that is late, 0 when one of the rule's upstreams
// does not want that: Envoy has one retry policy a route.
func (r *Rule) hedge() time.Duration {
	longest := time.Duration(0)
	for _, s := range r.Shares {
		if s.Upstream.Retry.Hedge == 0 {
			return 0
		}
		longest = max(longest, s.Upstream.Retry.Hedge)
	}
	return longest
}

func (g *Gateway) choice(r *Rule) Choice {
	c := Choice{Listed: true, Schemas: r.schemas()}
	for _, other := range g.Rules {
		if other.Path == r.Path && len(other.Models) > 0 {
			c.Rule = c.Rule || !other.Derived
			c.Prefer = c.Prefer || other.Derived
		}
	}
	for _, s := range r.Shares {
		c.Listed = c.Listed && s.Upstream.Listed
		c.Prompt = c.Prompt || s.Upstream.Algorithm == PromptHash
	}
	return c
}

// schemas is one target of each schema where all upstreams of the rule have targets of several,
// else nil. Targets that get no requests do not count.
func (r *Rule) schemas() []*Target {
	var one []*Target
	for _, s := range r.Shares {
		if len(s.Upstream.Schemas()) < 2 {
			return nil
		}
		for _, t := range s.Upstream.Targets {
			if t.Answer == "" && t.Weight > 0 && !slices.ContainsFunc(one, func(o *Target) bool { return o.Schema == t.Schema }) {
				one = append(one, t)
			}
		}
	}
	if len(one) < 2 {
		return nil
	}
	return one
}

// WholeAttempt is how long an attempt at a whole answer of this target's may take.
func (u *Upstream) WholeAttempt(t *Target) time.Duration {
	if u.Retry.PerTry > 0 && !u.Alone() { // Envoy's clock has it, too, and makes another attempt
		return min(t.Timeouts.Request, u.Retry.PerTry)
	}
	return t.Timeouts.Request
}

// AsksAnother tells whether a failure of this kind is one after which it helps to ask again: a
// target that is alone would say the same of its credential and of the model.
func (u *Upstream) AsksAnother(condition string) bool {
	lasts := condition == OnCredential || condition == OnModel
	return u.retriedOn(condition) && !(lasts && u.Alone())
}
