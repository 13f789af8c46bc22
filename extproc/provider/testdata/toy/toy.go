// Package toy is a schema of our own, as different from the others as one can be: the model and
// whether a stream is wanted stand in the path, and a stream is a line for each piece. It is the
// folder of the recipe in CONTRIBUTING.md; ../../recipe_test.go puts it where it belongs, with its
// rows.
package toy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"millrace/extproc/llm"
	"millrace/schema"
)

var row = schema.Of("toy.talk")

// request is also the form of an answer: whoever speaks next.
type request struct {
	Say   []line `json:"say"`
	Limit *int64 `json:"limit,omitempty"`
	Mood  string `json:"mood,omitempty"`
}

type line struct {
	Who  string `json:"who"`
	Text string `json:"text"`
	Last bool   `json:"last,omitempty"`
}

// Talk is the codec of its conversations.
type Talk struct{}

// path is where the target is asked: the model is in it.
func path(model string, stream bool) (string, error) {
	method := "ask"
	if stream {
		method = "tell"
	}
	at, ok := row.Path(schema.Conversation, schema.Params{"model": model, "method": method})
	if !ok {
		return "", llm.Invalid("model", "cannot stand in a path")
	}
	return at, nil
}

func (Talk) ReadHead(params map[string]string, body []byte) (llm.Head, error) {
	if !json.Valid(body) {
		return llm.Head{}, llm.Errorf(llm.ErrInvalidRequest, "request body is not strict JSON")
	}
	return llm.Head{Model: params["model"], Stream: params["method"] == "tell", IncludeUsage: true}, nil
}

func (Talk) DecodeRequest(h llm.Head, body []byte) (*llm.Request, error) {
	var in request
	if json.Unmarshal(body, &in) != nil {
		return nil, llm.Invalid("say", "want lines")
	}
	out := &llm.Request{Family: row.Family, Model: h.Model, Stream: h.Stream, IncludeUsage: true, MaxTokens: in.Limit}
	if in.Mood != "" {
		mood, _ := json.Marshal(in.Mood)
		out.Extra = []llm.Extra{{Name: "mood", Value: mood}}
	}
	for _, l := range in.Say {
		out.Messages = append(out.Messages, llm.Message{Role: llm.Role(l.Who), Parts: []llm.Part{llm.Text{Text: l.Text}}})
	}
	return out, nil
}

func (Talk) EncodeRequest(r *llm.Request, o llm.Options) (llm.Call, error) {
	out := request{Limit: r.MaxTokens}
	for _, m := range r.Messages {
		for _, p := range m.Parts {
			text, ok := p.(llm.Text)
			if !ok {
				return llm.Call{}, llm.Invalid("messages", "only text can be said here")
			}
			out.Say = append(out.Say, line{Who: string(m.Role), Text: text.Text})
		}
	}
	_, lost := r.Extras(row.Family, row.Members)
	if r.Seed != "" {
		lost = append(lost, "seed")
	}
	body, err := json.Marshal(out)
	if err != nil {
		return llm.Call{}, err
	}
	at, err := path(o.Model, r.Stream)
	return llm.Call{Body: body, Path: at, Dropped: lost, Answer: reader{}}, err
}

func (Talk) PatchRequest(h llm.Head, body []byte, o llm.Options) (llm.Call, error) {
	at, err := path(o.Model, h.Stream)
	return llm.Call{Body: body, Path: at, Answer: reader{}}, err
}

type reader struct{}

func (reader) Whole(body []byte) (*llm.Response, error) {
	var l line
	if json.Unmarshal(body, &l) != nil || l.Who == "" {
		return nil, llm.Errorf(llm.ErrBadGateway, "the provider said nothing")
	}
	return &llm.Response{Model: "toy", Choices: []llm.Choice{{Parts: []llm.Part{llm.Text{Text: l.Text}}, Stop: llm.StopEnd}}}, nil
}

func (reader) Patch(body []byte, _ *llm.Response) []byte { return body }

func (reader) Stream() llm.StreamDecoder { return &decoder{} }

type decoder struct {
	rest   []byte // of a line that has not ended
	frames []llm.Frame
	last   bool
}

