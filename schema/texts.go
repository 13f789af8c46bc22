package schema

// Texts says where in a schema's bodies the texts are that a model reads or says. Package
// extproc/texts reads bodies by it.
//
// A place is a path of members: "messages[].content" is the content of each item of the messages.
// [] stands for each item of a list; ** at the end of a step for all that is below it, at any
// depth, but for the members that have places of their own and those that are Opaque. A last step
// with a condition, "data{type=text}", counts only in an object that has that member with that
// word.
type Texts struct {
	// Request, Answer and Event are the places of a request, of a whole answer and of one event of
	// a stream.
	Request, Answer, Event []TextPlace
	// Opaque are the members below ** that hold no text: names, references, data.
	Opaque []string

	// Speaker is the member of a turn that says who speaks in it, Speakers what it may say. Whoever
	// is not known there is the user.
	Speaker  string
	Speakers map[string]Speaker

	// Number is the member that numbers the choice or the block, in answers and in events, and Part
	// the one that numbers a tool call in it. Without a number it is 0.
	Number, Part string
	// Closed tells that nothing more comes for the choice or the block; it is a member of the
	// object that Number is of.
	Closed Mark
	// Last tells of the event that ends the stream. End is data of that meaning that is no JSON.
	Last Mark
	End  string
	// Quotes is a member beside Number that repeats the texts of the choice, in another form.
	Quotes string
}

// TextPlace is a place where texts are.
type TextPlace struct {
	Path string
	Kind TextKind
	Form TextForm
	Role string // who speaks; "": whom Speaker names
	// Part keeps the texts of one choice or block apart that are of one kind and do not continue
	// one another.
	Part int
	// Signature is the member beside the text by which its provider knows that nobody has changed
	// it, "" for none. In a stream it may come in a later event.
	Signature string
}

// Mark is a member with a word: any but "" where Word is "". A member that is true says "true".
type Mark struct{ Path, Word string }

// Speaker is who speaks in a turn, and, where it is not SaidText, what is said.
type Speaker struct {
	Role string
	Kind TextKind
}

// TextKind is what a text is.
type TextKind uint8

// The kinds of texts.
const (
	SaidText    TextKind = iota
	ThoughtText          // reasoning
	RefusalText          // the assistant declines
	CallText             // the arguments of a tool call
	ResultText           // what a tool has answered, or a search has found
	SpecText             // what a tool, or the form of an answer, is described by
)

// TextForm is how a text is written.
type TextForm uint8

// The forms of texts.
const (
	PlainText  TextForm = iota // a string
	QuotedJSON                 // a string that holds JSON; a value of another kind is that JSON itself
	ValueJSON                  // the value is JSON that counts as text
)

// Who speaks.
const (
	systemRole    = "system"
	userRole      = "user"
	assistantRole = "assistant"
)
