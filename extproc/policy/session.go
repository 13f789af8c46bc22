package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/extproc/policy/condition"
	"millrace/extproc/texts"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// Session is one request's way through a chain. Attempts at it may be policed side by side.
type Session struct {
	Request
	chain  *Chain
	host   Host
	schema *schema.Schema // of the client
	vault  vault
	busy   func() func()
	asked  *condition.Facts // of the request, as far as a condition wanted them

	mu       sync.Mutex
	again    bool // another answer was asked for because of a policy
	spent    map[Phase]time.Duration
	streams  time.Duration // what the steps of streams took
	verdicts []*millracev1.PolicyVerdict
}

// Start begins a session; nil where there are no policies. busy is called when policies begin to
// look at something that the request does not wait for, but its event has to; what it returns is
// called when they are done, by another goroutine.
func (c *Chain) Start(h Host, s *schema.Schema, r Request, busy func() (done func())) *Session {
	if c == nil {
		return nil
	}
	return &Session{Request: r, chain: c, host: h, schema: s, busy: busy, spent: map[Phase]time.Duration{}}
}

// Input asks the chain whether a request may be sent, and returns its body as policies have left
// it: body itself where they have changed nothing. All policies of a request and of its answer have
// the gateway's policy_timeout together: one that is left no time has failed, as one that hangs
// has. ctx ends when the client has left.
func (s *Session) Input(ctx context.Context, body []byte) ([]byte, *llm.Error) {
	d := &document{schema: s.schema, find: texts.Request, body: body}
	s.watch(&s.chain.input.watches, d)
	if len(s.chain.input.acts.members) == 0 {
		return body, nil
	}
	tallies, e := s.police(ctx, &s.chain.input.acts, d)
	s.record(Input, tallies)
	if e != nil {
		return nil, e
	}
	return d.Body(), nil
}

// tally is what a member has come to.
type tally struct {
	*member
	verdict config.Action
	found   map[string]uint32
	reason  string
	again   bool
	took    time.Duration
}

// The verdicts beside those that are actions.
const (
	verdictPass   config.Action = "pass"
	verdictChange config.Action = "change" // it has changed what it is there to change
	verdictError  config.Action = "error"  // it could not be carried out
)

// police asks those that a request or an answer waits for, within the time that they have.
func (s *Session) police(ctx context.Context, side *side, d *document) ([]*tally, *llm.Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.left(), s.late())
	defer cancel()
	began := time.Now()
	defer func() {
		spent := time.Since(began)
		s.spend(side.phase, spent)
		s.host.Metrics.took(side.phase, spent.Seconds())
	}()
	return s.ask(ctx, side, d)
}

// ask asks the members of a side about a whole body, in their order.
func (s *Session) ask(ctx context.Context, side *side, d *document) ([]*tally, *llm.Error) {
	var tallies []*tally
	for i, m := range side.members {
		asked, err := s.wants(side.phase, m, d)
		if !asked && err == nil {
			continue
		}
		t := &tally{member: m, verdict: verdictPass, found: map[string]uint32{}}
		tallies = append(tallies, t)
		began := time.Now()
		if err == nil {
			err = s.askMember(ctx, side, i, t, d)
		}
		t.took = time.Since(began)
		if e := s.judge(ctx, side.phase, t, err); e != nil {
			return tallies, e
		}
	}
	return tallies, nil
}

// wants tells whether a member is to be asked about this request.
func (s *Session) wants(p Phase, m *member, d *document) (bool, error) {
	if m.when == nil {
		return true, nil
	}
	return m.when.Holds(s.facts(p, d))
}

func (s *Session) askMember(ctx context.Context, side *side, i int, t *tally, d *document) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return recovered(func() error {
		if t.find != nil {
			return s.sift(side, i, t, d)
		}
		if t.frame != nil {
			return s.around(t, d)
		}
		f, err := s.askKind(ctx, side.phase, t.member, d)
		if err != nil {
			return err
		}
		return t.take(f, d)
	})
}

