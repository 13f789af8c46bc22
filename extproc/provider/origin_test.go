package provider

import (
	"strings"
	"testing"

	"millrace/extproc/llm"
)

// foreignParts are what an assistant of another family has said, with its proofs.
var foreignParts = []llm.Part{
	llm.Thinking{Text: "a thought", Signature: "proof", Origin: "another"}, llm.Thinking{Redacted: "proof", Origin: "another"},
	llm.Text{Text: "some words", Signature: "proof", Origin: "another"},
	llm.ToolCall{ID: "c", Name: "f", Arguments: "{}", Signature: "proof", Origin: "another"},
}

// TestOrigin: a proof goes to nobody but its author: no schema's client is shown another family's,
// and no target is sent one. What is said with it is.
func TestOrigin(t *testing.T) {
	for c := range conversations() {
		response := &llm.Response{ID: "i", Model: "m", Choices: []llm.Choice{{Parts: foreignParts, Stop: llm.StopTool}}}
		whole, err := c.Client.EncodeResponse(llm.Asked{}, response)
		if err != nil {
			t.Fatal(err)
		}
		stream := c.Client.NewStreamEncoder(llm.Asked{})
		var streamed []byte
		for _, e := range response.Events() {
			streamed = stream.Encode(streamed, e)
		}
		streamed = stream.Close(streamed, nil)
		call, err := c.Target.EncodeRequest(&llm.Request{Model: "m", Messages: []llm.Message{
			{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "hi"}}},
			{Role: llm.Assistant, Parts: foreignParts},
			{Role: llm.User, Parts: []llm.Part{llm.ToolResult{CallID: "c"}}},
		}}, llm.Options{Model: "m"})
		if err != nil {
			t.Fatal(err)
		}
		for form, said := range map[string]string{"an answer": string(whole), "a stream": string(streamed), "a request": string(call.Body)} {
			if strings.Contains(said, "proof") {
				t.Errorf("%s: %s has another's proof: %s", c.Schema.Name, form, said)
			}
			if !strings.Contains(said, "some words") || form != "a request" && !strings.Contains(said, "a thought") {
				t.Errorf("%s: %s lacks what was said: %s", c.Schema.Name, form, said)
			}
		}
		if got := strings.Join(call.Dropped, " "); got != string(llm.MemberThoughts+" "+llm.MemberSignature) {
			t.Errorf("%s: %s is lost", c.Schema.Name, got)
		}
	}
}
