package openai

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// A provider's whole answer, as far as it is read.
// https://platform.openai.com/docs/api-reference/chat/object
type completion struct {
	ID      wirejson.Text         `json:"id"`
	Model   wirejson.Text         `json:"model"`
	Created wirejson.Count        `json:"created"`
	Object  errorMark             `json:"object"`
	Choices []completeChoice      `json:"choices"`
	Usage   wirejson.Loose[usage] `json:"usage"`
	Error   jsontext.Value        `json:"error"`
}

type completeChoice struct {
	Index        wirejson.Count  `json:"index"`
	Message      completeMessage `json:"message"`
	FinishReason wirejson.Text   `json:"finish_reason"`
	Logprobs     jsontext.Value  `json:"logprobs"`
}

type completeMessage struct {
	Content          said                            `json:"content"`
	Refusal          wirejson.Text                   `json:"refusal"`
	ReasoningContent wirejson.Text                   `json:"reasoning_content"`
	Reasoning        wirejson.Text                   `json:"reasoning"`
	ThinkingBlocks   wirejson.Loose[[]thinkingBlock] `json:"thinking_blocks"`
	ToolCalls        []completeCall                  `json:"tool_calls"`
	FunctionCall     wirejson.Loose[completeFunc]    `json:"function_call"`
}

type completeCall struct {
	ID           wirejson.Text                `json:"id"`
	Function     completeFunc                 `json:"function"`
	ExtraContent wirejson.Loose[extraContent] `json:"extra_content"`
}

type completeFunc struct {
	Name      wirejson.Text `json:"name"`
	Arguments arguments     `json:"arguments"`
}

type usage struct {
	Prompt            wirejson.Count                    `json:"prompt_tokens"`
	Completion        wirejson.Count                    `json:"completion_tokens"`
	Total             wirejson.Count                    `json:"total_tokens"`
	PromptDetails     wirejson.Loose[promptDetails]     `json:"prompt_tokens_details"`
	CompletionDetails wirejson.Loose[completionDetails] `json:"completion_tokens_details"`
}

type promptDetails struct {
	Cached     wirejson.Count `json:"cached_tokens"`
	CacheWrite wirejson.Count `json:"cache_write_tokens"`
}

type completionDetails struct {
	Reasoning wirejson.Count `json:"reasoning_tokens"`
}

// neutral reads the counts. Some compatibles (xAI, Gemini's endpoint) leave reasoning out of
// completion_tokens but not out of the total: what the total has more is output too.
func (u *usage) neutral() llm.Usage {
	n := llm.Usage{
		Input: int64(u.Prompt), Output: int64(u.Completion),
		CacheRead: int64(u.PromptDetails.Value.Cached), CacheWrite: int64(u.PromptDetails.Value.CacheWrite),
		Reasoning: int64(u.CompletionDetails.Value.Reasoning),
	}
	if more := int64(u.Total) - n.Total(); more > 0 && n.Input > 0 {
		n.Output += more
	}
	return n
}

// finishes maps the published reasons and those of compatibles (Mistral's model_length,
// OpenRouter's and older servers' words); others mean a normal end.
var finishes = map[string]llm.Stop{
	"stop": llm.StopEnd, "length": llm.StopLength, "max_tokens": llm.StopLength, "model_length": llm.StopLength,
	"tool_calls": llm.StopTool, "function_call": llm.StopTool, "tool_use": llm.StopTool,
	"content_filter": llm.StopRefusal, "stop_sequence": llm.StopSequence,
}

// stopOf reads a finish_reason. stop says little: compatibles use it for an answer that calls
// tools, and OpenAI for one that is a refusal
// (https://platform.openai.com/docs/guides/structured-outputs#refusals). Words that nobody knows
// say no more.
func stopOf(reason string, calls, refused bool) llm.Stop {
	stop, known := finishes[reason]
	switch {
	case known && stop != llm.StopEnd:
		return stop
	case calls:
		return llm.StopTool
	case known && refused:
		return llm.StopRefusal
	}
	return llm.StopEnd
}

// finishFailed is the finish_reason by which routers and Mistral say that generation broke off.
const finishFailed = "error"

