package openai

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"
)

// fitting makes a body of the schema fit a dialect and a model: members and messages that are not
// taken go or are written otherwise, everything else keeps its bytes.
type fitting struct {
	dialect *dialect
	model   family
	options llm.Options
	own     bool // the client wrote the body for this API and this model: what the model refuses is between the two
	p       *strictjson.Patch
	values  map[string]jsontext.Value // of the members that are looked at
	front   []string                  // texts of the system that go before the messages
	dropped llm.Names
}

// looked are the members whose values count for others.
var looked = set("messages max_tokens max_completion_tokens reasoning_effort response_format thinking tools store")

// fit makes the body fit. What p has then is to be sent; dropped are the members that it lacks or
// has otherwise.
func fit(body []byte, d *dialect, o llm.Options, own bool) (*fitting, error) {
	members, err := strictjson.Scan(body)
	if err != nil {
		return nil, llm.Unreadable(err)
	}
	f := &fitting{dialect: d, model: d.familyOf(o.Model), options: o, own: own, p: strictjson.NewPatch(body, members), values: map[string]jsontext.Value{}}
	for _, m := range members {
		if looked[m.Name] {
			f.values[m.Name] = body[m.Value:m.End]
		}
	}
	for _, m := range members {
		if err := f.member(m.Name, body[m.Value:m.End]); err != nil {
			return nil, err
		}
	}
	f.limit()
	f.effort()
	for _, step := range []func() error{f.format, f.messages, f.tools} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// remove takes a member out and says so, unless it was null.
func (f *fitting) remove(name string, value jsontext.Value) {
	f.p.Remove(name)
	if wirejson.Given(value) {
		f.dropped.Add(name)
	}
}

// member decides about a member by its name alone.
func (f *fitting) member(name string, value jsontext.Value) error {
	known := f.dialect.takes(name)
	switch {
	case name == "n" && f.dialect.single && above(value, "1"):
		return llm.Invalid("n", "this provider gives one answer per request")
	case name == "system":
		texts, err := systemTexts(value)
		for _, t := range texts {
			f.front = append(f.front, t.Text)
		}
		f.p.Remove(name)
		return err
	case name == "thinking" && foreignThinking(value):
		f.foreignThinking(value)
	case f.dialect.spelling[name] != "":
		f.p.Remove(name)
		if here := f.dialect.spelling[name]; !isLimit(name) { // limit writes those
			f.p.Set(here, value)
		}
	case foreign[name], !known, name == "metadata" && f.dialect.official && f.isAnthropics(value):
		f.remove(name, value)
	case !f.own && f.refuses(name):
		f.remove(name, value)
	case name == "temperature" && f.dialect.maxHeat != "" && above(value, f.dialect.maxHeat):
		f.p.Set(name, []byte(f.dialect.maxHeat))
		f.dropped.Add(name)
	}
	return nil
}

// isAnthropics tells Anthropic's metadata from OpenAI's, which is stored with the answer: "The
// 'metadata' parameter is only allowed when 'store' is enabled".
func (f *fitting) isAnthropics(metadata jsontext.Value) bool {
	var m map[string]jsontext.Value
	return string(f.values["store"]) != "true" && json.Unmarshal(metadata, &m) == nil && len(m) == 1 && wirejson.Given(m["user_id"])
}

// foreignThinking writes Anthropic's thinking as DeepSeek has it, without the budget.
func (f *fitting) foreignThinking(value jsontext.Value) {
	f.dropped.Add("thinking")
	if f.dialect.thinking {
		f.p.Set("thinking", []byte(`{"type":"enabled"}`))
		return
	}
	f.p.Remove("thinking")
}

func isLimit(name string) bool { return name == "max_tokens" || name == "max_completion_tokens" }

func above(value jsontext.Value, bound string) bool {
	v, err := strconv.ParseFloat(string(value), 64)
	most, _ := strconv.ParseFloat(bound, 64)
	return err == nil && v > most
}

// fixedMembers are what models refuse while they reason.
var fixedMembers = set("temperature top_p frequency_penalty presence_penalty logprobs top_logprobs stop")

// refuses tells whether the model answers the member with a 400.
func (f *fitting) refuses(name string) bool {
	switch {
	case fixedMembers[name]:
		return f.model.fixed && f.reasoning()
	case name == "parallel_tool_calls":
		return f.model.serial
	case name == "reasoning_effort":
		return f.model.plain
	}
	return false
}

// reasoning tells whether the model will reason.
func (f *fitting) reasoning() bool {
	effort := f.values["reasoning_effort"]
	switch {
	case f.model.noTools && f.hasTools():
		return false
	case !wirejson.Given(effort):
		return !f.model.idle
	}
	return string(effort) != `"none"`
}

func (f *fitting) hasTools() bool {
	tools := f.values["tools"]
	return tools.Kind() == jsontext.KindBeginArray && !saysNothing("tools", tools)
}

// effort turns reasoning off where it would have the tools refused.
func (f *fitting) effort() {
	if f.own || !f.model.noTools || !f.hasTools() {
		return
	}
	effort := f.values["reasoning_effort"]
	if string(effort) == `"none"` {
		return
	}
	f.p.Set("reasoning_effort", []byte(`"none"`))
	if wirejson.Given(effort) {
		f.dropped.Add("reasoning_effort")
	}
}

// limit writes how long the answer may be: what the client wants, or else the target's own default,
// within the bounds of the target and the model, as the member that they know.
func (f *fitting) limit() {
	name, value := "max_tokens", f.values["max_tokens"]
	if v := f.values["max_completion_tokens"]; wirejson.Given(v) {
		name, value = "max_completion_tokens", v
	}
	wanted, err := strconv.ParseInt(string(value), 10, 64)
	here := name
	switch {
	case err == nil:
	case wirejson.Given(value): // the target will say what is wrong with it
		wanted = 0
	case f.options.MaxTokens > 0:
		wanted = f.options.MaxTokens
		value = nil
	default:
		return
	}
	if spelling := f.dialect.spelling[here]; spelling != "" {
		here = spelling
	} else if f.dialect.newLimit && here == "max_tokens" && (f.model.reasons || f.model.chat) && (!f.own || value == nil) {
		here = "max_completion_tokens"
	}
	limit := f.bound(wanted)
	switch {
	case wanted == 0 && here != name:
		f.p.Remove(name)
		f.p.Set(here, value)
	case wanted == 0, here == name && limit == wanted && value != nil:
	default:
		if here != name && value != nil {
			f.p.Remove(name)
		}
		f.p.Set(here, strconv.AppendInt(nil, limit, 10))
	}
	if limit < wanted && value != nil {
		f.dropped.Add(name)
	}
}

func (f *fitting) bound(wanted int64) int64 {
	if most := f.options.MaxOutput; most > 0 {
		wanted = min(wanted, most)
	}
	if most := f.model.output; most > 0 && !f.own {
		wanted = min(wanted, most)
	}
	return wanted
}

// format asks for JSON and tells the model the schema, where the dialect has no format for it.
func (f *fitting) format() error {
	raw := f.values["response_format"]
	if f.dialect.schemas || raw.Kind() != jsontext.KindBeginObject {
		return nil
	}
	var want format
	if err := unmarshal("response_format", raw, &want); err != nil || want.Type != "json_schema" {
		return err
	}
	f.p.Set("response_format", []byte(`{"type":"json_object"}`))
	f.dropped.Add("response_format")
	hint := "Answer with one JSON object and nothing else."
	if want.JSONSchema != nil && wirejson.Given(want.JSONSchema.Schema) {
		hint = "Answer with one JSON object that fits this JSON Schema, and nothing else:\n" + string(want.JSONSchema.Schema)
	}
	f.front = append(f.front, hint)
	return nil
}

// messages writes the messages: what goes before them, and each as the dialect has it.
func (f *fitting) messages() error {
	raw := f.values["messages"]
	anew := f.dialect.foreigner() || f.dialect.message != nil && f.dialect.moved(raw)
	if len(f.front) == 0 && !anew {
		return nil
	}
	if raw.Kind() != jsontext.KindBeginArray {
		return llm.Invalid("messages", "want an array, got %s", wirejson.Kind(raw.Kind()))
	}
	var first jsontext.Value
	if len(f.front) > 0 {
		first = append(append(jsontext.Value(`{"role":"system","content":`), wirejson.Quote(strings.Join(f.front, "\n\n"))...), '}')
	}
	if !anew { // the messages themselves keep their bytes
		out := append(append([]byte{'['}, first...), ',')
		rest := raw[1:]
		if rest.Kind() == jsontext.KindEndArray { // Kind skips white space
			out = out[:len(out)-1]
		}
		f.p.Set("messages", append(out, rest...))
		return nil
	}
	list, err := items(raw)
	if err != nil {
		return err
	}
	all := slices.Grow([]jsontext.Value(nil), len(list)+2)
	if first != nil {
		all = append(all, first)
	}
	result := "" // the call that the message before answers
	for i, raw := range list {
		m, err := f.message(raw, result, i == len(list)-1)
		if err != nil {
			return err
		}
		if f.dialect.turns && result != "" && m.role != "tool" && m.role != "assistant" {
			all = append(all, jsontext.Value(`{"role":"assistant","content":"OK."}`))
		}
		result = m.result
		all = append(all, m.raw)
	}
	f.p.Set("messages", strictjson.List(all))
	return nil
}

// fitted is a message as it is sent.
type fitted struct {
	raw    jsontext.Value
	role   string
	result string // the id of the call that it answers, "" for none
}

// message writes one message. result is the call that the one before answers, last tells that the
// conversation ends with it.
func (f *fitting) message(raw jsontext.Value, result string, last bool) (fitted, error) {
	out := fitted{raw: raw}
	members, err := strictjson.Scan(raw)
	if err != nil {
		return out, nil //nolint:nilerr // no object: the target will say so
	}
	p := strictjson.NewPatch(raw, members)
	var calls, refusal jsontext.Value
	for _, m := range members {
		value := raw[m.Value:m.End]
		switch m.Name {
		case "refusal":
			refusal = value
		case "role":
			out.role = wirejson.Unquote(value)
		case "tool_call_id":
			out.result = f.dialect.callID(wirejson.Unquote(value))
			p.Set(m.Name, wirejson.Quote(out.result))
		case "tool_calls":
			calls = value
		}
		if !f.dialect.message[m.Name] {
			f.removeFrom(p, m.Name, value)
		}
	}
	if !f.dialect.message["refusal"] && wirejson.Unquote(refusal) != "" && !wirejson.Given(p.Get("content")) { // a message of nothing is refused
		p.Set("content", refusal)
	}
	if out.role == "developer" && !f.dialect.developer {
		p.Set("role", []byte(`"system"`))
	}
	if calls.Kind() == jsontext.KindBeginArray {
		if calls, err = f.calls(p, calls); err != nil {
			return fitted{}, err
		}
	}
	if out.role == "assistant" {
		f.thoughts(p, calls, result)
	}
	if last && out.role == "assistant" && f.dialect.turns && p.Get("prefix") == nil && !wirejson.Given(calls) {
		p.Set("prefix", []byte("true"))
	}
	out.raw = p.Bytes()
	return out, nil
}

// removeFrom takes a member out of a message and says so, unless it says nothing.
func (f *fitting) removeFrom(p *strictjson.Patch, name string, value jsontext.Value) {
	p.Remove(name)
	if !saysNothing(name, value) {
		f.dropped.Add("messages[]." + name)
	}
}

// calls gives the calls of a message ids that are taken, and returns them; nil for none.
func (f *fitting) calls(p *strictjson.Patch, calls jsontext.Value) (jsontext.Value, error) {
	list, err := items(calls)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		p.Remove("tool_calls")
		return nil, nil
	}
	for i, call := range list {
		members, err := strictjson.Scan(call)
		if err != nil {
			continue
		}
		inner := strictjson.NewPatch(call, members)
		for _, m := range members {
			if !f.dialect.call[m.Name] {
				inner.Remove(m.Name)
			} else if m.Name == "id" {
				inner.Set(m.Name, wirejson.Quote(f.dialect.callID(wirejson.Unquote(call[m.Value:m.End]))))
			}
		}
		list[i] = inner.Bytes()
	}
	calls = strictjson.List(list)
	p.Set("tool_calls", calls)
	return calls, nil
}

