// Package webhook asks a service of the operator's what becomes of a request or an answer: the
// policy of the kind webhook. What is sent and what comes back is described in
// docs/webhook.openapi.yaml; an endpoint that has the shape of OpenAI's POST /v1/moderations can be
// asked instead.
//
// A client bounds what it does: the time of a question, with all its tries, the size of an answer,
// the questions at the same time, and, with a breaker, the questions to a service that is down. An
// error means that nobody knows: the policy has failed, and on_error says what follows.
//
// The URL is the operator's. Redirects are not followed and no proxy is used, so that what is asked
// is what the operator wrote; Config.Refuse sees each address before it is connected to.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"millrace/internal/outbound"
)

// Config is one service.
type Config struct {
	URL    string
	Format Format

	// Model and Threshold are of the format Moderation. A text is flagged when one of its scores
	// reaches the threshold; 0: when the service says so.
	Model     string
	Threshold float64

	Timeout time.Duration // of a question, with all its tries
	// Retries is how often a question is put once more when the service could not be connected to
	// or has answered with a status of 500 or above. Backoff is the time before the first of them,
	// doubled for each one after it; a random part of up to a half is taken off.
	Retries int
	Backoff time.Duration
	// After Failures in a row, the service is not asked for Pause; then one question tries it.
	// 0: it is always asked.
	Failures int
	Pause    time.Duration

	Concurrency    int // questions at the same time, and connections; others wait
	MaxAnswerBytes int

	// CA, Cert and Key are files. CA is who may vouch for the service, "" for whom the system
	// trusts. With Cert and Key the client shows who it is; they are read at each handshake, so
	// they can be replaced.
	CA, Cert, Key string
	Headers       map[string]string // secrets are put in by the caller
	// Secret signs each question as https://www.standardwebhooks.com has it: base64, with or
	// without whsec_ before it. "": they are not signed.
	Secret string

	// Refuse says why an address must not be connected to; nil: every one may.
	Refuse func(netip.AddrPort) error
}

// Format is how a service is asked.
type Format string

// The formats.
const (
	Guardrail  Format = "guardrail"  // docs/webhook.openapi.yaml
	Moderation Format = "moderation" // OpenAI's POST /v1/moderations
)

// Question is what a service is asked.
type Question struct {
	ID      string `json:"id"`    // of the request
	Phase   string `json:"phase"` // "input" or "output"
	Gateway string `json:"gateway"`
	Service string `json:"service,omitzero"`
	Key     string `json:"key,omitzero"` // its name
	Model   string `json:"model,omitzero"`
	Schema  string `json:"schema"`
	Stream  bool   `json:"stream"`
	Texts   []Text `json:"texts"`
}

// Text is a text of a request or an answer.
type Text struct {
	Role string `json:"role"`
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Verdict is what the service says.
type Verdict struct {
	Action Action
	// Reason and Category are for people and metrics: short, and without control characters. They
	// are the service's, which must not put matched text into them.
	Reason, Category string
	Texts            []Replacement // of Redact, each index once
}

// Replacement is what a text becomes.
type Replacement struct {
	Index int // in Question.Texts
	Text  string
}

// Action is what becomes of the texts.
type Action string

// The actions.
const (
	Pass   Action = "pass"
	Flag   Action = "flag" // pass, and note it
	Redact Action = "redact"
	Block  Action = "block"
)

// The errors of a question that was not put.
var (
	ErrOpen = errors.New("webhook: not asked: the service has failed several times in a row")
	ErrBusy = errors.New("webhook: not asked: as many questions as are allowed are under way, until no time was left")
)

// Client asks one service. Its methods may be called at the same time.
type Client struct {
	config  Config
	format  format
	sign    signer
	http    *http.Client
	slots   chan struct{}
	breaker breaker
	closed  atomic.Bool
}

// format writes a question and reads its answer.
type format struct {
	has   func(*Question) bool // something to ask about
	write func(*Question) ([]byte, error)
	read  func([]byte, *Question) (Verdict, error)
}

// New makes a client. Its error says which field of the configuration is wrong.
func New(c Config) (*Client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sign, err := newSigner(c.Secret)
	if err != nil {
		return nil, err
	}
	asks, err := outbound.Client(outbound.Options{CA: c.CA, Cert: c.Cert, Key: c.Key, Connections: c.Concurrency, Refuse: c.Refuse})
	if err != nil {
		return nil, err
	}
	client := &Client{
		config:  c,
		format:  format{hasTexts, writeQuestion, readVerdict},
		sign:    sign,
		http:    asks,
		slots:   make(chan struct{}, c.Concurrency),
		breaker: breaker{failures: c.Failures, pause: c.Pause},
	}
	if c.Format == Moderation {
		m := moderation{c.Model, c.Threshold}
		client.format = format{m.has, m.write, m.read}
	}
	return client, nil
}

// Ask puts a question and waits for the verdict, until ctx ends or the time is over. About nothing
// nobody is asked: without texts the verdict is Pass.
func (c *Client) Ask(ctx context.Context, q *Question) (Verdict, error) {
	if !c.format.has(q) {
		return Verdict{Action: Pass}, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, fmt.Errorf("no answer within %s", c.config.Timeout))
	defer cancel()
	if err := c.slot(limited); err != nil {
		return Verdict{}, err
	}
	defer func() { <-c.slots }()
	body, err := c.format.write(q)
	if err != nil {
		return Verdict{}, fmt.Errorf("webhook: %w", err)
	}
	if !c.breaker.enter() {
		return Verdict{}, ErrOpen
	}
	says := unknown
	defer func() { c.breaker.leave(says) }()
	answer, f := c.put(limited, body)
	switch {
	case f == nil || !f.down:
		says = up
	case !errors.Is(ctx.Err(), context.Canceled): // else the client has left
		says = down
	}
	if f != nil {
		return Verdict{}, fmt.Errorf("webhook: %w", f.err)
	}
	verdict, err := c.format.read(answer, q)
	if err != nil {
		return Verdict{}, fmt.Errorf("webhook: %w", err)
	}
	return verdict, nil
}

// slot waits until a question may be put, as long as there is time for it.
func (c *Client) slot(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrBusy
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ErrBusy
	}
}

// failure is why a question has no answer.
type failure struct {
	err   error
	down  bool // it is the service that fails, and not this question
	again bool // it may be put once more
}

// put puts a question until it has an answer, or there are no tries left or no time.
func (c *Client) put(ctx context.Context, body []byte) ([]byte, *failure) {
	headers, err := c.headers(body)
	if err != nil {
		return nil, &failure{err: err}
	}
	wait := c.config.Backoff
	for left := c.config.Retries; ; left-- {
		answer, f := c.try(ctx, headers, body)
		if f == nil || !f.again || left <= 0 || !pause(ctx, wait) {
			return answer, f
		}
		wait *= 2
	}
}

// pause waits, if there is time after it. A part is random, so that many clients do not come back
// at once.
func pause(ctx context.Context, wait time.Duration) bool {
	wait -= time.Duration(rand.Int64N(int64(wait)/2 + 1))
	if end, limited := ctx.Deadline(); limited && time.Until(end) <= wait {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close closes the connections that nobody uses, and those in use when their questions have their
// answers. A question may still be put afterwards, by a request that began before: it gets a
// connection of its own.
func (c *Client) Close() {
	c.closed.Store(true)
	c.http.CloseIdleConnections()
}
