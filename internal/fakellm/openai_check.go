package fakellm

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the Chat Completions API takes: https://platform.openai.com/docs/api-reference/chat/create.
// The messages are worded like its own; where a limit is not in the reference, the line says where
// it was seen.

var openAIMembers = []string{
	"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
	"max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction",
	"presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort",
	"response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
	"temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
}

var (
	openAIName       = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	openAIReasoning  = regexp.MustCompile(`^(o[1-9]|gpt-[5-9])`)
	openAIPlain      = regexp.MustCompile(`^(gpt-[34]|gpt-5.*-chat)`)
	openAINoTools    = regexp.MustCompile(`^gpt-(5\.[2-9]|[6-9])`) // github.com/openai/openai-openapi/issues/541
	openAISerial     = regexp.MustCompile(`^o[1-9]`)
	openAIFixedHeat  = regexp.MustCompile(`^(o[1-9]|gpt-5(-mini|-nano)?($|-\d))`) // gpt-5.1 and later may not reason at all
	openAIImageTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}
)

const (
	maxOpenAITools      = 128
	maxOpenAIName       = 64
	maxOpenAICallID     = 64 // was 40 until 2026; seen in "string too long" errors
	maxOpenAIStops      = 4
	maxOpenAIMetadata   = 16
	maxOpenAIUser       = 64
	maxOpenAIChoices    = 128
	maxOpenAILogprobs   = 20
	maxOpenAITokenCount = 1 << 31
)

func authenticateOpenAI(h http.Header, key string) *Failure {
	token, isBearer := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	switch {
	case h.Get("Authorization") == "":
		return &Failure{Status: 401, Message: "You didn't provide an API key. You need to provide your API key in an " +
			"Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."}
	case !isBearer || token == "":
		return &Failure{Status: 401, Message: "Invalid Authorization header: use Bearer auth."}
	case key != "" && token != key:
		return &Failure{Status: 401, Code: "invalid_api_key", Message: "Incorrect API key provided: " + mask(token) +
			". You can find your API key at https://platform.openai.com/account/api-keys."}
	}
	return nil
}

// mask shows a key the way OpenAI's 401 does. Even so much of it must not reach the gateway's
// client.
func mask(key string) string {
	if len(key) < 12 {
		return strings.Repeat("*", len(key))
	}
	return key[:4] + strings.Repeat("*", len(key)-8) + key[len(key)-4:]
}

// readOpenAI checks a request and reads the conversation from it.
func readOpenAI(r *Request) (*conversation, *Failure) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return nil, &Failure{Status: 400, Code: "unsupported_content_type", Message: fmt.Sprintf("Unsupported content type: "+
			"'%s'. This API method only accepts 'application/json' requests.", r.Header.Get("Content-Type"))}
	}
	c := &checker{style: openAIStyle{}}
	root := c.decode(r.Body, func(err error) *Failure {
		return &Failure{Status: 400, Message: "We could not parse the JSON body of your request. (HINT: This likely means " +
			"you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not " +
			"valid JSON: " + err.Error() + ")"}
	})
	root.only(openAIMembers...)
	conv := &conversation{model: root.get("model").need().str(), callPrefix: "call_"}
	openAISampling(root, conv)
	openAITools(root, conv)
	openAIFormat(root.get("response_format"), conv)
	openAIMessages(root.get("messages").need(), conv)
	openAIOthers(root)
	return conv, c.failure
}

