package extproc

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	"millrace/envoy"
	"millrace/event"
	"millrace/extproc/llm"
	"millrace/extproc/policy"
	"millrace/extproc/provider"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// exchange is one client request: what the router stream learned and every attempt needs. The
// fields above mu are written before the exchange is registered and only read afterwards.
type exchange struct {
	clientRequest
	runtime *Runtime
	route   *route

	mu       sync.Mutex
	decoded  *llm.Request // body, decoded for the first attempt that needs it
	failure  *llm.Error   // why it could not be decoded
	attempts []tried
	took     *route              // of the rule that Envoy took, as the last attempt has it; nil: none has begun
	open     int                 // attempts that have not ended, the reading of the request, and policies that watch
	answered *millracev1.Attempt // the last one of which Envoy got an answer, with this status
	status   uint32
	refusal  *llm.Error
	policing bool              // the policies are being asked: nothing may be sent yet
	session  *policy.Session   // nil: there are no policies. Written while policing
	before   *earlier          // why another target was asked; nil: none was, or Envoy alone knows
	entry    *millracev1.Event // Envoy's account of the end; nil until it came
	reading  time.Duration     // what the sidecar took to read the request, without its policies
	recorded bool
	detached *detached // nil: no stream has been left to Envoy

	collected int64 // of the largest answer of an attempt; under the lock of registry.answers
}

// tried is an attempt at a target, which is nil where Envoy does not say which it was.
type tried struct {
	*millracev1.Attempt
	target *target
	began  time.Time
	text   string // that the client got, where it is captured
	cut    bool   // text is not all of it
}

// clientRequest is what the client asked for.
type clientRequest struct {
	id      string
	path    string
	policed bool           // the gateway's policies were asked whether it may be sent
	key     *config.Key    // the one that let it in, of the runtime; nil: none is needed
	client  provider.Codec // of what it asks for
	counts  bool           // it asks for a count of tokens, not for an answer
	bare    bool           // Envoy asks the targets by itself; head and body are not read
	params  schema.Params  // of the path
	head    llm.Head
	body    []byte            // its own bytes, as policies have left them
	sent    []byte            // the same as they came
	header  map[string]string // those of its headers that providers may see
	forward map[string]string // those that only targets see that name them
	via     []string          // the gateways that it has passed
	trace   string            // its traceparent; "" where it has none that is well-formed
	state   string            // its tracestate, where it has a traceparent
	started time.Time
	waits   time.Duration // for how long the client waits, as it says; 0: it does not say
}

// noConnection is said of an attempt of which no stream was seen.
const noConnection = "no connection"

// request decodes the client's body, once for all attempts. The caller must not change the result.
func (x *exchange) request() (*llm.Request, *llm.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.decoded == nil && x.failure == nil {
		r, err := x.client.Client.DecodeRequest(x.head, x.body)
		if err != nil {
			x.failure = llm.AsError(err)
		} else {
			x.decoded = r
		}
	}
	return x.decoded, x.failure
}

// asked is what the writer of an answer is told of the request.
func (x *exchange) asked() llm.Asked {
	return llm.Asked{Head: x.head, Request: func() (*llm.Request, error) {
		r, e := x.request()
		if e != nil {
			return nil, e
		}
		return r, nil
	}}
}

// begin notes attempt number n, from 1, at t. Attempts may begin out of order: Envoy opens a stream
// before it is connected, and when the connection is refused at once the next attempt's stream may
// be read first. nil: the request is over, or may not be sent yet.
func (x *exchange) begin(n int, t *target, rule *route, now time.Time) *millracev1.Attempt {
	a := &millracev1.Attempt{
		Target: t.config.ID, Upstream: t.config.Upstream(), Provider: t.config.Provider, Model: t.config.Model(x.head.Model), Schema: string(t.config.Schema),
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.recorded || x.policing || x.refusal != nil {
		return nil
	}
	x.fill(n - 1)
	a.Hedged = rule.hedges && slices.ContainsFunc(x.attempts[:n-1], func(b tried) bool { return b.Status == 0 && b.Error == "" })
	x.took = rule
	if n > len(x.attempts) {
		x.attempts = append(x.attempts, tried{Attempt: a, target: t, began: now})
	} else {
		x.attempts[n-1] = tried{Attempt: a, target: t, began: now}
	}
	x.open++
	return a
}

// fill notes attempts up to number n of which no stream was seen: Envoy could not connect. It does
// not say to which target. mu is held.
func (x *exchange) fill(n int) {
	for len(x.attempts) < n {
		x.attempts = append(x.attempts, tried{Attempt: &millracev1.Attempt{Error: noConnection, Condition: config.OnConnectFailure}})
	}
}

// spent notes what the sidecar has spent on reading the request.
func (x *exchange) spent(d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading += d
}

// log is the x-millrace-attempts header: every attempt so far with its status or its failure, in
// order.
func (x *exchange) log() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return attemptLog(x.attempts)
}

// refused notes that the gateway itself refused the request.
func (x *exchange) refused(e *llm.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refusal = e
}

