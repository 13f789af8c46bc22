package llm

import (
	"errors"
	"slices"
	"testing"
)

// calling is a target whose answer calls a tool, under the name that it knows.
type calling struct{ name string }

func (c calling) Whole([]byte) (*Response, error) {
	if c.name == "" {
		return nil, errors.New("no answer")
	}
	return &Response{Choices: []Choice{{Parts: []Part{Text{Text: c.name}, ToolCall{Name: c.name}, ToolCall{Name: "other"}}}}}, nil
}

func (c calling) Patch(body []byte, _ *Response) []byte { return body }
func (c calling) Stream() StreamDecoder                 { return c }
func (c calling) Push([]byte) ([]Frame, error)          { return c.Close(), errors.New("and then nonsense") }
func (c calling) Complete() bool                        { return true }

func (c calling) Close() []Frame {
	return []Frame{{}, {Events: []Event{{Kind: TextDelta, Text: c.name}, {Kind: ToolStart, Name: c.name}, {Kind: ToolStart, Name: "other"}}}}
}

// TestRenamesAreUndone: the client is told its own names, whatever form the answer has, and texts
// are left alone.
func TestRenamesAreUndone(t *testing.T) {
	reader := Renames{"a_b_1": "a.b"}.Undo(calling{"a_b_1"})
	want := []string{"a_b_1", "a.b", "other"}
	r, err := reader.Whole(nil)
	if err != nil {
		t.Fatal(err)
	}
	var whole []string
	for _, p := range r.Choices[0].Parts {
		switch p := p.(type) {
		case Text:
			whole = append(whole, p.Text)
		case ToolCall:
			whole = append(whole, p.Name)
		}
	}
	if !slices.Equal(whole, want) {
		t.Errorf("whole: %q", whole)
	}
	names := func(frames []Frame) (all []string) {
		for _, f := range frames {
			for _, e := range f.Events {
				all = append(all, e.Text+e.Name)
			}
		}
		return all
	}
	stream := reader.Stream()
	frames, err := stream.Push(nil)
	if got := names(frames); err == nil || !slices.Equal(got, want) {
		t.Errorf("stream: %q, %v", got, err)
	}
	if got := names(stream.Close()); !slices.Equal(got, want) || !stream.Complete() {
		t.Errorf("its end: %q", got)
	}
	if _, err := (Renames{"a": "b"}).Undo(calling{}).Whole(nil); err == nil {
		t.Error("no error of an answer that is none")
	}
	if none := (Renames{}).Undo(calling{"a"}); none != (calling{"a"}) || RenamesOf(none) != nil {
		t.Error("something is undone where nothing was done")
	}
}
