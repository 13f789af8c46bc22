// Package policy is the chain of policies of a gateway. A policy is a kind (kinds.go), in a file of
// its own, with parameters; it is asked in its phases, in the order of the chain. The chain sees to
// all that policies have in common: the time they may take, what becomes of a request when one
// fails (on_error), and what is said of it. A nil chain has no policies.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"millrace/audit"
	"millrace/config"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// Request is what policies are told of a request that is about to be sent to a provider. None of
// its text is in it.
type Request struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"` // when it came
	Gateway string    `json:"gateway"`
	Key     string    `json:"key,omitempty"`            // the name of the one that let it in
	Client  string    `json:"client_address,omitempty"` // as Envoy saw it
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Schema  string    `json:"schema"`
	Model   string    `json:"model,omitempty"`
	Stream  bool      `json:"stream"`
	Bytes   int       `json:"bytes"`  // of the body
	SHA256  string    `json:"sha256"` // of the body, as the client sent it
}

// Outcome is how a request has ended.
type Outcome struct {
	*millracev1.Event      // must not be changed
	Asked             bool // the chain was asked whether the request may be sent
}

// Host is what policies need of the process they are in.
type Host struct {
	// Audit is the open audit log of a folder, "" for the one that the process has when nobody
	// says; nil when it is not open.
	Audit func(dir string) *audit.Log
	Log   *slog.Logger
}

// Chain is the policies of one gateway, compiled. It is never changed; its methods may be called at
// the same time.
type Chain struct {
	timeout time.Duration // of each request
	members []*member
}

// member is a policy of a chain.
type member struct {
	*config.Policy
	input inputPolicy // nil: it is not asked in this phase
	end   endPolicy
	fails atomic.Bool // it did, the last time it was asked
}

// Compile makes the chain of a gateway; nil when that has no policies. What is wrong with their
// parameters is said with its path.
func Compile(g *config.Gateway) (*Chain, error) {
	if len(g.Policies) == 0 {
		return nil, nil
	}
	c := &Chain{timeout: g.PolicyTimeout}
	var found config.Errors
	for _, p := range g.Policies {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == p.Kind })
		if i < 0 {
			return nil, fmt.Errorf("there is no policy %q", p.Kind) // config.NotYet has refused it
		}
		params := &params{policy: p, kind: kinds[i]}
		params.known()
		made, m := kinds[i].make(params), &member{Policy: p}
		for _, phase := range kinds[i].phases {
			switch phase {
			case Input:
				m.input = made.(inputPolicy)
			case End:
				m.end = made.(endPolicy)
			}
		}
		found = append(found, params.found...)
		c.members = append(c.members, m)
	}
	if len(found) > 0 {
		return nil, found
	}
	return c, nil
}

// Input asks the chain whether a request may be sent; nil says yes. All of it takes no longer than
// the gateway's policy_timeout: a policy that is left no time has failed, as one that hangs has.
// ctx ends when the client has left.
func (c *Chain) Input(ctx context.Context, h Host, r Request) *llm.Error {
	if c == nil {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s (policy_timeout)", c.timeout))
	defer cancel()
	for _, m := range c.members {
		input := m.input
		if input == nil {
			continue
		}
		err := guarded(limited, func() error { return input.input(limited, h, r) })
		if ctx.Err() == nil { // else it says nothing of the policy
			m.said(h, err)
		}
		if err != nil && !m.Allows {
			return llm.Errorf(llm.ErrUnavailable, "the policy %q cannot be carried out, and without it no request is sent", m.Name)
		}
	}
	return nil
}

// End tells the chain how a request has ended. It does not wait.
func (c *Chain) End(h Host, o Outcome) {
	if c == nil {
		return
	}
	for _, m := range c.members {
		if m.end != nil {
			if err := recovered(func() error { return m.end.end(h, o) }); err != nil {
				m.said(h, err)
			}
		}
	}
}

// guarded calls f and waits for it, no longer than ctx: a policy that hangs is one that has failed.
func guarded(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- recovered(f) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errPanic is a bug of ours.
var errPanic = errors.New("panic")

func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return f()
}

// said logs that the policy fails, or works again.
func (m *member) said(h Host, err error) {
	switch was := m.fails.Swap(err != nil); {
	case err != nil && !was:
		h.Log.Error("policy: it fails", "policy", m.Name, "requests_are_sent", m.Allows, "error", err)
	case err == nil && was:
		h.Log.Info("policy: it works again", "policy", m.Name)
	}
}
