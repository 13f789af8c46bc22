package openai

import (
	"slices"
	"strconv"
	"strings"
)

// family is what a family of models does not take, or takes in another form. The zero value takes
// what the schema has.
type family struct {
	line     string // how the names begin: "gpt", "o"; of a row with versions, what stands before them
	from, to int    // versions, both included: 501 is 5.1. 0, 0: the row has none
	chat     bool   // the row is for those that have "chat" in the name

	reasons bool     // knows reasoning_effort, and counts reasoning to max_completion_tokens
	plain   bool     // answers reasoning_effort with a 400
	efforts []string // the words that are taken, weakest first; nil: any word that is known
	thinks  bool     // DeepSeek: unless it is told not to
	// fixed: temperature, top_p, the penalties, logprobs and stop are refused while it reasons.
	fixed bool
	idle  bool // it does not reason unless it is asked to
	// noTools: functions are refused beside any effort but none.
	noTools bool
	// serial: parallel_tool_calls is refused.
	serial bool
	output int64 // the most tokens of an answer; 0: not known
}

// openAIModels: the first row that fits counts.
//
//   - efforts, and what models refuse while they reason:
//     https://developers.openai.com/api/docs/guides/reasoning,
//     https://developers.openai.com/api/docs/guides/latest-model
//   - "Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions.
//     Please use /v1/responses instead or set reasoning_effort to 'none'":
//     openai/openai-openapi#541
//   - the longest answers: https://developers.openai.com/api/docs/models ("max output tokens")
var openAIModels = []family{
	{line: "chatgpt-4o", plain: true, output: 16384},
	{line: "gpt-4o", plain: true, output: 16384},
	{line: "gpt-4-turbo", plain: true, output: 4096},
	{line: "gpt", from: 401, to: 401, plain: true, output: 32768},
	{line: "gpt", from: 400, to: 400, plain: true, output: 8192},
	{line: "gpt", from: 100, to: 399, plain: true, output: 4096},
	{line: "gpt", from: 402, to: 499, plain: true},
	{line: "gpt", from: 500, to: 9999, chat: true, plain: true, output: 16384},
	{line: "o", from: 100, to: 9999, reasons: true, fixed: true, serial: true, output: 100000, efforts: []string{"low", "medium", "high"}},
	{line: "gpt", from: 500, to: 500, reasons: true, fixed: true, output: 128000, efforts: []string{"minimal", "low", "medium", "high"}},
	{line: "gpt", from: 501, to: 501, reasons: true, fixed: true, idle: true, output: 128000, efforts: []string{"none", "low", "medium", "high"}},
	{line: "gpt", from: 502, to: 505, reasons: true, fixed: true, idle: true, noTools: true, output: 128000, efforts: []string{"none", "low", "medium", "high", "xhigh"}},
	{line: "gpt", from: 506, to: 9999, reasons: true, fixed: true, noTools: true, output: 128000, efforts: []string{"none", "low", "medium", "high", "xhigh"}},
}

// familyOf finds a model's row by its name, also behind a router's prefix ("openai/gpt-5"). The
// zero family is what all other models are taken for.
func (d *dialect) familyOf(model string) family {
	name := strings.ToLower(model[strings.LastIndexByte(model, '/')+1:])
	for _, f := range d.models {
		rest, ok := strings.CutPrefix(name, f.line)
		if !ok || f.chat && !strings.Contains(rest, "chat") {
			continue
		}
		if f.to == 0 {
			return f
		}
		if v := version(strings.TrimPrefix(rest, "-")); v >= f.from && v <= f.to {
			return f
		}
	}
	return family{}
}

// version reads the number that a name begins with, as major×100 + minor; 0 when there is none, or
// it does not end there ("20b").
func version(name string) int {
	digits := len(name) - len(strings.TrimLeft(name, "0123456789"))
	major, err := strconv.Atoi(name[:digits])
	rest := name[digits:]
	if err != nil || major > 99 || strings.HasPrefix(rest, "b") {
		return 0
	}
	if after, ok := strings.CutPrefix(rest, "."); ok {
		digits = len(after) - len(strings.TrimLeft(after, "0123456789"))
		if minor, err := strconv.Atoi(after[:digits]); err == nil && minor < 100 {
			return major*100 + minor
		}
	}
	return major * 100
}

// efforts are all words, weakest first.
var efforts = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}

// effort is the word that the family has for an effort: the same, or the nearest one, the weaker of
// two; "" when the word is not known. Families of which nothing is known get "high" for what is
// stronger.
func (f family) effort(word string) string {
	at := slices.Index(efforts, word)
	taken := f.efforts
	if taken == nil {
		taken = efforts[:6]
		if word == "max" {
			return "high"
		}
	}
	if at < 0 {
		return ""
	}
	best := ""
	for _, candidate := range taken {
		if slices.Index(efforts, candidate) <= at || best == "" {
			best = candidate
		}
	}
	return best
}
