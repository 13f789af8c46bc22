// Package texts finds the texts in a body of a schema (a request, a whole answer, one event of a
// stream), decodes them, and puts others in their place. Every other byte of the body stays. Where
// texts are is data: schema.Texts.
//
// A body is read in one pass, leniently, as what providers send is: of members with one name all
// count, and what is no UTF-8 becomes U+FFFD. What is found shares nothing with the body. It is
// bounded: by the body, and by ErrTooMany.
package texts

import (
	"errors"

	"millrace/extproc/llm"
	"millrace/schema"
)

// Kind is what a text is.
type Kind = schema.TextKind

// The kinds of texts.
const (
	Said    = schema.SaidText
	Thought = schema.ThoughtText // reasoning
	Refusal = schema.RefusalText // the assistant declines
	Call    = schema.CallText    // the arguments of a tool call
	Result  = schema.ResultText  // what a tool has answered, or a search has found
	Spec    = schema.SpecText    // what a tool, or the form of an answer, is described by
)

// Text is one text of a body. None is empty; an object without members that stands for JSON is not
// told either.
type Text struct {
	Role llm.Role // System, User or Assistant; the user where the body does not say it
	Kind Kind
	Text string // decoded
	// JSON tells that Text is itself JSON text: a value or, in an event, a fragment of one. A
	// provider that gives all its calls one number tells one value after another.
	JSON bool
	// Channel is what the text belongs to. In the events of a stream, the texts of one channel,
	// joined, are one text.
	Channel Channel

	value     span // the JSON value in the body
	quotes    span // what repeats it; zero for nothing
	signature span // what says that it is its provider's; zero for nothing
	bare      bool // value is the JSON that Text is, not a string
	object    bool // it is so though a string is usual there: as a string it would be that
}

// Channel tells the texts of an answer apart. Its numbers are the provider's, of any size.
type Channel struct {
	Kind   Kind
	Choice int // the number of the choice (OpenAI) or of the block (Anthropic)
	Part   int // keeps apart what one choice has of one kind: its tool calls, its citations
}

// ErrTooMany is a body with more texts than maxTexts. None of them is told.
var ErrTooMany = errors.New("too many texts")

// maxTexts bounds the texts of one body: what is noted of each takes more room than a short one in
// the body.
const maxTexts = 100_000

// span is a piece of the body.
type span struct{ from, to int }

// Request finds the texts of a request that ReadHead has accepted, in the order of the body.
func Request(s *schema.Schema, body []byte) ([]Text, error) {
	found, err := read(plans[s.Name].request, body)
	return found.Texts, err
}

// Answer finds the texts of a whole answer in the schema of s, in the order of the body.
func Answer(s *schema.Schema, body []byte) ([]Text, error) {
	found, err := read(plans[s.Name].answer, body)
	return found.Texts, err
}

// InEvent is what an event of a stream has.
type InEvent struct {
	Texts []Text
	// Opens are the choices or blocks that the event is of: it may be the first that tells of them.
	// Closes are those that are over after it.
	Opens, Closes []int
	Last          bool // the event that ends every stream of the schema
	// Signatures are in the order of the event. They are no texts.
	Signatures []Signature
}

// Signature is what a provider has signed a thought with. In a stream it comes with the thought's
// last piece or after it.
type Signature struct {
	Choice int // as Channel has it
	After  int // how many texts of the event come before it, its own included

	value span
}

// Event finds the texts of one event: data is that of the event alone, without "data:". No data has
// no texts.
func Event(s *schema.Schema, data []byte) (InEvent, error) {
	return event(plans[s.Name].event, s.Texts.End, data)
}
