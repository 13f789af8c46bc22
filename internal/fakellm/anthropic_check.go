package fakellm

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the Messages API takes: https://docs.claude.com/en/api/messages. The messages are worded
// like its own.

const (
	versionOf2023 = "2023-06-01"
	versionOf2026 = "2026-10-21" // took the sampling parameters out
)

var (
	anthropicMembers = []string{
		"cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages", "metadata", "model",
		"output_config", "service_tier", "speed", "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice",
		"tools", "top_k", "top_p",
	}
	anthropicBetaMembers = []string{ // with any anthropic-beta header
		"compaction", "context_management", "fallback_credit_token", "fallbacks", "mcp_servers", "output_format",
	}
	anthropicCountMembers = []string{
		"cache_control", "messages", "model", "output_config", "speed", "system", "thinking", "tool_choice", "tools",
	}

	anthropicID         = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	anthropicName       = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	anthropicProperty   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
	anthropicModelName  = regexp.MustCompile(`^claude-([a-z]+)-(\d+)(?:[-.](\d{1,2}))?(?:$|[^0-9])`)
	anthropicImageTypes = []string{"image/jpeg", "image/png", "image/gif", "image/webp"}
)

const (
	maxCacheControls  = 4
	minThinkingBudget = 1024
	minThinkingTopP   = 0.95
	maxUserIDRunes    = 256
)

func authenticateAnthropic(h http.Header, key string) *Failure {
	token, _ := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	switch given := h.Get("X-Api-Key"); {
	case given == "" && token == "":
		return &Failure{Status: 401, Message: "x-api-key header is required"}
	case key == "":
	case given != "" && given != key:
		return &Failure{Status: 401, Message: "invalid x-api-key"}
	case given == "" && token != key:
		return &Failure{Status: 401, Message: "Invalid bearer token"}
	}
	return nil
}

// claude is what a model's name says about the rules that it brings.
type claude struct {
	family  string
	version int // 405 is 4.5; 0 is not a Claude
}

