package extproc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/internal/sse"
	millracev1 "millrace/proto/millrace/v1"
)

// reader reads a target's answer and writes the client's. Envoy hears nothing, not even the status, until the answer is
// known to be one: for a stream that is its first meaningful event, for a whole answer its last byte. Until then a failure
// of any kind becomes an error status, and Envoy goes on to the next target unseen by the client.
type reader struct {
	*attempt
	header  headers
	status  int
	content content

	decoder  llm.StreamDecoder // nil: the answer is read whole
	encoder  llm.StreamEncoder // nil: the client speaks the target's schema and gets its bytes
	assembly *llm.Assembly     // of a stream for a client that wants a whole answer; nil: it wants a stream

	whole     []byte     // of an answer that is read whole, what has come so far
	held      []byte     // what the client gets once the answer is committed
	committed bool       // the headers are out
	begun     bool       // some of the body came; Envoy takes none for the client before
	spoke     bool       // a meaningful event came
	bodiless  bool       // the answer had no body: what the client gets goes with the headers
	over      bool       // the last byte for the client is out; what else comes is not for it
	ended     bool       // the stream said that it was complete, or failed
	finished  time.Time  // when the stream had all but its usage and its end; zero: it goes on, or has failed
	closed    bool       // the target's last byte is in
	told      bool       // all has been said but the end, which waits for the target's
	refusal   *llm.Error // what is said then to a client that has nothing yet
}

// maxHeld bounds what a stream may say before its first meaningful event.
const maxHeld = 1 << 20

func newReader(a *attempt, h headers) *reader {
	r := &reader{attempt: a, header: h, content: newContent(h)}
	r.status, _ = strconv.Atoi(h.get(":status"))
	if r.ok() && a.x.head.Stream && r.content.labelled { // the first bytes may say otherwise
		r.decode()
	}
	return r
}

// ok tells whether the status is an answer's. 204 and 205 promise that there is no body.
func (r *reader) ok() bool {
	return r.status >= 200 && r.status < 300 && r.status != http.StatusNoContent && r.status != http.StatusResetContent
}

// decode begins to read a stream.
func (r *reader) decode() {
	r.decoder = r.target.codec.Target.NewStreamDecoder(r.x.head)
	switch {
	case !r.x.head.Stream:
		r.assembly = &llm.Assembly{}
	case !r.native():
		r.encoder = r.x.client.Client.NewStreamEncoder(r.x.head)
	}
}

// push takes the next bytes of the answer, as they came.
func (r *reader) push(chunk []byte) error {
	r.begun = true
	if r.over || r.refusal != nil {
		return nil //nolint:nilerr // the refusal is said at the end
	}
	return r.unpacked(r.content.push(chunk, r.take))
}

// unpacked passes an error on. One that says that the body cannot be unpacked is the target's.
func (r *reader) unpacked(err error) error {
	switch {
	case !errors.Is(err, errPacked):
		return err
	case r.told:
		return nil
	}
	return r.broken(llm.Errorf(llm.ErrBadGateway, "target %q: the answer %v", r.record.Target, err))
}

// take takes the next bytes of the answer, unpacked, once it is known whether they are a stream.
func (r *reader) take(plain []byte) error {
	if r.content.form == formWhole || !r.ok() {
		return r.takeWhole(plain)
	}
	if r.decoder == nil {
		r.decode()
		if r.route.atHeaders && r.assembly == nil {
			if err := r.commit(r.status, -1); err != nil {
				return err
			}
		}
	}
	frames, err := r.decoder.Push(plain)
	for _, f := range frames {
		if r.told { // the client has its answer, the record lacks its usage perhaps
			r.account(f)
		} else if err := r.frame(f); err != nil || r.over {
			return err
		}
	}
	if err != nil && !r.told {
		return r.broken(llm.Errorf(llm.ErrBadGateway, "target %q: unreadable stream: %v", r.record.Target, err))
	}
	return r.flush()
}

func (r *reader) takeWhole(plain []byte) error {
	if r.told {
		return nil
	}
	if int64(len(r.whole)+len(plain)) > r.x.runtime.maxBodyBytes {
		return r.broken(r.tooLarge())
	}
	r.whole = append(r.whole, plain...)
	return nil
}

func (r *reader) tooLarge() *llm.Error {
	return llm.Errorf(llm.ErrBadGateway, "target %q: the answer is larger than %d bytes", r.record.Target, r.x.runtime.maxBodyBytes)
}

