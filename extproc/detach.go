package extproc

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"millrace/envoy"
	"millrace/extproc/answer"
)

// The sidecar detaches from a stream of the client's own schema at its first token, where nobody
// has to read more of it (config.Plan.Detaches). The body's mode is STREAMED there: Envoy sends the
// head and the pieces as they come, and keeps each until it has a reply, the head first. To detach
// is to reply to the head and to end the ext_proc stream: Envoy passes on what it keeps and all
// that follows, each byte once. See docs/rationale.md, "How does the sidecar detach from a
// stream?".

// asReported tells whether the client's stream has the usage that the target reports to it, and no
// other: nobody asks for it in the client's name, because nobody would be there to take it out
// again.
func (a asking) asReported() bool {
	return a.route.detaches && a.x.head.Stream && !a.x.counts && a.native()
}

// detaching is how an answer is said by an attempt that may detach from it: piece for piece, should
// it turn out that it has to stay.
type detaching struct {
	owed      int    // pieces that wait for a reply
	next      []byte // what the client is to get with the next reply
	committed bool   // the head has its reply
}

// owe counts a piece. The last one waits for what the answer's end brings.
func (d *detaching) owe(last bool) {
	if d != nil && !last {
		d.owed++
	}
}

// sendDetaching says what an event has brought: that the rest goes on by itself, a whole answer, or
// a part of the stream.
func (a *attempt) sendDetaching(o answer.Out) error {
	d := a.detach
	switch {
	case o.Commit != nil && o.Commit.Length >= 0: // it may come while the target goes on
		a.noteStatus(o.Commit.Status)
		if err := a.stream.Send(respond(o.Commit.Status, o.Body, asOptions(a.clientsHeaders(o.Commit))...)); err != nil {
			return err
		}
		return errAnswered
	case o.Commit != nil:
		a.noteStatus(o.Commit.Status)
		d.committed = true
		if err := a.stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
			ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: a.header.replace(a.clientsHeaders(o.Commit))}},
		}}); err != nil {
			return err
		}
		if o.Detach {
			a.x.detach(a.record, a.started)
			return errAnswered
		}
	}
	if !d.committed { // Envoy's clock runs for what has no reply, and begins anew with every piece
		return a.stream.Send(&extprocv3.ProcessingResponse{OverrideMessageTimeout: durationpb.New(envoy.LongestHold)})
	}
	d.next = append(d.next, o.Body...)
	for ; d.owed > 0; d.owed-- {
		if err := a.stream.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
			ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
				BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: d.next}},
			}},
		}}); err != nil {
			return err
		}
		d.next = nil
	}
	if o.End && len(d.next) > 0 { // the target goes on, or is silent
		return status.Error(codes.Aborted, "a stream that could not be detached from is to end before its target does")
	}
	return nil
}

func asOptions(headers map[string]string) []*corev3.HeaderValueOption {
	var set []*corev3.HeaderValueOption
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if name[0] != ':' && name != "content-length" { // Envoy's own
			set = append(set, header(name, headers[name]))
		}
	}
	return set
}