func parseClaude(model string) claude {
	m := anthropicModelName.FindStringSubmatch(model)
	if m == nil {
		return claude{}
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	return claude{family: m[1], version: major*100 + minor}
}

// oneSampler: temperature or top_p but not both, since Opus 4.1 and the 4.5 generation.
func (m claude) oneSampler() bool {
	return m.version >= 405 || m.family == "opus" && m.version >= 401
}

// adaptiveOnly: no sampling parameters and no thinking budgets any more, since Opus 4.7.
func (m claude) adaptiveOnly() bool {
	return m.version >= 500 || m.family == "opus" && m.version >= 407
}

// noPrefill: the conversation must not end with the assistant, since the 4.6 generation.
func (m claude) noPrefill() bool { return m.version >= 406 }

// systemTurns: role system inside the conversation, since Opus 4.8.
func (m claude) systemTurns() bool { return m.family == "opus" && m.version >= 408 }

// anthropicRequest is the request being checked.
type anthropicRequest struct {
	*checker
	root     value
	conv     *conversation
	model    claude
	version  string
	tools    bool
	thinking bool // thinking with a budget: it brings the strictest rules
	cached   int  // cache_control so far
}

// refuse is for what is wrong with the request as a whole, invalid for what is wrong at one place.
func (req *anthropicRequest) refuse(format string, args ...any) {
	req.fail(&Failure{Status: 400, Message: fmt.Sprintf(format, args...)})
}

func (req *anthropicRequest) invalid(path, format string, args ...any) {
	req.fail(anthropicInvalid(path, format, args...))
}

// readAnthropic checks a request and reads the conversation from it.
func readAnthropic(r *Request) (*conversation, *Failure) {
	req := &anthropicRequest{
		checker: &checker{style: anthropicStyle{}}, version: r.Header.Get("Anthropic-Version"),
	}
	switch req.version {
	case versionOf2023, versionOf2026:
	case "":
		return nil, anthropicInvalid("anthropic-version", "header is required")
	default:
		return nil, anthropicInvalid("anthropic-version", "%q is not a valid version", req.version)
	}
	req.root = req.decode(r.Body, func(err error) *Failure {
		return &Failure{Status: 400, Message: "The request body is not valid JSON: " + err.Error()}
	})
	counting := strings.HasSuffix(r.Path, "/count_tokens")
	req.topLevel(counting, r.Header.Get("Anthropic-Beta") != "")
	req.sampling(counting)
	req.readTools()
	req.readThinking()
	req.system()
	req.messages()
	if req.cached > maxCacheControls {
		req.refuse("A maximum of %d blocks with cache_control may be provided. Found %d.", maxCacheControls, req.cached)
	}
	return req.conv, req.failure
}

func (req *anthropicRequest) topLevel(counting, beta bool) {
	members := anthropicMembers
	if counting {
		members = anthropicCountMembers
	}
	if beta {
		members = slices.Concat(members, anthropicBetaMembers)
	}
	if req.version == versionOf2026 {
		members = slices.DeleteFunc(slices.Clone(members), func(m string) bool {
			return m == "temperature" || m == "top_p" || m == "top_k"
		})
	}
	req.root.only(members...)
	req.conv = &conversation{model: req.root.get("model").need().str(), callPrefix: "toolu_"}
	req.model = parseClaude(req.conv.model)

	user := req.root.get("metadata").only("user_id").get("user_id")
	if utf8.RuneCountInString(user.str()) > maxUserIDRunes {
		req.invalid(user.path, "String should have at most %d characters", maxUserIDRunes)
	}
	req.root.get("service_tier").word("auto", "standard_only")
	req.root.get("speed").word("standard", "fast")
	req.root.get("inference_geo").str()
	req.cacheControl(req.root)
	output := req.root.get("output_config").only("effort", "format")
	output.get("effort").word("low", "medium", "high", "xhigh", "max")
	if format := output.get("format").only("type", "schema"); format.given() {
		format.get("type").need().word("json_schema")
		req.conv.jsonOnly, req.conv.schema = true, format.get("schema").need().object()
		req.outputSchema(format.get("schema"))
	}
}

// outputSchema checks the subset of JSON Schema that structured outputs take:
// https://docs.claude.com/en/docs/build-with-claude/structured-outputs.
func (req *anthropicRequest) outputSchema(schema value) {
	refused := []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
		"maxItems", "uniqueItems"}
	walkSchema(schema.object(), "", func(_ string, s map[string]any) {
		if s["type"] == "object" && s["additionalProperties"] != false {
			req.invalid(schema.path,
				"For 'object' type, 'additionalProperties' must be explicitly set to false")
		}
		for _, name := range refused {
			if _, ok := s[name]; ok {
				req.invalid(schema.path, "For '%v' type, property '%s' is not supported", s["type"], name)
			}
		}
		if least, ok := s["minItems"].(float64); ok && least > 1 {
			req.invalid(schema.path, "For 'array' type, 'minItems' values other than 0 or 1 are not supported")
		}
	})
}