// frame relays or translates one event of the target's stream, and commits the answer at the first meaningful one.
func (r *reader) frame(f llm.Frame) error {
	commit := false
	for _, e := range f.Events {
		switch e.Kind {
		case llm.Failure:
			r.ended, r.finished = true, time.Time{}
			if !r.committed && !commit {
				return r.refuse(e.Err)
			}
			r.attempt.fail(e.Err)
			said := r.attempt.told(e.Err)
			if r.encoder == nil && f.OwnError && said == e.Err {
				break // the client reads it as it is
			}
			if !r.committed {
				if err := r.commit(r.status, -1); err != nil {
					return err
				}
			}
			return r.closeWith(said)
		case llm.End:
			r.ended, r.finished = true, time.Now()
			if r.relays() && len(f.Raw) == 0 {
				r.held = append(r.held, r.x.client.Client.StreamEnd()...)
			}
		case llm.UsageReport, llm.Start:
			r.count(e.Usage)
		}
		if r.assembly != nil {
			r.assembly.Add(e)
			continue
		}
		commit = commit || e.Meaningful()
		r.spoke = r.spoke || commit
		if r.encoder != nil {
			e.Name = r.call.ClientName(e.Name)
			r.held = r.encoder.Encode(r.held, e)
		}
	}
	if r.relays() && !f.Injected {
		raw := f.Raw
		if r.ended { // it may be an error
			raw = r.target.secrets.Events(raw)
		}
		r.held = append(r.held, raw...)
	}
	switch {
	case r.assembly != nil && int64(r.assembly.Bytes()) > r.x.runtime.maxBodyBytes:
		return r.refuse(r.tooLarge())
	case commit && !r.committed:
		if err := r.commit(r.status, -1); err != nil {
			return err
		}
	case !r.committed && len(r.held) > maxHeld:
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: %d bytes of stream without content", r.record.Target, len(r.held)))
	}
	return r.conclude(f)
}

// conclude ends an answer as soon as nothing more can come that the client is to get: its connection may stay open for long. What is
// relayed as it is ends with the target's own last byte.
func (r *reader) conclude(f llm.Frame) error {
	complete := !r.finished.IsZero()
	r.finish(f)
	if !r.relays() && (r.ended || complete && onlyUsage(f)) {
		return r.done()
	}
	return nil
}

// relays tells whether the client gets the target's own events.
func (r *reader) relays() bool { return r.encoder == nil && r.assembly == nil }

// finish notes whether the target has said all but its usage. Comments are no progress.
func (r *reader) finish(f llm.Frame) {
	switch {
	case r.ended:
	case !r.decoder.Complete():
		r.finished = time.Time{}
	case r.finished.IsZero() || slices.ContainsFunc(f.Events, func(e llm.Event) bool { return e.Kind != llm.Ping }):
		r.finished = time.Now()
	}
}

// onlyUsage tells whether the frame is the one that OpenAI sends behind the last choice's end.
func onlyUsage(f llm.Frame) bool {
	return len(f.Events) > 0 && !slices.ContainsFunc(f.Events, func(e llm.Event) bool { return e.Kind != llm.UsageReport })
}

