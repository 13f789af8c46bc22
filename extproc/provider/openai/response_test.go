package openai

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"millrace/extproc/llm"
	"millrace/internal/golden"
	"millrace/internal/strictjson"
)

// addInputs seeds a fuzz test with the inputs of golden cases.
func addInputs(f *testing.F, glob, name string) {
	f.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds in %s (%v)", glob, err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == name {
				f.Add(file.Data)
			}
		}
	}
}

func TestResponse(t *testing.T) {
	golden.Run(t, "testdata/response/*.txtar", func(c *golden.Case) {
		r, err := answerReader{}.Whole(c.Input("body"))
		if err != nil {
			failed(c, err)
			return
		}
		c.Output("want-response", dump(*r))
		body, err := Chat{}.EncodeResponse(llm.Asked{}, r)
		if err != nil {
			c.T.Fatal(err)
		}
		c.Output("want-client.json", pretty(c.T, body))
	})
}

// responses are answers of other schemas, by the name of their golden case.
var responses = map[string]llm.Response{
	"anthropic": {
		ID: "msg_1", Model: "claude-x", Created: 1700000000,
		Choices: []llm.Choice{{
			Parts: []llm.Part{
				llm.Thinking{Text: "Let me ", Signature: "sig1", Origin: "anthropic"}, llm.Thinking{Redacted: "opaque", Origin: "anthropic"}, llm.Thinking{Text: "see."},
				words("First, "), words("second <b>."),
				llm.ToolCall{ID: "toolu_1", Name: "f", Arguments: `{"z": 1.0, "a": 9007199254740993, "s": "<&>"}`},
				llm.ToolCall{ID: "toolu_2", Name: "g"},
			},
			Stop: llm.StopTool,
		}},
		Usage: llm.Usage{Input: 100, Output: 20, CacheRead: 60, CacheWrite: 30, Reasoning: 5},
	},
	"nothing-said":    {ID: "x", Model: "m", Created: 1, Choices: []llm.Choice{{Stop: llm.StopLength}}},
	"declined":        {ID: "x", Model: "m", Created: 1, Choices: []llm.Choice{{Parts: []llm.Part{words("Half")}, Stop: llm.StopRefusal}}},
	"refusal":         {ID: "x", Model: "m", Created: 1, Choices: []llm.Choice{{Parts: []llm.Part{llm.Refusal{Text: "No"}, llm.Refusal{Text: "."}}, Stop: llm.StopRefusal}}},
	"broken-argument": {ID: "x", Model: "m", Created: 1, Choices: []llm.Choice{{Parts: []llm.Part{llm.ToolCall{ID: "a", Name: "f", Arguments: `{"a": `, Signature: "gem", Origin: "google"}}, Stop: llm.StopTool}}},
}

func TestEncodeResponse(t *testing.T) {
	golden.Run(t, "testdata/answer/*.txtar", func(c *golden.Case) {
		r, ok := responses[c.Name]
		if !ok {
			c.T.Fatal("no such answer in responses")
		}
		body, err := Chat{}.EncodeResponse(llm.Asked{}, &r)
		if err != nil {
			c.T.Fatal(err)
		}
		c.Output("want-client.json", pretty(c.T, body))
	})
}

func TestEncodeResponseFinishReasons(t *testing.T) {
	for stop, want := range map[llm.Stop]string{
		llm.StopEnd: "stop", llm.StopSequence: "stop", llm.StopPause: "stop", llm.StopLength: "length",
		llm.StopTool: "tool_calls", llm.StopRefusal: "content_filter", "": "stop", "new": "stop",
	} {
		body, err := Chat{}.EncodeResponse(llm.Asked{}, &llm.Response{Choices: []llm.Choice{{Stop: stop}}})
		if err != nil || !strings.Contains(string(body), `"finish_reason":"`+want+`"`) {
			t.Errorf("%q: want %s, got %s (%v)", stop, want, body, err)
		}
		if !strings.Contains(string(body), `"id":"chatcmpl-`) || strings.Contains(string(body), `"created":0`) {
			t.Errorf("no id or time made up: %s", body)
		}
	}
}

func FuzzResponse(f *testing.F) {
	addInputs(f, "testdata/response/*.txtar", "body")
	addInputs(f, "testdata/error/*.txtar", "body")
	f.Add([]byte(`{"choices":[{"message":{"content":[{"thinking":[{"thinking":[{"thinking":"hm"}]},{"text":"hm"}]}]}}]}`))
	f.Add([]byte(`{"detail":{"detail":{"detail":{"detail":{"detail":"no"}}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if e := (Chat{}).DecodeError(500, nil, body); e == nil || e.Message == "" {
			t.Fatalf("DecodeError of %q: %+v", body, e)
		}
		r, err := answerReader{}.Whole(body)
		if err != nil {
			var e *llm.Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("%v is no *llm.Error with a message", err)
			}
			if _, err := strictjson.Scan(Chat{}.EncodeError(e)); err != nil {
				t.Fatalf("error %+v encodes badly: %v", e, err)
			}
			return
		}
		out, err := Chat{}.EncodeResponse(llm.Asked{}, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (answerReader{}).Whole(out); err != nil {
			t.Fatalf("%s does not decode again: %v", out, err)
		}
	})
}
