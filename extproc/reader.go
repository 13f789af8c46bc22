package extproc

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"mime"
	"strconv"
	"strings"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// reader reads a target's answer and writes the client's. Envoy hears nothing, not even the status, until the answer is
// known to be one: for a stream that is its first meaningful event, for a whole answer its last byte. Until then a failure
// of any kind becomes an error status, and Envoy goes on to the next target unseen by the client.
type reader struct {
	*attempt
	header headers
	status int

	decoder llm.StreamDecoder // nil: the answer is read whole
	encoder llm.StreamEncoder // nil: the client speaks the target's schema and gets its bytes

	held      []byte     // whole: all of the answer so far; stream: what the client gets once the answer is committed
	committed bool       // the headers are out
	begun     bool       // some of the body came; Envoy takes none for the client before
	spoke     bool       // a meaningful event came
	bodiless  bool       // the answer had no body: what the client gets goes with the headers
	over      bool       // the last byte for the client is out; what else comes is not for it
	ended     bool       // the stream said that it was complete, or failed
	closed    bool       // the target's last byte is in
	told      bool       // all has been said but the end, which waits for the target's
	refusal   *llm.Error // what is said then to a client that has nothing yet
}

// maxHeld bounds what a stream may say before its first meaningful event.
const maxHeld = 1 << 20

func newReader(a *attempt, h headers) *reader {
	r := &reader{attempt: a, header: h}
	r.status, _ = strconv.Atoi(h.get(":status"))
	media, _, _ := mime.ParseMediaType(h.get("content-type"))
	if r.ok() && a.x.head.Stream && media == "text/event-stream" && h.get("content-encoding") == "" {
		r.decoder = a.target.codec.Target.NewStreamDecoder(a.x.head)
		if !a.native() {
			r.encoder = a.x.client.Client.NewStreamEncoder(a.x.head)
		}
	}
	return r
}

func (r *reader) ok() bool { return r.status >= 200 && r.status < 300 }

// push takes the next bytes of the answer.
func (r *reader) push(chunk []byte) error {
	r.begun = true
	if r.over || r.told {
		return nil
	}
	if r.decoder == nil {
		if int64(len(r.held)+len(chunk)) > r.x.runtime.maxBodyBytes {
			return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: the answer is larger than %d bytes", r.record.Target, r.x.runtime.maxBodyBytes))
		}
		r.held = append(r.held, chunk...)
		return nil
	}
	frames, err := r.decoder.Push(chunk)
	for _, f := range frames {
		if err := r.frame(f); err != nil || r.over || r.told {
			return err
		}
	}
	if err != nil {
		return r.broken(llm.Errorf(llm.ErrBadGateway, "target %q: unreadable stream: %v", r.record.Target, err))
	}
	return nil
}

// frame relays or translates one event of the target's stream, and commits the answer at the first meaningful one.
func (r *reader) frame(f llm.Frame) error {
	commit := false
	for _, e := range f.Events {
		switch e.Kind {
		case llm.Failure:
			r.ended = true
			if !r.committed && !commit {
				return r.refuse(e.Err)
			}
			r.attempt.fail(e.Err)
			if r.encoder == nil && f.OwnError {
				break // the client reads it as it is
			}
			if !r.committed {
				if err := r.commit(r.status, -1); err != nil {
					return err
				}
			}
			return r.closeWith(e.Err)
		case llm.End:
			r.ended = true
		case llm.UsageReport, llm.Start:
			r.count(e.Usage)
		}
		commit = commit || e.Meaningful()
		r.spoke = r.spoke || commit
		if r.encoder != nil {
			r.held = r.encoder.Encode(r.held, e)
		}
	}
	if r.encoder == nil && !f.Injected {
		raw := f.Raw
		if r.ended { // it may be an error
			raw = r.target.secrets.Events(raw)
		}
		r.held = append(r.held, raw...)
	}
	switch {
	case commit && !r.committed:
		return r.commit(r.status, -1)
	case !r.committed && len(r.held) > maxHeld:
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: %d bytes of stream without content", r.record.Target, len(r.held)))
	}
	return nil
}

func (r *reader) count(u *llm.Usage) {
	if u != nil {
		r.note(func() { r.x.usage = u })
	}
}

// flush sends what is ready for the client.
func (r *reader) flush() error {
	if !r.committed || r.over || r.decoder == nil || len(r.held) == 0 {
		return nil
	}
	return r.sendEvents(false)
}

