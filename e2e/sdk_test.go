package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"millrace/internal/fakellm"
)

// sdkTargets are the two kinds of target, each behind a gateway of its own.
func sdkTargets(t *testing.T, f func(t *testing.T, g *gateway, p *fakellm.Provider)) {
	for _, p := range []*fakellm.Provider{
		{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"},
		{Name: "an", Schema: fakellm.AnthropicMessages, Key: "key-an"},
	} {
		t.Run(p.Schema, func(t *testing.T) {
			t.Parallel()
			s := provider(t, p)
			f(t, start(t, "", pool("", to(p.Name, p, s, "default_model: served-model"))), p)
		})
	}
}

// onePixel is a PNG.
const onePixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// TestOpenAISDK: the official SDK talks to either kind of target: chat, stream, tools in parallel,
// images, errors.
func TestOpenAISDK(t *testing.T) {
	sdkTargets(t, func(t *testing.T, g *gateway, p *fakellm.Provider) {
		client := openai.NewClient(openaioption.WithBaseURL(g.URL+"/v1/"), openaioption.WithAPIKey("client-key"), openaioption.WithMaxRetries(0))
		ctx := context.Background()

		t.Run("chat", func(t *testing.T) {
			c, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
				Model:               "gpt-4o",
				MaxCompletionTokens: openai.Int(500),
				Temperature:         openai.Float(0.5),
				Messages: []openai.ChatCompletionMessageParamUnion{
					openai.SystemMessage("Be brief."),
					openai.UserMessage("Hello there!"),
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			choice := c.Choices[0]
			if !strings.Contains(choice.Message.Content, p.Name+" heard: Hello there!") || choice.FinishReason != "stop" {
				t.Errorf("answer: %s", c.RawJSON())
			}
			if c.Usage.TotalTokens == 0 || c.Usage.TotalTokens != c.Usage.PromptTokens+c.Usage.CompletionTokens {
				t.Errorf("usage: %s", c.Usage.RawJSON())
			}
		})
		t.Run("stream with usage", func(t *testing.T) {
			stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
				Model:         "gpt-4o",
				StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
				Messages:      []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Stream please")},
			})
			var acc openai.ChatCompletionAccumulator
			chunks := 0
			for stream.Next() {
				chunks++
				acc.AddChunk(stream.Current())
			}
			if err := stream.Err(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(acc.Choices[0].Message.Content, p.Name+" heard: Stream please") || acc.Choices[0].FinishReason != "stop" || chunks < 4 {
				t.Errorf("%d chunks: %+v", chunks, acc.Choices)
			}
			if acc.Usage.TotalTokens == 0 {
				t.Errorf("no usage in %+v", acc.Usage)
			}
		})
		t.Run("parallel tools, then their results", func(t *testing.T) {
			for _, streamed := range []bool{false, true} {
				params := openai.ChatCompletionNewParams{
					Model: "gpt-4o",
					Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
						Name:        "get_weather",
						Description: openai.String("The weather of a city"),
						Parameters: openai.FunctionParameters{
							"type":       "object",
							"properties": map[string]any{"city": map[string]any{"type": "string"}},
							"required":   []string{"city"},
						},
					})},
					Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is the weather in Paris and Rome?")},
				}
				message := openAIMessage(t, client, params, streamed)
				if len(message.ToolCalls) != 2 {
					t.Fatalf("streamed %v: want two calls, got %+v", streamed, message.ToolCalls)
				}
				params.Messages = append(params.Messages, message.ToParam())
				for _, call := range message.ToolCalls {
					var arguments struct{ City string }
					if err := json.Unmarshal([]byte(call.Function.Arguments), &arguments); err != nil || arguments.City == "" || call.Function.Name != "get_weather" {
						t.Fatalf("streamed %v: call %+v: %v", streamed, call, err)
					}
					params.Messages = append(params.Messages, openai.ToolMessage("sunny in "+arguments.City, call.ID))
				}
				if final := openAIMessage(t, client, params, streamed); !strings.Contains(final.Content, "sunny in") {
					t.Errorf("streamed %v: the results did not arrive: %q", streamed, final.Content)
				}
			}
		})
		t.Run("image", func(t *testing.T) {
			message := openAIMessage(t, client, openai.ChatCompletionNewParams{
				Model: "gpt-4o",
				Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
					openai.TextContentPart("Look"),
					openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64," + onePixel}),
				})},
			}, false)
			if !strings.Contains(message.Content, "1 image") {
				t.Errorf("answer: %q", message.Content)
			}
		})
		t.Run("cut by the token limit", func(t *testing.T) {
			c, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
				Model: "gpt-4o", MaxTokens: openai.Int(2),
				Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("one two three four five six")},
			})
			if err != nil || c.Choices[0].FinishReason != "length" {
				t.Errorf("finish reason of %v, %v", c, err)
			}
		})
		t.Run("an error is the SDK's own", func(t *testing.T) {
			p.Script(fakellm.RateLimited(7e9), fakellm.RateLimited(7e9), fakellm.RateLimited(7e9)) // every attempt
			_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
				Model:    "gpt-4o",
				Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")},
			})
			api, ok := err.(*openai.Error)
			if !ok || api.StatusCode != 429 || api.Response.Header.Get("retry-after") != "7" || !strings.Contains(api.Message, "Rate limit") {
				t.Errorf("got %v", err)
			}
		})
	})
}

