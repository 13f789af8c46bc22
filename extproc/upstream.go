package extproc

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/envoy"
	"millrace/extproc/answer"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// attempt is one upstream stream: one try at one target, from the request as the client sent it to
// the end of the answer. Its goroutine owns it, all of it.
type attempt struct {
	server *Server
	stream extprocv3.ExternalProcessor_ProcessServer
	asking
	record   *millracev1.Attempt // the exchange's; written under its lock
	reading  *reading            // nil: the request has been read
	call     llm.Call
	answer   *answer.Answer // from when the target is asked
	header   headers        // of the target's answer; nil until it came
	bodiless bool           // the header is all there is of it
	piece    piece
	capture  capture
	detach   *detaching // nil: the answer's body is the sidecar's to say

	number    int // of the attempts at this request, from 1
	started   time.Time
	problem   string // what it says of the target that an operator has to see to
	cools     bool   // the target said when to come back
	blameless bool   // it was ended for a reason that is not the target's
	loss      *loss  // Envoy has answered in the target's place; nil: it has not

	decoded time.Duration // what the sidecar has spent on the answer so far
	working time.Time     // since when the sidecar is at work on the answer
}

// attempt serves an upstream stream: the request's headers in, the whole request out; then the
// answer, in pieces.
func (s *Server) attempt(stream extprocv3.ExternalProcessor_ProcessServer) error {
	a := &attempt{server: s, stream: stream, started: time.Now()}
	w := newWatch(stream, s.stopping.Done())
	defer w.stop()
	defer func() {
		if a.record != nil {
			a.close()
			s.exchanges.end(a.x, a.record, a.started)
			a.remember()
		}
	}()
	for {
		var deadline time.Time
		if a.answer != nil {
			deadline = a.answer.Deadline()
		}
		message, err := w.receive(deadline)
		a.working = time.Now()
		switch {
		case errors.Is(err, errLate):
			err = a.say(a.answer.Tick(time.Now()))
		case errors.Is(err, errStopping):
			err = nil
			if a.answer != nil {
				err = a.say(a.answer.Stop(shuttingDown(), time.Now()))
			}
		case errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled:
			return nil
		case err == nil:
			err = a.handle(message)
		}
		if errors.Is(err, errAnswered) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *attempt) handle(message *extprocv3.ProcessingRequest) error {
	switch m := message.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		h, identity := headersOf(m.RequestHeaders.Headers), targetOf(message)
		if h.get(envoy.HeaderRead) == "1" && h.get(envoy.HeaderAttempt) == "1" {
			a.reading = &reading{routing{server: a.server}, identity}
			reply := a.reading.timed(func() *extprocv3.ProcessingResponse {
				return a.reading.headers(m.RequestHeaders, h.get(envoy.HeaderRoute))
			})
			if reply == nil {
				reply = goOn()
			}
			return a.reply(reply, nil)
		}
		return a.reply(a.begin(h, identity))
	case *extprocv3.ProcessingRequest_RequestBody:
		if a.reading == nil {
			break
		}
		return a.reply(a.read(m.RequestBody.Body))
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		if a.answer == nil {
			break
		}
		a.header, a.bodiless = headersOf(m.ResponseHeaders.Headers), m.ResponseHeaders.EndOfStream
		if why := a.header.get(envoy.HeaderWhy); why != "" {
			return a.say(a.answer.Lost(a.lost(why), time.Now()))
		}
		a.noteQuota()
		code, _ := strconv.Atoi(a.header.get(":status"))
		return a.say(a.answer.Head(answer.Head{
			Status:          code,
			ContentType:     a.header.get("content-type"),
			ContentEncoding: a.header.get("content-encoding"),
			Header:          a.header.http,
			Bodiless:        a.bodiless,
		}, time.Now()))
	case *extprocv3.ProcessingRequest_ResponseBody:
		if a.header == nil {
			break
		}
		a.detach.owe(m.ResponseBody.EndOfStream)
		if err := a.say(a.answer.Push(m.ResponseBody.Body, time.Now())); err != nil || !m.ResponseBody.EndOfStream {
			return err
		}
		a.detach.owe(false)
		return a.say(a.answer.End(time.Now()))
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		if a.header == nil {
			break
		}
		if a.answer.State() == answer.Done {
			return nil
		}
		if err := a.say(a.answer.End(time.Now())); err != nil {
			return err
		}
		return a.stream.Send(withoutTrailers(m.ResponseTrailers))
	}
	return status.Errorf(codes.InvalidArgument, "upstream stream: unexpected %T", message.Request)
}