func openAISampling(root value, conv *conversation) {
	c := root.c
	root.get("temperature").number(0, 2)
	root.get("top_p").number(0, 1)
	root.get("frequency_penalty").number(-2, 2)
	root.get("presence_penalty").number(-2, 2)
	root.get("seed").integer(-1<<63, 1<<63)
	conv.choices = max(1, root.get("n").integer(1, maxOpenAIChoices))
	if root.get("top_logprobs").integer(0, maxOpenAILogprobs); root.get("top_logprobs").given() {
		if !root.get("logprobs").flag() {
			c.fail(openAIInvalid("top_logprobs", "", "'logprobs' must be true to use 'top_logprobs'."))
		}
	}
	for _, token := range sortedNames(root.get("logit_bias").object()) {
		if _, err := strconv.Atoi(token); err != nil {
			c.fail(openAIInvalid("logit_bias", "invalid_value", "Invalid key in 'logit_bias': %s. Keys are token ids.", token))
		}
		root.get("logit_bias").get(token).number(-100, 100)
	}

	old := root.get("max_tokens").integer(1, maxOpenAITokenCount)
	conv.maxTokens = max(old, root.get("max_completion_tokens").integer(1, maxOpenAITokenCount))
	if root.get("max_tokens").given() && root.get("max_completion_tokens").given() {
		c.fail(openAIInvalid("max_tokens", "invalid_parameter_combination",
			"Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."))
	}

	stop := root.get("stop")
	switch {
	case stop.isText():
		conv.stops = []string{stop.str()}
	default:
		conv.stops = stop.strings()
		if len(conv.stops) > maxOpenAIStops {
			c.fail(openAITooMany("stop", maxOpenAIStops, len(conv.stops)))
		}
	}
	if slices.Contains(conv.stops, "") {
		c.fail(openAIInvalid("stop", "invalid_value", "Invalid 'stop': empty string. Expected a non-empty string."))
	}

	conv.stream = root.get("stream").flag()
	if options := root.get("stream_options"); options.given() {
		options.only("include_usage", "include_obfuscation")
		options.get("include_obfuscation").flag()
		conv.wantUsage = options.get("include_usage").flag()
		if !conv.stream {
			c.fail(openAIInvalid("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled."))
		}
	}

	openAIModelRules(root, conv)
}

// openAIOutputs are the longest answers of models, by how their names begin:
// https://developers.openai.com/api/docs/models.
var openAIOutputs = []struct {
	prefix string
	most   int
}{{"gpt-4o", 16384}, {"gpt-4.1", 32768}, {"gpt-4-turbo", 4096}, {"gpt-3.5", 4096}, {"o3", 100000}, {"gpt-5", 128000}}

// openAIModelRules checks what a model refuses of what the schema has.
func openAIModelRules(root value, conv *conversation) {
	c := root.c
	limit := root.get("max_completion_tokens")
	if !limit.given() {
		limit = root.get("max_tokens")
	}
	for _, m := range openAIOutputs {
		if n := limit.integer(0, maxOpenAITokenCount); strings.HasPrefix(conv.model, m.prefix) && n > m.most {
			c.fail(openAIInvalid(limit.path, "invalid_value", "%s is too large: %d. This model supports at most %d completion tokens, "+
				"whereas you provided %d.", limit.path, n, m.most, n))
		}
	}
	effort := root.get("reasoning_effort").word("none", "minimal", "low", "medium", "high", "xhigh", "max")
	plain := openAIPlain.MatchString(conv.model)
	reasoning := openAIReasoning.MatchString(conv.model) && !plain
	conv.reasons = effort != "none" && (reasoning || effort != "")
	if reasoning && root.get("max_tokens").given() {
		c.fail(openAIInvalid("max_tokens", "unsupported_parameter", "Unsupported parameter: 'max_tokens' is not supported with "+
			"this model. Use 'max_completion_tokens' instead."))
	}
	if t := root.get("temperature"); t.given() && t.data != 1.0 && openAIFixedHeat.MatchString(conv.model) {
		c.fail(openAIInvalid("temperature", "unsupported_value", "Unsupported value: 'temperature' does not support %v with this "+
			"model. Only the default (1) value is supported.", t.data))
	}
	if openAINoTools.MatchString(conv.model) && len(root.get("tools").list()) > 0 && (effort != "none" && effort != "" || effort == "" && strings.HasPrefix(conv.model, "gpt-5.6")) {
		c.fail(openAIInvalid("reasoning_effort", "", "Function tools with reasoning_effort are not supported for %s in "+
			"/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.", conv.model))
	}
	for _, name := range []string{"stop", "top_p", "logprobs", "presence_penalty", "frequency_penalty"} {
		if root.get(name).given() && openAIFixedHeat.MatchString(conv.model) {
			c.fail(openAIInvalid(name, "unsupported_parameter", "Unsupported parameter: '%s' is not supported with this model.", name))
		}
	}
	if root.get("parallel_tool_calls").given() && openAISerial.MatchString(conv.model) {
		c.fail(openAIInvalid("parallel_tool_calls", "unsupported_parameter", "Unsupported parameter: 'parallel_tool_calls' is not "+
			"supported with this model."))
	}
	if plain && effort != "" {
		c.fail(openAIInvalid("", "", "Unrecognized request argument supplied: reasoning_effort"))
	}
}

