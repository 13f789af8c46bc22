package openai

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/golden"
	"millrace/internal/strictjson"
)

// TestRequest reads a client's request, and writes it again as a target of this schema would get it
// from another one.
func TestRequest(t *testing.T) {
	golden.Run(t, "testdata/request/*.txtar", func(c *golden.Case) {
		body := c.Input("body.json")
		h, err := Chat{}.ReadHead(nil, body)
		if err != nil {
			failed(c, err)
			return
		}
		c.Output("want-head", dump(h))
		r, err := Chat{}.DecodeRequest(h, body)
		if err != nil {
			failed(c, err)
			return
		}
		c.Output("want-request", dump(*r))
		before := dump(*r)
		call, err := Chat{}.EncodeRequest(r, llm.Options{Model: "target-model"})
		if err != nil {
			failed(c, err)
			return
		}
		if !bytes.Equal(before, dump(*r)) {
			c.T.Error("EncodeRequest changed the request")
		}
		c.Output("want-again.json", pretty(c.T, call.Body))
		outputCall(c, call)
	})
}

func TestHeadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ body, param, message string }{
		"not JSON":               {`<html>`, "", "request body is not strict JSON: "},
		"duplicate name":         {`{"model":"a","model":"b","messages":[]}`, "", `not strict JSON: duplicate name "model"`},
		"model of another kind":  {`{"model":4,"messages":[]}`, "model", "want a string"},
		"model a list":           {`{"model":["a"],"messages":[]}`, "model", "want a string, got an array"},
		"stream a string":        {`{"stream":"true","messages":[]}`, "stream", "want true or false, got a string"},
		"stream options a list":  {`{"stream_options":[],"messages":[]}`, "stream_options", "want an object, got an array"},
		"usage wish a string":    {`{"stream_options":{"include_usage":"yes"},"messages":[]}`, "stream_options.include_usage", "want true or false, got a string"},
		"no messages":            {`{"model":"a"}`, "messages", "required"},
		"messages not an array":  {`{"messages":{"role":"user"}}`, "messages", "want an array, got an object"},
		"messages null":          {`{"messages":null}`, "messages", "want an array, got null"},
		"nothing but an array":   {`[]`, "", "want a JSON object"},
		"lone surrogate in text": {`{"messages":[{"role":"user","content":"\ud800"}]}`, "", "surrogate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Chat{}.ReadHead(nil, []byte(c.body))
			wantInvalid(t, err, c.param, c.message)
		})
	}
}

func wantInvalid(t *testing.T, err error, param, message string) {
	t.Helper()
	var e *llm.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *llm.Error", err)
	}
	if e.Type != llm.ErrInvalidRequest || e.Param != param || !strings.Contains(e.Message, message) {
		t.Fatalf("got %s, param %q, message %q; want param %q, message with %q", e.Type, e.Param, e.Message, param, message)
	}
}

