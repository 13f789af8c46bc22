package e2e

import (
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"millrace/internal/fakellm"
)

// TestDisclaimerOfChoices: of several answers each has the text before and after it once, whole and
// streamed (E05).
func TestDisclaimerOfChoices(t *testing.T) {
	t.Parallel()
	p := openAI("oa")
	g := start(t, "", pool("", to("oa", p, provider(t, p)))+"policies: {chain: [disclaimer], policy: {disclaimer: {before: 'Note: ', after: ' No advice.'}}}\n")
	p.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: "Buy low."}, CutEvery: 50})
	client := openai.NewClient(option.WithBaseURL(g.URL+"/v1/"), option.WithAPIKey("client-key"))
	params := openai.ChatCompletionNewParams{Model: "gpt-4o", N: openai.Int(2), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}}
	check := func(how string, choices []openai.ChatCompletionChoice, err error) {
		t.Helper()
		if err != nil || len(choices) != 2 {
			t.Fatalf("%s: %v, %v", how, choices, err)
		}
		for _, c := range choices {
			if c.Message.Content != "Note: Buy low. No advice." || c.FinishReason != "stop" {
				t.Errorf("%s: answer %d: %q, %s", how, c.Index, c.Message.Content, c.FinishReason)
			}
		}
	}
	whole, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	check("whole", whole.Choices, nil)
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	var answer openai.ChatCompletionAccumulator
	for stream.Next() {
		if !answer.AddChunk(stream.Current()) {
			t.Errorf("the SDK does not take %s", stream.Current().RawJSON())
		}
	}
	check("streamed", answer.Choices, stream.Err())
}