func openAIOthers(root value) {
	c := root.c
	for _, name := range []string{"user", "prompt_cache_key", "safety_identifier"} {
		root.get(name).str()
	}
	for _, name := range []string{"audio", "moderation", "prediction", "prompt_cache_options", "web_search_options"} {
		root.get(name).object()
	}
	if user := root.get("user"); len(user.str()) > maxOpenAIUser {
		c.fail(openAITooLong("user", maxOpenAIUser, len(user.str())))
	}
	root.get("modalities").strings()
	root.get("verbosity").word("low", "medium", "high")
	root.get("service_tier").word("auto", "default", "flex", "scale", "priority", "fast")
	root.get("prompt_cache_retention").word("in_memory", "in-memory", "24h")
	store := root.get("store").flag()
	metadata := root.get("metadata")
	for _, name := range sortedNames(metadata.object()) {
		metadata.get(name).str()
	}
	if n := len(metadata.object()); n > maxOpenAIMetadata {
		c.fail(openAITooMany("metadata", maxOpenAIMetadata, n))
	}
	if metadata.given() && !store { // not in the reference; github.com/tmc/langchaingo/issues/1484
		c.fail(openAIInvalid("metadata", "", "The 'metadata' parameter is only allowed when 'store' is enabled."))
	}
}

func openAITools(root value, conv *conversation) {
	c := root.c
	tools := root.get("tools")
	list := tools.list()
	switch {
	case tools.given() && len(list) == 0:
		c.fail(openAIEmpty("tools"))
	case len(list) > maxOpenAITools:
		c.fail(openAITooMany("tools", maxOpenAITools, len(list)))
	}
	for _, t := range list {
		switch t.get("type").need().word("function", "custom") {
		case "function":
			f := t.only("type", "function").get("function").need().only("name", "description", "parameters", "strict")
			f.get("description").str()
			name := openAIToolName(f.get("name").need())
			openAISchema(name, f.get("parameters"), f.get("strict").flag())
			conv.tools = append(conv.tools, tool{name: name, schema: f.get("parameters").object()})
		case "custom":
			f := t.only("type", "custom").get("custom").need().only("name", "description", "format")
			openAIToolName(f.get("name").need())
		}
	}
	for _, f := range root.get("functions").list() {
		name := openAIToolName(f.only("name", "description", "parameters").get("name").need())
		conv.tools = append(conv.tools, tool{name: name, schema: f.get("parameters").object()})
	}
	if parallel := root.get("parallel_tool_calls"); parallel.given() {
		conv.serial = !parallel.flag()
		if !tools.given() {
			c.fail(openAIInvalid("parallel_tool_calls", "", "'parallel_tool_calls' is only allowed when 'tools' are specified."))
		}
	}
	openAIToolChoice(root.get("tool_choice"), tools.given(), conv)
}

func openAIToolName(name value) string {
	s := name.str()
	switch {
	case len(s) > maxOpenAIName:
		name.c.fail(openAITooLong(name.path, maxOpenAIName, len(s)))
	case name.given() && !openAIName.MatchString(s):
		name.c.fail(openAIInvalid(name.path, "invalid_value", "Invalid '%s': string does not match pattern. Expected a string "+
			"that matches the pattern '^[a-zA-Z0-9_-]+$'.", name.path))
	}
	return s
}

func openAIToolChoice(choice value, haveTools bool, conv *conversation) {
	c := choice.c
	if !choice.given() {
		return
	}
	if !haveTools {
		c.fail(openAIInvalid("tool_choice", "", "'tool_choice' is only allowed when 'tools' are specified."))
	}
	if _, isWord := choice.data.(string); isWord {
		switch choice.word("none", "auto", "required") {
		case "none":
			conv.choice = chooseNone
		case "required":
			conv.choice = chooseAny
		}
		return
	}
	switch kind := choice.get("type").need().word("function", "custom", "allowed_tools"); kind {
	case "function", "custom":
		conv.choice = chooseNamed
		conv.forced = choice.only("type", kind).get(kind).need().only("name").get("name").need().str()
		known := slices.ContainsFunc(conv.tools, func(t tool) bool { return t.name == conv.forced })
		if kind == "function" && !known {
			c.fail(openAIInvalid("tool_choice", "", "Tool choice '%s' not found in 'tools' parameter.", conv.forced))
		}
	case "allowed_tools":
		allowed := choice.only("type", "allowed_tools").get("allowed_tools").need().only("mode", "tools")
		allowed.get("tools").need().list()
		if allowed.get("mode").need().word("auto", "required") == "required" {
			conv.choice = chooseAny
		}
	}
}