func openAIMessage(t *testing.T, client openai.Client, params openai.ChatCompletionNewParams, streamed bool) openai.ChatCompletionMessage {
	t.Helper()
	if !streamed {
		c, err := client.Chat.Completions.New(context.Background(), params)
		if err != nil {
			t.Fatal(err)
		}
		return c.Choices[0].Message
	}
	stream := client.Chat.Completions.NewStreaming(context.Background(), params)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Fatalf("the SDK's accumulator refuses %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return acc.Choices[0].Message
}

// TestAnthropicSDK: the same for Anthropic's SDK.
func TestAnthropicSDK(t *testing.T) {
	sdkTargets(t, func(t *testing.T, g *gateway, p *fakellm.Provider) {
		client := anthropic.NewClient(anthropicoption.WithBaseURL(g.URL), anthropicoption.WithAPIKey("client-key"), anthropicoption.WithMaxRetries(0))
		ctx := context.Background()
		params := func(text string) anthropic.MessageNewParams {
			return anthropic.MessageNewParams{
				Model:     "claude-sonnet-4-5",
				MaxTokens: 500,
				System:    []anthropic.TextBlockParam{{Text: "Be brief."}},
				Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
			}
		}
		t.Run("chat", func(t *testing.T) {
			m, err := client.Messages.New(ctx, params("Hello there!"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(m.Content[0].Text, p.Name+" heard: Hello there!") || m.StopReason != "end_turn" || m.Usage.OutputTokens == 0 || m.Usage.InputTokens == 0 {
				t.Errorf("answer: %s", m.RawJSON())
			}
		})
		t.Run("stream", func(t *testing.T) {
			m := anthropicMessage(t, client, params("Stream please"), true)
			if !strings.Contains(m.Content[0].Text, p.Name+" heard: Stream please") || m.StopReason != "end_turn" || m.Usage.OutputTokens == 0 {
				t.Errorf("answer: %+v", m)
			}
		})
		t.Run("parallel tools, then their results", func(t *testing.T) {
			for _, streamed := range []bool{false, true} {
				p1 := params("What is the weather in Paris and Rome?")
				p1.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
					Name:        "get_weather",
					Description: anthropic.String("The weather of a city"),
					InputSchema: anthropic.ToolInputSchemaParam{
						Properties: map[string]any{"city": map[string]any{"type": "string"}},
						Required:   []string{"city"},
					},
				}}}
				m := anthropicMessage(t, client, p1, streamed)
				p1.Messages = append(p1.Messages, m.ToParam())
				var results []anthropic.ContentBlockParamUnion
				for _, block := range m.Content {
					if block.Type != "tool_use" {
						continue
					}
					var input struct{ City string }
					if err := json.Unmarshal(block.Input, &input); err != nil || input.City == "" {
						t.Fatalf("streamed %v: input %s: %v", streamed, block.Input, err)
					}
					results = append(results, anthropic.NewToolResultBlock(block.ID, "sunny in "+input.City, false))
				}
				if len(results) != 2 || m.StopReason != "tool_use" {
					t.Fatalf("streamed %v: want two calls, got %+v", streamed, m)
				}
				p1.Messages = append(p1.Messages, anthropic.NewUserMessage(results...))
				if final := anthropicMessage(t, client, p1, streamed); !strings.Contains(final.Content[0].Text, "sunny in") {
					t.Errorf("streamed %v: the results did not arrive: %+v", streamed, final.Content)
				}
			}
		})
		t.Run("image", func(t *testing.T) {
			p1 := params("Look")
			p1.Messages[0].Content = append(p1.Messages[0].Content, anthropic.NewImageBlockBase64("image/png", onePixel))
			if m := anthropicMessage(t, client, p1, false); !strings.Contains(m.Content[0].Text, "1 image") {
				t.Errorf("answer: %+v", m.Content)
			}
		})
		t.Run("cut by the token limit", func(t *testing.T) {
			p1 := params("one two three four five six")
			p1.MaxTokens = 2
			if m := anthropicMessage(t, client, p1, false); m.StopReason != "max_tokens" {
				t.Errorf("stop reason %q", m.StopReason)
			}
		})
		t.Run("an error is the SDK's own", func(t *testing.T) {
			p.Script(fakellm.RateLimited(7e9), fakellm.RateLimited(7e9), fakellm.RateLimited(7e9)) // every attempt
			_, err := client.Messages.New(ctx, params("hi"))
			api, ok := err.(*anthropic.Error)
			if !ok || api.StatusCode != 429 || !strings.Contains(api.RawJSON(), "rate_limit_error") {
				t.Errorf("got %v", err)
			}
		})
	})
}

func anthropicMessage(t *testing.T, client anthropic.Client, params anthropic.MessageNewParams, streamed bool) *anthropic.Message {
	t.Helper()
	if !streamed {
		m, err := client.Messages.New(context.Background(), params)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	stream := client.Messages.NewStreaming(context.Background(), params)
	m := &anthropic.Message{}
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return m
}