// reading is a first attempt that reads the request, as a router stream would (config.Plan.Joined).
type reading struct {
	routing
	identity string // of the target
}

// read takes the body, and begins the attempt if the request is one to be served.
func (a *attempt) read(body []byte) (*extprocv3.ProcessingResponse, error) {
	r := a.reading
	a.reading = nil
	if refused := r.timed(func() *extprocv3.ProcessingResponse { return r.take(a.stream.Context(), body) }); refused != nil {
		return refused, nil
	}
	defer a.server.exchanges.read(r.x)
	reply, err := a.begin(r.header, r.identity)
	if begun := reply.GetRequestHeaders(); begun != nil {
		begun.Response.Status = extprocv3.CommonResponse_CONTINUE
		reply.Response = &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: begun.Response}}
	}
	return reply, err
}

// reply sends what the request's part of the stream is answered with.
func (a *attempt) reply(reply *extprocv3.ProcessingResponse, err error) error {
	if err != nil {
		return err
	}
	a.call.Body = nil // it is Envoy's now: the answer may take minutes
	if err := a.stream.Send(reply); err != nil {
		return err
	}
	if reply.GetImmediateResponse() != nil {
		return errAnswered
	}
	return nil
}

// begin finds the exchange and the target, and answers with the request for that target. Each
// attempt starts from the client's own bytes and headers: nothing of an earlier attempt is in it.
func (a *attempt) begin(h headers, identity string) (*extprocv3.ProcessingResponse, error) {
	a.x = a.server.exchanges.get(h.get(envoy.HeaderRequestID))
	if a.x == nil || a.x.header == nil { // or Envoy tries what was refused
		return nil, status.Error(codes.NotFound, "no such exchange: the sidecar was restarted since the request came")
	}
	// Before the body was read Envoy could take another rule: the model may choose.
	a.route = cmp.Or(a.server.rule(a.x, h.get(envoy.HeaderRoute)), a.x.route)
	a.target = a.server.target(a.x, identity)
	if a.target == nil {
		return nil, status.Errorf(codes.NotFound, "no target %q in configuration %s", identity, a.x.runtime.Version)
	}
	if a.x.started.After(a.started) { // it has read the request itself
		a.started = a.x.started
	}
	a.secrets, a.certain = a.target.secrets, a.target.certain
	number, _ := strconv.Atoi(h.get(envoy.HeaderAttempt))
	a.number = max(number, 1)
	if a.record = a.x.begin(a.number, a.target, a.route, a.started); a.record == nil {
		return nil, status.Error(codes.NotFound, "the request is over, or may not be sent")
	}
	a.model = a.record.Model
	defer a.encoding(time.Now())
	if a.server.stopped() { // this is a retry of what Stop has ended
		e := shuttingDown()
		a.fail(e, false)
		a.failed(e)
		return refuseWith(a.x, e), nil
	}
	switch {
	case a.x.counts && !a.countable():
		return a.unasked(a.estimate, header("x-millrace-estimated", "input_tokens")), nil
	case a.target.config.Answer != "":
		return a.unasked(a.fixed), nil
	}
	want := a.clientHeaders()
	call, err := a.encode(a.stream.Context(), want)
	if ended := a.stream.Context().Err(); ended != nil { // nobody waits for it any more, and it says nothing of the target
		return nil, ended
	}
	if err != nil {
		return a.unable(llm.AsError(err)), nil
	}
	a.x.propagate(want, a.number)
	if err := a.headers(want, &call); err != nil {
		return a.unsigned(err), nil
	}
	a.call = call
	if len(call.Dropped) > 0 {
		a.note(func() { a.record.Dropped = bounded(call.Dropped) })
	}
	if h.get(envoy.HeaderDetach) == "1" {
		a.detach = &detaching{}
	}
	a.answer = answer.New(a.env())
	if a.route.capture != "" {
		a.capture = newCapture(a.x.client.Schema)
	}
	want[envoy.HeaderScheme] = h.get(envoy.HeaderScheme)
	return a.worded(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			Status:          extprocv3.CommonResponse_CONTINUE_AND_REPLACE,
			HeaderMutation:  h.replace(want),
			BodyMutation:    &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: call.Body}},
			ClearRouteCache: true, // which leads to the target's cluster now
		}},
	}}), nil
}