// end takes the end of the answer. trailers, if it came with any, get a reply of their own: the client sees none of them.
func (r *reader) end(trailers *extprocv3.HttpTrailers) error {
	if r.over {
		return nil
	}
	r.closed = true
	var err error
	switch {
	case r.withheld != nil:
		return nil //nolint:nilerr // stillHeld says it when the time comes
	case r.refusal != nil:
		err = r.completeError(r.refusal)
	case r.decoder == nil:
		err = r.whole()
	case r.told:
		err = r.send(true)
	default:
		err = r.endStream(llm.Errorf(llm.ErrBadGateway, "target %q: the stream broke off", r.record.Target))
	}
	if err != nil || trailers == nil {
		return err
	}
	return r.stream.Send(&extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{
			HeaderMutation: headersOf(trailers.Trailers).replace(nil),
		}},
	})
}

// streaming tells whether the client has a part of a stream and waits for the rest.
func (r *reader) streaming() bool { return r.decoder != nil && r.committed && !r.over }

// errAbandoned ends the attempt: Envoy closes the connection to the target, and the client's stream with it.
var errAbandoned = status.Error(codes.Aborted, "the target's stream is given up")

// abandon gives up a stream of which the client has a part, and tells why.
func (r *reader) abandon(e *llm.Error) error {
	if err := r.endStream(e); err != nil {
		return err
	}
	return errAbandoned
}

// keepAlive says something that means nothing: clients skip comments
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes).
func (r *reader) keepAlive() error {
	r.held = append(r.held, ": keep-alive\n\n"...)
	return r.flush()
}

// endStream ends the client's stream: completely if the target said that it was complete, else as broken, with the error.
func (r *reader) endStream(unfinished *llm.Error) error {
	for _, f := range r.decoder.Close() {
		if n := len(f.Events); n > 0 && f.Events[n-1].Kind == llm.Failure && !f.OwnError { // half an event
			return r.broken(unfinished)
		}
		if err := r.frame(f); err != nil || r.over || r.told {
			return err
		}
	}
	switch {
	case !r.committed && r.ended:
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: empty stream", r.record.Target))
	case !r.ended:
		return r.broken(unfinished)
	}
	return r.done()
}

// done ends a stream that the target said was complete.
func (r *reader) done() error {
	if r.encoder != nil {
		r.held = r.encoder.Close(r.held, nil)
	}
	return r.finishStream()
}

// broken ends a stream that cannot go on: as a failed attempt while nothing is out, else in the client's own dialect.
func (r *reader) broken(e *llm.Error) error {
	if !r.committed {
		return r.refuse(e)
	}
	if r.ended { // what comes behind the end is nobody's loss
		return r.done()
	}
	r.attempt.fail(e)
	return r.closeWith(e)
}

// closeWith ends a stream, part of which is out, with an error event of the client's schema.
func (r *reader) closeWith(e *llm.Error) error {
	encoder := r.encoder
	if encoder == nil {
		encoder = r.x.client.Client.NewStreamEncoder(r.x.head)
		if len(r.held) > 0 && !bytes.HasSuffix(r.held, []byte("\n\n")) { // the target's last event lacks its end
			r.held = append(r.held, "\n\n"...)
		}
	}
	r.held = encoder.Close(r.held, e)
	return r.finishStream()
}

// finishStream sends what is left of an answer, and its end if the target's is there. It must not be sent before: Envoy 1.40.0
// then leaves the connection to the target open and takes what still comes on it to an object that is gone ("envoy bug failure:
// Wrapped decoder use after free detected"). A target that does not end is given up (silent).
func (r *reader) finishStream() error {
	r.told = true
	return r.sendEvents(r.closed)
}

// whole reads an answer that is complete.
func (r *reader) whole() error {
	if e := r.header.get("content-encoding"); e != "" && e != "identity" {
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: answered in %s, which was not asked for", r.record.Target, e))
	}
	if !r.ok() {
		return r.wholeError()
	}
	response, err := r.target.codec.Target.DecodeResponse(r.held)
	if err != nil {
		return r.refuse(asError(err))
	}
	if r.x.head.Stream {
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: asked for a stream, answered %q", r.record.Target, r.header.get("content-type")))
	}
	r.count(&response.Usage)
	if !r.native() {
		body, err := r.x.client.Client.EncodeResponse(response)
		if err != nil {
			return r.refuse(asError(err))
		}
		r.held = body
	}
	return r.complete(r.status)
}

