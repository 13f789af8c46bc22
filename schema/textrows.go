package schema

import (
	"slices"
	"strings"
)

// turns are the words for who speaks. What a tool has answered is the user's in every schema.
var turns = map[string]Speaker{
	"system": {Role: systemRole}, "developer": {Role: systemRole}, "user": {Role: userRole}, "assistant": {Role: assistantRole},
	"tool": {userRole, ResultText}, "function": {userRole, ResultText},
}

// https://developers.openai.com/api/reference/resources/chat. reasoning_content and reasoning are
// DeepSeek's, vLLM's and others', reasoning_details OpenRouter's, thinking_blocks LiteLLM's, and
// documents vLLM's.
var openAITexts = Texts{
	Request: slices.Concat(
		[]TextPlace{
			{Path: "system**", Role: systemRole},
			{Path: "messages[].content**.data{type=text}"},
			{Path: "messages[].content**.input", Kind: CallText, Form: ValueJSON},
			{Path: "messages[].content**.content**", Kind: ResultText},
			{Path: "messages[].content**.content**.data{type=text}", Kind: ResultText},
			{Path: "prediction.content**", Role: assistantRole},
			{Path: "documents[]**", Role: userRole, Kind: ResultText},
			{Path: "response_format.json_schema.description", Role: systemRole, Kind: SpecText},
			{Path: "response_format.json_schema.schema", Role: systemRole, Kind: SpecText, Form: ValueJSON},
		},
		under("tools[].function.", function),
		under("functions[].", function),
		under("tools[].custom.", []TextPlace{
			{Path: "description", Role: systemRole, Kind: SpecText},
			{Path: "format.grammar.definition", Role: systemRole, Kind: SpecText},
		}),
		under("messages[].", content),
		under("messages[].", message),
	),
	Answer: slices.Concat(
		under("choices[].message.", message), saidBy(assistantRole, under("choices[].message.", content)),
		under("choices[].", repeated),
	),
	Event: slices.Concat(
		under("choices[].delta.", message), saidBy(assistantRole, under("choices[].delta.", content)),
		under("choices[].", repeated),
	),
	Opaque: strings.Fields("audio_url cache_control data detail file_data file_id format id image_url input_audio " +
		"media_type name signature tool_call_id tool_use_id type url video_url"),
	Speaker: "messages[].role", Speakers: turns,
	Number: "choices[].index", Part: "choices[].delta.tool_calls[].index",
	Closed: Mark{Path: "choices[].finish_reason"},
	End:    "[DONE]",
	Quotes: "choices[].logprobs",
}

var function = []TextPlace{
	{Path: "description", Role: systemRole, Kind: SpecText},
	{Path: "parameters", Role: systemRole, Kind: SpecText, Form: ValueJSON},
}

// content is a string, or a list of parts. Thoughts are Mistral's.
var content = []TextPlace{
	{Path: "content**"},
	{Path: "content**.refusal", Kind: RefusalText},
	{Path: "content**.thinking**", Kind: ThoughtText, Part: 1, Signature: "signature"},
}

// message is what an assistant's message has beside its content, whole or in pieces.
var message = slices.Concat(repeated, []TextPlace{
	{Path: "refusal", Kind: RefusalText, Role: assistantRole},
	{Path: "reasoning_content", Kind: ThoughtText, Role: assistantRole, Part: 2},
	{Path: "reasoning", Kind: ThoughtText, Role: assistantRole, Part: 3},
	{Path: "thinking_blocks[].thinking", Kind: ThoughtText, Role: assistantRole, Part: 4, Signature: "signature"},
	{Path: "reasoning_details[].text", Kind: ThoughtText, Role: assistantRole, Part: 5, Signature: "signature"},
	{Path: "reasoning_details[].summary", Kind: ThoughtText, Role: assistantRole, Part: 6},
	{Path: "tool_calls[].function.arguments", Kind: CallText, Form: QuotedJSON, Role: assistantRole},
	{Path: "tool_calls[].custom.input", Kind: CallText, Role: assistantRole},
	{Path: "function_call.arguments", Kind: CallText, Form: QuotedJSON, Role: assistantRole, Part: -1},
	{Path: "audio.transcript", Role: assistantRole, Part: 1},
	{Path: "annotations[].url_citation.title", Role: assistantRole, Part: 2},
})

