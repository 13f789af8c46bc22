package llm

import "net/http"

// Head is what a request says about itself before anything else is understood: enough to choose a
// route and, towards a target of the same schema, all that is ever read.
type Head struct {
	Model        string // "" when the client names none
	Stream       bool
	IncludeUsage bool // the client's stream carries usage; always true for schemas that always send it
	Choices      int  // how many answers the client wants side by side; 0 is 1
	// Params are what the operation's pattern found in the client's path, for a call that repeats
	// it. They are not changed.
	Params map[string]string
}

// ClientCodec is the half of an operation that faces an app: it reads the app's requests and writes
// its answers. A conversation is the usual one. Others (a count of tokens, embeddings, what only
// passes through) have the same contract: what Request and Response have no field for goes out by
// PatchRequest alone, to targets of the client's own schema. Implementations are stateless values,
// safe for concurrent use.
type ClientCodec interface {
	// ReadHead checks that body is one strict JSON object (no duplicate names, valid UTF-8, nothing
	// after it) and reads the head. params are what the operation's pattern found in the path: some
	// schemas name the model there. The error is an *Error that says what was wrong and where.
	ReadHead(params map[string]string, body []byte) (Head, error)
	// DecodeRequest reads a body whose head has been read. The error is an *Error that names the
	// offending member.
	DecodeRequest(h Head, body []byte) (*Request, error)
	// EncodeResponse writes a whole answer to what was asked.
	EncodeResponse(Asked, *Response) ([]byte, error)
	// EncodeError writes an error body. It never fails.
	EncodeError(*Error) []byte
	// IsError tells whether body is an error as the schema's clients read it. A same-schema error
	// that is none is written anew.
	IsError(body []byte) bool
	// NewStreamEncoder starts a streamed answer to what was asked.
	NewStreamEncoder(Asked) StreamEncoder
	// StreamEnd is the event that ends every stream of the schema.
	StreamEnd() []byte
	// Cut appends to dst what ends a stream that is not to go on, complete, for the reason stop.
	// The client has its frames from first on, which is the data of the first event, nil where it
	// has none; what it repeats in every event comes from there. open are the choices or blocks
	// that have not ended.
	Cut(dst, first []byte, open []int, stop Stop) []byte
	// Say appends to dst an event that adds text to what a choice or a block says, which has not
	// ended. before is the data of an earlier event that has added some: what is repeated in every
	// event comes from there.
	Say(dst, before []byte, number int, text string) []byte
}

// TargetCodec is the half of an operation that faces a provider: it writes requests, each with a
// reader of its answer. Implementations are stateless values, safe for concurrent use.
type TargetCodec interface {
	// EncodeRequest writes the request for one target. It does not change r: the next attempt
	// encodes it again. The error is an *Error of type ErrInvalidRequest when the schema cannot say
	// what the client asked for.
	EncodeRequest(r *Request, o Options) (Call, error)
	// PatchRequest is EncodeRequest for a client of the same schema: body is the client's own, and
	// every byte of it stays but those that must change. It does not change body.
	PatchRequest(h Head, body []byte, o Options) (Call, error)
	// DecodeError reads a non-2xx answer: any status, any body, also HTML, empty or truncated. It
	// never returns nil.
	DecodeError(status int, h http.Header, body []byte) *Error
}

// Options is what a target wants of its codec.
type Options struct {
	// Model is the name to ask the target for; never empty.
	Model string
	// Headers are those that the target is sent beside the schema's own, in canonical form: the
	// client's that go along, and the configured ones, which win. The version that a provider is
	// asked for decides which fields it takes.
	Headers http.Header
	// Dialect is whose form of the schema the target speaks ("openai", "mistral"); "" when that is
	// not known.
	Dialect string
	// MaxTokens is the limit to send when the client gave none; 0 leaves that to the codec, which
	// fills in what the schema requires.
	MaxTokens int64
	// MaxOutput is the most that the target is asked for, whatever the client wants; 0 for no
	// bound.
	MaxOutput int64
}

// Call is an encoded request.
type Call struct {
	Body []byte
	// Path is the operation below the provider's base path, with its leading slash and its query
	// ("/chat/completions").
	Path string
	// Headers are those the schema itself needs, such as anthropic-version. Credentials are not
	// among them.
	Headers http.Header
	// Dropped names the members of the client's request that this call does not carry as they were,
	// in the client's spelling.
	Dropped []string
	// Answer reads what the target answers to the call.
	Answer AnswerReader
}
