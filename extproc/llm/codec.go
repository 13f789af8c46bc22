package llm

import "net/http"

// Head is what a request says about itself before anything else is understood: enough to choose a route and, towards a
// target of the same schema, all that is ever read.
type Head struct {
	Model        string // "" when the client names none
	Stream       bool
	IncludeUsage bool // the client's stream carries usage; always true for schemas that always send it
	Choices      int  // how many answers the client wants side by side; 0 is 1
}

// ClientCodec is the half of a schema that faces an app: it reads the app's requests and writes its answers.
// Implementations are stateless values, safe for concurrent use.
type ClientCodec interface {
	// ReadHead checks that body is one strict JSON object (no duplicate names, valid UTF-8, nothing behind it) and reads
	// the head. path is the request's, below the gateway's rule; some schemas name the model there. The error is an
	// *Error that says what was wrong and where.
	ReadHead(path string, body []byte) (Head, error)
	// DecodeRequest reads a body whose head has been read. The error is an *Error that names the offending member.
	DecodeRequest(h Head, body []byte) (*Request, error)
	// EncodeResponse writes a whole answer.
	EncodeResponse(*Response) ([]byte, error)
	// EncodeError writes an error body. It never fails.
	EncodeError(*Error) []byte
	// IsError tells whether body is an error as the schema's clients read it. A same-schema error that is none is written anew.
	IsError(body []byte) bool
	// NewStreamEncoder starts the answer to a streaming request.
	NewStreamEncoder(Head) StreamEncoder
	// StreamEnd is the event that ends every stream of the schema.
	StreamEnd() []byte
}

// TargetCodec is the half of a schema that faces a provider: it writes requests and reads answers.
// Implementations are stateless values, safe for concurrent use.
type TargetCodec interface {
	// EncodeRequest writes the request for one target. It does not change r: the next attempt encodes it again. The error
	// is an *Error of type ErrInvalidRequest when the schema cannot say what the client asked for.
	EncodeRequest(r *Request, o Options) (Call, error)
	// PatchRequest is EncodeRequest for a client of the same schema: body is the client's own, and every byte of it stays
	// but those that must change. It does not change body.
	PatchRequest(h Head, body []byte, o Options) (Call, error)
	// DecodeResponse reads a whole 2xx answer, leniently (a sloppy provider is no reason for a 502). The error is an
	// *Error: what the provider said when the body is an error all the same, else ErrBadGateway.
	DecodeResponse(body []byte) (*Response, error)
	// PatchResponse is the answer for a client of the same schema: body, which DecodeResponse has read as r, as it is but for a word
	// that says the model was done where it called tools. It does not change body.
	PatchResponse(body []byte, r *Response) []byte
	// DecodeError reads a non-2xx answer: any status, any body, also HTML, empty or truncated. It never returns nil.
	DecodeError(status int, h http.Header, body []byte) *Error
	// NewStreamDecoder starts reading the answer to a streaming call that was made for a request with this head.
	NewStreamDecoder(Head) StreamDecoder
}

// Options is what a target wants of its codec.
type Options struct {
	// Model is the name to ask the target for; never empty.
	Model string
	// Headers are the target's configured headers in canonical form: the version a provider is asked for decides which
	// fields it takes.
	Headers http.Header
	// Dialect is whose form of the schema the target speaks ("openai", "mistral"); "" when that is not known.
	Dialect string
	// MaxTokens is the limit to send when the client gave none; 0 leaves that to the codec, which fills in what the schema
	// requires.
	MaxTokens int64
	// MaxOutput is the most that the target is asked for, whatever the client wants; 0 for no bound.
	MaxOutput int64
}

// Call is an encoded request.
type Call struct {
	Body []byte
	// Path is the operation below the provider's base path, with its leading slash ("/chat/completions").
	Path string
	// Headers are those the schema itself needs, such as anthropic-version. Credentials are not among them.
	Headers http.Header
	// Dropped names the members of the client's request that this call does not carry as they were, in the client's spelling.
	Dropped []string
	// Renamed are the tools that the target knows by another name than the client: its name, and the client's.
	Renamed map[string]string
}

// ClientName is what the client calls a tool that the target's answer calls name.
func (c *Call) ClientName(name string) string {
	if client, ok := c.Renamed[name]; ok {
		return client
	}
	return name
}

// RestoreNames gives the tool calls of a whole answer the client's names.
func (c *Call) RestoreNames(r *Response) {
	if len(c.Renamed) == 0 {
		return
	}
	for _, choice := range r.Choices {
		for i, p := range choice.Parts {
			if call, ok := p.(ToolCall); ok {
				call.Name = c.ClientName(call.Name)
				choice.Parts[i] = call
			}
		}
	}
}
