package openai

import (
	"strings"

	"millrace/extproc/llm"
)

// dialect is what one provider takes of the schema, or makes of it. What no page documents has been
// seen in the provider's own errors. A provider's row is all that is known of it here;
// schema/rows.go says who speaks it.
type dialect struct {
	// official: the schema is spoken as its clients speak it. Their requests are between the two,
	// but for what others wrote into them.
	official bool
	// members are those of the request that are taken; nil: all but the foreign ones.
	members map[string]bool
	// refusedMembers are those that are not, where all others are: the host answers them with an
	// error, or does not heed them.
	refusedMembers map[string]bool
	// message are the members of messages that are taken, call those of the calls in them; nil:
	// all.
	message, call map[string]bool
	// single: n is 1. Another number is refused: what the client gets would not be what it asked
	// for.
	single bool
	// spelling is what members are called here.
	spelling map[string]string
	// newLimit: the token limit is max_completion_tokens for models that reason. Others know
	// max_tokens only.
	newLimit bool
	// developer: the role is taken; else it is system's.
	developer bool

	name     llm.NameRule        // of tools and of response formats
	callID   func(string) string // makes an id that is taken
	maxUser  int                 // characters of user
	maxStops int                 // stop sequences; 0: any number
	maxTools int                 // 0: any number
	maxHeat  string              // the highest temperature; "": 2, the schema's own

	// asksUsage: a stream tells its usage when stream_options ask for it. Others tell it unasked,
	// or not at all, or it is not known that they take the member: nothing is put into a request
	// that the client has not put there.
	asksUsage bool
	// schemas: response_format json_schema is taken; else the model is told the schema and asked
	// for JSON.
	schemas bool
	// strict: tools can be strict.
	strict bool
	// thinking: reasoning is asked for with {"type": "enabled"}, and what was thought must come
	// back with the calls it led to.
	thinking bool
	// thoughts: what was thought stands in the content, as parts of the type thinking.
	thoughts bool
	// turns: behind tool messages only the assistant may speak, and a conversation that ends with
	// it must say so (prefix).
	turns bool

	models []family
}

var toolName = llm.NameRule{Max: 64, Legal: llm.WordByte}

// openAI is OpenAI's own API: https://developers.openai.com/api/reference/resources/chat (Create
// chat completion). It answers any other member with a 400.
var openAI = dialect{
	official: true,
	members:  set(strings.Join(row.Members, " ")),
	message:  set("role content name refusal audio annotations function_call tool_calls tool_call_id"),
	call:     set("id type function custom"),
	newLimit: true, developer: true,
	name: toolName, callID: shortID, maxUser: 64, // "string too long. Expected a string with maximum length 64"
	maxStops:  4,
	maxTools:  128, // "array too long. Expected an array with maximum length 128"
	asksUsage: true, schemas: true, strict: true,
	models: openAIModels,
}

// azure is OpenAI's API at Azure: the same body and the same models, where a deployment is named
// after its model, and two members more.
// https://learn.microsoft.com/en-us/azure/ai-foundry/openai/latest,
// https://learn.microsoft.com/en-us/azure/ai-foundry/openai/references/on-your-data
var azure = openAIWith("data_sources user_security_context")

// openAIWith is openAI with further members of the request.
func openAIWith(members string) dialect {
	d := openAI
	d.members = set(strings.Join(row.Members, " ") + " " + members)
	return d
}

// compatible is a server of which no more is known than that it speaks the schema: vLLM, Ollama, a
// router. It may know members that OpenAI does not, and not know some that OpenAI does.
var compatible = dialect{
	newLimit: true, developer: true, name: toolName, callID: shortID, maxUser: 64, maxStops: 4, schemas: true, strict: true,
	models: openAIModels,
}