// openAISchema checks a function's parameters. A function without them has none.
func openAISchema(function string, schema value, strict bool) {
	object := schema.object()
	if !schema.given() {
		return
	}
	fail := func(format string, args ...any) {
		schema.c.fail(openAIInvalid(schema.path, "invalid_function_parameters", "Invalid schema for function '%s': %s", function,
			fmt.Sprintf(format, args...)))
	}
	if kind, ok := object["type"]; !ok || kind != "object" {
		if !ok {
			kind = "None"
		}
		fail(`schema must be a JSON Schema of 'type: "object"', got 'type: "%v"'.`, kind)
	}
	for _, word := range []string{"oneOf", "anyOf", "allOf", "enum", "not"} {
		if _, ok := object[word]; ok {
			fail("schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.")
		}
	}
	if _, ok := object["properties"]; !ok {
		fail("In context=(), object schema missing properties.")
	}
	walkSchema(object, "()", func(where string, s map[string]any) {
		if _, ok := s["items"]; !ok && s["type"] == "array" {
			fail("In context=%s, array schema missing items.", where)
		}
		if strict && s["type"] == "object" {
			strictObject(s, where, fail)
		}
	})
}

// strictObject checks the two rules of structured outputs that requests break most.
func strictObject(s map[string]any, where string, fail func(format string, args ...any)) {
	if s["additionalProperties"] != false {
		fail("In context=%s, 'additionalProperties' is required to be supplied and to be false.", where)
	}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(map[string]any)
	for _, name := range sortedNames(properties) {
		if !slices.Contains(required, any(name)) {
			fail("In context=%s, 'required' is required to be supplied and to be an array including every key in properties. "+
				"Missing '%s'.", where, name)
		}
	}
}

func openAIFormat(format value, conv *conversation) {
	if !format.given() {
		return
	}
	switch format.get("type").need().word("text", "json_object", "json_schema") {
	case "json_object":
		conv.jsonOnly = true
	case "json_schema":
		f := format.only("type", "json_schema").get("json_schema").need().only("name", "description", "schema", "strict")
		openAIToolName(f.get("name").need())
		conv.jsonOnly, conv.schema = true, f.get("schema").object()
		if f.get("strict").flag() {
			fail := func(message string, args ...any) {
				f.c.fail(openAIInvalid("response_format", "", "Invalid schema for response_format '%s': %s",
					f.get("name").str(), fmt.Sprintf(message, args...)))
			}
			walkSchema(conv.schema, "()", func(where string, s map[string]any) {
				if s["type"] == "object" {
					strictObject(s, where, fail)
				}
			})
		}
	}
}

func openAIMessages(messages value, conv *conversation) {
	c := messages.c
	list := messages.list()
	if messages.given() && len(list) == 0 {
		c.fail(openAIEmpty("messages"))
	}
	var open []string // tool_call_ids that still want their tool message
	mentionsJSON := false
	for i, m := range list {
		role := m.get("role").need().word("system", "assistant", "user", "function", "tool", "developer")
		if role != "tool" {
			openAIUnanswered(c, i, open)
			open = nil
			conv.results = nil
		}
		said := openAIContent(m, role)
		mentionsJSON = mentionsJSON || strings.Contains(strings.ToLower(said.text), "json")
		switch role {
		case "system", "developer", "function":
			m.only("role", "content", "name")
		case "user":
			m.only("role", "content", "name")
			conv.text, conv.images, conv.files = said.text, said.images, said.files
		case "assistant":
			m.only("role", "content", "name", "refusal", "audio", "function_call", "tool_calls", "annotations")
			open = openAICalls(m)
			alternatives := m.get("refusal").given() || m.get("audio").given() || m.get("function_call").given()
			if !m.get("content").given() && len(open) == 0 && !alternatives {
				c.fail(openAINoContent(m))
			}
		case "tool":
			m.only("role", "content", "tool_call_id", "name")
			id := m.get("tool_call_id").need().str()
			at := slices.Index(open, id)
			if at < 0 {
				c.fail(openAIInvalid(fmt.Sprintf("messages.[%d].role", i), "", "Invalid parameter: messages with role 'tool' must "+
					"be a response to a preceeding message with 'tool_calls'."))
			} else {
				open = slices.Delete(slices.Clone(open), at, at+1)
			}
			conv.results = append(conv.results, said.text)
		}
		conv.earlier, conv.last = conv.earlier+conv.last, countWords(m.data)
	}
	openAIUnanswered(c, len(list), open)
	if conv.jsonOnly && conv.schema == nil && !mentionsJSON {
		c.fail(openAIInvalid("messages", "", "'messages' must contain the word 'json' in some form, to use 'response_format' of "+
			"type 'json_object'."))
	}
}