// Whole implements llm.AnswerReader.
func (answerReader) Whole(body []byte) (*llm.Response, error) {
	var w completion
	err := json.Unmarshal(body, &w, wirejson.Lenient)
	switch {
	case wirejson.Given(w.Error) || bool(w.Object) || err != nil || len(w.Choices) == 0:
		return nil, insideError(body)
	case len(w.Choices) > maxChoices:
		return nil, llm.Errorf(llm.ErrBadGateway, "the provider's answer holds %d choices, more than %d", len(w.Choices), maxChoices)
	}
	slices.SortStableFunc(w.Choices, func(a, b completeChoice) int { return int(a.Index - b.Index) })
	r := &llm.Response{ID: string(w.ID), Model: string(w.Model), Created: int64(w.Created)}
	r.Usage = w.Usage.Value.neutral()
	ids := newCallIDs(r.ID)
	for i := range w.Choices {
		c := &w.Choices[i]
		if c.FinishReason == finishFailed {
			return nil, llm.Errorf(llm.ErrBadGateway, "the provider broke the answer off")
		}
		r.Choices = append(r.Choices, c.neutral(i, ids))
	}
	return r, nil
}

// Patch implements llm.AnswerReader: clients that go by the finish_reason do not carry out tool
// calls beside a stop.
func (answerReader) Patch(body []byte, r *llm.Response) []byte {
	if !slices.ContainsFunc(r.Choices, func(c llm.Choice) bool { return c.Stop == llm.StopTool }) {
		return body
	}
	var w completion
	if json.Unmarshal(body, &w, wirejson.Lenient) != nil {
		return body
	}
	for i, c := range w.Choices {
		if c.FinishReason == finishStop && len(c.Message.ToolCalls) > 0 {
			body = strictjson.ReplaceAt(body, finishTools, "choices", i, "finish_reason")
		}
	}
	return body
}

// finishStop is the finish_reason that is wrong beside tool calls, finishTools, in JSON, the one
// that is right.
const finishStop = "stop"

var finishTools = []byte(`"tool_calls"`)

func (c *completeChoice) neutral(number int, ids callIDs) llm.Choice {
	m := &c.Message
	parts := thinkingParts(m.ThinkingBlocks.Value, m.Content.thinking, string(m.ReasoningContent), string(m.Reasoning))
	if m.Content.text != "" {
		parts = append(parts, llm.Text{Text: m.Content.text})
	}
	if m.Refusal != "" {
		parts = append(parts, llm.Refusal{Text: string(m.Refusal)})
	}
	calls := m.ToolCalls
	if len(calls) == 0 && m.FunctionCall.OK {
		calls = []completeCall{{Function: m.FunctionCall.Value}}
	}
	for i, call := range calls {
		id := string(call.ID)
		if id == "" {
			id = ids.id(number, i)
		}
		neutral := llm.ToolCall{ID: id, Name: string(call.Function.Name), Arguments: string(call.Function.Arguments)}
		neutral.Signature, neutral.Origin = call.ExtraContent.Value.signature()
		parts = append(parts, neutral)
	}
	out := llm.Choice{Parts: parts, Stop: stopOf(string(c.FinishReason), len(calls) > 0, m.Refusal != "")}
	if wirejson.Given(c.Logprobs) {
		out.Logprobs = []byte(c.Logprobs)
	}
	return out
}

// callIDs makes ids for tool calls that came without one, out of the answer's own id: the same
// every time, different from answer to answer.
type callIDs struct{ seed string }

func newCallIDs(answer string) callIDs {
	if answer == "" {
		answer = rand.Text()
	}
	return callIDs{answer}
}

func (c callIDs) id(choice, call int) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d/%d", c.seed, choice, call)
	return fmt.Sprintf("call_%016x", h.Sum64())
}

// The answer as the client gets it: the members that the published schema requires are there, null
// or not, and only its five finish reasons are used. reasoning_content, thinking_blocks and
// extra_content are extensions.
type answer struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created"`
	Model   string         `json:"model"`
	Choices []answerChoice `json:"choices"`
	Usage   answerUsage    `json:"usage"`
}

type answerChoice struct {
	Index        int            `json:"index"`
	Message      answerMessage  `json:"message"`
	Logprobs     jsontext.Value `json:"logprobs"`
	FinishReason string         `json:"finish_reason"`
}

type answerMessage struct {
	Role             string          `json:"role"`
	Content          *string         `json:"content"`
	Refusal          *string         `json:"refusal"`
	ReasoningContent string          `json:"reasoning_content,omitzero"`
	ThinkingBlocks   []thinkingBlock `json:"thinking_blocks,omitzero"`
	ToolCalls        []toolCall      `json:"tool_calls,omitzero"`
}

