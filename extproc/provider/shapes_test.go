package provider

import (
	"bytes"
	"fmt"
	"strings"
)

// shape is one way to fill what a client or a provider sends: make returns an input of about that
// size.
type shape struct {
	work, name string
	large      bool // up to 10 MB, not 1 MB
	make       func(size int) []byte
}

// rows returns head, as many rows as fit, with commas between them, and tail.
func rows(head string, row func(i int) string, tail string) func(int) []byte {
	return func(size int) []byte {
		var b bytes.Buffer
		b.WriteString(head)
		for i := 0; i == 0 || b.Len()+len(tail) < size; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(row(i))
		}
		b.WriteString(tail)
		return b.Bytes()
	}
}

// pairs is rows of two kinds: all of the first, between, and as many of the second, in reverse.
func pairs(head string, first func(i int) string, between string, second func(i int) string, tail string) func(int) []byte {
	return func(size int) []byte {
		n := max(1, (size-len(head)-len(between)-len(tail))/(len(first(1000))+len(second(1000))+2))
		var b bytes.Buffer
		b.WriteString(head)
		for i := range n {
			b.WriteString(first(i) + ",")
		}
		b.Truncate(b.Len() - 1)
		b.WriteString(between)
		for i := n - 1; i >= 0; i-- {
			b.WriteString(second(i) + ",")
		}
		b.Truncate(b.Len() - 1)
		b.WriteString(tail)
		return b.Bytes()
	}
}

// frames is rows of a stream.
func frames(head string, row func(i int) string, tail string) func(int) []byte {
	return func(size int) []byte {
		var b bytes.Buffer
		b.WriteString(head)
		for i := 0; b.Len() < size; i++ {
			b.WriteString(row(i))
		}
		b.WriteString(tail)
		return b.Bytes()
	}
}

// always is a row that does not depend on its number.
func always(row string) func(int) string { return func(int) string { return row } }

// numbered is a row with its number in it.
func numbered(format string) func(int) string {
	return func(i int) string { return strings.ReplaceAll(format, "#", fmt.Sprintf("%06d", i)) }
}

// long repeats a text inside a string.
func long(head, text, tail string) func(int) []byte {
	return func(size int) []byte {
		return []byte(head + strings.Repeat(text, max(1, (size-len(head)-len(tail))/len(text))) + tail)
	}
}

// nested is a JSON schema that is that deep.
func nested(depth int) string {
	const open, end = `{"type":"object","properties":{"p":`, `}}`
	return strings.Repeat(open, depth/2) + `{"type":"string"}` + strings.Repeat(end, depth/2)
}

// The beginnings of a request of each schema, up to the value of messages.
const (
	chat     = `{"model":"m","stream":true,"messages":`
	messages = `{"model":"m","stream":true,"max_tokens":9,"messages":`
	hello    = `[{"role":"user","content":"hi"}]`
)