func openAIUnanswered(c *checker, at int, open []string) {
	if len(open) > 0 {
		c.fail(openAIInvalid(fmt.Sprintf("messages.[%d].role", at), "", "An assistant message with 'tool_calls' must be followed "+
			"by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: %s",
			strings.Join(open, ", ")))
	}
}

// openAICalls checks an assistant's tool_calls and returns their ids.
func openAICalls(m value) []string {
	calls := m.get("tool_calls")
	list := calls.list()
	if calls.given() && len(list) == 0 {
		m.c.fail(openAIEmpty(calls.path))
	}
	var ids []string
	for _, call := range list {
		id := call.get("id").need()
		if len(id.str()) > maxOpenAICallID {
			m.c.fail(openAITooLong(id.path, maxOpenAICallID, len(id.str())))
		}
		ids = append(ids, id.str())
		switch call.get("type").need().word("function", "custom") {
		case "function":
			f := call.only("id", "type", "function").get("function").need().only("name", "arguments")
			openAIToolName(f.get("name").need())
			f.get("arguments").need().str()
		case "custom":
			f := call.only("id", "type", "custom").get("custom").need().only("name", "input")
			f.get("name").need().str()
			f.get("input").need().str()
		}
	}
	return ids
}

// said is what a message's content amounts to.
type said struct {
	text          string
	images, files int
}

var openAIParts = map[string][]string{
	"system": {"text"}, "developer": {"text"}, "tool": {"text"}, "function": {"text"},
	"user":      {"text", "image_url", "input_audio", "file"},
	"assistant": {"text", "refusal"},
}

func openAIContent(m value, role string) said {
	content := m.get("content")
	if content.isText() {
		return said{text: content.str()}
	}
	if !content.given() {
		if role != "assistant" {
			m.c.fail(openAINoContent(m))
		}
		return said{}
	}
	parts := content.list()
	if len(parts) == 0 && content.given() {
		m.c.fail(openAIEmpty(content.path))
	}
	var all said
	var texts []string
	for _, part := range parts {
		switch kind := part.get("type").need().word(openAIParts[role]...); kind {
		case "text":
			part.only("type", "text", "prompt_cache_breakpoint")
			texts = append(texts, part.get("text").need().str())
		case "refusal":
			texts = append(texts, part.only("type", "refusal").get("refusal").need().str())
		case "image_url":
			image := part.only("type", "image_url", "prompt_cache_breakpoint").get("image_url").need().only("url", "detail")
			image.get("detail").word("auto", "low", "high", "original")
			openAIImage(image.get("url").need())
			all.images++
		case "input_audio":
			audio := part.only("type", "input_audio", "prompt_cache_breakpoint").get("input_audio").need().only("data", "format")
			audio.get("format").need().word("wav", "mp3")
			checkBase64(audio.get("data").need(), audio.get("data").str())
			all.files++
		case "file":
			file := part.only("type", "file", "prompt_cache_breakpoint").get("file").need()
			openAIFile(file.only("file_data", "file_id", "filename"))
			all.files++
		}
	}
	all.text = strings.Join(texts, "\n")
	return all
}

