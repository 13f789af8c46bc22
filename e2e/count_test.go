package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"

	"millrace/internal/fakellm"
)

// counted is what the official SDK makes of a count, with the head of the answer.
func counted(g *gateway, params anthropic.MessageCountTokensParams) (int64, http.Header, error) {
	client := anthropic.NewClient(anthropicoption.WithBaseURL(g.URL), anthropicoption.WithAPIKey("client-key"), anthropicoption.WithMaxRetries(0))
	var response *http.Response
	c, err := client.Messages.CountTokens(context.Background(), params, anthropicoption.WithResponseInto(&response))
	if err != nil {
		return 0, nil, err
	}
	return c.InputTokens, response.Header, nil
}

func toBeCounted() anthropic.MessageCountTokensParams {
	return anthropic.MessageCountTokensParams{
		Model:    "claude-sonnet-4-5",
		System:   anthropic.MessageCountTokensParamsSystemUnion{OfString: anthropic.String("Be brief.")},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("one two three"), anthropic.NewImageBlockBase64("image/png", onePixel))},
		Tools: []anthropic.MessageCountTokensToolUnionParam{{OfTool: &anthropic.ToolParam{
			Name: "get_weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{"city": map[string]any{"type": "string"}}},
		}}},
	}
}

// TestCountTokens: Anthropic's SDK counts tokens. A target of its schema is asked; for any other
// the gateway estimates, and says so.
func TestCountTokens(t *testing.T) {
	sdkTargets(t, func(t *testing.T, g *gateway, p *fakellm.Provider) {
		n, header, err := counted(g, toBeCounted())
		if err != nil {
			t.Fatal(err)
		}
		e := g.byID(header.Get("x-millrace-request-id"))
		if e.Usage != nil || e.Stream || e.Status != 200 || e.Path != "/v1/messages/count_tokens" || e.Target != p.Name {
			t.Errorf("event %v", e)
		}
		requests := p.Requests()
		if p.Schema == fakellm.OpenAIChat {
			if header.Get("x-millrace-estimated") != "input_tokens" || len(requests) != 0 || n < 1600 || n > 1700 {
				t.Errorf("%d, with %d requests and %v", n, len(requests), header)
			}
			return
		}
		if header.Get("x-millrace-estimated") != "" || len(requests) != 1 || n == 0 || n > 20 { // the fake counts words
			t.Fatalf("%d, with %d requests and %v", n, len(requests), header)
		}
		r := requests[0]
		if r.Path != "/v1/messages/count_tokens" || r.Header.Get("X-Api-Key") != p.Key || !strings.Contains(string(r.Body), `"model":"served-model"`) {
			t.Errorf("%s %v %s", r.Path, r.Header, r.Body)
		}

		over := toBeCounted()
		over.SetExtraFields(map[string]any{"max_tokens": 5})
		_, _, err = counted(g, over)
		if api, ok := err.(*anthropic.Error); !ok || api.StatusCode != 400 || !strings.Contains(api.RawJSON(), "max_tokens: Extra inputs are not permitted") {
			t.Errorf("what the API refuses: %v", err)
		}
	})
}

// TestCountTokensElsewhere: what is no count is no answer, and another target is asked; in the end
// the gateway estimates.
func TestCountTokensElsewhere(t *testing.T) {
	t.Parallel()
	a, b := anthropicAI("a"), anthropicAI("b")
	g := start(t, "", pool("", to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2"), sorry))
	for _, c := range []struct {
		a, b      *fakellm.Reply
		attempts  string
		estimated string
	}{
		{nil, nil, "a=200", ""},
		{&fakellm.Reply{Body: `{}`}, nil, "a=502;b=200", ""},
		{&fakellm.Reply{Answer: &fakellm.Answer{Text: "three"}}, nil, "a=502;b=200", ""},
		{&fakellm.Reply{Failure: &fakellm.Failure{Status: 529, Message: "Overloaded"}}, nil, "a=529;b=200", ""},
		{&fakellm.Reply{Failure: &fakellm.Failure{Status: 500, Message: "oops"}}, &fakellm.Reply{Body: `{}`}, "a=500;b=502;sorry=200", "input_tokens"},
	} {
		for p, reply := range map[*fakellm.Provider]*fakellm.Reply{a: c.a, b: c.b} {
			if reply != nil {
				p.Script(*reply)
			}
		}
		n, header, err := counted(g, toBeCounted())
		if err != nil || n == 0 || header.Get("x-millrace-attempts") != c.attempts || header.Get("x-millrace-estimated") != c.estimated {
			t.Errorf("want %s: %d, %v, %v", c.attempts, n, header, err)
		}
	}
}
