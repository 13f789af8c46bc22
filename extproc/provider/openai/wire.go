package openai

import (
	"errors"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/schema"
)

// The request as it is on the wire, both ways: DecodeRequest fills it, EncodeRequest writes it, in this order of members.
// https://platform.openai.com/docs/api-reference/chat/create
type request struct {
	Model               string         `json:"model"`
	System              jsontext.Value `json:"system,omitzero"` // of union requests; never written
	Messages            []message      `json:"messages"`
	Tools               []tool         `json:"tools,omitzero"`
	ToolChoice          jsontext.Value `json:"tool_choice,omitzero"`
	ParallelToolCalls   *bool          `json:"parallel_tool_calls,omitzero"`
	ResponseFormat      *format        `json:"response_format,omitzero"`
	MaxTokens           *int64         `json:"max_tokens,omitzero"`
	MaxCompletionTokens *int64         `json:"max_completion_tokens,omitzero"`
	ReasoningEffort     string         `json:"reasoning_effort,omitzero"`
	Temperature         number         `json:"temperature,omitzero"`
	TopP                number         `json:"top_p,omitzero"`
	TopK                number         `json:"top_k,omitzero"`          // vLLM's, Ollama's; never written
	Thinking            jsontext.Value `json:"thinking,omitzero"`       // DeepSeek's; Anthropic's in union requests
	StopSequences       []string       `json:"stop_sequences,omitzero"` // of union requests; never written
	FrequencyPenalty    number         `json:"frequency_penalty,omitzero"`
	PresencePenalty     number         `json:"presence_penalty,omitzero"`
	Seed                number         `json:"seed,omitzero"`
	Stop                jsontext.Value `json:"stop,omitzero"`
	N                   *int64         `json:"n,omitzero"`
	Logprobs            bool           `json:"logprobs,omitzero"`
	TopLogprobs         *int64         `json:"top_logprobs,omitzero"`
	User                string         `json:"user,omitzero"`
	SafetyIdentifier    string         `json:"safety_identifier,omitzero"` // read as User; never written
	Metadata            jsontext.Value `json:"metadata,omitzero"`          // never written
	ServiceTier         string         `json:"service_tier,omitzero"`
	Stream              bool           `json:"stream,omitzero"`
	StreamOptions       *streamOptions `json:"stream_options,omitzero"`

	// Read only to be refused.
	Functions    jsontext.Value `json:"functions,omitzero"`
	FunctionCall jsontext.Value `json:"function_call,omitzero"`

	Rest jsontext.Value `json:",embed"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// Content of an assistant message that only calls tools is null; elsewhere it is a string or a list of parts.
type message struct {
	Role       string         `json:"role"`
	Content    jsontext.Value `json:"content,omitzero"`
	Name       string         `json:"name,omitzero"`
	Refusal    string         `json:"refusal,omitzero"`
	ToolCalls  []toolCall     `json:"tool_calls,omitzero"`
	ToolCallID string         `json:"tool_call_id,omitzero"`

	// Extensions that come back with a replayed answer (response.go writes them), and markers of clients that know
	// Anthropic's prompt cache. Written in requests is only the first, for DeepSeek.
	ReasoningContent string          `json:"reasoning_content,omitzero"`
	Reasoning        string          `json:"reasoning,omitzero"`
	ThinkingBlocks   []thinkingBlock `json:"thinking_blocks,omitzero"`
	CacheControl     jsontext.Value  `json:"cache_control,omitzero"`

	FunctionCall jsontext.Value `json:"function_call,omitzero"` // read only to be refused

	Rest jsontext.Value `json:",embed"`
}

type part struct {
	Type         string         `json:"type"`
	Text         *string        `json:"text,omitzero"`
	ImageURL     *imageURL      `json:"image_url,omitzero"`
	InputAudio   *inputAudio    `json:"input_audio,omitzero"`
	File         *file          `json:"file,omitzero"`
	Refusal      *string        `json:"refusal,omitzero"`
	Thinking     thought        `json:"thinking,omitzero"` // Mistral's; never written
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

type imageURL struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitzero"`
}

type inputAudio struct {
	Data   string `json:"data"`
	Format string `json:"format"`
}

type file struct {
	Filename string `json:"filename,omitzero"`
	FileData string `json:"file_data,omitzero"`
	FileID   string `json:"file_id,omitzero"`
}

type toolCall struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Function     calledFunction `json:"function"`
	ExtraContent *extraContent  `json:"extra_content,omitzero"`
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
}

type calledFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// extraContent is where Google's OpenAI-compatible endpoint keeps the signature that must come back with a call
// (https://ai.google.dev/gemini-api/docs/thought-signatures); other OpenAI clients carry it along unread.
type extraContent struct {
	Google struct {
		ThoughtSignature string `json:"thought_signature"`
	} `json:"google"`
}

