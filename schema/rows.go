package schema

import "strings"

// The schemas that a client or a target can speak.
const (
	OpenAIChat        Name = "openai.chat"
	AnthropicMessages Name = "anthropic.messages"
)

// Compatible is the provider of targets of which nothing is known but that they speak the schema
// that most do. Static is the provider, and the schema, of targets that have their answer and ask
// nobody.
const (
	Compatible = "openai-compatible"
	Static     = "static"
)

var schemas = []*Schema{
	{
		Name: OpenAIChat, Family: "openai",
		Version:          "/v1",
		Operations:       []Operation{{Conversation, "/chat/completions"}},
		ResponsePrefixes: []string{"x-ratelimit-", "openai-processing-ms", "openai-version"},
		// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
		Remaining: Remaining{"x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"},
		Base:      "/v1",
		// https://platform.openai.com/docs/api-reference/authentication
		Auth: Auth{Header: "Authorization", Prefix: "Bearer "},
		// https://developers.openai.com/api/reference/resources/chat (Create chat completion)
		Members: strings.Fields("audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens " +
			"max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty " +
			"prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format " +
			"safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools " +
			"top_logprobs top_p user verbosity web_search_options"),
		// vLLM and others (top_k), DeepSeek and others (thinking), OpenRouter (reasoning,
		// cache_control). What system says becomes the first message.
		Extensions: strings.Fields("cache_control reasoning system thinking top_k"),
		Prompt:     Prompt{Fixed: []string{"system", "tools"}, Turns: "messages"},
		Texts:      openAITexts,
		// Codecs write the first as max_tokens for hosts that know that one only. Ollama takes 0
		// for no limit (its num_predict).
		Output:  Output{Limits: []string{"max_completion_tokens", "max_tokens"}},
		Tools:   []ToolList{{"tools", [][]string{{"function", "name"}, {"custom", "name"}}}, {"functions", [][]string{{"name"}}}},
		Framing: events,
		Usage:   []UsagePlace{{[]string{"usage"}, `{"choices": [], "usage": %s}`}},
		// https://platform.openai.com/docs/guides/error-codes
		Error: ErrorForm{
			Body: `{"error": {"message": "$message", "type": "$type", "param": null, "code": "$code"}}`,
			Types: map[string]string{
				"invalid_request": "invalid_request_error", "authentication": "authentication_error",
				"billing": "permission_error", "permission": "permission_error", "not_found": "not_found_error",
				"method_not_allowed": "invalid_request_error", "conflict": "invalid_request_error",
				"too_large": "request_too_large", "rate_limit": "rate_limit_error", "timeout": "timeout",
				"internal": "server_error", "bad_gateway": "server_error", "unavailable": "server_error",
				"overloaded": "server_error", "loop": "server_error",
			},
			Other: "server_error",
		},
	},
	{
		Name: AnthropicMessages, Family: "anthropic",
		Version:        "/v1",
		Operations:     []Operation{{Conversation, "/messages"}, {CountTokens, "/messages/count_tokens"}},
		Sniff:          Sniff{Header: "anthropic-version", Path: "/messages"},
		RequestHeaders: []string{"anthropic-beta"},
		// Hosts that speak the schema beside another have the second.
		ResponsePrefixes: []string{"anthropic-ratelimit-", "x-ratelimit-"},
		// https://docs.claude.com/en/api/rate-limits#response-headers
		Remaining: Remaining{"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-tokens-remaining"},
		// https://docs.claude.com/en/api/versioning
		Headers: map[string]string{"anthropic-version": "2023-06-01"},
		Base:    "/v1", BareURLs: true,
		// https://docs.anthropic.com/en/api/overview
		Auth: Auth{Header: "X-Api-Key"},
		// https://docs.anthropic.com/en/api/messages; anthropic_version and anthropic_beta are
		// Bedrock's and Vertex's.
		Members: strings.Fields("anthropic_beta anthropic_version cache_control container context_management inference_geo " +
			"max_tokens mcp_servers messages metadata model output_config output_format service_tier stop_sequences stream " +
			"system temperature thinking tool_choice tools top_k top_p"),
		Prompt: Prompt{
			Fixed: []string{"system", "tools"}, Turns: "messages",
			// Claude Code's account. What follows is new in every request
			// (anthropics/claude-code#68900).
			Asides: []string{"x-anthropic-billing-header:"},
		},
		Texts: anthropicTexts,
		// https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pre-warming-the-cache
		Output:  Output{Limits: []string{"max_tokens"}, Zero: true},
		Tools:   []ToolList{{"tools", [][]string{{"name"}}}},
		Framing: events,
		Usage: []UsagePlace{ // https://docs.anthropic.com/en/docs/build-with-claude/streaming: the second is cumulative
			{[]string{"message", "usage"}, `{"type": "message_start", "message": {"usage": %s}}`},
			{[]string{"usage"}, `{"type": "message_delta", "delta": {}, "usage": %s}`},
		},
		// https://docs.anthropic.com/en/api/errors: invalid_request_error "may also be used for
		// other 4XX status codes".
		Error: ErrorForm{
			Body: `{"type": "error", "error": {"type": "$type", "message": "$message"}}`,
			Types: map[string]string{
				"invalid_request": "invalid_request_error", "authentication": "authentication_error",
				"billing": "billing_error", "permission": "permission_error", "not_found": "not_found_error",
				"method_not_allowed": "invalid_request_error", "conflict": "invalid_request_error",
				"too_large": "request_too_large", "rate_limit": "rate_limit_error", "timeout": "timeout_error",
				"internal": "api_error", "bad_gateway": "api_error", "unavailable": "overloaded_error",
				"overloaded": "overloaded_error", "loop": "api_error",
			},
			Other: "api_error",
		},
		Statuses: []int{529},
	},

	// Those that nobody speaks yet have members that the others must not be sent.
	{
		Name: "openai.responses", Family: "openai",
		// https://platform.openai.com/docs/api-reference/responses/create
		Members: strings.Fields("background conversation include input instructions max_output_tokens max_tool_calls " +
			"metadata model parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention " +
			"reasoning safety_identifier service_tier store stream stream_options temperature text tool_choice tools " +
			"top_logprobs top_p truncation user"),
	},
	{
		Name: "google.generate", Family: "google",
		// https://ai.google.dev/api/generate-content, in both of its spellings
		Members: strings.Fields("cachedContent cached_content contents generationConfig generation_config safetySettings " +
			"safety_settings systemInstruction system_instruction toolConfig tool_config tools"),
	},
	{
		Name: "bedrock.converse", Family: "bedrock",
		// https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
		Members: strings.Fields("additionalModelRequestFields additionalModelResponseFieldPaths guardrailConfig " +
			"inferenceConfig messages performanceConfig promptVariables requestMetadata system toolConfig"),
	},
}

