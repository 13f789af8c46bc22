// Package llm is the neutral vocabulary between wire formats: what a request, an answer, a stream
// event and an error mean, whatever provider says it. A schema's codec translates its own bytes to
// and from these types, so that n schemas need n codecs and not n×m.
//
// It promises nothing about bytes: numbers, JSON schemas and tool arguments are kept as the text
// they arrived in (2^53+1 and 1.0 survive, object keys keep their order), and content is typed
// parts, never one string. What a schema cannot say is left out by its encoder and named
// (Call.Dropped), or refused with an *Error; nothing is lost silently.
//
// Standard library only. Of HTTP the contract of codecs has statuses, headers and paths; Envoy and
// providers' names are not known here.
package llm

import (
	"cmp"
	"encoding/json"
)

// Role says who speaks in a Message.
type Role string

// System covers OpenAI's developer role too. Tool results are parts of a User message: every schema
// wants them directly after the assistant turn that called the tool, and encoders put them there.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
)

// Request is one generation request. Zero fields were not given by the client; an encoder then
// omits them or applies the target schema's own required default.
type Request struct {
	Model    string
	Stream   bool
	System   []Part    // instructions that precede the conversation, in order; Text parts
	Messages []Message // at least one; may hold further System messages in mid-conversation

	Tools             []Tool
	ToolChoice        ToolChoice
	ParallelToolCalls *bool

	MaxTokens        *int64
	Temperature      json.Number
	TopP             json.Number
	TopK             json.Number
	FrequencyPenalty json.Number
	PresencePenalty  json.Number
	Seed             json.Number
	Stop             []string
	N                int64 // choices wanted; 0 when not given
	Logprobs         bool
	TopLogprobs      *int64

	Format    Format
	Reasoning Reasoning

	User        string // an opaque end-user id (OpenAI user or safety_identifier, Anthropic metadata.user_id)
	ServiceTier string // as the client's schema spells it

	// IncludeUsage says that the client asked for usage in its stream. Schemas that always send it
	// ignore the field.
	IncludeUsage bool

	// Family is whose schema the client speaks. It says what Extra means.
	Family string
	// Extra are the members that this type has no field for, in the client's order; see Extras.
	Extra []Extra

	// Spelling is what the client calls members that another schema calls otherwise; see Spell.
	Spelling map[Member]string
	// Words are what the client's schema calls members, whatever this client writes. They are the
	// codec's and not changed.
	Words map[Member]string
}

// Head is what a reader of the answer has to know of the request.
func (r *Request) Head() Head {
	return Head{Model: r.Model, Stream: r.Stream, IncludeUsage: true, Choices: int(r.N)}
}

// Member is a part of a request that schemas spell differently. Its value is the most usual
// spelling.
type Member string

// The members whose loss encoders report.
const (
	MemberMaxTokens Member = "max_tokens"
	MemberStop      Member = "stop"
	MemberReasoning Member = "reasoning_effort"
	MemberUser      Member = "user"
	MemberFormat    Member = "response_format"
	MemberSchema    Member = "response_format.json_schema.schema"
	MemberParallel  Member = "parallel_tool_calls"
	MemberTool      Member = "tools[].function" // what a tool's name, strict and schema are members of
	MemberToolSpec  Member = "tools[].function.parameters"
	MemberName      Member = "messages[].name"
	MemberThoughts  Member = "messages[].reasoning_content"
	MemberDetail    Member = "messages[].content[].image_url.detail"
	MemberTitle     Member = "messages[].content[].title"
	MemberSignature Member = "messages[].tool_calls[].extra_content"
)

// The members of a part, behind its path.
const (
	MemberCallName      Member = "function.name"
	MemberCallArguments Member = "function.arguments"
	MemberResultCall    Member = "tool_call_id"
	MemberCache         Member = "cache_control"
)

// Spell is the member in the client's own words, for what is said of its request.
func (r *Request) Spell(m Member) string {
	return cmp.Or(r.Spelling[m], r.Words[m], string(m))
}

// SpellIn is a member of the part at the path.
func (r *Request) SpellIn(path string, m Member) string { return path + "." + r.Spell(m) }

// SpellAs notes that the client calls a member so.
func (r *Request) SpellAs(m Member, own string) {
	if r.Spelling == nil {
		r.Spelling = map[Member]string{}
	}
	r.Spelling[m] = own
}

// Message is one turn.
type Message struct {
	Role  Role
	Name  string // OpenAI's participant name; most schemas cannot say it
	Parts []Part
	Paths []string // where each of the parts is in the client's body, in its own words; nil where nobody knows
}

// Part is one piece of content: Text, Image, File, Audio, ToolCall, ToolResult, Thinking or
// Refusal. Parts are values; a decoder never yields a nil one.
type Part interface{ part() }

// Origin is whose a signature or a hidden thought is: the family of the schema whose providers take
// it back. They go to nobody else, in requests and in answers. It is "" where nothing is signed or
// hidden.
type Origin string

// Text is plain text. Cache, here and below, is the schema-neutral prompt-cache marker that the
// client put on the part (Anthropic's cache_control object, verbatim), nil when there was none.
type Text struct {
	Text  string
	Cache json.RawMessage
	// Signature is the provider's opaque proof that the text is its own (Gemini thoughtSignature).
	Signature string
	Origin    Origin
}

