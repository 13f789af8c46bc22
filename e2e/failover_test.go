package e2e

import (
	"errors"
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"millrace/internal/fakellm"
)

// TestLevelIsTriedFirst: an attempt that fails is followed by one at another target of its
// priority, and the next priority is for when the attempts there have failed (B12, B30, B31).
func TestLevelIsTriedFirst(t *testing.T) {
	t.Parallel()
	a, b, c := openAI("a"), openAI("b"), openAI("c")
	down := fakellm.Fail(http.StatusServiceUnavailable, "down")
	g := start(t, "", pool("health_checks: {passive: false}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 1"), to("c", c, provider(t, c), "priority: 2")))
	a.Always(down)
	for range 8 {
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
	}
	b.Always(down)
	for range 8 {
		got := g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "c").Header.Get("x-millrace-attempts")
		if got != "a=503;b=503;c=200" && got != "b=503;a=503;c=200" {
			t.Fatalf("attempts %s", got)
		}
	}
}

// sorry is a target of the last priority that says so.
const (
	sorryText = "All models are busy. Please try again in a minute."
	sorry     = `{id: sorry, provider: static, answer: "` + sorryText + `", priority: 9}`
)

// TestStaticTarget: when all else has failed, or nothing else is healthy, clients of either schema
// get the operator's words as an answer, whole or streamed (E24).
func TestStaticTarget(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	g := start(t, "", pool("health_checks: {passive: true, threshold: 2, interval: 60, active: {path: /v1/models, interval: 0.5s}}",
		to("a", a, provider(t, a), "priority: 1", "default_model: m"), to("b", b, provider(t, b), "priority: 1", "default_model: m"), sorry))
	g.eventually("a real target answers", func() error {
		if answer := g.post("/v1/chat/completions", chatHello).want(200); answer.Header.Get("x-millrace-target") == "sorry" {
			return errors.New(answer.Body)
		}
		return nil
	})
	down := fakellm.Fail(http.StatusServiceUnavailable, "down")
	a.Always(down)
	b.Always(down)
	got := g.post("/v1/chat/completions", chatHello).want(200, sorryText).
		header("x-millrace-target", "sorry").header("x-selected-provider", "static").header("content-type", "application/json")
	e := g.byID(got.Header.Get("x-millrace-request-id"))
	if e.Target != "sorry" || e.Status != 200 || e.Error != "" || len(e.Attempts) != 3 {
		t.Errorf("event %v", e)
	}

	chat := openai.NewClient(option.WithBaseURL(g.URL+"/v1"), option.WithAPIKey("k"), option.WithMaxRetries(0))
	claude := anthropic.NewClient(anthropicoption.WithBaseURL(g.URL), anthropicoption.WithAPIKey("k"), anthropicoption.WithMaxRetries(0))
	for _, streamed := range []bool{false, true} {
		m := openAIMessage(t, chat, openai.ChatCompletionNewParams{
			Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
		}, streamed)
		if m.Content != sorryText {
			t.Errorf("streamed %v: an OpenAI client reads %q", streamed, m.Content)
		}
		answer := anthropicMessage(t, claude, anthropic.MessageNewParams{
			Model: "claude-x", MaxTokens: 10, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
		}, streamed)
		if len(answer.Content) != 1 || answer.Content[0].Text != sorryText || answer.StopReason != anthropic.StopReasonEndTurn {
			t.Errorf("streamed %v: an Anthropic client reads %+v", streamed, answer)
		}
	}
	g.eventually("both are out, so nobody else is asked", func() error { // by now they have failed often enough
		if got := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-attempts"); got != "sorry=200" {
			return errors.New(got)
		}
		return nil
	})
	g.post("/v1/chat/completions", "{}").want(400) // the last resort is for targets' failures, not for clients'
}