// unable is the answer where the target cannot be told the request.
func (a *attempt) unable(e *llm.Error) *extprocv3.ProcessingResponse {
	a.fail(e, true)
	a.failed(e)
	return refuseWith(a.x, a.outcome().unable(e, a.number))
}

// unsigned is the answer where the target cannot be given its credential: another one is asked.
func (a *attempt) unsigned(err error) *extprocv3.ProcessingResponse {
	a.server.options.Log.Warn("a target cannot be given its credential", "target", a.target.config.Name, "error", err)
	e := llm.Errorf(llm.ErrUnavailable, "target %q cannot be given its credential", a.target.config.ID)
	verdict := a.fail(e, true)
	a.failed(e)
	return a.instead(a.status(verdict.Told), "application/json", a.x.client.Client.EncodeError(verdict.Told), verdict.Again)
}

// env is what the answer needs to know.
func (a *attempt) env() answer.Env {
	env := answer.Env{
		Target:    a.target.config.ID,
		Client:    a.x.client.Client,
		Comment:   a.x.client.Schema.Framing.Comment,
		Codec:     a.target.codec.Target,
		Streams:   a.target.codec.Schema.Framing.ContentType,
		Native:    a.native(),
		Reader:    a.call.Answer,
		Asked:     a.x.asked(),
		MaxBytes:  a.x.runtime.maxBodyBytes,
		AtHeaders: a.route.atHeaders,
		Detach:    a.detach != nil && a.asReported() && llm.RenamesOf(a.call.Answer) == nil,
		Clock:     a.clock(a.started),
		Alone:     a.target.alone,
		Secrets:   a.secrets,
		Certain:   a.certain,
		Room:      func(bytes int64) bool { return a.server.room(a.x, bytes) },
		Status:    a.status,
		Fail:      a.fail,
	}
	if output := a.x.session.Answer(a.stream.Context(), a.x.client.Client, env.Asked); output != nil && !a.x.counts {
		env.Police = output
	}
	return env
}

// fail tells what a failure means, and takes out the credentials that a provider may have quoted.
// It is the target's fault unless the attempt was ended for another's sake. One that counts no
// tokens now may hold conversations (judge), and does not cool down.
func (a *attempt) fail(e *llm.Error, fault bool) answer.Verdict {
	redactError(a.secrets, e)
	o := a.outcome()
	condition, told := o.condition(e), o.forClient(e)
	a.blameless = !fault
	a.problem = o.trouble(e)
	if a.loss != nil {
		condition, a.blameless = a.loss.condition, a.loss.blameless
	}
	a.note(func() { a.record.Condition = condition })
	if condition != "" {
		a.x.failed(condition, told)
	}
	if d := min(e.RetryAfter, a.target.maxCooldown); fault && !a.x.counts && d >= leastCooldown && cools(e.HTTPStatus()) {
		a.cools = true
		a.server.options.Cool(a.target.config.Identity, d)
	}
	return answer.Verdict{Told: told, Again: a.target.retriedOn[condition]}
}