var dialects = map[string]*dialect{
	"openai": &openAI,
	"azure":  &azure,

	// https://api-docs.deepseek.com/api/create-chat-completion,
	// https://api-docs.deepseek.com/guides/thinking_mode. Structured output by a schema is answered
	// with "This response_format type is unavailable now".
	"deepseek": {
		members: set("frequency_penalty logprobs max_tokens messages model presence_penalty response_format stop stream " +
			"stream_options temperature thinking tool_choice tools top_logprobs top_p"),
		message:  set("role content name prefix reasoning_content tool_calls tool_call_id"),
		call:     set("id type function index"),
		spelling: map[string]string{"max_completion_tokens": "max_tokens"},
		name:     toolName, callID: sameID, maxStops: 16, maxTools: 128, asksUsage: true, thinking: true,
		models: []family{
			{line: "deepseek-chat", output: 8192},
			{line: "deepseek-reasoner", output: 65536, thinks: true},
			{line: "deepseek", thinks: true},
		},
	},

	// https://docs.mistral.ai/api/#tag/chat. Unknown members are a 422 ("Extra inputs are not
	// permitted"), ids of other forms a 400 ("Tool call id was … but must be a-z, A-Z, 0-9, with a
	// length of 9"), and so is a user behind a tool ("Unexpected role 'user' after role 'tool'").
	// Streams tell their usage unasked.
	"mistral": {
		members: set("frequency_penalty max_tokens messages metadata model n parallel_tool_calls prediction presence_penalty " +
			"prompt_mode random_seed response_format safe_prompt stop stream temperature tool_choice tools top_p"),
		message:  set("role content prefix tool_calls tool_call_id"),
		call:     set("id type function index"),
		spelling: map[string]string{"max_completion_tokens": "max_tokens", "seed": "random_seed"},
		name:     toolName, callID: nineID, maxHeat: "1.5", schemas: true, strict: true, turns: true, thoughts: true,
	},

	// https://console.groq.com/docs/openai ("Currently Unsupported OpenAI Features": each is a
	// 400), and, for the members that there are, efforts, n and streams, groq/groq-python
	// (types/chat). What it does not know is a 400, too: "property 'reasoning_content' is
	// unsupported" (janhq/jan#8136), and its own reasoning where the model has none
	// (vercel/ai#8057).
	"groq": {
		members: set("citation_options compound_custom disable_tool_validation documents exclude_domains frequency_penalty " +
			"include_domains include_reasoning max_completion_tokens max_tokens messages model n parallel_tool_calls presence_penalty " +
			"reasoning_effort reasoning_format response_format search_settings seed service_tier stop stream stream_options temperature " +
			"tool_choice tools top_p user"),
		message: set("role content tool_calls tool_call_id"),
		call:    set("id type function"),
		single:  true, developer: true, name: toolName, callID: shortID, maxStops: 4, maxTools: 128,
		asksUsage: true, schemas: true, strict: true,
		models: []family{{line: "gpt-oss", efforts: []string{"low", "medium", "high"}}},
	},

	// https://docs.ollama.com/api/openai-compatibility ("Supported request fields" and those
	// without a tick: what it does not know it does not heed). Of limits it lists max_tokens alone.
	"ollama": {
		refusedMembers: set("logit_bias tool_choice user"), single: true,
		spelling:  map[string]string{"max_completion_tokens": "max_tokens"},
		developer: true, name: toolName, callID: sameID, asksUsage: true, schemas: true, strict: true,
	},

	// https://docs.vllm.ai/en/stable/serving/openai_compatible_server/ (Supported APIs): user is
	// ignored. stream_options is in its ChatCompletionRequest
	// (vllm/entrypoints/openai/chat_completion/protocol.py).
	"vllm": {
		refusedMembers: set("user"),
		newLimit:       true, developer: true, name: toolName, callID: sameID, asksUsage: true, schemas: true, strict: true,
	},

	// https://lmstudio.ai/docs/developer/openai-compat/chat-completions ("Supported payload
	// parameters"), and the pages on tools and structured output beside it.
	"lmstudio": {
		refusedMembers: set("logprobs top_logprobs user"), single: true,
		spelling:  map[string]string{"max_completion_tokens": "max_tokens"},
		developer: true, name: toolName, callID: sameID, schemas: true, strict: true,
	},

	// https://docs.together.ai/reference/chat-completions-1: of limits it lists max_tokens alone.
	"together": {
		spelling:  map[string]string{"max_completion_tokens": "max_tokens"},
		developer: true, name: toolName, callID: sameID, schemas: true, strict: true,
	},
}

// takes tells whether a member of the request is taken.
func (d *dialect) takes(name string) bool {
	return (d.members == nil || d.members[name]) && !d.refusedMembers[name]
}

// dialectOf is the row for a target's dialect.
func dialectOf(name string) *dialect {
	if d := dialects[name]; d != nil {
		return d
	}
	return &compatible
}

// foreigner tells whether it is known what is taken, and that is not what the schema's clients say:
// their requests are then ours to adapt.
func (d *dialect) foreigner() bool { return d.members != nil && !d.official }

// maxCallID is the longest tool call id that every OpenAI-like API takes back ("string too long.
// Expected a string with maximum length 40", seen in its 400s; not on its pages). Other providers'
// ids are longer.
const maxCallID = 40

// shortID shortens an id that would be refused. Equal ids stay equal, so results keep their calls.
func shortID(id string) string {
	if len(id) <= maxCallID {
		return id
	}
	return "call_" + llm.Digest(id)[:32]
}

func sameID(id string) string { return id }

// nineID makes nine letters and digits of an id.
func nineID(id string) string {
	if len(id) == 9 && strings.IndexFunc(id, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }) < 0 {
		return id
	}
	return llm.Digest(id)[:9]
}

func set(names string) map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(names) {
		all[name] = true
	}
	return all
}