// repeated is what LiteLLM says a second time (litellm/llms/anthropic/chat in BerriAI/litellm).
var repeated = under("provider_specific_fields.", []TextPlace{
	{Path: "thinking_blocks[].thinking", Kind: ThoughtText, Role: assistantRole, Part: 7, Signature: "signature"},
	{Path: "reasoning_content", Kind: ThoughtText, Role: assistantRole, Part: 8},
	{Path: "citations**", Role: assistantRole, Part: 3},
})

// https://docs.anthropic.com/en/api/messages and its pages on streaming, citations and server
// tools.
var anthropicTexts = Texts{
	Request: slices.Concat(
		[]TextPlace{
			{Path: "system**", Role: systemRole},
			{Path: "tools[].description", Role: systemRole, Kind: SpecText},
			{Path: "tools[].input_schema", Role: systemRole, Kind: SpecText, Form: ValueJSON},
			{Path: "tools[].input_examples[]", Role: systemRole, Kind: SpecText, Form: ValueJSON},
			{Path: "output_config.format.schema", Role: systemRole, Kind: SpecText, Form: ValueJSON},
			{Path: "output_format.schema", Role: systemRole, Kind: SpecText, Form: ValueJSON},
		},
		under("messages[].content**", block),
	),
	Answer: saidBy(assistantRole, under("content**", block)),
	Event: saidBy(assistantRole, slices.Concat(
		under("content_block**", block),
		[]TextPlace{
			{Path: "delta.text"},
			{Path: "delta.thinking", Kind: ThoughtText, Signature: "signature"},
			{Path: "delta.partial_json", Kind: CallText, Form: QuotedJSON},
			{Path: "delta.content", Kind: ResultText}, // of a compaction
			{Path: "delta.citation.cited_text", Part: 1},
			{Path: "delta.citation.document_title", Part: 2},
			{Path: "delta.citation.title", Part: 2},
		},
	)),
	Opaque: strings.Fields("cache_control caller data encrypted_content encrypted_index error_code file_id file_type " +
		"id media_type model name page_age retrieved_at server_name signature tool_name tool_use_id toolset_name type url"),
	Speaker: "messages[].role", Speakers: turns,
	Number: "index",
	Closed: Mark{"type", "content_block_stop"},
	Last:   Mark{"type", "message_stop"},
}

// block is a content block, or a list of them. What a document's source says in plain text is in
// its data. What is signed is a thought, and what a compaction says of the turns before it.
var block = []TextPlace{
	{Path: ""},
	{Path: ".thinking", Kind: ThoughtText, Signature: "signature"},
	{Path: ".input", Kind: CallText, Form: ValueJSON},
	{Path: ".citations[].cited_text", Part: 1},
	{Path: ".citations[].document_title", Part: 2},
	{Path: ".citations[].title", Part: 2},
	{Path: ".source**"},
	{Path: ".source**.data{type=text}"},
	{Path: ".content**", Kind: ResultText, Signature: "signature"},
	{Path: ".content**.data{type=text}", Kind: ResultText},
}

// under are the places below a path.
func under(path string, places []TextPlace) []TextPlace {
	all := slices.Clone(places)
	for i := range all {
		all[i].Path = path + all[i].Path
	}
	return all
}

// saidBy are the places with somebody who speaks.
func saidBy(role string, places []TextPlace) []TextPlace {
	all := slices.Clone(places)
	for i := range all {
		all[i].Role = role
	}
	return all
}