var shapes = []shape{
	// What a client of OpenAI's schema can send.
	{"request openai.chat", "wide", true, rows(chat+hello+",", numbered(`"m#":1`), "}")},
	{"request openai.chat", "wide message", false, rows(chat+`[{"role":"user","content":"hi",`, numbered(`"m#":1`), "}]}")},
	{"request openai.chat", "wide parts", false, rows(chat+`[{"role":"user","content":[`, numbered(`{"type":"text","text":"hi","m#":1}`), "]}]}")},
	{"request openai.chat", "wide tools", false, rows(chat+hello+`,"tools":[`, numbered(`{"type":"function","a#":1,"function":{"name":"f#","b#":2}}`), "]}")},
	{"request openai.chat", "deep", true, rows(chat+hello+`,"tools":[`, numbered(`{"type":"function","function":{"name":"f#","parameters":`+nested(100)+`}}`), "]}")},
	{"request openai.chat", "deep format", false, rows(chat+hello+`,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{`, numbered(`"p#":`+nested(100)), "}}}}}")},
	{"request openai.chat", "long string", true, long(chat+`[{"role":"user","content":"`, "lorem ipsum ", `"}]}`)},
	{"request openai.chat", "long escapes", false, long(chat+`[{"role":"user","content":"`, `\u00e9\n\"`, `"}]}`)},
	{"request openai.chat", "many tools", true, rows(chat+hello+`,"tools":[`, numbered(`{"type":"function","function":{"name":"f#","parameters":{"type":"object"}}}`), "]}")},
	{"request openai.chat", "many messages", true, rows(chat+"[", always(`{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}`), `,{"role":"user","content":"hi"}]}`)},
	{"request openai.chat", "many messages of one role", false, rows(chat+"[", always(`{"role":"user","content":"hi"}`), "]}")},
	{"request openai.chat", "many instructions", false, rows(chat+`[{"role":"user","content":"hi"},`, always(`{"role":"system","content":"hi"}`), "]}")},
	{"request openai.chat", "many parts", true, rows(chat+`[{"role":"user","content":[`, always(`{"type":"text","text":"hi"}`), "]}]}")},
	{"request openai.chat", "many refusals", false, rows(chat+`[{"role":"user","content":"hi"},{"role":"assistant","content":[`, always(`{"type":"refusal","refusal":"no"}`), "]}]}")},
	{"request openai.chat", "many blocks of system", false, rows(`{"model":"m","system":[`, always(`{"type":"text","text":"hi"}`), `],"messages":`+hello+"}")},
	{"request openai.chat", "many calls", false, pairs(chat+`[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[`,
		numbered(`{"id":"c#","type":"function","function":{"name":"f","arguments":"{}"}}`), "]},", numbered(`{"role":"tool","tool_call_id":"c#","content":"hi"}`), "]}")},
	{"request openai.chat", "results between texts", false, pairs(chat+`[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[`,
		numbered(`{"id":"c#","type":"function","function":{"name":"f","arguments":"{}"}}`), "]},", numbered(`{"role":"tool","tool_call_id":"c#","content":"hi"},{"role":"user","content":"hi"}`), "]}")},
	{"request openai.chat", "texts after results", false, pairs(chat+`[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[`,
		numbered(`{"id":"c#","type":"function","function":{"name":"f","arguments":"{}"}}`), "]},", func(i int) string {
			return numbered(`{"role":"tool","tool_call_id":"c#","content":"hi"}`)(i)
		}, `,{"role":"user","content":"hi"}]}`)},
	{"request openai.chat", "one id again and again", false, rows(chat+"[", always(`{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c!","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c!","content":"hi"}`), "]}")},
	{"request openai.chat", "many stops", false, rows(chat+hello+`,"stop":[`, always(`""`), "]}")},
	{"request openai.chat", "many thoughts", false, rows(chat+`[{"role":"user","content":"hi"},{"role":"assistant","content":"ho","thinking_blocks":[`, always(`{"type":"thinking","thinking":"hm","signature":"s"}`), "]}]}")},

	// What a client of Anthropic's schema can send.
	{"request anthropic.messages", "wide", true, rows(messages+hello+",", numbered(`"m#":1`), "}")},
	{"request anthropic.messages", "wide message", false, rows(messages+`[{"role":"user","content":"hi",`, numbered(`"m#":1`), "}]}")},
	{"request anthropic.messages", "wide parts", false, rows(messages+`[{"role":"user","content":[`, numbered(`{"type":"text","text":"hi","m#":1}`), "]}]}")},
	{"request anthropic.messages", "wide tools", false, rows(messages+hello+`,"tools":[`, numbered(`{"name":"f#","input_schema":{},"a#":1}`), "]}")},
	{"request anthropic.messages", "deep", true, rows(messages+hello+`,"tools":[`, numbered(`{"name":"f#","input_schema":`+nested(100)+`}`), "]}")},
	{"request anthropic.messages", "deep format", false, rows(messages+hello+`,"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{`, numbered(`"p#":`+nested(100)), "}}}}}")},
	{"request anthropic.messages", "long string", true, long(messages+`[{"role":"user","content":"`, "lorem ipsum ", `"}]}`)},
	{"request anthropic.messages", "long escapes", false, long(messages+`[{"role":"user","content":"`, `\u00e9\n\"`, `"}]}`)},
	{"request anthropic.messages", "many tools", true, rows(messages+hello+`,"tools":[`, numbered(`{"name":"f#","input_schema":{"type":"object"}}`), "]}")},
	{"request anthropic.messages", "many messages", true, rows(messages+"[", always(`{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}`), `,{"role":"user","content":"hi"}]}`)},
	{"request anthropic.messages", "many messages of one role", false, rows(messages+"[", always(`{"role":"user","content":"hi"}`), "]}")},
	{"request anthropic.messages", "many parts", true, rows(messages+`[{"role":"user","content":[`, always(`{"type":"text","text":"hi"}`), "]}]}")},
	{"request anthropic.messages", "many blocks of system", false, rows(`{"model":"m","max_tokens":9,"system":[`, always(`{"type":"text","text":"hi","cache_control":{}}`), `],"messages":`+hello+"}")},
	{"request anthropic.messages", "many calls", false, pairs(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[`,
		numbered(`{"type":"tool_use","id":"c#","name":"f","input":{}}`), `]},{"role":"user","content":[`, numbered(`{"type":"tool_result","tool_use_id":"c#","content":"hi"}`), "]}]}")},
	{"request anthropic.messages", "results between texts", false, pairs(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[`,
		numbered(`{"type":"tool_use","id":"c#","name":"f","input":{}}`), "]},", numbered(`{"role":"user","content":[{"type":"text","text":"hi"},{"type":"tool_result","tool_use_id":"c#","content":"hi"}]}`), "]}")},
	{"request anthropic.messages", "many parts of a result", false, rows(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":[`, always(`{"type":"text","text":"hi"}`), "]}]}]}")},
	{"request anthropic.messages", "one id again and again", false, rows(messages+"[", always(`{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"c!","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c!"}]}`), "]}")},
	{"request openai.chat", "many thoughts of others", false, rows(chat+`[{"role":"user","content":"hi"},`, always(`{"role":"assistant","content":[{"type":"thinking","thinking":"hm"}],"reasoning_content":"hm","thinking_blocks":[{}]}`), "]}")},
	{"request anthropic.messages", "many thoughts of others", false, rows(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"ho"},`, always(`{"type":"thinking","thinking":"hm","signature":""}`), "]}]}")},
	{"request anthropic.messages", "many words", false, rows(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{"a":[`, always(`"thinking","signature"`), `]}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"hi"}]}]}`)},
	{"request anthropic.messages", "many thoughts", false, rows(messages+`[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"ho"},`, always(`{"type":"thinking","thinking":"hm","signature":"s"}`), "]}]}")},

	// What an OpenAI-shaped provider can answer.
	{"answer openai.chat", "long string", false, long(`{"choices":[{"message":{"content":"`, "lorem ipsum ", `"}}]}`)},
	{"answer openai.chat", "many parts", false, rows(`{"choices":[{"message":{"content":[`, always(`{"type":"text","text":"hi"}`), "]}}]}")},
	{"answer openai.chat", "many parts of thinking", false, rows(`{"choices":[{"message":{"content":[{"type":"thinking","thinking":[`, always(`{"type":"text","text":"hi"}`), "]}]}}]}")},
	{"answer openai.chat", "many thoughts", false, rows(`{"choices":[{"message":{"content":"ho","thinking_blocks":[`, always(`{"type":"thinking","thinking":"hm","signature":"s"}`), "]}}]}")},
	{"answer openai.chat", "deep thinking", false, depth(`{"choices":[{"message":{"content":"ho`, `"},"message":{"content":`, `[{"thinking":`, `"hm"`, `}]`, `}}]}`)},
	{"answer openai.chat", "many calls", false, rows(`{"choices":[{"message":{"tool_calls":[`, numbered(`{"id":"c#","function":{"name":"f","arguments":"{ }"}}`), "]}}]}")},
	{"answer openai.chat", "many calls without an id", false, rows(`{"choices":[{"message":{"tool_calls":[`, always(`{"function":{"name":"f","arguments":{}}}`), "]}}]}")},
	{"answer openai.chat", "wide", false, rows(`{"choices":[{"message":{"content":"hi"}}],`, numbered(`"m#":1`), "}")},

	// What an Anthropic-shaped provider can answer.
	{"answer anthropic.messages", "long string", false, long(`{"type":"message","content":[{"type":"text","text":"`, "lorem ipsum ", `"}]}`)},
	{"answer anthropic.messages", "many parts", false, rows(`{"type":"message","content":[`, always(`{"type":"text","text":"hi"}`), "]}")},
	{"answer anthropic.messages", "many thoughts", false, rows(`{"type":"message","content":[`, always(`{"type":"thinking","thinking":"hm","signature":"s"}`), "]}")},
	{"answer anthropic.messages", "many calls", false, rows(`{"type":"message","content":[`, numbered(`{"type":"tool_use","id":"c#","name":"f","input":{}}`), "]}")},
	{"answer anthropic.messages", "wide", false, rows(`{"type":"message","content":[{"type":"text","text":"hi",`, numbered(`"m#":1`), "}]}")},
	{"answer anthropic.messages", "deep", false, rows(`{"type":"message","content":[`, always(`{"type":"tool_use","id":"c","name":"f","input":`+nested(100)+`}`), "]}")},

	// What either can say when something is wrong.
	{"error openai.chat", "deep", false, depth(`{"x":"`, `","detail":`, `{"detail":`, `"no"`, `}`, `}`)},
	{"error openai.chat", "many violations", false, rows(`{"detail":[`, always(`{"loc":["body","a"],"msg":"no"}`), "]}")},
	{"error openai.chat", "list", false, rows(`[`, always(`{"error":{"message":"no"}}`), "]")},
	{"error openai.chat", "text", false, long("", "no ", "")},
	{"error anthropic.messages", "deep", false, depth(`{"x":"`, `","error":`, `{"error":`, `{"message":"no"}`, `}`, `}`)},
	{"error anthropic.messages", "list", false, rows(`[`, always(`{"error":{"message":"no"}}`), "]")},
	{"error anthropic.messages", "text", false, long("", "no ", "")},

	// What an OpenAI-shaped provider can stream.
	{"stream openai.chat", "text", false, frames("", always(`data: {"id":"a","choices":[{"index":0,"delta":{"content":"hi"}}]}`+"\n\n"), "data: [DONE]\n\n")},
	{"stream openai.chat", "thinking", false, frames("", always(`data: {"id":"a","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}`+"\n\n"), "data: [DONE]\n\n")},
	{"stream openai.chat", "calls in turn", false, frames("", func(i int) string {
		return fmt.Sprintf(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":%d,"id":"c%[1]d","function":{"name":"f","arguments":" "}}]}}]}`+"\n\n", i%1000)
	}, "data: [DONE]\n\n")},
	{"stream openai.chat", "the first of many calls", false, frames("", func(i int) string {
		if i >= 1000 {
			i = 0
		}
		return fmt.Sprintf(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":%d,"id":"c%[1]d","function":{"name":"f","arguments":" "}}]}}]}`+"\n\n", i)
	}, "data: [DONE]\n\n")},
	{"stream openai.chat", "calls by id", false, frames("", func(i int) string {
		return fmt.Sprintf(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"id":"c%d","function":{"name":"f","arguments":" "}}]}}]}`+"\n\n", i%1000)
	}, "data: [DONE]\n\n")},
	{"stream openai.chat", "a call without a name", false, frames("", always(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" "}}]}}]}`+"\n\n"), "data: [DONE]\n\n")},
	{"stream openai.chat", "thinking and text behind an open call", false, frames(`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}`+"\n\n",
		always(`data: {"id":"a","choices":[{"index":0,"delta":{"content":"a","reasoning_content":"b"}}]}`+"\n\n"+`data: {"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"d","function":{"name":"f","arguments":" "}}]}}]}`+"\n\n"), "data: [DONE]\n\n")},
	{"stream openai.chat", "choices in turn", false, frames("", func(i int) string {
		return fmt.Sprintf(`data: {"id":"a","choices":[{"index":%d,"delta":{"content":"hi"}}]}`+"\n\n", i%128)
	}, "data: [DONE]\n\n")},
	{"stream openai.chat", "many choices of a chunk", false, rows(`data: {"id":"a","choices":[`, always(`{"index":0,"delta":{"content":"hi"}}`), "]}\n\ndata: [DONE]\n\n")},
	{"stream openai.chat", "one event", false, long(`data: {"id":"a","choices":[{"index":0,"delta":{"content":"`, "lorem ipsum ", "\"}}]}\n\n")},
	{"stream openai.chat", "lines of data", false, frames("", always("data:\n"), "data: {}\n\n")},
	{"stream openai.chat", "lines", false, frames("", always("\r"), "\n\n")},
	{"stream openai.chat", "comments", false, frames("", always(": hm\n"), "\n\n")},

	// What an Anthropic-shaped provider can stream.
	{"stream anthropic.messages", "text", false, frames("", always(delta(0, `"text_delta","text":"hi"`)), "")},
	{"stream anthropic.messages", "thoughts", false, frames("", always(delta(0, `"thinking_delta","thinking":"hm"`)+delta(0, `"signature_delta","signature":"s"`)), "")},
	{"stream anthropic.messages", "blocks that stay open", false, frames("", func(i int) string {
		return fmt.Sprintf(`data: {"type":"content_block_start","index":%d,"content_block":{"type":"text","text":""}}`+"\n\n", i+1) + delta(0, `"input_json_delta","partial_json":"{}"`)
	}, "")},
	{"stream anthropic.messages", "calls that stay open", false, frames("", func(i int) string {
		return fmt.Sprintf(`data: {"type":"content_block_start","index":%d,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}`+"\n\n", i) + delta(i, `"input_json_delta","partial_json":" "`)
	}, "")},
	{"stream anthropic.messages", "one block again and again", false, frames("", always(
		`data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}`+"\n\n"+delta(0, `"input_json_delta","partial_json":"{}"`)), "")},
}

// delta is an event of an Anthropic stream.
func delta(index int, of string) string {
	return fmt.Sprintf(`data: {"type":"content_block_delta","index":%d,"delta":{"type":%s}}`+"\n\n", index, of)
}

// depth nests up to 9,000 deep, which is less than the JSON library takes. The rest of the size is
// a text beside it.
func depth(head, between, open, inner, end, tail string) func(int) []byte {
	return func(size int) []byte {
		n := min(4000, size/2/(len(open)+len(end)))
		fill := max(0, size-len(head)-len(between)-n*(len(open)+len(end))-len(inner)-len(tail))
		return []byte(head + strings.Repeat("x", fill) + between + strings.Repeat(open, n) + inner + strings.Repeat(end, n) + tail)
	}
}
