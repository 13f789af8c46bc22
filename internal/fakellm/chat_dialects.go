package fakellm

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The servers that speak OpenAI's schema in a way of their own. What they have in common with it is
// checked by openai_check.go.

// chatDialect is OpenAI's API with another reader.
func chatDialect(read func(c *checker, root value, conv *conversation), style style, lenient bool, extra ...string) *dialect {
	d := openAI()
	d.read = func(r *Request) (*conversation, *Failure) {
		c := &checker{style: style, lenient: lenient, extra: extra}
		root := c.decode(r.Body, func(err error) *Failure {
			return &Failure{Status: 400, Message: "Failed to parse the request body as JSON: " + err.Error()}
		})
		conv := &conversation{model: root.get("model").need().str(), choices: 1}
		read(c, root, conv)
		return conv, c.failure
	}
	return d
}

// deepSeek: https://api-docs.deepseek.com/api/create-chat-completion. Members that it does not know
// it ignores.
func deepSeek() *dialect { return chatDialect(readDeepSeek, openAIStyle{}, true) }

// deepSeekOutputs: "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]".
var deepSeekOutputs = map[string]int{"deepseek-chat": 8192, "deepseek-reasoner": 65536}

func readDeepSeek(c *checker, root value, conv *conversation) {
	conv.callPrefix = "call_00_"
	conv.maxTokens = root.get("max_tokens").integer(1, maxOpenAITokenCount)
	if most, ok := deepSeekOutputs[conv.model]; ok && conv.maxTokens > most {
		c.fail(openAIInvalid("", "invalid_request_error", "Invalid max_tokens value, the valid range of max_tokens is [1, %d]", most))
	}
	root.get("temperature").number(0, 2)
	root.get("top_p").number(0, 1)
	chatStop(root.get("stop"), 16, conv)
	chatStream(root, conv)
	if format := root.get("response_format"); format.get("type").data == "json_schema" {
		c.fail(openAIInvalid("", "invalid_request_error", "This response_format type is unavailable now"))
	}
	openAIFormat(root.get("response_format"), conv)
	openAITools(root, conv)
	v4 := strings.HasPrefix(conv.model, "deepseek-v4")
	conv.thinks = v4 || conv.model == "deepseek-reasoner"
	if t := root.get("thinking"); t.given() {
		conv.thinks = t.get("type").need().word("enabled", "disabled") == "enabled"
	}
	list := root.get("messages").need().list()
	for i, m := range list {
		m.get("role").need().word("system", "user", "assistant", "tool")
		if conv.thinks && m.get("tool_calls").given() && !hasUserAfter(list, i) && m.get("reasoning_content").data == nil {
			c.fail(openAIInvalid("", "invalid_request_error", "Missing `reasoning_content` field in the assistant message at message "+
				"index %d. For more information, please refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls", i))
		}
	}
	if conv.thinks && v4 && lostThoughts(list) {
		c.fail(openAIInvalid("", "invalid_request_error", "The `reasoning_content` in the thinking mode must be passed back to the API."))
	}
	openAIMessages(root.get("messages"), conv)
}

// lostThoughts tells whether an assistant's message lacks its thoughts though tools were called
// between the user's words before it and those after it, however long ago. Empty ones are none:
// github.com/NousResearch/hermes-agent/pull/18263.
func lostThoughts(list []value) bool {
	calls, lost := false, false
	for _, m := range list {
		switch m.get("role").data {
		case "user":
			calls, lost = false, false
		case "assistant":
			calls = calls || m.get("tool_calls").given()
			lost = lost || m.get("reasoning_content").str() == ""
		}
		if calls && lost {
			return true
		}
	}
	return false
}

// hasUserAfter tells whether the user speaks behind message i: thoughts from before that are not
// asked for.
func hasUserAfter(list []value, i int) bool {
	return slices.ContainsFunc(list[i:], func(m value) bool { return m.get("role").data == "user" })
}

func chatStop(stop value, most int, conv *conversation) {
	if stop.isText() {
		conv.stops = []string{stop.str()}
		return
	}
	if conv.stops = stop.strings(); len(conv.stops) > most {
		stop.c.fail(openAITooMany("stop", most, len(conv.stops)))
	}
}

func chatStream(root value, conv *conversation) {
	conv.stream = root.get("stream").flag()
	if options := root.get("stream_options"); options.given() {
		conv.wantUsage = options.get("include_usage").flag()
		if !conv.stream {
			root.c.fail(openAIInvalid("", "invalid_request_error", "stream_options should be set along with stream = true"))
		}
	}
}

// mistral: https://docs.mistral.ai/api/. Members that it does not know are a 422.
func mistral() *dialect {
	return chatDialect(readMistral, mistralStyle{}, false, "prefix")
}

var (
	mistralMembers = []string{
		"frequency_penalty", "max_tokens", "messages", "metadata", "model", "n", "parallel_tool_calls", "prediction",
		"presence_penalty", "prompt_mode", "random_seed", "response_format", "safe_prompt", "stop", "stream", "temperature",
		"tool_choice", "tools", "top_p",
	}
	mistralMessage = map[string][]string{
		"system": {"role", "content"}, "user": {"role", "content"}, "assistant": {"role", "content", "tool_calls", "prefix"},
		"tool": {"role", "content", "tool_call_id", "name"},
	}
	mistralID = regexp.MustCompile(`^[a-zA-Z0-9]{9}$`)
	// mistralNext is who may speak behind whom.
	mistralNext = map[string][]string{
		"":       {"system", "user", "assistant"},
		"system": {"system", "user", "assistant"}, "user": {"system", "user", "assistant"},
		"assistant": {"system", "user", "assistant", "tool"},
		"tool":      {"assistant", "tool"},
	}
)