// account takes the usage out of a frame that the client gets nothing of.
func (r *reader) account(f llm.Frame) {
	for _, e := range f.Events {
		r.count(e.Usage)
	}
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
	if r.refusal == nil {
		err = r.unpacked(r.content.end(r.take))
	}
	switch {
	case err != nil || r.over:
	case r.withheld != nil:
		return nil //nolint:nilerr // stillHeld says it when the time comes
	case r.refusal != nil:
		err = r.completeError(r.refusal)
	case r.told:
		err = r.send(true)
	case r.decoder == nil || r.content.form == formWhole:
		err = r.endWhole()
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
func (r *reader) streaming() bool {
	return r.decoder != nil && r.assembly == nil && r.committed && !r.ended && !r.told && !r.over
}

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
	if !r.ended {
		return r.broken(unfinished)
	}
	return r.done()
}

// done ends a stream that is complete, whether the target has said so or only why it stopped.
func (r *reader) done() error {
	switch {
	case r.assembly != nil:
		return r.assembled()
	case !r.committed:
		return r.refuse(r.empty())
	case r.encoder != nil:
		r.held = r.encoder.Close(r.held, nil)
	case !r.ended:
		r.held = append(r.held, r.x.client.Client.StreamEnd()...)
	}
	return r.finishStream()
}

func (r *reader) empty() *llm.Error {
	return llm.Errorf(llm.ErrBadGateway, "target %q: empty stream", r.record.Target)
}

// assembled gives a client that wants a whole answer what a stream has told.
func (r *reader) assembled() error {
	response := r.assembly.Response()
	if len(response.Choices) == 0 {
		return r.refuse(r.empty())
	}
	return r.encode(response)
}

// encode gives the client a whole answer in its schema.
func (r *reader) encode(response *llm.Response) error {
	r.call.RestoreNames(response)
	body, err := r.x.client.Client.EncodeResponse(response)
	if err != nil {
		return r.refuse(asError(err))
	}
	r.held = body
	return r.complete(r.status)
}

// broken ends an answer that cannot go on: as a failed attempt while nothing is out, else in the client's own dialect. What comes
// behind the end of a stream is nobody's loss.
func (r *reader) broken(e *llm.Error) error {
	switch {
	case r.ended || !r.finished.IsZero():
		return r.done()
	case !r.committed:
		return r.refuse(e)
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

// endWhole reads a whole answer.
func (r *reader) endWhole() error {
	if !r.ok() {
		return r.wholeError()
	}
	response, err := r.target.codec.Target.DecodeResponse(r.whole)
	if err != nil {
		return r.broken(asError(err))
	}
	r.count(&response.Usage)
	switch {
	case r.x.head.Stream:
		return r.replay(response)
	case !r.native():
		return r.encode(response)
	}
	r.held = r.target.codec.Target.PatchResponse(r.whole, response)
	return r.complete(r.status)
}

// replay gives a client that wants a stream what a whole answer has told.
func (r *reader) replay(response *llm.Response) error {
	if !r.committed {
		if err := r.commit(r.status, -1); err != nil {
			return err
		}
	}
	r.call.RestoreNames(response)
	encoder := r.x.client.Client.NewStreamEncoder(r.x.head)
	for _, e := range response.Events() {
		r.held = encoder.Encode(r.held, e)
	}
	r.held = encoder.Close(r.held, nil)
	return r.finishStream()
}

// wholeError passes on the target's error: its own bytes to a client of the same schema, if it is an error of that schema, else
// translated.
func (r *reader) wholeError() error {
	body := r.whole
	if r.content.form == formStream {
		body = firstData(body)
	}
	e := r.target.codec.Target.DecodeError(r.status, r.header.http(), body)
	if r.status < 400 || r.status > 599 { // Envoy passes on any number; for a client it would be no answer, or no HTTP
		return r.refuse(llm.Errorf(llm.ErrBadGateway, "target %q: the status %d is neither an answer's nor an error's: %s", r.record.Target, r.status, e.Message))
	}
	if r.route.hedge > 0 || !r.native() || r.attempt.told(e) != e || !r.x.client.Client.IsError(body) {
		return r.refuse(e)
	}
	r.attempt.fail(e)
	r.held = body
	return r.complete(r.attempt.status(e))
}

// firstData is what the first event of a stream has to say.
func firstData(stream []byte) (data []byte) {
	first := func(e sse.Event) {
		if data == nil && e.Data != nil {
			data = bytes.Clone(e.Data)
		}
	}
	p := sse.Parser{MaxBytes: len(stream)}
	_ = p.Push(stream, first) // it fits
	p.Close(first)
	return data
}

// refuse ends the attempt with an error in the client's schema. Should Envoy try another target, none of it is seen. It waits for the
// target's end, which as a rule follows an error at once (see finishStream).
func (r *reader) refuse(e *llm.Error) error {
	r.attempt.fail(e)
	e = r.attempt.told(e)
	if r.holds(e) || !r.closed {
		r.told, r.refusal = true, e
		return nil
	}
	return r.completeError(e)
}

// cutOff refuses though the target goes on. Where Envoy goes to another target it closes the connection to this one; where it would
// not, or may not, the sidecar answers.
func (r *reader) cutOff(e *llm.Error) error {
	if r.last() || !r.again || r.route.budgeted {
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
		if !r.content.labelled {
			want["content-type"] = "text/event-stream"
		}
		want["cache-control"] = "no-cache"
		want["x-accel-buffering"] = "no" // nginx in front must not collect a stream
	}
	maps.Copy(want, r.provenance())
	if status >= 400 && r.again && r.route.hedge == 0 {
		want[envoy.HeaderRetry] = "1"
	}
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