func openAIImage(address value) {
	kind, data, isData := cutDataURL(address.str())
	u, err := url.Parse(address.str())
	switch {
	case !address.given():
	case isData && !slices.Contains(openAIImageTypes, kind):
		address.c.fail(openAIInvalid(address.path, "invalid_image_format", "You uploaded an unsupported image. Please make sure "+
			"your image has of one the following formats: ['png', 'jpeg', 'gif', 'webp']."))
	case isData:
		checkBase64(address, data)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		address.c.fail(openAIInvalid(address.path, "invalid_value", "Invalid '%s'. Expected a valid URL, but got a value with an "+
			"invalid format.", address.path))
	}
}

func openAIFile(file value) {
	data, id := file.get("file_data"), file.get("file_id")
	switch {
	case data.given():
		kind, encoded, isData := cutDataURL(data.str())
		if !isData || kind != "application/pdf" {
			file.c.fail(openAIInvalid(data.path, "invalid_value", "Invalid '%s'. Expected a base64-encoded data URL with an "+
				"application/pdf MIME type.", data.path))
		}
		checkBase64(data, encoded)
		file.get("filename").need().str()
	default:
		id.need().str()
	}
}

func checkBase64(v value, data string) {
	if _, err := base64.StdEncoding.DecodeString(data); err != nil || data == "" {
		v.c.fail(openAIInvalid(v.path, "invalid_base64", "Invalid '%s': the data is not valid base64.", v.path))
	}
}

// cutDataURL takes a base64 data URL apart.
func cutDataURL(s string) (mediaType, data string, ok bool) {
	s, ok = strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", false
	}
	mediaType, data, _ = strings.Cut(s, ";base64,")
	return mediaType, data, true
}

// openAIStyle words what is wrong with a value as OpenAI does.
type openAIStyle struct{}

func (openAIStyle) element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func (openAIStyle) member(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (openAIStyle) missing(path string) *Failure {
	return openAIInvalid(path, "missing_required_parameter", "Missing required parameter: '%s'.", path)
}

func (s openAIStyle) unknown(path, name string) *Failure {
	if path == "" {
		return openAIInvalid("", "", "Unrecognized request argument supplied: %s", name)
	}
	path = s.member(path, name)
	return openAIInvalid(path, "unknown_parameter", "Unknown parameter: '%s'.", path)
}

func (openAIStyle) wrongType(path string, want kind, got any) *Failure {
	wants := map[kind]string{
		aString: "a string", aNumber: "a decimal", anInteger: "an integer", aBoolean: "a boolean", aList: "an array",
		anObject: "an object", textOrList: "one of a string or array of objects",
	}
	return openAIInvalid(path, "invalid_type", "Invalid type for '%s': expected %s, but got %s instead.", path, wants[want],
		kindOf(got))
}

func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case float64:
		if v == float64(int64(v)) {
			return "an integer"
		}
		return "a decimal"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

func (openAIStyle) wrongValue(path, got string, want []string) *Failure {
	return openAIInvalid(path, "invalid_value", "Invalid value: '%s'. Supported values are: '%s'.", got,
		strings.Join(want, "', '"))
}

func (openAIStyle) outOfRange(path string, value, least, most float64) *Failure {
	if value < least {
		return openAIInvalid(path, "decimal_below_min_value", "Invalid '%s': decimal below minimum value. Expected a value >= %v, "+
			"but got %v instead.", path, least, value)
	}
	return openAIInvalid(path, "decimal_above_max_value", "Invalid '%s': decimal above maximum value. Expected a value <= %v, "+
		"but got %v instead.", path, most, value)
}

func openAIInvalid(param, code, format string, args ...any) *Failure {
	return &Failure{Status: 400, Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

func openAIEmpty(path string) *Failure {
	return openAIInvalid(path, "empty_array", "Invalid '%s': empty array. Expected an array with minimum length 1, but got an "+
		"empty array instead.", path)
}

func openAITooMany(path string, most, got int) *Failure {
	return openAIInvalid(path, "array_above_max_length", "Invalid '%s': array too long. Expected an array with maximum length %d, "+
		"but got an array with length %d instead.", path, most, got)
}

func openAITooLong(path string, most, got int) *Failure {
	return openAIInvalid(path, "string_above_max_length", "Invalid '%s': string too long. Expected a string with maximum length "+
		"%d, but got a string with length %d instead.", path, most, got)
}

func openAINoContent(m value) *Failure {
	return openAIInvalid(m.path+".content", "", "Invalid value for 'content': expected a string, got null.")
}