func readMistral(c *checker, root value, conv *conversation) {
	conv.nineIDs, conv.tellsUsage = true, true
	root.only(mistralMembers...)
	conv.maxTokens = root.get("max_tokens").integer(1, maxOpenAITokenCount)
	root.get("temperature").number(0, 1.5)
	root.get("top_p").number(0, 1)
	root.get("random_seed").integer(0, 1<<63)
	chatStop(root.get("stop"), 1000, conv)
	chatStream(root, conv)
	openAIFormat(root.get("response_format"), conv)
	for _, t := range root.get("tools").list() {
		t.get("function").get("parameters").need()
	}
	openAITools(root, conv)
	mistralMessages(c, root.get("messages").need().list())
	openAIMessages(root.get("messages"), conv)
}

func mistralMessages(c *checker, list []value) {
	before := ""
	for i, m := range list {
		role := m.get("role").need().word("system", "user", "assistant", "tool")
		m.only(mistralMessage[role]...)
		if !slices.Contains(mistralNext[before], role) {
			c.fail(&Failure{Status: 400, Type: "invalid_request_message_order", Code: "3230",
				Message: fmt.Sprintf("Unexpected role '%s' after role '%s'", role, before)})
		}
		ids := []value{m.get("tool_call_id")}
		for _, call := range m.get("tool_calls").list() {
			ids = append(ids, call.get("id"))
		}
		for _, id := range ids {
			if id.given() && !mistralID.MatchString(id.str()) {
				c.fail(&Failure{Status: 400, Type: "invalid_function_call", Code: "3280",
					Message: fmt.Sprintf("Tool call id was %s but must be a-z, A-Z, 0-9, with a length of 9.", id.str())})
			}
		}
		if role == "assistant" && i == len(list)-1 && !m.get("prefix").flag() {
			c.fail(&Failure{Status: 400, Type: "invalid_request_message_order", Code: "3230",
				Message: "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"})
		}
		before = role
	}
}

// groq: https://console.groq.com/docs/openai. Members that it does not know are a 400.
func groq() *dialect { return chatDialect(readGroq, groqStyle{}, false) }

var groqMembers = []string{
	"frequency_penalty", "include_reasoning", "max_completion_tokens", "max_tokens", "messages", "model", "n", "parallel_tool_calls",
	"presence_penalty", "reasoning_effort", "reasoning_format", "response_format", "seed", "service_tier", "stop", "stream",
	"stream_options", "temperature", "tool_choice", "tools", "top_p", "user",
}

func readGroq(_ *checker, root value, conv *conversation) {
	root.only(groqMembers...)
	conv.maxTokens = root.get("max_completion_tokens").integer(1, maxOpenAITokenCount)
	if conv.maxTokens == 0 {
		conv.maxTokens = root.get("max_tokens").integer(1, maxOpenAITokenCount)
	}
	root.get("n").integer(1, 1)
	root.get("temperature").number(0, 2)
	root.get("top_p").number(0, 1)
	if effort := root.get("reasoning_effort"); effort.given() && strings.Contains(conv.model, "gpt-oss") {
		effort.word("low", "medium", "high")
	}
	chatStop(root.get("stop"), 4, conv)
	chatStream(root, conv)
	openAIFormat(root.get("response_format"), conv)
	openAITools(root, conv)
	for _, m := range root.get("messages").need().list() {
		m.get("role").need().word("system", "developer", "user", "assistant", "tool")
		m.only("role", "content", "tool_calls", "tool_call_id")
	}
	openAIMessages(root.get("messages"), conv)
}

// groqStyle words what is wrong with a value as Groq does.
type groqStyle struct{ openAIStyle }

func (groqStyle) unknown(path, name string) *Failure {
	if path == "" {
		return openAIInvalid("", "invalid_request_error", "property '%s' is unsupported", name)
	}
	return openAIInvalid("", "invalid_request_error", "'%s' : the following must be satisfied[('%[1]s' : property '%s' is unsupported)]", path, name)
}

// mistralStyle words what is wrong with a value as Mistral's validator does.
type mistralStyle struct{ openAIStyle }

func (mistralStyle) unknown(path, name string) *Failure {
	return mistral422(path+"."+name, "extra_forbidden", "Extra inputs are not permitted")
}
func (mistralStyle) missing(path string) *Failure {
	return mistral422(path, "missing", "Field required")
}

func mistral422(path, kind, message string) *Failure {
	detail, err := json.Marshal([]any{map[string]any{"type": kind, "loc": append([]string{"body"}, strings.Split(strings.Trim(path, "."), ".")...), "msg": message}})
	if err != nil {
		panic("fakellm: " + err.Error()) // strings only
	}
	return &Failure{Status: 422, Type: "invalid_request_error", Message: string(detail)}
}
