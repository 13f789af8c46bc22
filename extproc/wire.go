package extproc

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/extproc/answer"
)

// What an answer says, in Envoy's messages. The body's mode is FULL_DUPLEX_STREAMED: Envoy takes
// what it is told when it is told.

// errAnswered ends the stream of an attempt that has its answer.
var errAnswered = errors.New("answered")

// say tells Envoy, and keeps the attempt's record: a failure is in it before an error that the
// client gets of it, and after the head of an answer that it breaks off.
func (a *attempt) say(o answer.Out) error {
	a.decoding()
	defer func() { a.working = time.Now() }()
	if o.Instead != nil && o.Instead.Retry || o.Commit != nil && o.Commit.Retry {
		a.note(func() { a.record.RetriedOn = a.record.Condition })
	}
	begins := o.Commit != nil && o.Commit.Status < 300
	if o.Failed != nil && !begins {
		a.failed(o.Failed)
	}
	a.capture.take(o)
	if o.Instead != nil {
		if err := a.stream.Send(a.instead(o.Instead.Status, "application/json", o.Instead.Body, o.Instead.Retry)); err != nil {
			return err
		}
		return errAnswered
	}
	if a.detach != nil && a.header != nil {
		if err := a.sendDetaching(o); err != nil {
			return err
		}
	} else if err := a.send(o); err != nil {
		return err
	}
	if o.Failed != nil && begins {
		a.failed(o.Failed)
	}
	return nil
}

// send sends the head and a piece of the body, each in its message. Envoy drops a body behind
// headers that ended the stream: it goes with them.
func (a *attempt) send(o answer.Out) error {
	bodiless := false
	if o.Commit != nil {
		a.noteStatus(o.Commit.Status)
		reply := &extprocv3.CommonResponse{HeaderMutation: a.header.replace(a.clientsHeaders(o.Commit))}
		if bodiless = a.bodiless; bodiless {
			reply.Status = extprocv3.CommonResponse_CONTINUE_AND_REPLACE
			reply.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: o.Body}}
		}
		if err := a.stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
			ResponseHeaders: &extprocv3.HeadersResponse{Response: reply},
		}}); err != nil {
			return err
		}
	}
	if bodiless || len(o.Body) == 0 && !o.End {
		return nil
	}
	if a.piece.message == nil {
		a.piece = newPiece()
	}
	a.piece.body.Body, a.piece.body.EndOfStream = o.Body, o.End
	return a.stream.Send(a.piece.message)
}

// piece is the message of a piece of the body. An attempt has one for all of them: Send has
// marshalled it when it returns.
type piece struct {
	message *extprocv3.ProcessingResponse
	body    *extprocv3.StreamedBodyResponse
}

func newPiece() piece {
	body := &extprocv3.StreamedBodyResponse{}
	return piece{body: body, message: &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
			BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: body}},
		}},
	}}}
}

// withoutTrailers answers the target's trailers: the client sees none of them.
func withoutTrailers(t *extprocv3.HttpTrailers) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{
			HeaderMutation: headersOf(t.Trailers).replace(nil),
		}},
	}
}

// clientsHeaders are all that the client gets.
func (a *attempt) clientsHeaders(s *answer.Start) map[string]string {
	want := map[string]string{}
	for _, v := range a.header {
		if mayReachClient(v.Key, a.x.client.Schema, a.target.codec.Schema) {
			add(want, v.Key, a.secrets.String(value(v)))
		}
	}
	want[":status"] = strconv.Itoa(s.Status)
	if s.Length >= 0 {
		want["content-type"] = "application/json"
		want["content-length"] = strconv.Itoa(s.Length)
	} else {
		delete(want, "content-length")
		if streams := a.x.client.Schema.Framing.ContentType; !s.Labelled || streams != a.target.codec.Schema.Framing.ContentType {
			want["content-type"] = streams
		}
		want["cache-control"] = "no-cache"
		want["x-accel-buffering"] = "no" // nginx in front must not collect a stream
	}
	maps.Copy(want, a.provenance())
	if s.Retry {
		want[envoy.HeaderRetry] = "1"
	}
	if s.Blocked {
		want["x-should-retry"] = "false" // the SDKs retry 409
	}
	if timing := a.x.session.Timing(); timing != "" {
		want["server-timing"] = timing
	}
	if len(a.call.Dropped) > 0 {
		want["x-millrace-dropped"] = droppedHeader(a.call.Dropped)
	}
	return want
}

// provenance are the headers that tell the client where its answer came from.
func (a asking) provenance() map[string]string {
	return map[string]string{
		"x-millrace-request-id": a.x.id,
		"x-selected-provider":   a.target.config.Provider,
		"x-millrace-target":     a.target.config.ID,
		"x-millrace-attempts":   a.x.log(),
	}
}

// instead is an answer that the sidecar gives in the target's place.
func (a *attempt) instead(status int, contentType string, body []byte, retry bool, set ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	a.noteStatus(status)
	headers := a.provenance()
	headers["content-type"] = contentType
	if retry {
		headers[envoy.HeaderRetry] = "1"
	}
	return respond(status, body, append(set, asOptions(headers)...)...)
}

// maxDropped bounds the header: clients choose how many names there are, and how long they are.
const maxDropped = 4 << 10

// droppedHeader lists names of members, which the client chose. What cannot stand in a header is
// quoted, and what does not fit is counted.
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

// bounded are the names as an event has them: no more of them than fit into the header.
func bounded(names []string) []string {
	size := 0
	for i, name := range names {
		if size += len(name); size > maxDropped {
			return append(slices.Clip(names[:i]), fmt.Sprintf("and %d more", len(names)-i))
		}
	}
	return names
}

// attemptLog words attempts for the response header: "openai=429;claude=200".
func attemptLog(attempts []tried) string {
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
