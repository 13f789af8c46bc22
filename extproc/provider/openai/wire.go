package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
	"millrace/schema"
)

// The request as it is on the wire, both ways: DecodeRequest fills it, EncodeRequest writes it, in
// this order of members. https://platform.openai.com/docs/api-reference/chat/create
type request struct {
	Model               string          `json:"model"`
	System              jsontext.Value  `json:"system,omitzero"` // of union requests; never written
	Messages            []message       `json:"messages"`
	Tools               []tool          `json:"tools,omitzero"`
	ToolChoice          jsontext.Value  `json:"tool_choice,omitzero"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls,omitzero"`
	ResponseFormat      *format         `json:"response_format,omitzero"`
	MaxTokens           *int64          `json:"max_tokens,omitzero"`
	MaxCompletionTokens *int64          `json:"max_completion_tokens,omitzero"`
	ReasoningEffort     string          `json:"reasoning_effort,omitzero"`
	Temperature         wirejson.Number `json:"temperature,omitzero"`
	TopP                wirejson.Number `json:"top_p,omitzero"`
	TopK                wirejson.Number `json:"top_k,omitzero"`          // vLLM's, Ollama's; never written
	Thinking            jsontext.Value  `json:"thinking,omitzero"`       // DeepSeek's; Anthropic's in union requests
	StopSequences       []string        `json:"stop_sequences,omitzero"` // of union requests; never written
	FrequencyPenalty    wirejson.Number `json:"frequency_penalty,omitzero"`
	PresencePenalty     wirejson.Number `json:"presence_penalty,omitzero"`
	Seed                wirejson.Number `json:"seed,omitzero"`
	Stop                jsontext.Value  `json:"stop,omitzero"`
	N                   *int64          `json:"n,omitzero"`
	Logprobs            bool            `json:"logprobs,omitzero"`
	TopLogprobs         *int64          `json:"top_logprobs,omitzero"`
	User                string          `json:"user,omitzero"`
	SafetyIdentifier    string          `json:"safety_identifier,omitzero"` // read as User; never written
	Metadata            jsontext.Value  `json:"metadata,omitzero"`          // never written
	ServiceTier         string          `json:"service_tier,omitzero"`
	Stream              bool            `json:"stream,omitzero"`
	StreamOptions       *streamOptions  `json:"stream_options,omitzero"`

	// Read only to be refused.
	Functions    jsontext.Value `json:"functions,omitzero"`
	FunctionCall jsontext.Value `json:"function_call,omitzero"`

	Rest jsontext.Value `json:",embed"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// Content of an assistant message that only calls tools is null; elsewhere it is a string or a list
// of parts.
type message struct {
	Role       string         `json:"role"`
	Content    jsontext.Value `json:"content,omitzero"`
	Name       string         `json:"name,omitzero"`
	Refusal    string         `json:"refusal,omitzero"`
	ToolCalls  []toolCall     `json:"tool_calls,omitzero"`
	ToolCallID string         `json:"tool_call_id,omitzero"`

	// Extensions that come back with a replayed answer (response.go writes them), and markers of
	// clients that know Anthropic's prompt cache. Written in requests is only the first, for
	// DeepSeek.
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

// extraContent is where Google's OpenAI-compatible endpoint keeps the signature that must come back
// with a call (https://ai.google.dev/gemini-api/docs/thought-signatures); other OpenAI clients
// carry it along unread.
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

// thinkingBlock is Anthropic's block of signed or redacted thinking, carried through an OpenAI
// client as LiteLLM does it (https://docs.litellm.ai/docs/reasoning_content).
type thinkingBlock struct {
	Type      string  `json:"type"`
	Thinking  *string `json:"thinking,omitzero"`
	Signature string  `json:"signature,omitzero"`
	Data      string  `json:"data,omitzero"`
}