// detached is a stream that Envoy passes on by itself: it tells how it has ended.
type detached struct {
	attempt *millracev1.Attempt
	began   time.Time
}

// complete makes the attempt's record of what Envoy tells of the whole.
func (l *detached) complete(e *millracev1.Event, started time.Time) {
	l.attempt.DurationMs = max(l.attempt.DurationMs, e.DurationMs-milliseconds(l.began.Sub(started)))
	if strings.HasPrefix(e.Details, "upstream_reset_after_response_started") {
		l.attempt.Error = theStreamWasCut
	}
	l.attempt.Usage = e.Usage
}

// detach notes that Envoy passes on the rest of an attempt's stream by itself.
func (x *exchange) detach(a *millracev1.Attempt, began time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.detached = &detached{a, began}
}

// registry finds exchanges by id and records each once both its ends are in: Envoy's entry and the
// last attempt's close, whichever is later.
type registry struct {
	events *event.Recorder
	// onRecord is told of every event that is recorded; x is nil where there was no exchange. It
	// must not wait.
	onRecord func(x *exchange, e *millracev1.Event)
	bodies   bodies // of the requests that exchanges are made of, and will be

	answers answers // of their attempts

	mu        sync.Mutex
	exchanges map[string]*exchange
}

func newRegistry(events *event.Recorder, onRecord func(*exchange, *millracev1.Event)) *registry {
	return &registry{events: events, onRecord: onRecord, exchanges: map[string]*exchange{}}
}

// record records the event of a request, for which x may be nil.
func (r *registry) record(x *exchange, e *millracev1.Event) {
	r.events.Record(e)
	r.onRecord(x, e)
}

func (r *registry) add(x *exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges[x.id] = x
}

// get returns the exchange, nil when there is none of this id.
func (r *registry) get(id string) *exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exchanges[id]
}

// take is get, and the registry forgets the exchange.
func (r *registry) take(id string) *exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.exchanges[id]
	delete(r.exchanges, id)
	return x
}

// busy tells whether any exchange has an attempt under way, or a stream that Envoy passes on by
// itself.
func (r *registry) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.exchanges {
		x.mu.Lock()
		busy := x.open > 0 || x.alone()
		x.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// unsettled tells whether any exchange waits for Envoy's entry.
func (r *registry) unsettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.exchanges) > 0
}

// hold keeps the exchange from being recorded, until what it returns is called.
func (r *registry) hold(x *exchange) func() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open++
	return func() { r.read(x) }
}

// read ends the reading of a request. A client may leave before that, and Envoy say so.
func (r *registry) read(x *exchange) {
	x.mu.Lock()
	x.open--
	x.mu.Unlock()
	r.settle(x)
}

// end closes an attempt.
func (r *registry) end(x *exchange, a *millracev1.Attempt, started time.Time) {
	x.mu.Lock()
	a.DurationMs = milliseconds(time.Since(started))
	x.open--
	x.mu.Unlock()
	r.settle(x)
}

// logged takes Envoy's account of a request's end, and how many attempts it made. Requests that
// never became an exchange are recorded as they are.
func (r *registry) logged(entry *millracev1.Event, attempts int) {
	x := r.take(entry.Id)
	if x == nil {
		r.bodies.release(entry.Id)
		if entry.Path != envoy.PathHealth && entry.Path != envoy.PathReady {
			r.record(nil, entry)
		}
		return
	}
	x.mu.Lock()
	if !x.bare && x.refusal == nil { // what is refused on a first attempt's stream is none: nobody is asked
		x.fill(attempts)
	}
	x.entry = entry
	x.mu.Unlock()
	r.settle(x)
}

// sweep forgets exchanges that did not begin after the time, have no attempt under way and got no
// entry: Envoy died before it could tell how they ended. They are recorded as they are.
func (r *registry) sweep(latest time.Time) {
	r.mu.Lock()
	var lost []*exchange
	for id, x := range r.exchanges {
		x.mu.Lock()
		if x.open == 0 && !x.started.After(latest) && (!x.alone() || !x.started.After(latest.Add(-longestAlone))) {
			lost = append(lost, x)
			delete(r.exchanges, id)
		}
		x.mu.Unlock()
	}
	r.mu.Unlock()
	r.bodies.forget(latest, func(id string) bool { return r.get(id) != nil })
	for _, x := range lost {
		x.mu.Lock()
		x.entry = &millracev1.Event{Id: x.id, Time: timestamppb.New(x.started), Details: "envoy did not tell how it ended"}
		x.mu.Unlock()
		r.settle(x)
	}
}

// longestAlone is longer than any answer that Envoy passes on by itself.
const longestAlone = 24 * time.Hour

// alone tells whether Envoy may still be passing on an answer by itself. mu is held.
func (x *exchange) alone() bool { return x.bare || x.detached != nil }

func (r *registry) settle(x *exchange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.recorded || x.entry == nil || x.open > 0 {
		return
	}
	x.recorded = true
	if !x.route.looped {
		r.record(x, x.describe())
	}
	x.body, x.sent, x.decoded = nil, nil, nil
	r.bodies.release(x.id)
	r.answers.release(x)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