// events are server-sent ones.
var events = Framing{ContentType: "text/event-stream", Comment: ": keep-alive\n\n"}

var providers = []Provider{
	{Name: "openai", Host: "api.openai.com", Schema: OpenAIChat, Dialect: "openai"},
	{Name: "anthropic", Host: "api.anthropic.com", Schema: AnthropicMessages},
	// https://docs.mistral.ai/api/
	{Name: "mistral", OTel: "mistral_ai", Host: "api.mistral.ai", Schema: OpenAIChat, Dialect: "mistral"},
	// https://api-docs.deepseek.com/
	{Name: "deepseek", Host: "api.deepseek.com", Schema: OpenAIChat, Dialect: "deepseek"},
	// https://learn.microsoft.com/en-us/azure/ai-foundry/openai/latest. Each resource has a host of
	// its own.
	{Name: "azure", OTel: "azure.ai.openai", Schema: OpenAIChat, Dialect: "azure", Base: "/openai/v1", Auth: Auth{Header: "Api-Key"}},
	// https://console.groq.com/docs/openai
	{Name: "groq", Host: "api.groq.com", Schema: OpenAIChat, Dialect: "groq", Base: "/openai/v1"},
	// https://openrouter.ai/docs/api-reference/overview: what a model does not take is left out
	// there.
	{Name: "openrouter", Host: "openrouter.ai", Schema: OpenAIChat, Base: "/api/v1"},
	// https://docs.together.ai/docs/inference/openai-compatibility
	{Name: "together", Host: "api.together.ai", Schema: OpenAIChat, Dialect: "together"},
	// https://docs.fireworks.ai/tools-sdks/openai-compatibility
	{Name: "fireworks", Host: "api.fireworks.ai", Schema: OpenAIChat, Base: "/inference/v1"},
	// Servers of one's own: https://docs.vllm.ai/en/stable/serving/openai_compatible_server/,
	// https://docs.ollama.com/api/openai-compatibility,
	// https://lmstudio.ai/docs/developer/openai-compat,
	// https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
	{Name: "vllm", Schema: OpenAIChat, Dialect: "vllm"},
	{Name: "ollama", Schema: OpenAIChat, Dialect: "ollama"},
	{Name: "lmstudio", Schema: OpenAIChat, Dialect: "lmstudio"},
	{Name: "llamacpp", Schema: OpenAIChat},
	// Any server that speaks the schema in a way of its own.
	{Name: Compatible, Schema: OpenAIChat},
	{Name: Static, Schema: Static},
}