func (req *anthropicRequest) sampling(counting bool) {
	root := req.root
	if !counting {
		req.conv.maxTokens = root.get("max_tokens").need().integer(1, 1<<31)
	}
	req.conv.stream = root.get("stream").flag()
	root.get("temperature").number(0, 1)
	root.get("top_p").number(0, 1)
	root.get("top_k").integer(0, 1<<31)
	if req.model.oneSampler() && root.get("temperature").given() && root.get("top_p").given() {
		req.refuse("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
	}
	for _, name := range []string{"temperature", "top_p", "top_k"} {
		if req.model.adaptiveOnly() && root.get(name).given() {
			req.refuse("`%s` is deprecated for this model.", name)
		}
	}
	req.conv.stops = root.get("stop_sequences").strings()
	for _, stop := range req.conv.stops {
		if strings.TrimSpace(stop) == "" {
			req.invalid("stop_sequences", "each stop sequence must contain non-whitespace")
		}
	}
}

func (req *anthropicRequest) readTools() {
	names := map[string]bool{}
	for _, t := range req.root.get("tools").list() {
		req.tools = true
		req.cacheControl(t)
		if kind := t.get("type").str(); kind != "" && kind != "custom" { // a server tool: its members are its own
			continue
		}
		t.path += ".custom"
		t.only("type", "name", "description", "input_schema", "cache_control", "strict", "eager_input_streaming",
			"defer_loading", "allowed_callers", "input_examples")
		name := t.get("name").need()
		if name.given() && !anthropicName.MatchString(name.str()) {
			req.invalid(name.path, "String should match pattern '%s'", anthropicName)
		}
		if names[name.str()] {
			req.invalid("tools", "Tool names must be unique.")
		}
		names[name.str()] = true
		t.get("description").str()
		t.get("strict").flag()
		schema := t.get("input_schema").need()
		schema.get("type").need()
		if kind := schema.get("type"); kind.data != "object" {
			req.invalid(kind.path, "Input should be 'object'")
		}
		for _, name := range sortedNames(schema.get("properties").object()) {
			if !anthropicProperty.MatchString(name) {
				req.invalid(schema.path+".properties", "Property keys should match pattern '%s'", anthropicProperty)
			}
		}
		for _, word := range []string{"oneOf", "allOf", "anyOf"} {
			if schema.get(word).given() {
				req.invalid(schema.path, "input_schema does not support oneOf, allOf, or anyOf at the top level")
			}
		}
		req.conv.tools = append(req.conv.tools, tool{name: name.str(), schema: schema.object()})
	}
	choice := req.root.get("tool_choice")
	if !choice.given() {
		return
	}
	if !req.tools {
		req.invalid("tool_choice", "may only be specified while providing tools")
	}
	kind := choice.get("type").need().word("auto", "any", "tool", "none")
	req.conv.serial = choice.get("disable_parallel_tool_use").flag()
	switch kind {
	case "none":
		choice.only("type")
		req.conv.choice = chooseNone
	case "tool":
		choice.only("type", "name", "disable_parallel_tool_use")
		req.conv.choice, req.conv.forced = chooseNamed, choice.get("name").need().str()
		if !names[req.conv.forced] {
			req.invalid("tool_choice.name", "Tool '%s' not found in provided tools", req.conv.forced)
		}
	case "any":
		choice.only("type", "disable_parallel_tool_use")
		req.conv.choice = chooseAny
	default:
		choice.only("type", "disable_parallel_tool_use")
	}
}

// readThinking checks the rules of
// https://docs.claude.com/en/docs/build-with-claude/extended-thinking.
func (req *anthropicRequest) readThinking() {
	thinking := req.root.get("thinking")
	if kind := thinking.get("type").data; kind != "enabled" && kind != "adaptive" { // github.com/anthropics/claude-code/issues/11971
		for _, edit := range req.root.get("context_management").get("edits").list() {
			if name, _ := edit.get("type").data.(string); strings.HasPrefix(name, "clear_thinking_") {
				req.refuse("`%s` strategy requires `thinking` to be enabled or adaptive", name)
			}
		}
	}
	if !thinking.given() {
		return
	}
	kind := thinking.get("type").need().word("enabled", "disabled", "adaptive", "between_tools")
	thinking.path = "thinking." + kind
	switch kind {
	case "enabled":
		req.thinking, req.conv.thinks = true, true
		if req.model.adaptiveOnly() {
			req.refuse(`"thinking.type.enabled" is not supported for this model. Use ` +
				`"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.`)
		}
		budget := thinking.only("type", "budget_tokens", "display").get("budget_tokens").need()
		if tokens := budget.integer(minThinkingBudget, 1<<31); req.conv.maxTokens > 0 && tokens >= req.conv.maxTokens {
			req.refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
		}
	case "adaptive":
		req.conv.thinks = true
		thinking.only("type", "display")
	default:
		thinking.only("type")
		return
	}
	thinking.get("display").word("summarized", "omitted")
	if req.conv.choice == chooseAny || req.conv.choice == chooseNamed {
		req.refuse("Thinking may not be enabled when tool_choice forces tool use.")
	}
	if t := req.root.get("temperature"); t.given() && t.data != 1.0 {
		req.refuse("`temperature` may only be set to 1 when thinking is enabled.")
	}
	if p := req.root.get("top_p"); p.given() && p.number(0, 1) < minThinkingTopP {
		req.refuse("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
	}
	if req.root.get("top_k").given() {
		req.refuse("`top_k` must be unset when thinking is enabled.")
	}
}

func (req *anthropicRequest) system() {
	system := req.root.get("system")
	if system.isText() || !system.given() {
		req.conv.earlier += countWords(system.data)
		return
	}
	for _, block := range system.list() {
		block.get("type").need().word("text")
		req.text(block)
	}
	req.conv.earlier += countWords(system.data)
}

// turn is a run of messages of one role, which the API reads as one message.
type turn struct {
	role   string
	at     int // index of its last message
	blocks []value
}

func (req *anthropicRequest) messages() {
	messages := req.root.get("messages").need()
	list := messages.list()
	if messages.given() && len(list) == 0 {
		req.invalid("messages", "at least one message is required")
	}
	var turns []turn
	for i, m := range list {
		m.only("role", "content")
		role := req.role(m, i, turns)
		blocks := req.content(m, role, i == len(list)-1)
		if n := len(turns); n > 0 && turns[n-1].role == role {
			turns[n-1].blocks = append(turns[n-1].blocks, blocks...)
			turns[n-1].at = i
		} else {
			turns = append(turns, turn{role: role, at: i, blocks: blocks})
		}
		req.conv.earlier, req.conv.last = req.conv.earlier+req.conv.last, countWords(m.data)
	}
	if len(turns) > 0 && turns[0].role != "user" {
		req.invalid("messages", `first message must use the "user" role`)
	}
	if n := len(turns); n > 0 && turns[n-1].role == "assistant" && req.model.noPrefill() {
		req.refuse("This model does not support assistant message prefill. The conversation must end " +
			"with a user message.")
	}
	req.pairTools(turns)
	req.thinkingFirst(turns)
	if req.failure == nil {
		req.hear(turns)
	}
}

func (req *anthropicRequest) role(m value, i int, turns []turn) string {
	role := m.get("role").need()
	if role.data != "system" {
		return role.word("user", "assistant")
	}
	switch {
	case !req.model.systemTurns():
		req.invalid("messages", `Unexpected role "system". The Messages API accepts a top-level `+"`system` "+
			`parameter, not "system" as an input message role.`)
	case i == 0 || turns[len(turns)-1].role != "user":
		req.invalid(m.path, `role "system" must directly follow a user turn`)
	}
	return "system"
}

// content returns the blocks of a message; a string is one text block.
func (req *anthropicRequest) content(m value, role string, last bool) []value {
	content := m.get("content").need()
	var blocks []value
	if content.isText() {
		if content.str() != "" {
			blocks = []value{{c: req.checker, path: content.path, data: map[string]any{"type": "text", "text": content.str()}}}
		}
	} else {
		blocks = content.list()
	}
	if len(blocks) == 0 && !(last && role == "assistant") {
		req.invalid(m.path, "%s messages must have non-empty content", role)
	}
	for _, block := range blocks {
		req.block(block, role)
	}
	if last && role == "assistant" && len(blocks) > 0 {
		if text := blocks[len(blocks)-1].get("text").str(); text != strings.TrimRight(text, " \t\r\n") {
			req.invalid("messages", "final assistant content cannot end with trailing whitespace")
		}
	}
	return blocks
}

// anthropicBlocks are the kinds of block that each role may send. Those of server tools are not
// looked into.
var anthropicBlocks = map[string][]string{
	"user": {"text", "image", "document", "search_result", "tool_result", "container_upload"},
	"assistant": {"text", "thinking", "redacted_thinking", "tool_use", "document", "server_tool_use", "container_upload",
		"web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
		"text_editor_code_execution_tool_result", "tool_search_tool_result", "mcp_tool_use", "mcp_tool_result"},
	"system": {"text"},
}

func (req *anthropicRequest) block(b value, role string) {
	kind := b.get("type").need().str()
	if b.get("type").given() && !slices.Contains(anthropicBlocks[role], kind) {
		req.invalid(b.path, "Input tag '%s' found using 'type' does not match any of the expected tags: '%s'", kind,
			strings.Join(anthropicBlocks[role], "', '"))
		return
	}
	switch kind {
	case "text":
		req.text(b)
		if cites, _ := b.get("citations").data.([]any); req.version == versionOf2026 && role == "user" && len(cites) > 0 {
			req.invalid(b.path+".text.citations", "citations are not permitted on user text")
		}
		return
	case "document":
		if req.version == versionOf2026 && role == "assistant" {
			req.invalid(b.path, "document blocks are not permitted in assistant turns")
		}
	}
	req.cacheControl(b)
	b.path += "." + kind
	switch kind {
	case "image":
		req.image(b.only("type", "source", "cache_control", "transformations").get("source").need())
	case "document":
		req.document(b.only("type", "source", "title", "context", "citations", "cache_control").get("source").need())
	case "thinking":
		b.only("type", "thinking", "signature")
		thought := b.get("thinking").need().str()
		if s := b.get("signature").need(); s.given() && s.str() != signature(thought) {
			req.invalid(strings.TrimSuffix(b.path, "."+kind), "Invalid `signature` in `thinking` block")
		}
	case "redacted_thinking":
		b.only("type", "data").get("data").need().str()
	case "tool_use":
		req.id(b.only("type", "id", "name", "input", "cache_control", "caller", "toolset_name").get("id").need())
		if name := b.get("name").need(); name.given() && !anthropicName.MatchString(name.str()) {
			req.invalid(name.path, "String should match pattern '%s'", anthropicName)
		}
		b.get("input").need().object()
	case "tool_result":
		req.id(b.only("type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name").get("tool_use_id").need())
		b.get("is_error").flag()
		req.toolResult(b.get("content"))
	}
}

func (req *anthropicRequest) id(id value) {
	if id.given() && !anthropicID.MatchString(id.str()) {
		req.invalid(id.path, "String should match pattern '%s'", anthropicID)
	}
}

func (req *anthropicRequest) text(b value) {
	req.cacheControl(b)
	where := strings.SplitN(b.path, ".", 2)[0]
	b.path += ".text"
	text := b.only("type", "text", "cache_control", "citations").get("text").need()
	switch {
	case text.given() && text.str() == "":
		req.invalid(where, "text content blocks must be non-empty")
	case text.given() && strings.TrimSpace(text.str()) == "":
		req.invalid(where, "text content blocks must contain non-whitespace text")
	}
}

func (req *anthropicRequest) toolResult(content value) {
	if content.isText() {
		return
	}
	for _, part := range content.list() {
		switch part.get("type").need().word("text", "image", "document", "search_result", "tool_reference") {
		case "text", "image", "document":
			req.block(part, "user")
		}
	}
}

func (req *anthropicRequest) image(source value) {
	switch kind := source.get("type").need().word("base64", "url", "file"); kind {
	case "base64":
		source.path += ".base64"
		label := source.only("type", "media_type", "data").get("media_type").need()
		if label.given() && !slices.Contains(anthropicImageTypes, label.str()) {
			req.invalid(label.path, "Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'")
		}
		data := req.base64(source.get("data").need())
		if seen := http.DetectContentType(data); seen != label.str() && slices.Contains(anthropicImageTypes, seen) {
			req.invalid(source.path+".data", "The image was specified using the %s media type, but the image "+
				"appears to be a %s image", label.str(), seen)
		}
	case "url":
		req.url(source)
	case "file":
		source.only("type", "file_id").get("file_id").need().str()
	}
}

func (req *anthropicRequest) document(source value) {
	switch kind := source.get("type").need().word("base64", "text", "url", "content", "file"); kind {
	case "base64":
		source.path += ".base64"
		source.only("type", "media_type", "data").get("media_type").need().word("application/pdf")
		req.base64(source.get("data").need())
	case "text":
		source.path += ".text"
		source.only("type", "media_type", "data").get("media_type").need().word("text/plain")
		source.get("data").need().str()
	case "url":
		req.url(source)
	case "content":
		source.only("type", "content").get("content").need()
	case "file":
		source.only("type", "file_id").get("file_id").need().str()
	}
}

func (req *anthropicRequest) url(source value) {
	source.path += ".url"
	address := source.only("type", "url").get("url").need()
	if address.given() && !strings.HasPrefix(address.str(), "https://") {
		req.invalid(address.path, "Only HTTPS URLs are supported.")
	}
}

func (req *anthropicRequest) base64(data value) []byte {
	decoded, err := base64.StdEncoding.DecodeString(data.str())
	if data.given() && (err != nil || len(decoded) == 0) {
		req.invalid(data.path, "invalid base64 data")
	}
	return decoded
}

func (req *anthropicRequest) cacheControl(b value) {
	control := b.get("cache_control")
	if !control.given() {
		return
	}
	req.cached++
	control.path += ".ephemeral"
	control.only("type", "ttl").get("type").need().word("ephemeral")
	control.get("ttl").word("5m", "1h")
}

// pairTools checks that every tool_use is answered at the beginning of the next turn, once, and
// nothing else is answered.
func (req *anthropicRequest) pairTools(turns []turn) {
	used := map[string]bool{}
	var open []string // ids of the calls in the turn before
	at := 0           // and where that turn ended
	for _, t := range turns {
		if t.role == "system" {
			continue
		}
		var calls, answered []string
		leading := true
		for _, b := range t.blocks {
			switch id := b.get("id").data; b.get("type").data {
			case "tool_use":
				id, _ := id.(string)
				if used[id] {
					req.invalid("messages", "`tool_use` ids must be unique")
				}
				used[id] = true
				calls = append(calls, id)
				req.needTools()
			case "tool_result":
				id := b.get("tool_use_id").str()
				req.needTools()
				switch {
				case !slices.Contains(open, id):
					req.invalid(b.path, "unexpected `tool_use_id` found in `tool_result` blocks: %s. Each `tool_result` "+
						"block must have a corresponding `tool_use` block in the previous message.", id)
				case slices.Contains(answered, id):
					req.invalid(b.path, "each tool_use must have a single result. Found multiple `tool_result` blocks "+
						"with id: %s", id)
				case leading:
					answered = append(answered, id)
				}
			default:
				leading = false
			}
		}
		req.unanswered(at, open, answered)
		open, at = calls, t.at
	}
	req.unanswered(at, open, nil)
}

func (req *anthropicRequest) needTools() {
	if !req.tools {
		req.refuse("Requests which include `tool_use` or `tool_result` blocks must define tools.")
	}
}

func (req *anthropicRequest) unanswered(at int, open, answered []string) {
	missing := slices.DeleteFunc(slices.Clone(open), func(id string) bool { return slices.Contains(answered, id) })
	if len(missing) > 0 {
		req.invalid(fmt.Sprintf("messages.%d", at), "`tool_use` ids were found without `tool_result` blocks "+
			"immediately after: %s. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
			strings.Join(missing, ", "))
	}
}

// thinkingFirst: with a thinking budget, an assistant turn whose tools are being answered must
// begin with its thinking.
func (req *anthropicRequest) thinkingFirst(turns []turn) {
	if !req.thinking || len(turns) < 2 {
		return
	}
	last := turns[len(turns)-2]
	usesTools := slices.ContainsFunc(last.blocks, func(b value) bool { return b.get("type").data == "tool_use" })
	if last.role != "assistant" || !usesTools {
		return
	}
	if first := last.blocks[0].get("type"); first.data != "thinking" && first.data != "redacted_thinking" {
		req.invalid(first.path, "Expected `thinking` or `redacted_thinking`, but found `%v`. When `thinking` is "+
			"enabled, a final `assistant` message must start with a thinking block.", first.data)
	}
}

// hear reads the last user turn.
func (req *anthropicRequest) hear(turns []turn) {
	conv := req.conv
	for _, t := range slices.Backward(turns) {
		if t.role != "user" {
			continue
		}
		var texts []string
		for _, b := range t.blocks {
			switch b.get("type").str() {
			case "text":
				texts = append(texts, b.get("text").str())
			case "image":
				conv.images++
			case "document":
				conv.files++
			case "tool_result":
				conv.results = append(conv.results, resultText(b.get("content")))
			}
		}
		conv.text = strings.Join(texts, "\n")
		return
	}
}

func resultText(content value) string {
	if text, ok := content.data.(string); ok {
		return text
	}
	var texts []string
	for _, part := range content.list() {
		if text := part.get("text").str(); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "\n")
}

// anthropicStyle words what is wrong with a value as Anthropic does.
type anthropicStyle struct{}

func (anthropicStyle) element(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }

func (anthropicStyle) member(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (anthropicStyle) missing(path string) *Failure { return anthropicInvalid(path, "Field required") }

func (s anthropicStyle) unknown(path, name string) *Failure {
	return anthropicInvalid(s.member(path, name), "Extra inputs are not permitted")
}

func (anthropicStyle) wrongType(path string, want kind, _ any) *Failure {
	wants := map[kind]string{
		aString: "string", aNumber: "number", anInteger: "integer", aBoolean: "boolean", aList: "list", anObject: "dictionary",
		textOrList: "list",
	}
	return anthropicInvalid(path, "Input should be a valid %s", wants[want])
}

func (anthropicStyle) wrongValue(path, _ string, want []string) *Failure {
	return anthropicInvalid(path, "Input should be '%s'", strings.Join(want, "' or '"))
}

func (anthropicStyle) outOfRange(path string, value, least, most float64) *Failure {
	if value < least {
		return anthropicInvalid(path, "Input should be greater than or equal to %v", least)
	}
	return anthropicInvalid(path, "Input should be less than or equal to %v", most)
}

func anthropicInvalid(path, format string, args ...any) *Failure {
	return &Failure{Status: 400, Message: path + ": " + fmt.Sprintf(format, args...)}
}
