package anthropic

import (
	"net/http"
	"strings"
	"testing"

	"millrace/extproc/llm"
)

// TestCountPatch: what of a request to count tokens is changed on its way to a target of the
// schema.
func TestCountPatch(t *testing.T) {
	for name, c := range map[string]struct {
		body, model string
		options     llm.Options
		want        string
		dropped     string
	}{
		"as it is":                    {`{"model": "m", "messages":[]}`, "m", llm.Options{}, `{"model": "m", "messages":[]}`, ""},
		"another model":               {`{"model": "m", "messages":[]}`, "other", llm.Options{}, `{"model": "other", "messages":[]}`, ""},
		"no limit is made up":         {`{"model":"m"}`, "m", llm.Options{MaxTokens: 5, MaxOutput: 9}, `{"model":"m"}`, ""},
		"the client's own fault":      {`{"model":"m","max_tokens":50,"stream":true}`, "m", llm.Options{MaxOutput: 9}, `{"model":"m","max_tokens":50,"stream":true}`, ""},
		"another schema's members":    {`{"model":"m","n":1,"messages":[]}`, "m", llm.Options{}, `{"model":"m","messages":[]}`, "n"},
		"a budget that a model lacks": {`{"model":"m","thinking":{"type":"enabled","budget_tokens":2048}}`, "claude-opus-4-7", llm.Options{}, `{"model":"claude-opus-4-7","thinking":{"type":"adaptive"}}`, "thinking"},
		"a budget that a model wants": {`{"model":"m","thinking":{"type":"adaptive"}}`, "claude-sonnet-4-5", llm.Options{}, `{"model":"claude-sonnet-4-5","thinking":{"type":"enabled","budget_tokens":16384}}`, "thinking"},
		"thinking that nobody signed": {`{"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""},{"type":"text","text":"y"}]}]}`,
			"m", llm.Options{}, `{"model":"m","messages":[{"role":"assistant","content":[{"type":"text","text":"y"}]}]}`, "messages[].content[].thinking"},
	} {
		head, err := CountTokens{}.ReadHead(nil, []byte(c.body))
		if err != nil || head.Stream {
			t.Fatalf("%s: %+v, %v", name, head, err)
		}
		c.options.Model, c.options.Headers = c.model, http.Header{}
		call, err := CountTokens{}.PatchRequest(head, []byte(c.body), c.options)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(call.Body) != c.want || strings.Join(call.Dropped, " ") != c.dropped {
			t.Errorf("%s: without %s, %s", name, call.Dropped, call.Body)
		}
		if call.Path != "/messages/count_tokens" || call.Headers.Get(versionHeader) != defaultVersion {
			t.Errorf("%s: %s, %v", name, call.Path, call.Headers)
		}
	}
	if _, err := (CountTokens{}).PatchRequest(llm.Head{}, []byte(`{"model":`), llm.Options{Model: "m"}); err == nil {
		t.Error("half an object is passed on")
	}
}

// TestCountDecode: a request to count needs no limit, and is else read as a message is.
func TestCountDecode(t *testing.T) {
	body := []byte(`{"model":"m","system":"s","messages":[{"role":"user","content":"hi"}],"tools":[{"name":"f","input_schema":{"type":"object"}}]}`)
	r, err := CountTokens{}.DecodeRequest(llm.Head{Model: "m"}, body)
	if err != nil || r.MaxTokens != nil || len(r.System) != 1 || len(r.Messages) != 1 || len(r.Tools) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (Messages{}).DecodeRequest(llm.Head{Model: "m"}, body); err == nil || !strings.Contains(err.Error(), "max_tokens") {
		t.Errorf("a message without max_tokens: %v", err)
	}
	if _, err := (CountTokens{}).DecodeRequest(llm.Head{}, []byte(`{"messages":[{"role":"user","content":7}]}`)); err == nil || !strings.Contains(err.Error(), "messages") {
		t.Errorf("content that is a number: %v", err)
	}
}

// TestCountAnswer: an answer is a count, an error, or none.
func TestCountAnswer(t *testing.T) {
	call, err := CountTokens{}.PatchRequest(llm.Head{Model: "m"}, []byte(`{"model":"m"}`), llm.Options{Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body  string
		count int64 // -1: none
		kind  llm.ErrorType
	}{
		{`{"input_tokens": 12}`, 12, ""},
		{`{"input_tokens":0,"context_management":{"original_input_tokens":0}}`, 0, ""},
		{`{}`, -1, llm.ErrBadGateway},
		{`{"input_tokens":null}`, -1, llm.ErrBadGateway},
		{`{"input_tokens":"12"}`, -1, llm.ErrBadGateway},
		{`{"input_tokens":-1}`, -1, llm.ErrBadGateway},
		{`{"input_tokens":1.5}`, -1, llm.ErrBadGateway},
		{`{"input_tokens":12`, -1, llm.ErrBadGateway},
		{`<html>`, -1, llm.ErrBadGateway},
		{``, -1, llm.ErrBadGateway},
		{`{"id":"msg_1","type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":5,"output_tokens":7}}`, -1, llm.ErrBadGateway},
		{`{"type":"error","error":{"type":"overloaded_error","message":"busy"}}`, -1, llm.ErrOverloaded},
		{`{"error":{"message":"busy"},"input_tokens":3}`, -1, llm.ErrInternal},
	} {
		r, err := call.Answer.Whole([]byte(c.body))
		if c.count < 0 {
			if e, ok := err.(*llm.Error); !ok || e.Type != c.kind {
				t.Errorf("%s: %+v, %v", c.body, r, err)
			}
			continue
		}
		if err != nil || *r.Counted != c.count || string(call.Answer.Patch([]byte(c.body), r)) != c.body {
			t.Errorf("%s: %+v, %v", c.body, r, err)
		}
		if body, err := (CountTokens{}).EncodeResponse(llm.Asked{}, r); err != nil || !strings.HasPrefix(string(body), `{"input_tokens":`) {
			t.Errorf("%s is written %s, %v", c.body, body, err)
		}
	}
	if body, err := (CountTokens{}).EncodeResponse(llm.Asked{}, &llm.Response{Choices: []llm.Choice{{Parts: []llm.Part{llm.Text{Text: "hi"}}}}}); err == nil {
		t.Errorf("a message is written %s", body)
	}
}