// failed writes the failure into the attempt's record.
func (a *attempt) failed(e *llm.Error) {
	status := uint32(a.status(e))
	if a.loss != nil { // it is nobody's
		status = 0
	}
	a.note(func() { a.record.Status, a.record.Error = status, e.Message })
}

// leastCooldown is what telling Envoy is worth.
const leastCooldown = time.Second

// cools tells whether the status is a target's that cannot serve anyone now.
func cools(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == 529
}

// noteStatus notes the status that the attempt's answer has for Envoy.
func (a *attempt) noteStatus(status int) {
	a.note(func() {
		if a.x.answered == nil || a.x.status >= 300 { // else it has lost the race to one beside it
			a.x.answered, a.x.status = a.record, uint32(status)
		}
		if status >= 200 && status < 300 || a.record.Status == 0 && a.loss == nil {
			a.record.Status = uint32(status)
		}
	})
	a.judge()
}

// encoding notes what was spent on writing the request since then.
func (a *attempt) encoding(since time.Time) {
	a.note(func() { a.record.EncodeMs += milliseconds(time.Since(since)) })
}

// decoding notes what was spent on the answer since the last message, or since what came of it was
// sent.
func (a *attempt) decoding() {
	a.decoded += time.Since(a.working)
}

// note changes the attempt's record under the exchange's lock.
func (a *attempt) note(change func()) {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	change()
}

// remember keeps how the attempt ended.
func (a *attempt) remember() {
	if a.x.counts && a.answer == nil { // it was not asked
		return
	}
	a.note(func() {
		outcome := &millracev1.Outcome{
			Time: timestamppb.New(a.started), Status: a.record.Status, Error: a.record.Error, DurationMs: a.record.DurationMs,
		}
		if _, news := a.server.recent.add(a.target.config.Identity, outcome, a.problem); news {
			a.server.options.Log.Warn("a target needs the operator", "target", a.target.config.Name, "trouble", a.problem, "status", outcome.Status, "error", outcome.Error)
		}
	})
}

const theStreamWasCut = "the stream was cut"

// close completes the record of an attempt that ended without an answer of the target, or before
// the answer did: the target or the client went away, or Envoy gave up.
func (a *attempt) close() {
	torn, report := false, answer.Report{}
	if a.answer != nil {
		torn, report = a.answer.Torn(), a.answer.Report()
		a.answer.Close()
	}
	if report.Usage.Estimated && report.Usage.Input == 0 {
		report.Usage.Input = a.prompt()
	}
	a.note(func() {
		a.record.DecodeMs = milliseconds(a.decoded)
		a.tell(report)
		a.x.keep(a.record, &a.capture)
		switch {
		case a.record.Error != "":
		case a.record.Status == 0:
			a.record.Error = "ended before an answer"
			if a.x.before == nil {
				a.x.before = &earlier{told: llm.Errorf(llm.ErrUnavailable, "target %q: no answer", a.record.Target), passing: true}
			}
		case torn:
			a.record.Error = theStreamWasCut
		}
	})
}

// tell writes what is known of the answer into the attempt's record. A request to count tokens uses
// none. mu is held.
func (a *attempt) tell(r answer.Report) {
	if r.Usage != (answer.Usage{}) && !a.x.counts {
		a.record.Usage = usageMessage(r.Usage.Usage, r.Usage.Estimated)
	}
	if !r.FirstByte.IsZero() {
		a.record.FirstByteMs = milliseconds(r.FirstByte.Sub(a.started))
	}
	if !r.FirstToken.IsZero() {
		a.record.FirstTokenMs = milliseconds(r.FirstToken.Sub(a.started))
	}
	a.record.FinishReason = string(r.Stop)
}

// prompt estimates the tokens of the request, which nobody has counted.
func (a *attempt) prompt() int64 {
	request, e := a.x.request()
	if e != nil { // the target understands more of it
		return llm.EstimateTextTokens(1, len(a.x.body))
	}
	return llm.EstimateTokens(request)
}
