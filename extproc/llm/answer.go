package llm

// AnswerReader reads the answer to one call. The encoder that made the call makes it too, since it
// alone knows what has to be undone: a tool that goes by another name there, a tool that stands for
// a JSON schema, an id of another form. What a reader yields is in the client's terms. Methods may
// overlap.
type AnswerReader interface {
	// Whole reads a whole 2xx answer, leniently (a sloppy provider is no reason for a 502). The
	// error is an *Error: what the provider said when the body is an error all the same, else
	// ErrBadGateway.
	Whole(body []byte) (*Response, error)
	// Patch is the answer for a client of the same schema: body, which Whole has read as r, as it
	// is but for a word that says the model was done where it called tools. It does not change
	// body.
	Patch(body []byte, r *Response) []byte
	// Stream starts reading a streamed answer.
	Stream() StreamDecoder
}

// Asked is the request that an answer is written for.
type Asked struct {
	Head
	// Request is all of it, decoded when it is first asked for; what it returns must not be
	// changed. Few answers depend on more than the head. It may be nil where there is no body.
	Request func() (*Request, error)
}

// Renames are the tools that a target knows by another name than the client: its name, and the
// client's.
type Renames map[string]string

// Fit is what a tool is called where the rule holds, and notes that if it is another name than the
// client's.
func (n *Renames) Fit(rule NameRule, name string) string {
	fitting := rule.Fit(name)
	if fitting != name {
		if *n == nil {
			*n = Renames{}
		}
		(*n)[fitting] = name
	}
	return fitting
}

// Undo is a reader that gives the client its own names back.
func (n Renames) Undo(r AnswerReader) AnswerReader {
	if len(n) == 0 {
		return r
	}
	return renaming{r, n}
}

// RenamesOf are the names that a reader gives back, nil for none.
func RenamesOf(r AnswerReader) Renames {
	if undo, ok := r.(renaming); ok {
		return undo.names
	}
	return nil
}

type renaming struct {
	AnswerReader
	names Renames
}

func (r renaming) Whole(body []byte) (*Response, error) {
	response, err := r.AnswerReader.Whole(body)
	if err != nil {
		return nil, err
	}
	for _, choice := range response.Choices {
		for i, p := range choice.Parts {
			if call, ok := p.(ToolCall); ok {
				call.Name = r.names.client(call.Name)
				choice.Parts[i] = call
			}
		}
	}
	return response, nil
}

func (r renaming) Stream() StreamDecoder {
	return renamingStream{r.AnswerReader.Stream(), r.names}
}

type renamingStream struct {
	StreamDecoder
	names Renames
}

func (s renamingStream) Push(chunk []byte) ([]Frame, error) {
	frames, err := s.StreamDecoder.Push(chunk)
	return s.undo(frames), err
}

func (s renamingStream) Close() []Frame { return s.undo(s.StreamDecoder.Close()) }

func (s renamingStream) undo(frames []Frame) []Frame {
	for _, f := range frames {
		for i := range f.Events {
			f.Events[i].Name = s.names.client(f.Events[i].Name)
		}
	}
	return frames
}

// client is what the client calls a tool.
func (n Renames) client(name string) string {
	if own, ok := n[name]; ok {
		return own
	}
	return name
}