func (d *decoder) Push(chunk []byte) ([]llm.Frame, error) {
	d.frames = nil
	d.rest = append(d.rest, chunk...)
	for {
		raw, rest, ended := bytes.Cut(d.rest, []byte("\n"))
		if !ended {
			break
		}
		d.take(append(bytes.Clone(raw), '\n'))
		d.rest = rest
	}
	if len(d.rest) > 1<<20 {
		return d.frames, errors.New("a line of more than a megabyte")
	}
	return d.frames, nil
}

func (d *decoder) Close() []llm.Frame { return nil }

func (d *decoder) Complete() bool { return d.last }

func (d *decoder) take(raw []byte) {
	f := llm.Frame{Raw: raw}
	var l line
	if json.Unmarshal(raw, &l) == nil && l.Who != "" {
		f.Events = append(f.Events, llm.Event{Kind: llm.TextDelta, Text: l.Text})
		if d.last = l.Last; d.last {
			f.Events = append(f.Events, llm.Event{Kind: llm.Finish, Stop: llm.StopEnd}, llm.Event{Kind: llm.End})
		}
	}
	d.frames = append(d.frames, f)
}

func (Talk) EncodeResponse(_ llm.Asked, r *llm.Response) ([]byte, error) {
	out := line{Who: "assistant", Last: true}
	for _, p := range r.Choices[0].Parts {
		switch p := p.(type) {
		case llm.Text:
			out.Text += p.Text
		case llm.Thinking:
			out.Text += p.Text
		}
	}
	return json.Marshal(out)
}

func (Talk) NewStreamEncoder(llm.Asked) llm.StreamEncoder { return encoder{} }

type encoder struct{}

func (encoder) Encode(dst []byte, e llm.Event) []byte {
	if e.Kind != llm.TextDelta && e.Kind != llm.ThinkingDelta {
		return dst
	}
	return append(dst, said(line{Who: "assistant", Text: e.Text})...)
}

func (encoder) Close(dst []byte, err *llm.Error) []byte {
	if err != nil {
		return append(append(dst, Talk{}.EncodeError(err)...), '\n')
	}
	return append(dst, Talk{}.StreamEnd()...)
}

func said(l line) string {
	body, _ := json.Marshal(l)
	return string(body) + "\n"
}

func (Talk) StreamEnd() []byte { return []byte(said(line{Who: "assistant", Last: true})) }

func (Talk) Cut(dst, _ []byte, _ []int, _ llm.Stop) []byte { return append(dst, Talk{}.StreamEnd()...) }

func (Talk) Say(dst, _ []byte, _ int, text string) []byte {
	return append(dst, said(line{Who: "assistant", Text: text})...)
}

type oops struct {
	Oops string `json:"oops"`
	Kind string `json:"kind"`
}

func (Talk) EncodeError(e *llm.Error) []byte {
	body, _ := json.Marshal(oops{e.Message, row.Error.Type(string(e.Type))})
	return body
}

func (Talk) IsError(body []byte) bool { return strings.Contains(string(body), `"oops"`) }

func (Talk) DecodeError(status int, _ http.Header, body []byte) *llm.Error {
	var o oops
	_ = json.Unmarshal(body, &o)
	return llm.Errorf(llm.ErrorTypeOf(status), "%s", o.Oops)
}

// Files only pass through: whatever is put there, and whatever is answered.
type Files struct{ Talk }

func (Files) ReadHead(map[string]string, []byte) (llm.Head, error) { return llm.Head{}, nil }

func (Files) DecodeRequest(llm.Head, []byte) (*llm.Request, error) {
	return nil, llm.Errorf(llm.ErrInvalidRequest, "files are not translated")
}

func (Files) PatchRequest(h llm.Head, body []byte, _ llm.Options) (llm.Call, error) {
	at, ok := row.Path("files", h.Params)
	if !ok {
		return llm.Call{}, llm.Invalid("id", "cannot stand in a path")
	}
	return llm.Call{Body: body, Path: at, Answer: passing{}}, nil
}

type passing struct{ reader }

func (passing) Whole([]byte) (*llm.Response, error) { return &llm.Response{}, nil }