// Image is a picture, either inline (Data, base64 as it arrived) or by reference (URL); exactly one
// is set.
type Image struct {
	MediaType string // "image/png"; of inline data only, may be wrong: trust the magic bytes
	Data      string
	URL       string
	Detail    string // OpenAI's low, high, auto
	Cache     json.RawMessage
}

// File is a document: inline (Data in base64, or Text for plain text), by reference (URL) or by a
// provider's own id.
type File struct {
	Name      string
	MediaType string
	Data      string
	Text      string
	URL       string
	ID        string
	Cache     json.RawMessage
}

// Audio is inline sound, base64.
type Audio struct {
	Format string // "wav", "mp3"
	Data   string
}

// ToolCall is the assistant asking for a tool. Arguments is the text of one JSON object, verbatim;
// "" when none came.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string
	// Signature is the provider's opaque proof that must come back with a replayed call (Gemini
	// thoughtSignature).
	Signature string
	Origin    Origin
	Cache     json.RawMessage
}

// ToolResult answers the ToolCall of the same id. Parts holds Text, Image and File only.
type ToolResult struct {
	CallID  string
	Parts   []Part
	IsError bool
	Cache   json.RawMessage
}

// Thinking is the model's reasoning. One that nobody signed may be sent to any provider that takes
// thoughts as text.
type Thinking struct {
	Text      string
	Signature string
	Redacted  string // opaque data that stands for thinking the provider does not show; Text is then empty
	Origin    Origin
}

// Refusal is the assistant declining, in words.
type Refusal struct{ Text string }

func (Text) part()       {}
func (Image) part()      {}
func (File) part()       {}
func (Audio) part()      {}
func (ToolCall) part()   {}
func (ToolResult) part() {}
func (Thinking) part()   {}
func (Refusal) part()    {}

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON Schema, verbatim and in the client's key order; nil when the tool takes nothing
	Strict      *bool
	Cache       json.RawMessage
}

// ToolMode says whether the model must call a tool. The zero value leaves it to the provider.
type ToolMode string

// ToolNamed forces the tool in ToolChoice.Name.
const (
	ToolAuto  ToolMode = "auto"
	ToolAny   ToolMode = "any"
	ToolNone  ToolMode = "none"
	ToolNamed ToolMode = "named"
)

// ToolChoice is the client's wish about calling tools.
type ToolChoice struct {
	Mode ToolMode
	Name string // of ToolNamed
}

// FormatKind is the shape that the answer's text must have.
type FormatKind string

// FormatText is the zero value's meaning, said out loud.
const (
	FormatText       FormatKind = "text"
	FormatJSONObject FormatKind = "json_object"
	FormatJSONSchema FormatKind = "json_schema"
)

// Format asks for structured output. Name, Description, Schema and Strict belong to
// FormatJSONSchema.
type Format struct {
	Kind        FormatKind
	Name        string
	Description string
	Schema      json.RawMessage
	Strict      *bool
}

// Reasoning asks for thinking: as an effort word (none, minimal, low, medium, high, xhigh, max), as
// a token budget, or as Adaptive. At most one of Budget and Adaptive is set; Effort may stand
// beside Adaptive.
type Reasoning struct {
	Effort   string
	Budget   *int64
	Adaptive bool
	Disabled bool // the client said explicitly that it wants none
}

// Asked tells whether the client said anything about reasoning.
func (r Reasoning) Asked() bool {
	return r.Effort != "" || r.Budget != nil || r.Adaptive || r.Disabled
}

// EffortOf says a budget of thinking tokens as a word.
func EffortOf(budget int64) string {
	switch {
	case budget < 4096:
		return "low"
	case budget < 16384:
		return "medium"
	default:
		return "high"
	}
}

// Response is one whole, non-streamed answer.
type Response struct {
	ID      string
	Model   string
	Created int64 // Unix seconds; 0 when the provider does not say
	Choices []Choice
	Usage   Usage
	// Counted is the answer to a request to count tokens, which has no choices and uses none; else
	// nil.
	Counted *int64
}

// Choice is one of the answers that were asked for (Request.N). Parts holds what the assistant
// said, in order.
type Choice struct {
	Parts        []Part
	Stop         Stop
	StopSequence string // the one that matched, where the provider tells
	Logprobs     json.RawMessage
}

// Stop is why the model stopped.
type Stop string

// The reasons every schema can be mapped to. A decoder maps words it does not know to StopEnd.
const (
	StopEnd      Stop = "end"
	StopSequence Stop = "stop_sequence"
	StopLength   Stop = "length"
	StopTool     Stop = "tool"
	StopRefusal  Stop = "refusal" // the model or the provider's safety filter declined
	StopPause    Stop = "pause"   // a long turn was paused by the provider and may be continued
)

// Usage counts tokens. Input includes the cached ones and Output the reasoning ones: the CacheRead,
// CacheWrite and Reasoning counts are parts of them, whatever the provider's own arithmetic is.
type Usage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cache_read,omitempty"`
	CacheWrite int64 `json:"cache_write,omitempty"`
	Reasoning  int64 `json:"reasoning,omitempty"`
}

// Total is input and output.
func (u Usage) Total() int64 { return u.Input + u.Output }