// askKind asks a kind that is asked about all of a body. One that waits has a document of its own:
// it may look at that when nobody waits for it any more.
func (s *Session) askKind(ctx context.Context, p Phase, m *member, d *document) (finding, error) {
	if !m.kind.waits {
		return m.ask.ask(ctx, &question{Host: s.host, session: s, phase: p, doc: d})
	}
	d.apply()
	kind, q := m.ask, &question{Host: s.host, session: s, phase: p, doc: d.copied()}
	return guarded(ctx, func() (finding, error) { return kind.ask(ctx, q) })
}

// watch asks policies that change nothing, beside the request: nobody waits for them but its event.
func (s *Session) watch(side *side, d *document) {
	if len(side.members) == 0 {
		return
	}
	alone, done := d.copied(), s.busy()
	go func() {
		defer done()
		ctx, cancel := context.WithTimeoutCause(context.Background(), s.chain.timeout, s.late())
		defer cancel()
		tallies, _ := s.ask(ctx, side, alone)
		s.record(side.phase, tallies)
	}()
}

// around puts text around that of a whole answer.
func (s *Session) around(t *tally, d *document) error {
	all, err := d.Texts()
	if err != nil {
		return err
	}
	before, after := t.frame.around(s)
	first, last, calls := map[int]int{}, map[int]int{}, map[int]bool{}
	for i, text := range all {
		n := 0
		if d.several {
			n = text.Channel.Choice
		}
		switch {
		case text.Kind == texts.Call:
			calls[n] = true
		case framedText(&text):
			if _, begun := first[n]; !begun {
				first[n] = i
			}
			last[n] = i
		}
	}
	for n, i := range first {
		if before != "" {
			t.say(verdictChange, "")
			d.edit(i, edit{0, 0, before})
		}
		if end := len(all[last[n]].Text); after != "" && !calls[n] {
			t.say(verdictChange, "")
			d.edit(last[n], edit{end, end, after})
		}
	}
	d.hits = nil
	return nil
}

// sift looks at what patterns of the member have found.
func (s *Session) sift(side *side, i int, t *tally, d *document) error {
	hits, err := d.look(side)
	if err != nil {
		return err
	}
	for n := range hits {
		for _, e := range s.weigh(t, &d.texts[n], hits[n], i) {
			d.edit(n, e)
		}
	}
	return nil
}

// weigh notes what the member has found in a text, and returns what it puts in its place.
func (s *Session) weigh(t *tally, text *texts.Text, hits []hit, member int) []edit {
	if !t.find.reads(text) {
		return nil
	}
	var found []hit
	var edits []edit
	instead := func(h hit) {
		if e, ok := s.instead(text, h); ok {
			edits = append(edits, e)
		}
	}
	for _, h := range hits {
		switch {
		case h.member != member:
		case h.pattern.restores:
			instead(h)
		default:
			found = append(found, h)
		}
	}
	if len(found) == 0 {
		return edits
	}
	for _, h := range t.find.weigh(text, found) {
		t.found[h.pattern.category]++
		t.say(t.Action, "")
		if t.Action == config.ActionRedact && !t.Observe {
			instead(h)
		}
	}
	return edits
}

// say notes that the member's action is called for.
func (t *tally) say(verdict config.Action, reason string) {
	if worse(verdict, t.verdict) {
		t.verdict = verdict
	}
	if t.reason == "" {
		t.reason = reason
	}
}

// order has the worst verdict last. It counts where there are several.
var order = []config.Action{verdictPass, config.ActionFlag, verdictChange, config.ActionRedact, config.ActionBlock, verdictError}

func worse(a, b config.Action) bool { return slices.Index(order, a) > slices.Index(order, b) }

// take notes what an asker has said, and does it.
func (t *tally) take(f finding, d *document) error {
	for category, n := range f.found {
		t.found[category] += uint32(n)
	}
	if !f.acts {
		return nil
	}
	verdict := f.action
	if verdict == "" {
		verdict = t.Action
	}
	t.say(verdict, f.reason)
	t.again = f.again
	if t.Observe || verdict != config.ActionRedact && verdict != verdictChange {
		return nil
	}
	if f.body != nil {
		d.replace(f.body)
	}
	if len(f.instead) == 0 {
		return nil
	}
	all, err := d.Texts()
	if err != nil {
		return err
	}
	for i, with := range f.instead {
		if i < 0 || i >= len(all) {
			return fmt.Errorf("it changes text %d of %d", i, len(all))
		}
		d.edit(i, edit{0, len(all[i].Text), with})
	}
	d.hits = nil
	return nil
}

