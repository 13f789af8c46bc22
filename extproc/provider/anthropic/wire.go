package anthropic

import (
	"slices"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// request is a whole request, read or written. Members are written in this order.
type request[M, T any] struct {
	Model         string         `json:"model"`
	MaxTokens     *int64         `json:"max_tokens,omitzero"`
	Stream        bool           `json:"stream,omitzero"`
	System        M              `json:"system,omitzero"`
	Messages      []turn[M]      `json:"messages"`
	Tools         []T            `json:"tools,omitzero"`
	ToolChoice    *toolChoice    `json:"tool_choice,omitzero"`
	Thinking      *thinking      `json:"thinking,omitzero"`
	OutputConfig  *outputConfig  `json:"output_config,omitzero"`
	OutputFormat  *outputFormat  `json:"output_format,omitzero"` // the beta place of output_config.format
	Temperature   jsontext.Value `json:"temperature,omitzero"`
	TopP          jsontext.Value `json:"top_p,omitzero"`
	TopK          jsontext.Value `json:"top_k,omitzero"`
	StopSequences []string       `json:"stop_sequences,omitzero"`
	Metadata      *metadata      `json:"metadata,omitzero"`
	ServiceTier   string         `json:"service_tier,omitzero"`

	// OpenAI's, of union requests; never written.
	MaxCompletionTokens jsontext.Value `json:"max_completion_tokens,omitzero"`
	Stop                jsontext.Value `json:"stop,omitzero"`
	User                jsontext.Value `json:"user,omitzero"`
	ReasoningEffort     jsontext.Value `json:"reasoning_effort,omitzero"`
	Seed                jsontext.Value `json:"seed,omitzero"`
	FrequencyPenalty    jsontext.Value `json:"frequency_penalty,omitzero"`
	PresencePenalty     jsontext.Value `json:"presence_penalty,omitzero"`

	Rest jsontext.Value `json:",embed"`
}

type turn[M any] struct {
	Role    string         `json:"role"`
	Content M              `json:"content,omitzero"`
	Rest    jsontext.Value `json:",embed"`
}

type toolChoice struct {
	Type            string         `json:"type"`
	Name            string         `json:"name,omitzero"`
	DisableParallel *bool          `json:"disable_parallel_tool_use,omitzero"`
	Rest            jsontext.Value `json:",embed"`
}

type thinking struct {
	Type         string         `json:"type"`
	BudgetTokens *int64         `json:"budget_tokens,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

type outputConfig struct {
	Effort string         `json:"effort,omitzero"`
	Format *outputFormat  `json:"format,omitzero"`
	Rest   jsontext.Value `json:",embed"`
}

type outputFormat struct {
	Type   string         `json:"type"`
	Schema jsontext.Value `json:"schema,omitzero"`
	Rest   jsontext.Value `json:",embed"`
}

type metadata struct {
	UserID string         `json:"user_id,omitzero"`
	Rest   jsontext.Value `json:",embed"`
}

// tool is a client tool; a server tool is told by its type before anything else of it counts.
type tool struct {
	Type         string         `json:"type,omitzero"`
	Name         string         `json:"name"`
	Description  string         `json:"description,omitzero"`
	InputSchema  jsontext.Value `json:"input_schema,omitzero"`
	Strict       *bool          `json:"strict,omitzero"`
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

// block is a content block to be written. The pointers are members that count even when they are
// empty.
type block struct {
	Type         string         `json:"type"`
	Text         *string        `json:"text,omitzero"`
	Thinking     *string        `json:"thinking,omitzero"`
	Signature    *string        `json:"signature,omitzero"`
	Data         string         `json:"data,omitzero"`
	Source       *source        `json:"source,omitzero"`
	Title        string         `json:"title,omitzero"`
	ID           string         `json:"id,omitzero"`
	Name         string         `json:"name,omitzero"`
	Input        jsontext.Value `json:"input,omitzero"`
	ToolUseID    string         `json:"tool_use_id,omitzero"`
	Content      content        `json:"content,omitzero"`
	IsError      bool           `json:"is_error,omitzero"`
	CacheControl jsontext.Value `json:"cache_control,omitzero"`
}

// source is what an image or document block shows, to be written or read.
type source struct {
	Type      string         `json:"type"`
	MediaType string         `json:"media_type,omitzero"`
	Data      string         `json:"data,omitzero"`
	URL       string         `json:"url,omitzero"`
	FileID    string         `json:"file_id,omitzero"`
	Content   jsontext.Value `json:"content,omitzero"`
}

// content is written as a plain string when it is one text block that says nothing else, as the
// API's own examples do.
type content []block

// MarshalJSONTo implements json.MarshalerTo.
func (c content) MarshalJSONTo(e *jsontext.Encoder) error {
	if len(c) == 1 && c[0].Type == "text" && c[0].CacheControl == nil {
		return e.WriteToken(jsontext.String(*c[0].Text))
	}
	return json.MarshalEncode(e, []block(c))
}

// givenBlock is a content block that was read. Source and Content mean different things in
// different types and wait as they are until the type is known.
type givenBlock struct {
	Type         string         `json:"type"`
	Text         *string        `json:"text"`
	Thinking     string         `json:"thinking"`
	Signature    string         `json:"signature"`
	Data         string         `json:"data"`
	Source       jsontext.Value `json:"source"`
	Title        string         `json:"title"`
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Input        jsontext.Value `json:"input"`
	ToolUseID    string         `json:"tool_use_id"`
	Content      jsontext.Value `json:"content"`
	IsError      bool           `json:"is_error"`
	CacheControl jsontext.Value `json:"cache_control"`
	Rest         jsontext.Value `json:",embed"`
}

// givenContent is content that was read: a string counts as one text block. It is nil when there
// was none.
type givenContent []givenBlock

// Wanted implements wirejson.Wanted.
func (givenContent) Wanted() string { return "a string or an array" }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *givenContent) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch kind := d.PeekKind(); kind {
	case '"':
		var text string
		if err := json.UnmarshalDecode(d, &text); err != nil {
			return err
		}
		*c = givenContent{{Type: "text", Text: &text}}
		return nil
	case '[', 'n':
		return json.UnmarshalDecode(d, (*[]givenBlock)(c))
	default:
		return &json.SemanticError{JSONKind: kind}
	}
}

// unmarshalAt reads a client's value, which stands at path in its body.
func unmarshalAt(path string, value []byte, into any) *llm.Error {
	if err := wirejson.Unmarshal(path, value, into); err != nil {
		return llm.Unreadable(err)
	}
	return nil
}

// members are those of an object, or of none, that are not null.
func members(object jsontext.Value) []strictjson.Member {
	if len(object) == 0 {
		return nil
	}
	all, _ := strictjson.Scan(object) // cannot fail: the body it is from has been scanned
	return slices.DeleteFunc(all, func(m strictjson.Member) bool { return object[m.Value] == 'n' })
}
