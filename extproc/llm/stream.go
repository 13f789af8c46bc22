package llm

// EventKind says what an Event carries.
type EventKind uint8

// The events of a stream in the order they can come: Start once, any number of deltas and pings, a
// Finish per choice, UsageReport whenever the provider tells, and at the very end exactly one of
// End or Failure. A provider that closes the connection without its own terminal event yields
// neither: the stream is broken, and its reader says so.
const (
	// Ping is a frame that only keeps the connection open.
	Ping EventKind = iota
	// Start is the preamble (ID, Model, and Usage when the provider counts the prompt first). It
	// commits nothing: an overloaded provider says this much before it fails.
	Start
	// TextDelta adds Text to the answer.
	TextDelta
	// TextSignature closes a piece of text with its Signature.
	TextSignature
	// ThinkingDelta adds Text to the model's reasoning.
	ThinkingDelta
	// ThinkingSignature closes a piece of reasoning with its Signature.
	ThinkingSignature
	// ThinkingRedacted carries opaque reasoning in Text.
	ThinkingRedacted
	// RefusalDelta adds Text to a refusal.
	RefusalDelta
	// ToolStart opens the call number Tool, counted from 0 within the choice, with its ID and Name.
	ToolStart
	// ToolDelta adds Text to the arguments of the call number Tool. Calls may interleave.
	ToolDelta
	// ToolEnd closes the call number Tool. Providers that do not say when a call is over never send
	// it.
	ToolEnd
	// Finish says why the choice stopped (Stop, StopSequence).
	Finish
	// UsageReport carries Usage as known so far: cumulative, a later one replaces an earlier one.
	UsageReport
	// End is the provider's own terminal event.
	End
	// Failure is an error inside the stream (Err).
	Failure
)

// Event is one step of a streamed answer. Which fields count depends on Kind.
type Event struct {
	Kind         EventKind
	Choice       int
	Tool         int
	Text         string
	ID           string
	Name         string
	Model        string
	Created      int64
	Signature    string
	Origin       Origin // of Signature, or of the Text that is hidden reasoning
	Stop         Stop
	StopSequence string
	Usage        *Usage
	Err          *Error
}

// Meaningful tells whether the event commits the answer to this attempt. Before the first such
// event a failure can still be retried elsewhere without the client seeing any of it.
func (e Event) Meaningful() bool {
	switch e.Kind {
	case Ping, Start, UsageReport, End, Failure:
		return false
	case TextDelta, ThinkingDelta, RefusalDelta, ToolDelta:
		return e.Text != ""
	default:
		return true
	}
}

// Frame is one event of the provider's stream: its exact bytes, delimiter included, and what they
// mean. In Raw a finish that denies the tool calls before it is put right. Raw is valid until the
// next call to the decoder that made it. Events is empty for frames the schema ignores.
type Frame struct {
	Raw    []byte
	Events []Event
	// Injected marks a frame that is there only because the gateway asked for it and the client did
	// not (OpenAI's usage-only chunk). A same-schema relay leaves it out.
	Injected bool
	// OwnError marks a frame that is the provider's own error event. A same-schema relay passes it
	// on; a Failure of any other frame the client could not read as one.
	OwnError bool
}

// StreamDecoder reads one provider stream. Its methods must not overlap.
type StreamDecoder interface {
	// Push takes the next bytes, cut anywhere, and yields the frames they complete. Frames, their
	// Raw and their Events are the decoder's and valid until the next call. It fails once a frame
	// exceeds the codec's bound.
	Push(chunk []byte) ([]Frame, error)
	// Close takes the end of the bytes and yields what an unterminated last frame still said.
	Close() []Frame
	// Complete tells whether every answer that was asked for has said why it stopped. What may
	// still come is usage and the provider's own End, which some never send; content that comes all
	// the same counts.
	Complete() bool
}

// StreamEncoder writes one stream for the client. Its methods must not overlap.
type StreamEncoder interface {
	// Encode appends the bytes for e to dst; none for what the client's schema does not say.
	Encode(dst []byte, e Event) []byte
	// Close appends the ending to dst. err is nil after an End event; otherwise the stream is
	// broken and is ended the way the client's SDK recognises as failure, with no invented stop
	// reason. It must be called exactly once.
	Close(dst []byte, err *Error) []byte
}
