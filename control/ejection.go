package control

import (
	"fmt"
	"sync"
	"time"

	"millrace/config"
)

// ejection takes out the targets that fail requests. It counts requests, not attempts: whatever a
// request meets at a target, and however often it was tried there, is one failure. See
// docs/rationale.md, "Who counts a target's failures?".
type ejection struct {
	mu       sync.Mutex
	accounts map[string]*account // by the target's identity
}

// account is what requests said about one target.
type account struct {
	failed map[string]bool // ids of the requests that failed since the last one that did not

	window map[string]bool // ids of the requests since begun, and whether they failed; nil without a circuit breaker
	begun  time.Time

	times int       // how often it was taken out, less what good time has made up for
	until time.Time // it is out until then
	why   string
	out   bool // until the end of its time was seen
}

const (
	// longestOut bounds how long a target is out, unless the first time is longer.
	longestOut = 5 * time.Minute
	// longestLook is the longest time over which a circuit breaker counts.
	longestLook = 10 * time.Second
)

// Succeeded notes that the target, by its identity, has served a request.
func (c *cooling) Succeeded(target, request string) { c.judge(target, request, "") }

// Failed notes that the target, by its identity, has failed a request, and why. It returns at once.
func (c *cooling) Failed(target, request, why string) { c.judge(target, request, why) }

func (c *cooling) judge(target, request, failure string) {
	u := c.now.Load().upstreams[target]
	if u == nil || u.Passive == nil && u.Breaker == nil {
		return
	}
	if out := c.out.judge(u, target, request, failure, time.Now()); out > 0 {
		c.log.Warn("target is taken out", "target", config.NameOf(target), "for", out.String(), "why", failure)
		c.wake()
	}
}

// judge notes what a request says, and tells for how long the target is taken out by it; 0: it is
// not.
func (e *ejection) judge(u *config.Upstream, target, request, failure string, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.accounts[target]
	if a == nil {
		a = &account{}
		e.accounts[target] = a
	}
	if now.Before(a.until) { // it is asked because no other can serve; its time has been set
		return 0
	}
	if b := u.Breaker; b != nil {
		if a.window == nil || now.Sub(a.begun) >= min(longestLook, b.Reset) {
			a.window, a.begun = map[string]bool{}, now
		}
		a.window[request] = failure != ""
	}
	if failure == "" {
		a.failed = nil
		return 0
	}
	if u.Passive != nil {
		if a.failed == nil {
			a.failed = map[string]bool{}
		}
		a.failed[request] = true
	}
	switch p, b := u.Passive, u.Breaker; {
	case alone(u, target):
		a.failed, a.window = nil, nil
		return 0
	case p != nil && len(a.failed) >= int(p.Failures):
		return a.eject(p.Out, fmt.Sprintf("%d requests in a row have failed, the last with: %s", p.Failures, failure), now)
	case b != nil && a.share() >= b.FailurePercentage && len(a.window) >= int(b.RequestVolume):
		return a.eject(b.Reset, fmt.Sprintf("%d%% of %d requests have failed, the last with: %s", a.share(), len(a.window), failure), now)
	}
	return 0
}

// share is the percentage of the window's requests that have failed.
func (a *account) share() uint32 {
	failed := 0
	for _, f := range a.window {
		if f {
			failed++
		}
	}
	return uint32(100 * failed / max(len(a.window), 1))
}

// eject takes the target out for as many times base as it was taken out before, and once more.
// Every base of good time makes up for one of them.
func (a *account) eject(base time.Duration, why string, now time.Time) time.Duration {
	if good := now.Sub(a.until); !a.until.IsZero() {
		a.times = max(a.times-int(good/base), 0)
	}
	a.times++
	out := min(time.Duration(a.times)*base, max(longestOut, base))
	a.until, a.why, a.out = now.Add(out), why, true
	a.failed, a.window = nil, nil
	return out
}

// alone tells whether the upstream has no other target that gets requests.
func alone(u *config.Upstream, target string) bool {
	for _, t := range u.Targets {
		if t.Identity != target && t.Weight > 0 {
			return false
		}
	}
	return true
}

// present adds to targets those that are out now. It returns when the first of them comes back, the
// zero time when none is out, and which have come back since it was asked before.
func (e *ejection) present(targets map[string]bool, now time.Time) (next time.Time, back []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for target, a := range e.accounts {
		switch {
		case !a.out:
		case !a.until.After(now):
			a.out = false
			back = append(back, target)
		default:
			targets[target] = true
			next = sooner(next, a.until)
		}
	}
	return next, back
}

// keep forgets the targets that are not among those of these upstreams, or are not taken out any
// more.
func (e *ejection) keep(upstreams map[string]*config.Upstream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for target := range e.accounts {
		if u := upstreams[target]; u == nil || u.Passive == nil && u.Breaker == nil || alone(u, target) {
			delete(e.accounts, target)
		}
	}
}

// Out tells until when a target, by its identity, is taken out for its failures, and why; the zero
// time when it is not.
func (c *cooling) Out(target string) (until time.Time, why string) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	a := c.out.accounts[target]
	if a == nil || !a.until.After(time.Now()) {
		return time.Time{}, ""
	}
	return a.until, a.why
}
