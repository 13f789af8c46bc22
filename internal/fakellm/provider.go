// Package fakellm fakes LLM providers over HTTP, for end-to-end tests and for the demo. A Provider
// speaks one schema as the real API does and refuses what the real API refuses, with the real error
// shapes: a gateway that gets an answer here sent a request that the real provider takes. What it
// answers is deterministic; tests script any other behaviour, faults included (Reply), and read
// back what arrived and how each request ended (Requests, WaitEnded).
//
// It does not model quality, prices or real tokens (a token is a word here), nor APIs beside chat
// and the list of models.
package fakellm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The schemas that a Provider can speak.
const (
	OpenAIChat        = "openai.chat"
	AnthropicMessages = "anthropic.messages"
	DeepSeekChat      = "deepseek.chat" // OpenAI's schema, as DeepSeek has it
	MistralChat       = "mistral.chat"  // OpenAI's schema, as Mistral has it
	GroqChat          = "groq.chat"     // OpenAI's schema, as Groq has it
)

const (
	maxBodyBytes        = 64 << 20 // more than any gateway under test lets through
	defaultKeepRequests = 1000
)

// Provider is one fake provider: an http.Handler. Set the fields before it serves; its methods may
// be called at any time, from any goroutine.
type Provider struct {
	// Name shows in every answer: "hello from NAME".
	Name string
	// Schema is one of the schemas above.
	Schema string
	// Key is the only credential accepted. When it is empty, any is, but a request without one is
	// still a 401.
	Key string
	// Models are the models served: GET /v1/models lists them, any other one is a 404. When empty,
	// every name is served.
	Models []string
	// WordDelay is how long the default behaviour waits before each event of a stream. Scripted
	// replies have a Pace.
	WordDelay time.Duration
	// KeepRequests is how many requests are remembered, the last ones; 0 keeps 1000.
	KeepRequests int

	mu      sync.Mutex // guards what follows
	script  []Reply
	always  *Reply
	probe   *Reply
	records []*Request
	arrived int           // requests so far; the number of the last one
	probes  int           // GET /v1/models so far
	changed chan struct{} // closed and replaced when a request arrives or ends; nil when nobody waits
}

// Outcome is how a request ended, as the provider saw it.
type Outcome string

const (
	Open      Outcome = ""          // still being answered
	Finished  Outcome = "finished"  // everything the provider had to say was written
	Cancelled Outcome = "cancelled" // the client went away first
	Broken    Outcome = "broken"    // the script broke the connection
)

// Request is the record of one request. GET /v1/models is not recorded but counted (Probes): health
// checks would get between a test and its requests.
type Request struct {
	N        int // 1 is the provider's first request
	Method   string
	Host     string
	Path     string
	RawQuery string
	Proto    string
	Header   http.Header
	Body     []byte
	Length   int64     // its content-length; -1 when there was none: chunked, over HTTP/1.1
	At       time.Time // when its headers had arrived

	Refused *Failure // what the strict checks had against it; nil when nothing
	Status  int      // the status sent; 0 when none was
	Sent    int64    // bytes of body written
	Counted *Usage   // what the answer comes to; nil: it was no answer, or one that the script wrote itself
	Outcome Outcome
	EndedAt time.Time
}

// Script queues replies: the next requests, to count tokens too, get them, in order and one each;
// then the default behaviour is back. A request that the strict checks refuse gets its error and
// leaves the script as it is.
func (p *Provider) Script(replies ...Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = append(p.script, replies...)
}

// Always makes reply the default behaviour.
func (p *Provider) Always(reply Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.always = &reply
}

// Probe makes reply the answer to GET /v1/models, which health checks ask for.
func (p *Provider) Probe(reply Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probe = &reply
}

// Reset forgets Script, Always and Probe. The records stay.
func (p *Provider) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script, p.always, p.probe = nil, nil, nil
}

// Requests returns what arrived, oldest first, as it stands now. Headers and bodies are shared: do
// not change them.
func (p *Provider) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Request, 0, len(p.records))
	for _, r := range p.records {
		all = append(all, *r)
	}
	return all
}

// Probes counts the GET /v1/models so far.
func (p *Provider) Probes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes
}

// WaitArrived waits until request number n has arrived, body included, and returns its record so
// far.
func (p *Provider) WaitArrived(ctx context.Context, n int) (Request, error) {
	return p.wait(ctx, n, func(*Request) bool { return true })
}

// WaitEnded waits until request number n has ended, whatever the end was, and returns its record.
func (p *Provider) WaitEnded(ctx context.Context, n int) (Request, error) {
	return p.wait(ctx, n, func(r *Request) bool { return r.Outcome != Open })
}

var errForgotten = errors.New("fakellm: the request is no longer remembered (KeepRequests)")

