package fakellm

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Reply scripts one response. In order: wait for Head, send the status line and headers, then Body
// or Answer or Failure, then Steps, then ErrorEvent, and then End. The zero Reply is a 200 without
// a body; for the provider's usual behaviour write Usual().
type Reply struct {
	Head   Pace        // before the status line: a slow provider
	NoHead bool        // End comes before the status line; Finish then counts as Cut
	Status int         // 0 is 200, or the Failure's own
	Header http.Header // takes the place of the usual header of the same name; an empty list removes it

	Body    string   // sent as it is
	Answer  *Answer  // in the provider's schema; as a stream when the request asks for one
	Failure *Failure // an error in the provider's schema
	Steps   []Step   // each is written and flushed by itself

	Each       Pace     // before each step; a streamed Answer is one step per event, anything else a single one
	CutEvery   int      // writes and flushes this many bytes at a time, whatever the steps were; their own paces are gone
	StopAfter  int      // leaves out the steps (or cuts) behind this many; 0 sends all
	ErrorEvent *Failure // an error event of the provider's schema, inside the stream

	End End
}

// Step is a piece of body that is written and flushed by itself.
type Step struct {
	Pace
	Bytes string
}

// Pace holds a reply back: first until Gate gives a value or is closed, then for Delay. A client
// that goes away is noticed meanwhile.
type Pace struct {
	Gate  <-chan struct{}
	Delay time.Duration
}

// End is what happens behind the last byte of a Reply.
type End int

const (
	Finish   End = iota // the response ends as HTTP wants it
	Cut                 // the connection is closed in the middle of the body
	ResetTCP            // the connection is reset (RST); over HTTP/2, only the stream
	Hang                // nothing more comes, until the client goes away
)

// Answer is what a model says, in no particular schema. One without Text, Thinking and Calls stands
// for what the provider says by itself; its other members then still count.
type Answer struct {
	Thinking string
	Text     string
	Calls    []Call
	Stop     string // finish_reason or stop_reason, in the schema's own words; "" is the one that fits
	Usage    *Usage // nil counts words
	Model    string // "" is the model that was asked for

	StopSequence string // the stop sequence that ended the text
	limited      bool   // the token limit ended the text
}

// Call is a call of a tool. Arguments is JSON text; text that is not JSON is sent all the same, as
// a model would.
type Call struct {
	ID        string // "" makes one
	Name      string
	Arguments string
}

// Usage counts tokens in OpenAI's sense: Input includes Cached and CacheWrite, Output includes
// Reasoning.
type Usage struct {
	Input, Cached, CacheWrite, Output, Reasoning int
}

// Failure is an error of the provider.
type Failure struct {
	Status  int
	Type    string // "" is the schema's word for Status
	Code    string // OpenAI only; "" is the one that goes with Status, if any
	Param   string // OpenAI only
	Message string
}

// Usual is the provider's default behaviour, for scripts in which it comes between other replies.
func Usual() Reply { return Reply{Answer: &Answer{}} }

// Say answers with text.
func Say(text string) Reply { return Reply{Answer: &Answer{Text: text}} }

// CallTools answers with tool calls.
func CallTools(calls ...Call) Reply { return Reply{Answer: &Answer{Calls: calls}} }

// Fail answers with an error in the provider's schema.
func Fail(status int, message string) Reply {
	return Reply{Failure: &Failure{Status: status, Message: message}}
}

// RateLimited is a 429 with retry-after, which is in whole seconds.
func RateLimited(retryAfter time.Duration) Reply {
	reply := Fail(http.StatusTooManyRequests, "Rate limit reached. Please try again later.")
	reply.Header = http.Header{"Retry-After": {strconv.Itoa(int(retryAfter.Round(time.Second).Seconds()))}}
	return reply
}

// Overloaded is the 529 overloaded_error of Anthropic; OpenAI says 503 (Fail).
func Overloaded() Reply { return Fail(529, "Overloaded") }

// HTML answers as a proxy in front of the provider does.
func HTML(status int, page string) Reply {
	return Reply{Status: status, Body: page, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}
}

// FailInStream is a 200 whose stream begins with an error event.
func FailInStream(status int, message string) Reply {
	return Reply{ErrorEvent: &Failure{Status: status, Message: message}}
}

// Silent never answers: no status line until the client goes away.
func Silent() Reply { return Reply{NoHead: true, End: Hang} }

// RefuseTCP resets the connection before the status line.
func RefuseTCP() Reply { return Reply{NoHead: true, End: ResetTCP} }

// Chunks makes raw steps, for bytes that no schema would produce.
func Chunks(bytes ...string) []Step {
	steps := make([]Step, 0, len(bytes))
	for _, b := range bytes {
		steps = append(steps, Step{Bytes: b})
	}
	return steps
}

// Event is a step with one server-sent event; an empty name leaves the event line out. data is one
// line.
func Event(name, data string) Step {
	if name == "" {
		return Step{Bytes: "data: " + data + "\n\n"}
	}
	return Step{Bytes: "event: " + name + "\ndata: " + data + "\n\n"}
}