func TestHeadTolerates(t *testing.T) {
	h, err := Chat{}.ReadHead(nil, []byte(`{"model":null,"stream":null,"stream_options":null,"messages":[]}`))
	if err != nil || !reflect.DeepEqual(h, llm.Head{}) {
		t.Fatalf("nulls: got %+v, %v", h, err)
	}
	h, err = Chat{}.ReadHead(nil, []byte(`{"messages":[],"stream_options":{"include_usage":true}}`))
	if err != nil || !reflect.DeepEqual(h, llm.Head{}) {
		t.Fatalf("usage without a stream: got %+v, %v", h, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	user := `"messages":[{"role":"user","content":"hi"}]`
	for name, c := range map[string]struct{ body, param, message string }{
		"empty messages":         {`{"messages":[]}`, "messages", "must not be empty"},
		"nothing but system":     {`{"messages":[{"role":"system","content":"x"}]}`, "messages", "more than instructions"},
		"unknown role":           {`{"messages":[{"role":"robot","content":"x"}]}`, "messages[0].role", "want system"},
		"role missing":           {`{"messages":[{"content":"x"}]}`, "messages[0].role", "want system"},
		"message a string":       {`{"messages":["hi"]}`, "messages[0]", "want an object, got a string"},
		"content a number":       {`{"messages":[{"role":"user","content":7}]}`, "messages[0].content", "want a string or an array of parts, got a number"},
		"content missing":        {`{"messages":[{"role":"user"}]}`, "messages[0].content", "required"},
		"part without type":      {`{"messages":[{"role":"user","content":[{"text":"x"}]}]}`, "messages[0].content[0].type", "cannot stand here"},
		"unknown part":           {`{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"video_url"}]}]}`, "messages[0].content[1].type", "cannot stand here"},
		"image from assistant":   {`{"messages":[{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}`, "messages[0].content[0].type", "cannot stand here"},
		"text of another kind":   {`{"messages":[{"role":"user","content":[{"type":"text","text":["x"]}]}]}`, "messages[0].content[0].text", "want a string, got an array"},
		"text missing":           {`{"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages[0].content[0].text", "required"},
		"image url a string":     {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"https://x"}]}]}`, "messages[0].content[0].image_url", "want an object, got a string"},
		"image url missing":      {`{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, "messages[0].content[0].image_url.url", "required"},
		"data URL not base64":    {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png,x"}}]}]}`, "messages[0].content[0].image_url.url", "base64"},
		"file with nothing":      {`{"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a"}}]}]}`, "messages[0].content[0].file", "want file_data or file_id"},
		"audio with nothing":     {`{"messages":[{"role":"user","content":[{"type":"input_audio"}]}]}`, "messages[0].content[0].input_audio.data", "required"},
		"tool without id":        {`{"messages":[{"role":"tool","content":"x"}]}`, "messages[0].tool_call_id", "required"},
		"custom call":            {`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"custom"}]}]}`, "messages[0].tool_calls[0].type", "only function calls"},
		"call without id":        {`{"messages":[{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f"}}]}]}`, "messages[0].tool_calls[0].id", "required"},
		"call without name":      {`{"messages":[{"role":"assistant","tool_calls":[{"id":"a"}]}]}`, "messages[0].tool_calls[0].function.name", "required"},
		"arguments an object":    {`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]}]}`, "messages[0].tool_calls[0].function.arguments", "want a string, got an object"},
		"legacy function call":   {`{"messages":[{"role":"assistant","function_call":{"name":"f"}}]}`, "messages[0]", "deprecated"},
		"legacy function result": {`{"messages":[{"role":"function","name":"f","content":"x"}]}`, "messages[0]", "deprecated"},
		"legacy functions":       {`{` + user + `,"functions":[{"name":"f"}]}`, "functions", "use tools"},
		"legacy choice":          {`{` + user + `,"function_call":"auto"}`, "function_call", "use tool_choice"},
		"custom tool":            {`{` + user + `,"tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"g"}}]}`, "tools[1].type", "only function tools"},
		"tool without function":  {`{` + user + `,"tools":[{"type":"function"}]}`, "tools[0].function", "required"},
		"tool without name":      {`{` + user + `,"tools":[{"type":"function","function":{}}]}`, "tools[0].function.name", "required"},
		"schema a string":        {`{` + user + `,"tools":[{"type":"function","function":{"name":"f","parameters":"{}"}}]}`, "tools[0].function.parameters", "want an object, got a string"},
		"unknown tool choice":    {`{` + user + `,"tool_choice":"any"}`, "tool_choice", "want auto"},
		"allowed tools":          {`{` + user + `,"tool_choice":{"type":"allowed_tools"}}`, "tool_choice.type", "only function"},
		"choice without name":    {`{` + user + `,"tool_choice":{"type":"function"}}`, "tool_choice.function.name", "required"},
		"unknown format":         {`{` + user + `,"response_format":{"type":"yaml"}}`, "response_format.type", "want text"},
		"schema missing":         {`{` + user + `,"response_format":{"type":"json_schema"}}`, "response_format.json_schema", "required"},
		"temperature a string":   {`{` + user + `,"temperature":"hot"}`, "temperature", "want a number, got a string"},
		"max_tokens a fraction":  {`{` + user + `,"max_tokens":1.5}`, "max_tokens", "want an integer"},
		"max_tokens zero":        {`{` + user + `,"max_tokens":0}`, "max_tokens", "at least 1"},
		"n zero":                 {`{` + user + `,"n":0}`, "n", "at least 1"},
		"stop of numbers":        {`{` + user + `,"stop":["a",1]}`, "stop[1]", "want a string"},
		"stop an object":         {`{` + user + `,"stop":{}}`, "stop", "want a string, got an object"},
		"system a number":        {`{` + user + `,"system":7}`, "system", "want an array"},
		"system of images":       {`{` + user + `,"system":[{"type":"image"}]}`, "system[0].type", "want text"},
		"logprobs a number":      {`{` + user + `,"logprobs":5}`, "logprobs", "want true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := Chat{}.ReadHead(nil, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Chat{}.DecodeRequest(h, []byte(c.body))
			wantInvalid(t, err, c.param, c.message)
		})
	}
}

// FuzzRequest holds every path of a client's bytes to its promises: no panic, an *llm.Error or a
// request, and what is written from it is strict JSON.
func FuzzRequest(f *testing.F) {
	addInputs(f, "testdata/request/*.txtar", "body.json")
	addInputs(f, "testdata/patch/*.txtar", "body.json")
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f"}},{"id":"c","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"c"},{"role":"tool","tool_call_id":"c"},{"role":"tool","tool_call_id":"c"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var invalid *llm.Error
		h, err := Chat{}.ReadHead(nil, body)
		if err != nil {
			if !errors.As(err, &invalid) {
				t.Fatalf("%v is no *llm.Error", err)
			}
			_, _ = Chat{}.DecodeRequest(h, body) // not promised to be called, but it must not panic
			return
		}
		if call, err := (Chat{}).PatchRequest(h, body, llm.Options{Model: "m", Dialect: "openai"}); err == nil {
			again, err := Chat{}.ReadHead(nil, call.Body)
			if err != nil || again.Model != "m" || again.Stream != h.Stream || again.IncludeUsage != h.Stream {
				t.Fatalf("patched to %s: %+v, %v", call.Body, again, err)
			}
		} else if !errors.As(err, &invalid) {
			t.Fatalf("patch: %v is no *llm.Error", err)
		}
		r, err := Chat{}.DecodeRequest(h, body)
		if err != nil {
			if !errors.As(err, &invalid) {
				t.Fatalf("decode: %v is no *llm.Error", err)
			}
			return
		}
		call, err := Chat{}.EncodeRequest(r, llm.Options{Model: "m"})
		if err != nil {
			if !errors.As(err, &invalid) || invalid.Type != llm.ErrInvalidRequest {
				t.Fatalf("encode: %v", err)
			}
			return
		}
		if _, err := strictjson.Scan(call.Body); err != nil {
			t.Fatalf("encoded to %s: %v", call.Body, err)
		}
	})
}