func (p *Provider) wait(ctx context.Context, n int, ready func(*Request) bool) (Request, error) {
	for {
		p.mu.Lock()
		if n <= p.arrived-len(p.records) {
			p.mu.Unlock()
			return Request{}, errForgotten
		}
		if n <= p.arrived {
			if r := p.records[len(p.records)-1-(p.arrived-n)]; ready(r) {
				defer p.mu.Unlock()
				return *r, nil
			}
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, ctx.Err()
		}
	}
}

// announce wakes the waiters. The caller holds p.mu.
func (p *Provider) announce() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// ServeHTTP answers one request: record it, check it, decide on a response, perform it, record the
// end.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d, known := dialects[p.Schema]
	if !known {
		http.Error(w, "fakellm: unknown schema "+p.Schema, http.StatusInternalServerError)
		return
	}
	if r.URL.Path == d.modelsPath && r.Method == http.MethodGet {
		p.serveModels(d, w, r)
		return
	}
	rec := &Request{
		Method: r.Method, Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Proto: r.Proto,
		Header: r.Header.Clone(), Length: r.ContentLength, At: time.Now(),
	}
	var err error
	rec.Body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	p.arrive(rec)
	if tooLarge := (*http.MaxBytesError)(nil); err != nil && !errors.As(err, &tooLarge) {
		p.end(rec, performed{outcome: Cancelled}) // the client went away in the middle of its body
		return
	}
	res := p.respond(d, rec, err)
	done := res.perform(r.Context(), w)
	done.counted = res.counted
	p.end(rec, done)
	done.breakOff()
}

func (p *Provider) arrive(rec *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.KeepRequests
	if keep == 0 {
		keep = defaultKeepRequests
	}
	if len(p.records) >= keep {
		p.records = slices.Delete(p.records, 0, len(p.records)-keep+1)
	}
	p.arrived++
	rec.N = p.arrived
	p.records = append(p.records, rec)
	p.announce()
}

func (p *Provider) end(rec *Request, done performed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rec.Status, rec.Sent, rec.Counted, rec.Outcome, rec.EndedAt = done.status, done.sent, done.counted, done.outcome, time.Now()
	p.announce()
}

// respond decides what the request gets: the refusal it deserves, the next scripted reply, or the
// default behaviour.
func (p *Provider) respond(d *dialect, rec *Request, readErr error) response {
	id := identity{provider: p.Name, request: rec.N}
	conv, failure := p.check(d, rec, readErr)
	if failure != nil {
		p.mu.Lock()
		rec.Refused = failure
		p.mu.Unlock()
		return compose(d, Reply{Failure: failure}, &conversation{}, id)
	}
	if rec.Path == d.countPath {
		return compose(d, p.next(Reply{Body: string(obj("input_tokens", conv.earlier+conv.last))}), &conversation{}, id)
	}
	return compose(d, p.next(Reply{Answer: &Answer{}, Each: Pace{Delay: p.WordDelay}}), conv, id)
}

// check runs the strict checks in the order of the real APIs: path, method, credential, body.
func (p *Provider) check(d *dialect, rec *Request, readErr error) (*conversation, *Failure) {
	switch rec.Path {
	case d.chatPath, d.countPath:
		if rec.Method != http.MethodPost {
			return nil, d.wrongMethod(rec)
		}
	case d.modelsPath:
		return nil, d.wrongMethod(rec)
	default:
		return nil, d.wrongPath(rec)
	}
	if f := d.authenticate(rec.Header, p.Key); f != nil {
		return nil, f
	}
	if readErr != nil {
		return nil, &Failure{Status: http.StatusRequestEntityTooLarge, Message: "Request exceeds the maximum size"}
	}
	conv, f := d.read(rec)
	if f != nil {
		return nil, f
	}
	if len(p.Models) > 0 && !slices.Contains(p.Models, conv.model) {
		return nil, d.wrongModel(conv.model)
	}
	return conv, nil
}

// next takes the next scripted reply, or else the default behaviour.
func (p *Provider) next(otherwise Reply) Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.script) > 0:
		reply := p.script[0]
		p.script = p.script[1:]
		return reply
	case p.always != nil:
		return *p.always
	default:
		return otherwise
	}
}

func (p *Provider) serveModels(d *dialect, w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.probes++
	id := identity{provider: p.Name, request: p.arrived}
	scripted := p.probe
	p.mu.Unlock()
	reply := Reply{Body: d.models(p.Models)}
	if f := d.authenticate(r.Header, p.Key); f != nil {
		reply = Reply{Failure: f}
	} else if scripted != nil {
		reply = *scripted
	}
	res := compose(d, reply, &conversation{}, id)
	done := res.perform(r.Context(), w)
	done.breakOff()
}