type answerUsage struct {
	Prompt        int64 `json:"prompt_tokens"`
	Completion    int64 `json:"completion_tokens"`
	Total         int64 `json:"total_tokens"`
	PromptDetails struct {
		Cached     int64 `json:"cached_tokens"`
		CacheWrite int64 `json:"cache_write_tokens,omitzero"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func usageForClient(u llm.Usage) answerUsage {
	out := answerUsage{Prompt: u.Input, Completion: u.Output, Total: u.Total()}
	out.PromptDetails.Cached = u.CacheRead
	out.PromptDetails.CacheWrite = u.CacheWrite
	out.CompletionDetails.Reasoning = u.Reasoning
	return out
}

var finishWords = map[llm.Stop]string{
	llm.StopEnd: "stop", llm.StopSequence: "stop", llm.StopPause: "stop", llm.StopLength: "length",
	llm.StopTool: "tool_calls", llm.StopRefusal: "content_filter",
}

// finishWord is the word for s. A refusal in words of its own (the refusal member) ends in stop, as
// OpenAI's do: its SDKs raise content_filter as an error without looking for them. What called
// tools never does.
func finishWord(s llm.Stop, refused, called bool) string {
	switch {
	case s == llm.StopRefusal && refused:
		return "stop"
	case called && (s == llm.StopEnd || s == ""):
		return "tool_calls"
	}
	if word := finishWords[s]; word != "" {
		return word
	}
	return "stop"
}

// EncodeResponse implements llm.ClientCodec. Parts that an assistant's message cannot hold here
// (images, sound) are left out.
func (Chat) EncodeResponse(_ llm.Asked, r *llm.Response) ([]byte, error) {
	out := answer{
		ID: answerID(r.ID), Object: "chat.completion", Created: createdAt(r.Created), Model: r.Model,
		Choices: make([]answerChoice, len(r.Choices)), Usage: usageForClient(r.Usage),
	}
	for i, c := range r.Choices {
		m := messageForClient(c.Parts)
		out.Choices[i] = answerChoice{
			Index: i, Message: m, Logprobs: jsontext.Value("null"), FinishReason: finishWord(c.Stop, m.Refusal != nil, len(m.ToolCalls) > 0),
		}
		if c.Logprobs != nil {
			out.Choices[i].Logprobs = jsontext.Value(c.Logprobs)
		}
	}
	body, err := json.Marshal(&out, wirejson.Writing)
	if err != nil {
		return nil, fmt.Errorf("encode response for openai client: %w", err)
	}
	return body, nil
}

func messageForClient(parts []llm.Part) answerMessage {
	m := answerMessage{Role: "assistant"}
	var content, refusal, reasoning strings.Builder
	refused := false
	for _, p := range parts {
		switch p := p.(type) {
		case llm.Text:
			content.WriteString(p.Text)
		case llm.Refusal:
			refused = true
			refusal.WriteString(p.Text)
		case llm.Thinking:
			reasoning.WriteString(p.Text)
			if p.Origin == ofThinkingBlocks {
				m.ThinkingBlocks = append(m.ThinkingBlocks, blockOf(p))
			}
		case llm.ToolCall:
			m.ToolCalls = append(m.ToolCalls, callForClient(p))
		}
	}
	if content.Len() > 0 {
		m.Content = new(content.String())
	}
	if refused {
		m.Refusal = new(refusal.String())
	}
	m.ReasoningContent = reasoning.String()
	return m
}

func blockOf(t llm.Thinking) thinkingBlock {
	if t.Redacted != "" {
		return thinkingBlock{Type: "redacted_thinking", Data: t.Redacted}
	}
	return thinkingBlock{Type: "thinking", Thinking: &t.Text, Signature: t.Signature}
}

// callForClient writes arguments without the white space between their members, as OpenAI's are;
// text that is not JSON stays as it is, for the client to see.
func callForClient(c llm.ToolCall) toolCall {
	arguments := jsontext.Value(c.Arguments)
	if len(bytes.TrimSpace(arguments)) == 0 {
		arguments = jsontext.Value("{}")
	} else if compact := arguments.Clone(); compact.Compact() == nil {
		arguments = compact
	}
	return toolCall{
		ID: c.ID, Type: "function", Function: calledFunction{Name: c.Name, Arguments: string(arguments)},
		ExtraContent: signed(c),
	}
}

func answerID(id string) string {
	if id == "" {
		return "chatcmpl-" + rand.Text()
	}
	return id
}

func createdAt(unix int64) int64 {
	if unix == 0 {
		return time.Now().Unix()
	}
	return unix
}
