package answer

import (
	"bytes"

	"millrace/extproc/llm"
	"millrace/internal/sse"
)

func (a *Answer) takeWhole(plain []byte) {
	switch {
	case a.state == Concluded:
	case int64(a.whole.size+len(plain)) > a.env.MaxBytes:
		a.whole.drop(int(a.env.MaxBytes))
		a.broken(a.tooLarge())
	case !a.env.Room(int64(a.whole.size + len(plain))):
		a.whole.drop(0)
		a.crowded()
	default:
		a.whole.add(plain)
	}
}

// crowded gives the answer up for want of room, which another target would not have either.
func (a *Answer) crowded() {
	told := a.fail(errCrowded(), false)
	a.again = false
	a.tell(told)
}

func errCrowded() *llm.Error {
	return llm.Errorf(llm.ErrUnavailable, "the answers under way take all the room there is for them, try again shortly")
}

func (a *Answer) tooLarge() *llm.Error {
	return a.problem("the answer is larger than %d bytes", a.env.MaxBytes)
}

// endWhole reads a whole answer.
func (a *Answer) endWhole() {
	if !a.head.ok() {
		a.wholeError()
		return
	}
	whole := a.whole.joined()
	response, err := a.env.Reader.Whole(whole)
	if err != nil {
		a.broken(llm.AsError(err))
		return
	}
	a.count.whole(response)
	switch {
	case a.env.Asked.Stream:
		a.replay(response)
	case a.env.Native:
		a.give(a.env.Reader.Patch(whole, response))
	default:
		a.encode(response)
	}
}

// encode gives the client a whole answer in its schema.
func (a *Answer) encode(response *llm.Response) {
	body, err := a.env.Client.EncodeResponse(a.env.Asked, response)
	if err != nil {
		a.refuse(llm.AsError(err))
		return
	}
	a.give(body)
}

// give gives the client a whole answer, as policies leave it.
func (a *Answer) give(body []byte) {
	if a.env.Police != nil {
		left, blocked := a.env.Police.Whole(body)
		if blocked != nil {
			a.block(blocked)
			return
		}
		body = left
	}
	a.complete(a.head.Status, body)
}

// assembled gives a client that wants a whole answer what a stream has told.
func (a *Answer) assembled() {
	response := a.assembly.Response()
	if len(response.Choices) == 0 {
		a.refuse(a.empty())
		return
	}
	a.encode(response)
}

// replay gives a client that wants a stream what a whole answer has told.
func (a *Answer) replay(response *llm.Response) {
	encoder := a.env.Client.NewStreamEncoder(a.env.Asked)
	for _, e := range response.Events() {
		a.held = encoder.Encode(a.held, e)
		if !a.police(llm.Frame{Events: []llm.Event{e}}) {
			return
		}
	}
	a.held = encoder.Close(a.held, nil)
	if !a.settle() {
		return
	}
	if a.state != Streaming {
		a.begin()
	}
	a.conclude()
}

// wholeError passes on the target's error: its own bytes to a client of the same schema, if it is
// an error of that schema and the client is to hear it, else in the client's words.
func (a *Answer) wholeError() {
	body := a.whole.joined()
	if a.content.form == formStream && !a.content.other {
		body = firstData(body)
	}
	e := a.env.Codec.DecodeError(a.head.Status, a.head.Header(), body)
	if a.head.Status < 400 || a.head.Status > 599 { // Envoy passes on any number; for a client it would be no answer, or no HTTP
		a.refuse(a.problem("the status %d is neither an answer's nor an error's: %s", a.head.Status, e.Message))
		return
	}
	told := a.fail(e, true)
	if !a.env.Native || told != e || !a.env.Client.IsError(body) {
		a.tell(told)
		return
	}
	a.complete(a.env.Status(e), body)
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

// pieces is what has come of a body. They are put together once, when it has ended: a slice that
// grows leaves garbage of several times its size.
type pieces struct {
	list    [][]byte
	size    int
	dropped int // bytes that were thrown away unread, as far as they count
}

// drop throws away what has come, and counts it as so many bytes.
func (p *pieces) drop(counted int) { *p = pieces{dropped: counted} }

// unread is how much has come, while it has not been joined.
func (p *pieces) unread() int {
	if p.list == nil {
		return p.dropped
	}
	return p.size
}

func (p *pieces) add(piece []byte) {
	p.list = append(p.list, bytes.Clone(piece))
	p.size += len(piece)
}

// joined is all of it. It may be called once.
func (p *pieces) joined() []byte {
	list := p.list
	p.list = nil
	if len(list) == 1 {
		return list[0]
	}
	return bytes.Join(list, nil)
}