// judge says what becomes of the request after a member was asked. ctx is the policies' own.
func (s *Session) judge(ctx context.Context, p Phase, t *tally, err error) *llm.Error {
	if !errors.Is(context.Cause(ctx), context.Canceled) { // else the client has left, and it says nothing of the policy
		t.note(s.host, err)
	}
	switch {
	case errors.Is(err, texts.ErrTooMany): // to let it pass would be a way around all policies
		t.verdict = config.ActionBlock
		return llm.Errorf(llm.ErrTooLarge, "%v", err)
	case err != nil:
		t.verdict = verdictError
		if t.Allows || t.watches() {
			return nil
		}
		return llm.Errorf(llm.ErrUnavailable, "the policy %q cannot be carried out, and without it %s", t.Name, map[Phase]string{
			Input: "no request is sent", Output: "no answer is given",
		}[p])
	case t.verdict == config.ActionBlock && !t.Observe:
		return t.violation(p)
	}
	return nil
}

// violation is the error of a request that a policy blocks.
func (t *tally) violation(p Phase) *llm.Error {
	reason := t.why(p)
	e := llm.Errorf(llm.ErrConflict, "policy %q: %s", t.Name, reason)
	e.Code = "policy_violation"
	if t.Status != 0 && t.Status != e.HTTPStatus() {
		e.Type, e.Status = llm.ErrorTypeOf(t.Status), t.Status
	}
	return e
}

// why is the reason that clients are told.
func (t *tally) why(p Phase) string {
	what := map[Phase]string{Input: "the request", Output: "the answer"}[p]
	switch {
	case t.Reason != "":
		return t.Reason
	case t.reason != "":
		return t.reason
	case len(t.found) > 0:
		return "not allowed in " + what + ": " + strings.Join(slices.Sorted(maps.Keys(t.found)), ", ")
	}
	return what + " is not allowed"
}

// record keeps the verdicts for the event.
func (s *Session) record(p Phase, tallies []*tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tallies {
		v := &millracev1.PolicyVerdict{
			Policy: t.Name, Kind: t.Kind, Phase: string(p), Verdict: string(t.verdict), Found: t.found,
			DurationMs: float64(t.took.Microseconds()) / 1000,
		}
		switch t.verdict {
		case verdictPass, verdictError:
		case verdictChange:
			v.Reason = t.reason
		default:
			v.Observed, v.Reason = t.Observe, t.why(p)
		}
		s.verdicts = append(s.verdicts, v)
		s.host.Metrics.add(p, t)
	}
}

// Verdicts are what policies have said so far.
func (s *Session) Verdicts() []*millracev1.PolicyVerdict {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.verdicts)
}

// Timing is the time that a phase has taken, as Server-Timing has it
// (https://www.w3.org/TR/server-timing/); "" where it took none.
func (s *Session) Timing() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, p := range []Phase{Input, Output} {
		d := s.spent[p]
		if p == Output {
			d += s.streams
		}
		if d > 0 {
			parts = append(parts, fmt.Sprintf("policy-%s;dur=%.3f", p, float64(d.Nanoseconds())/1e6))
		}
	}
	return strings.Join(parts, ", ")
}

// asksAgain tells whether a blocked answer is asked for once more: once in a request, where a
// policy that has blocked it wants that.
func (s *Session) asksAgain(tallies []*tally) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	wants := slices.ContainsFunc(tallies, func(t *tally) bool { return t != nil && t.again && t.verdict == config.ActionBlock })
	again := wants && !s.again
	s.again = s.again || again
	return again
}

// left is the time that policies may still take.
func (s *Session) left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chain.timeout - s.spent[Input] - s.spent[Output]
}

func (s *Session) spend(p Phase, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent[p] += d
}

func (s *Session) streamed(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += d
}

func (s *Session) late() error {
	return fmt.Errorf("no answer within %s (policy_timeout)", s.chain.timeout)
}