// wholeError passes on the target's error: its own bytes to a client of the same schema, as far as they are an error of that
// schema, else translated.
func (r *reader) wholeError() error {
	e := r.target.codec.Target.DecodeError(r.status, r.header.http(), r.held)
	if r.x.route.hedge > 0 || !r.native() || !r.x.client.Client.IsError(r.held) {
		return r.refuse(e)
	}
	r.attempt.fail(e)
	return r.complete(r.attempt.status(e))
}

// refuse ends the attempt with an error in the client's schema. Should Envoy try another target, none of it is seen. It waits for the
// target's end, which as a rule follows an error at once (see finishStream).
func (r *reader) refuse(e *llm.Error) error {
	r.attempt.fail(e)
	if r.holds(e) || !r.closed {
		r.told, r.refusal = true, e
		return nil
	}
	return r.completeError(e)
}

// cutOff refuses though the target goes on. Where Envoy goes to another target it closes the connection to this one; where it would
// not, or may not, the sidecar answers.
func (r *reader) cutOff(e *llm.Error) error {
	if r.last() || !retried(r.attempt.status(e)) || r.x.route.budgeted {
		return r.giveUp(e)
	}
	return r.completeError(e)
}

func (r *reader) completeError(e *llm.Error) error {
	r.held = r.x.client.Client.EncodeError(e)
	return r.complete(r.attempt.status(e))
}

// complete sends a whole JSON answer, without the credentials that the target may have quoted.
func (r *reader) complete(status int) error {
	if status < 400 {
		r.held = r.target.certain.JSON(r.held)
	} else {
		r.held = r.target.secrets.JSON(r.held)
	}
	if err := r.commit(status, len(r.held)); err != nil || r.over {
		return err
	}
	r.told = true
	return r.send(r.closed)
}

// commit sends the headers. length is the body's, -1 for a stream.
func (r *reader) commit(status, length int) error {
	r.committed = true
	r.answered(status)
	want := map[string]string{}
	for _, v := range r.header {
		if mayReachClient(v.Key, r.native()) {
			want[v.Key] = r.target.secrets.String(value(v))
		}
	}
	want[":status"] = strconv.Itoa(status)
	if length >= 0 {
		want["content-type"] = "application/json"
		want["content-length"] = strconv.Itoa(length)
	} else {
		delete(want, "content-length")
		want["cache-control"] = "no-cache"
		want["x-accel-buffering"] = "no" // nginx in front must not collect a stream
	}
	maps.Copy(want, r.provenance())
	if len(r.call.Dropped) > 0 {
		want["x-millrace-dropped"] = droppedHeader(r.call.Dropped)
	}
	reply := &extprocv3.CommonResponse{HeaderMutation: r.header.replace(want)}
	if r.bodiless { // Envoy drops body messages behind headers that ended the stream
		r.over = true
		reply.Status = extprocv3.CommonResponse_CONTINUE_AND_REPLACE
		reply.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: r.held}}
	}
	return r.stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: reply},
	}})
}

// sendEvents sends what is held of a stream, without the credentials that the target may have quoted.
func (r *reader) sendEvents(last bool) error {
	r.held = r.target.certain.Events(r.held)
	return r.send(last)
}

// send sends what is held for the client. The reader keeps the buffer: Send has marshalled it when it returns.
func (r *reader) send(last bool) error {
	r.over = r.over || last
	err := r.stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
			BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{
				StreamedResponse: &extprocv3.StreamedBodyResponse{Body: r.held, EndOfStream: last},
			}},
		}},
	}})
	r.held = r.held[:0]
	return err
}

// maxDropped bounds the header: clients choose how many names there are, and how long they are.
const maxDropped = 4 << 10

// droppedHeader lists names of members, which the client chose. What cannot stand in a header is quoted, and what does not fit is
// counted.
func droppedHeader(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' || c == ',' || c == '"' }) {
			name = strconv.QuoteToASCII(name)
		}
		if b.Len()+len(name) > maxDropped {
			fmt.Fprintf(&b, "and %d more", len(names)-i)
			break
		}
		b.WriteString(name)
		if i < len(names)-1 {
			b.WriteString(", ")
		}
	}
	return b.String()
}

// attemptLog words attempts for the response header: "openai=429;claude=200".
func attemptLog(attempts []*millracev1.Attempt) string {
	words := make([]string, len(attempts))
	for i, a := range attempts {
		outcome := strconv.Itoa(int(a.Status))
		if a.Status == 0 {
			outcome = "none"
		}
		words[i] = fmt.Sprintf("%s=%s", cmp.Or(a.Target, "unreached"), outcome)
	}
	return strings.Join(words, ";")
}