// signature is what extra_content says, and whose it is.
func (x *extraContent) signature() (string, llm.Origin) {
	if x == nil || x.Google.ThoughtSignature == "" {
		return "", ""
	}
	return x.Google.ThoughtSignature, ofExtraContent
}

// signed is a call's extra_content, nil where there is nothing that belongs there.
func signed(c llm.ToolCall) *extraContent {
	if c.Signature == "" || c.Origin != ofExtraContent {
		return nil
	}
	var x extraContent
	x.Google.ThoughtSignature = c.Signature
	return &x
}

// What the extensions hold that others have signed. The schema itself has no signatures.
var (
	ofExtraContent   = llm.Origin(schema.Of("google.generate").Family)
	ofThinkingBlocks = llm.Origin(schema.Of(schema.AnthropicMessages).Family)
)

type tool struct {
	Type         string         `json:"type"`
	Function     *function      `json:"function,omitzero"`
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

type function struct {
	Name         string         `json:"name"`
	Description  string         `json:"description,omitzero"`
	Parameters   jsontext.Value `json:"parameters,omitzero"`
	Strict       *bool          `json:"strict,omitzero"`
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

type format struct {
	Type       string      `json:"type"`
	JSONSchema *jsonSchema `json:"json_schema,omitzero"`
}

type jsonSchema struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	Schema      jsontext.Value `json:"schema,omitzero"`
	Strict      *bool          `json:"strict,omitzero"`
}

// thinkingBlock is Anthropic's block of signed or redacted thinking, carried through an OpenAI client as LiteLLM does it
// (https://docs.litellm.ai/docs/reasoning_content).
type thinkingBlock struct {
	Type      string  `json:"type"`
	Thinking  *string `json:"thinking,omitzero"`
	Signature string  `json:"signature,omitzero"`
	Data      string  `json:"data,omitzero"`
}

// number is a JSON number as the text it was: 1.0 stays 1.0.
type number string

var errWantNumber = errors.New("want a number")

func (n *number) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case jsontext.KindNumber:
		*n = number(v)
	case jsontext.KindNull:
		*n = ""
	default:
		return &json.SemanticError{JSONKind: v.Kind(), Err: errWantNumber}
	}
	return nil
}

func (n number) MarshalJSONTo(e *jsontext.Encoder) error { return e.WriteValue(jsontext.Value(n)) }

// unmarshal reads a client's value. The error is an *llm.Error that names the member, below path, and what it should be.
func unmarshal(path string, raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) {
		_, scanned := strictjson.Scan(raw) // says it in the client's terms
		if scanned == nil {
			scanned = err
		}
		return notStrict(scanned)
	}
	at := memberPath(path, wrong.JSONPointer)
	if at == "" {
		return llm.Errorf(llm.ErrInvalidRequest, "request body: want an object, got %s", kindName(wrong.JSONKind))
	}
	want := wantOf(wrong)
	if wrong.JSONKind == 0 || wrong.JSONKind == jsontext.KindNumber {
		return llm.Invalid(at, "want %s", want)
	}
	return llm.Invalid(at, "want %s, got %s", want, kindName(wrong.JSONKind))
}

// memberPath writes a JSON pointer below path the way OpenAI's own errors do: messages[2].content.
func memberPath(path string, pointer jsontext.Pointer) string {
	var b strings.Builder
	b.WriteString(path)
	for token := range pointer.Tokens() {
		switch {
		case strings.Trim(token, "0123456789") == "" && token != "":
			b.WriteString("[" + token + "]")
		case b.Len() == 0:
			b.WriteString(token)
		default:
			b.WriteString("." + token)
		}
	}
	return b.String()
}

func wantOf(wrong *json.SemanticError) string {
	if errors.Is(wrong.Err, errWantNumber) {
		return "a number"
	}
	t := wrong.GoType
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "an integer"
	case reflect.Slice:
		return "an array"
	default:
		return "an object"
	}
}

var kindNames = map[jsontext.Kind]string{
	jsontext.KindNull: "null", jsontext.KindFalse: "false", jsontext.KindTrue: "true", jsontext.KindString: "a string",
	jsontext.KindNumber: "a number", jsontext.KindBeginObject: "an object", jsontext.KindBeginArray: "an array",
}

func kindName(k jsontext.Kind) string {
	if name := kindNames[k]; name != "" {
		return name
	}
	return "something else"
}

// given tells whether an optional member was there and not null.
func given(v jsontext.Value) bool { return len(v) > 0 && v.Kind() != jsontext.KindNull }

// quote writes s as a JSON string; invalid UTF-8 becomes U+FFFD.
func quote(s string) jsontext.Value {
	quoted, _ := jsontext.AppendQuote(make([]byte, 0, len(s)+2), s) // fails on invalid UTF-8 only, having replaced it
	return quoted
}