// tools gives every function parameters where they are required, and takes out what other schemas
// mark tools with.
func (f *fitting) tools() error {
	if !f.dialect.foreigner() || !f.hasTools() {
		return nil
	}
	list, err := items(f.values["tools"])
	if err != nil {
		return err
	}
	for i, t := range list {
		var in tool
		if json.Unmarshal(t, &in, wirejson.Lenient) != nil || in.Type != "function" || in.Function == nil {
			continue
		}
		if wirejson.Given(in.CacheControl) || wirejson.Given(in.Function.CacheControl) {
			f.dropped.Add("tools[].cache_control")
		}
		in.CacheControl, in.Function.CacheControl, in.Rest, in.Function.Rest = nil, nil, nil, nil
		if !wirejson.Given(in.Function.Parameters) {
			in.Function.Parameters = jsontext.Value(`{"type":"object","properties":{}}`)
		}
		if !f.dialect.strict && in.Function.Strict != nil {
			in.Function.Strict = nil
			f.dropped.Add("tools[].function.strict")
		}
		if list[i], err = json.Marshal(&in, wirejson.Writing); err != nil {
			return llm.Errorf(llm.ErrInternal, "write a tool: %v", err)
		}
	}
	f.p.Set("tools", strictjson.List(list))
	return nil
}

// items are the values of a list.
func items(raw jsontext.Value) ([]jsontext.Value, error) {
	all, err := strictjson.Items(raw)
	if err != nil {
		return nil, llm.Unreadable(err)
	}
	return all, nil
}