// response is a Reply made concrete for one request.
type response struct {
	head   Pace
	noHead bool
	status int
	header http.Header
	each   Pace
	steps  []Step
	stream bool // flush each step
	end    End

	counted *Usage // of the answer
}

// compose turns a reply into the response to one request.
func compose(d *dialect, reply Reply, conv *conversation, id identity) response {
	res := response{
		head: reply.Head, noHead: reply.NoHead, status: reply.Status, header: d.headers(id), each: reply.Each, end: reply.End,
		stream: conv.stream,
	}
	contentType := "application/json"
	if conv.stream {
		contentType = "text/event-stream; charset=utf-8"
	}
	switch {
	case reply.Body != "":
		contentType = "application/json"
		res.steps, res.stream = Chunks(reply.Body), false
	case reply.Failure != nil:
		contentType = "application/json"
		res.steps, res.stream = Chunks(d.failure(*reply.Failure, id)), false
		if res.status == 0 {
			res.status = reply.Failure.Status
		}
	case reply.Answer != nil && conv.stream:
		a := conv.complete(*reply.Answer, id)
		res.steps, res.counted = Chunks(d.events(conv, a, id)...), a.Usage
	case reply.Answer != nil:
		a := conv.complete(*reply.Answer, id)
		res.steps, res.counted = Chunks(d.answer(conv, a, id)), a.Usage
	}
	if len(reply.Steps) > 0 {
		res.steps, res.stream = append(res.steps, reply.Steps...), true
	}
	if reply.CutEvery > 0 {
		res.steps, res.stream = recut(res.steps, reply.CutEvery), true
	}
	if reply.StopAfter > 0 && reply.StopAfter < len(res.steps) {
		res.steps = res.steps[:reply.StopAfter]
		res.stream = true
	}
	if reply.ErrorEvent != nil {
		res.steps, res.stream = append(res.steps, d.errorEvent(*reply.ErrorEvent, id)), true
	}
	if res.status == 0 {
		res.status = http.StatusOK
	}
	if res.noHead && res.end == Finish {
		res.end = Cut
	}
	res.header.Set("Content-Type", contentType)
	if !res.stream && res.end == Finish && len(res.steps) == 1 {
		res.header.Set("Content-Length", strconv.Itoa(len(res.steps[0].Bytes)))
	}
	for name, values := range reply.Header {
		if name = http.CanonicalHeaderKey(name); len(values) == 0 {
			res.header[name] = nil // also keeps net/http from filling it in
		} else {
			res.header[name] = values
		}
	}
	return res
}

func recut(steps []Step, size int) []Step {
	var all []byte
	for _, s := range steps {
		all = append(all, s.Bytes...)
	}
	var cut []Step
	for piece := range slices.Chunk(all, size) {
		cut = append(cut, Step{Bytes: string(piece)})
	}
	return cut
}

// performed is how a response went.
type performed struct {
	status   int // 0: none was sent
	sent     int64
	counted  *Usage
	outcome  Outcome
	breakOff func() // breaks the connection where the script says so; call it once everything is recorded
}

// perform writes the response until its end, or until the client goes away.
func (res *response) perform(ctx context.Context, w http.ResponseWriter) performed {
	done := performed{outcome: Cancelled, breakOff: func() {}}
	if !res.head.wait(ctx) {
		return done
	}
	if !res.noHead {
		done.status = res.status
		for name, values := range res.header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.status)
		if !res.write(ctx, w, &done) {
			return done
		}
	}
	switch res.end {
	case Finish:
		done.outcome = Finished
	case Hang:
		<-ctx.Done()
	case Cut:
		done.outcome = Broken
		done.breakOff = func() { panic(http.ErrAbortHandler) }
	case ResetTCP:
		done.outcome = Broken
		done.breakOff = func() { resetConn(w) }
	}
	return done
}

func (res *response) write(ctx context.Context, w http.ResponseWriter, done *performed) (ok bool) {
	conn := http.NewResponseController(w)
	if res.stream || res.end != Finish { // the headers must not wait for a body that may not come
		if conn.Flush() != nil {
			return false
		}
	}
	for _, step := range res.steps {
		if !res.each.wait(ctx) || !step.wait(ctx) {
			return false
		}
		n, err := w.Write([]byte(step.Bytes))
		done.sent += int64(n)
		if err == nil && (res.stream || res.end != Finish) {
			err = conn.Flush()
		}
		if err != nil {
			return false
		}
	}
	return true
}

// wait returns false when the client went away first.
func (p Pace) wait(ctx context.Context) bool {
	if p.Gate != nil {
		select {
		case <-p.Gate:
		case <-ctx.Done():
			return false
		}
	}
	if p.Delay > 0 {
		timer := time.NewTimer(p.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// resetConn closes the connection with a RST: a close with linger 0 throws away what is unsent.
// HTTP/2 cannot be hijacked; there, aborting the handler sends RST_STREAM.
func resetConn(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	inner := conn
	if tls, ok := inner.(interface{ NetConn() net.Conn }); ok {
		inner = tls.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is gone already
	}
	_ = inner.Close()
}
