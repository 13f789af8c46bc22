package anthropic

import (
	stdjson "encoding/json"
	"net/http"
	"testing"

	"millrace/extproc/llm"

	"github.com/google/go-cmp/cmp"
)

func ptr[T any](v T) *T { return &v }

// user is a request of one user message that says q.
func user(change func(*llm.Request)) *llm.Request {
	r := &llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "q"}}}}}
	if change != nil {
		change(r)
	}
	return r
}

const (
	head = `{"model":"claude-sonnet-4-5","max_tokens":32000,`
	q    = `"messages":[{"role":"user","content":"q"}]`
)

// TestEncodeRequestOfOtherSchemas holds what a client of this schema cannot say. Golden cases hold
// the rest.
func TestEncodeRequestOfOtherSchemas(t *testing.T) {
	tool := llm.Tool{Name: "f", Parameters: stdjson.RawMessage(`{"type":"object"}`)}
	tools := `,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}]`
	for name, c := range map[string]struct {
		in      *llm.Request
		options llm.Options
		want    string
		dropped []string
	}{
		"no limit: an agent's turn":      {in: user(nil), want: head + q + `}`},
		"no limit: the target's":         {in: user(nil), options: llm.Options{MaxTokens: 77}, want: `{"model":"claude-sonnet-4-5","max_tokens":77,` + q + `}`},
		"temperature above 1 is clamped": {in: user(func(r *llm.Request) { r.Temperature = "1.7" }), want: head + q + `,"temperature":1}`, dropped: []string{"temperature"}},
		"temperature keeps its text":     {in: user(func(r *llm.Request) { r.Temperature = "1.00" }), want: head + q + `,"temperature":1.00}`},
		"temperature with thinking":      {in: user(func(r *llm.Request) { r.Temperature, r.Reasoning.Effort = "2", "low" }), want: head + q + `,"thinking":{"type":"enabled","budget_tokens":1024},"temperature":1}`, dropped: []string{"temperature"}},
		"penalties, seed":                {in: user(func(r *llm.Request) { r.FrequencyPenalty, r.PresencePenalty, r.Seed = "0.1", "0", "7" }), want: head + q + `}`, dropped: []string{"frequency_penalty", "presence_penalty", "seed"}},
		"n 1":                            {in: user(func(r *llm.Request) { r.N = 1 }), want: head + q + `}`},
		"service tier default":           {in: user(func(r *llm.Request) { r.ServiceTier = "default" }), want: head + q + `,"service_tier":"standard_only"}`},
		"service tier flex":              {in: user(func(r *llm.Request) { r.ServiceTier = "flex" }), want: head + q + `}`, dropped: []string{"service_tier"}},
		"user":                           {in: user(func(r *llm.Request) { r.User = "<u>" }), want: head + q + `,"metadata":{"user_id":"<u>"}}`},
		"json object is a hint":          {in: user(func(r *llm.Request) { r.Format.Kind = llm.FormatJSONObject }), want: head + `"system":"` + jsonOnly + `",` + q + `}`, dropped: []string{"response_format"}},
		"text format says nothing":       {in: user(func(r *llm.Request) { r.Format.Kind = llm.FormatText }), want: head + q + `}`},
		"json schema": {in: user(func(r *llm.Request) {
			r.Format = llm.Format{Kind: llm.FormatJSONSchema, Name: "n", Description: "d", Strict: ptr(true), Schema: stdjson.RawMessage(`{"type":"object","properties":{}}`)}
		}), want: head + q + `,"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{},"additionalProperties":false}}}}`, dropped: []string{"response_format.json_schema.description"}},
		"no parallel calls makes a choice": {in: user(func(r *llm.Request) { r.Tools, r.ParallelToolCalls = []llm.Tool{tool}, ptr(false) }), want: head + q + tools + `,"tool_choice":{"type":"auto","disable_parallel_tool_use":true}}`},
		"parallel calls are the default":   {in: user(func(r *llm.Request) { r.Tools, r.ParallelToolCalls = []llm.Tool{tool}, ptr(true) }), want: head + q + tools + `}`},
		"no parallel calls without tools":  {in: user(func(r *llm.Request) { r.ParallelToolCalls, r.ToolChoice.Mode = ptr(false), llm.ToolAuto }), want: head + q + `}`},
		"no parallel calls with any": {in: user(func(r *llm.Request) {
			r.Tools, r.ToolChoice.Mode, r.ParallelToolCalls = []llm.Tool{tool}, llm.ToolAny, ptr(false)
		}), want: head + q + tools + `,"tool_choice":{"type":"any","disable_parallel_tool_use":true}}`},
		"no parallel calls with none": {in: user(func(r *llm.Request) {
			r.Tools, r.ToolChoice.Mode, r.ParallelToolCalls = []llm.Tool{tool}, llm.ToolNone, ptr(false)
		}), want: head + q + `}`},
		"effort minimal":                  {in: user(func(r *llm.Request) { r.Reasoning.Effort = "minimal" }), want: head + q + `,"thinking":{"type":"enabled","budget_tokens":1024}}`},
		"effort medium":                   {in: user(func(r *llm.Request) { r.Reasoning.Effort = "medium" }), want: head + q + `,"thinking":{"type":"enabled","budget_tokens":4096}}`},
		"effort high raises the target's": {in: user(func(r *llm.Request) { r.Reasoning.Effort = "high" }), options: llm.Options{MaxTokens: 100}, want: `{"model":"claude-sonnet-4-5","max_tokens":16484,` + q + `,"thinking":{"type":"enabled","budget_tokens":16384}}`},
		"effort xhigh raises the limit":   {in: user(func(r *llm.Request) { r.Reasoning.Effort = "xhigh" }), want: `{"model":"claude-sonnet-4-5","max_tokens":64000,` + q + `,"thinking":{"type":"enabled","budget_tokens":32768}}`},
		"effort none":                     {in: user(func(r *llm.Request) { r.Reasoning.Effort = "none" }), want: head + q + `}`},
		"effort of the future":            {in: user(func(r *llm.Request) { r.Reasoning.Effort = "ludicrous" }), want: head + q + `}`, dropped: []string{"reasoning_effort"}},
		"effort, limit too small":         {in: user(func(r *llm.Request) { r.Reasoning.Effort, r.MaxTokens = "low", ptr(int64(1024)) }), want: `{"model":"claude-sonnet-4-5","max_tokens":1024,` + q + `}`, dropped: []string{"reasoning_effort"}},
		"effort minimal, adaptive":        {in: user(func(r *llm.Request) { r.Reasoning.Effort = "minimal" }), options: llm.Options{Model: "claude-opus-4-8"}, want: `{"model":"claude-opus-4-8","max_tokens":33024,` + q + `,"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}}`},
		"effort xhigh, adaptive":          {in: user(func(r *llm.Request) { r.Reasoning.Effort = "xhigh" }), options: llm.Options{Model: "claude-opus-4-8"}, want: `{"model":"claude-opus-4-8","max_tokens":64768,` + q + `,"thinking":{"type":"adaptive"},"output_config":{"effort":"xhigh"}}`},
		"effort of the future, adaptive":  {in: user(func(r *llm.Request) { r.Reasoning.Effort = "ludicrous" }), options: llm.Options{Model: "claude-opus-4-8"}, want: `{"model":"claude-opus-4-8","max_tokens":32000,` + q + `}`, dropped: []string{"reasoning_effort"}},
		"names and detail": {
			in:      &llm.Request{Messages: []llm.Message{{Role: llm.User, Name: "bob", Parts: []llm.Part{llm.Image{URL: "https://h/i", Detail: "high"}}}}},
			want:    head + `"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://h/i"}}]}]}`,
			dropped: []string{"messages[].name", "messages[].content[].image_url.detail"},
		},
		"refusals are text": {
			in: &llm.Request{Messages: []llm.Message{
				{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "q"}}}, {Role: llm.Assistant, Parts: []llm.Part{llm.Refusal{Text: "no"}}},
				{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "why"}}},
			}},
			want: head + `"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"no"},{"role":"user","content":"why"}]}`,
		},
		"arguments verbatim; none are an empty object": {
			in: &llm.Request{Messages: []llm.Message{
				{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "q"}}},
				{Role: llm.Assistant, Parts: []llm.Part{
					llm.Text{Text: " "}, llm.ToolCall{ID: "é", Name: "f", Arguments: ` {"n":9007199254740993,"f":1.0,"e":1e400,"s":"\u003c<"} `}, llm.ToolCall{ID: "b", Name: "f"},
				}},
				{Role: llm.User, Parts: []llm.Part{llm.ToolResult{CallID: "é", Parts: []llm.Part{llm.Text{Text: ""}}}}},
				{Role: llm.User, Parts: []llm.Part{llm.ToolResult{CallID: "b", Parts: []llm.Part{llm.Text{Text: "2"}, llm.Image{URL: "https://h/i"}}}, llm.Text{Text: "go"}}},
			}},
			want: head + `"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[` +
				`{"type":"tool_use","id":"_","name":"f","input":{"n":9007199254740993,"f":1.0,"e":1e400,"s":"\u003c<"}},{"type":"tool_use","id":"b","name":"f","input":{}}]},` +
				`{"role":"user","content":[{"type":"tool_result","tool_use_id":"_"},{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"2"},{"type":"image","source":{"type":"url","url":"https://h/i"}}]},{"type":"text","text":"go"}]}]}`,
		},
		"invalid UTF-8 is repaired": {in: user(func(r *llm.Request) { r.Messages[0].Parts[0] = llm.Text{Text: "a\xffb\u2028"} }), want: head + `"messages":[{"role":"user","content":"a` + "\ufffd" + `b` + "\u2028" + `"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.options.Model == "" {
				c.options.Model = "claude-sonnet-4-5"
			}
			got, err := Messages{}.EncodeRequest(c.in, c.options)
			if err != nil {
				t.Fatal(err)
			}
			want := llm.Call{Body: []byte(c.want), Path: "/messages", Headers: http.Header{"Anthropic-Version": {"2023-06-01"}}, Dropped: c.dropped}
			if diff := cmp.Diff(show(want), show(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// show makes a call's body readable in a diff.
func show(c llm.Call) map[string]any {
	return map[string]any{"body": string(c.Body), "path": c.Path, "headers": c.Headers, "dropped": c.Dropped}
}

// TestEncodeRequestRefuses holds the R rows of the conversion table.
func TestEncodeRequestRefuses(t *testing.T) {
	call := func(arguments string) *llm.Request {
		return user(func(r *llm.Request) {
			r.Messages = append(r.Messages, llm.Message{Role: llm.Assistant, Parts: []llm.Part{llm.ToolCall{ID: "a", Name: "f", Arguments: arguments}}},
				llm.Message{Role: llm.User, Parts: []llm.Part{llm.ToolResult{CallID: "a"}}})
		})
	}
	part := func(p llm.Part) *llm.Request {
		return user(func(r *llm.Request) { r.Messages[0].Parts = append(r.Messages[0].Parts, p) })
	}
	for name, c := range map[string]struct {
		in    *llm.Request
		param string
	}{
		"n":                          {user(func(r *llm.Request) { r.N = 2 }), "n"},
		"logprobs":                   {user(func(r *llm.Request) { r.Logprobs, r.TopLogprobs = true, ptr(int64(2)) }), "logprobs"},
		"top_logprobs":               {user(func(r *llm.Request) { r.TopLogprobs = ptr(int64(2)) }), "top_logprobs"},
		"prediction":                 {user(func(r *llm.Request) { r.Extra = []llm.Extra{{Name: "store"}, {Name: "prediction"}} }), "prediction"},
		"audio in":                   {part(llm.Audio{Format: "wav"}), "messages[0].content[1]"},
		"file id":                    {part(llm.File{ID: "file-1"}), "messages[0].content[1]"},
		"file not base64":            {part(llm.File{MediaType: "text/plain", Data: "%"}), "messages[0].content[1]"},
		"file empty":                 {part(llm.File{MediaType: "application/pdf"}), "messages[0].content[1]"},
		"file http":                  {part(llm.File{URL: "http://h/d.pdf"}), "messages[0].content[1]"},
		"image empty":                {part(llm.Image{MediaType: "image/png"}), "messages[0].content[1]"},
		"image data URL left as URL": {part(llm.Image{URL: "data:image/png;base64,AAAA"}), "messages[0].content[1]"},
		"tool call by the user":      {part(llm.ToolCall{ID: "a", Name: "f"}), "messages[0].content[1]"},
		"arguments no JSON":          {call(`{"a":`), "messages[1].tool_calls[0].function.arguments"},
		"arguments no object":        {call(`[1]`), "messages[1].tool_calls[0].function.arguments"},
		"arguments with duplicates":  {call(`{"a":1,"a":2}`), "messages[1].tool_calls[0].function.arguments"},
		"image by the assistant": {user(func(r *llm.Request) {
			r.Messages = append(r.Messages, llm.Message{Role: llm.Assistant, Parts: []llm.Part{llm.Image{URL: "https://h/i"}}})
		}), "messages[1].content[0]"},
		"no messages":          {&llm.Request{}, "messages"},
		"system image":         {user(func(r *llm.Request) { r.System = []llm.Part{llm.Image{}} }), "system[0]"},
		"choice without tools": {user(func(r *llm.Request) { r.ToolChoice.Mode = llm.ToolAny }), "tool_choice"},
		"nameless tool":        {user(func(r *llm.Request) { r.Tools = []llm.Tool{{}} }), "tools[0].function.name"},
		"schema true":          {user(func(r *llm.Request) { r.Tools = []llm.Tool{{Name: "f", Parameters: stdjson.RawMessage("true")}} }), "tools[0].function.parameters"},
		"illegal property": {user(func(r *llm.Request) {
			r.Tools = []llm.Tool{{Name: "f", Parameters: stdjson.RawMessage(`{"properties":{"$filter":{}}}`)}}
		}), "tools[0].function.parameters.properties"},
		"format without schema": {user(func(r *llm.Request) { r.Format.Kind = llm.FormatJSONSchema }), "response_format.json_schema.schema"},
		"limit zero":            {user(func(r *llm.Request) { r.MaxTokens = ptr(int64(0)) }), "max_tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Messages{}.EncodeRequest(c.in, llm.Options{Model: "claude-sonnet-4-5"})
			e, ok := err.(*llm.Error)
			if !ok || e.Type != llm.ErrInvalidRequest || e.Param != c.param {
				t.Fatalf("got %v, want an invalid request about %s", err, c.param)
			}
		})
	}
}

func TestTraits(t *testing.T) {
	budget := traits{budget: true, sampling: true, forced: true}
	budget41 := traits{budget: true, sampling: true, oneSampler: true, forced: true}
	for model, want := range map[string]traits{
		"claude-2.1":                                  {sampling: true, forced: true},
		"claude-3-5-haiku-20241022":                   {sampling: true, forced: true},
		"claude-3-opus-20240229":                      {sampling: true, forced: true},
		"claude-3-7-sonnet-20250219":                  budget,
		"claude-opus-4-20250514":                      budget,
		"claude-sonnet-4@20250514":                    budget,
		"claude-opus-4-1-20250805":                    budget41,
		"us.anthropic.claude-haiku-4-5-20251001-v1:0": budget41,
		"claude-opus-4-6":                             {adaptive: true, sampling: true, oneSampler: true, forced: true},
		"anthropic.claude-sonnet-4-6-v1":              {adaptive: true, sampling: true, oneSampler: true, forced: true},
		"anthropic/claude-4.7-opus":                   {adaptive: true, xhigh: true, oneSampler: true, forced: true},
		"claude-opus-5":                               {adaptive: true, xhigh: true, oneSampler: true, forced: true, off: offDisabled},
		"claude-sonnet-5":                             {adaptive: true, xhigh: true, oneSampler: true, forced: true, off: offDisabled},
		"claude-haiku-5-5":                            {adaptive: true, xhigh: true, oneSampler: true, forced: true, off: offDisabled},
		"claude-opus-5-5":                             {adaptive: true, xhigh: true, oneSampler: true, off: offNever},
		"claude-sonnet-5-5":                           {adaptive: true, xhigh: true, oneSampler: true, off: offBetweenTools},
		"claude-fable-5":                              {adaptive: true, xhigh: true, oneSampler: true, forced: true, off: offNever},
		"claude-fable-5-1":                            {adaptive: true, xhigh: true, oneSampler: true, off: offNever},
		"claude-mythos-preview":                       {adaptive: true, xhigh: true, oneSampler: true, forced: true, off: offNever},
		"claude-latest":                               unknownModel,
		"glm-4.7":                                     unknownModel,
		"":                                            unknownModel,
	} {
		got := traitsOf(model)
		for _, t := range []*traits{&got, &want} { // TestOutputs has them
			t.output, t.turn, t.structured = 0, 0, false
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", model, got, want)
		}
	}
}

// TestOutputs: how long the answers of a model may be, and whether it can be kept to a schema.
func TestOutputs(t *testing.T) {
	for model, want := range map[string]traits{
		"claude-3-opus-20240229":     {output: 4096, turn: 4096},
		"claude-3-5-haiku-20241022":  {output: 8192, turn: 8192},
		"claude-3-7-sonnet-20250219": {output: 64000, turn: 32000},
		"claude-opus-4-1-20250805":   {output: 32000, turn: 32000, structured: true},
		"claude-sonnet-4-20250514":   {output: 64000, turn: 32000},
		"claude-sonnet-4-5":          {output: 64000, turn: 32000, structured: true},
		"claude-opus-4-8":            {output: 128000, turn: 32000, structured: true},
		"some-alias":                 {turn: 8192, structured: true},
	} {
		got := traitsOf(model)
		if got.output != want.output || got.turn != want.turn || got.structured != want.structured {
			t.Errorf("%s: %+v", model, got)
		}
	}
}
