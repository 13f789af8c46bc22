package anthropic

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"millrace/extproc/llm"

	"github.com/google/go-cmp/cmp"
)

// TestEncodeResponseOfOtherSchemas holds what a provider of this schema does not say. Golden cases
// hold the rest.
func TestEncodeResponseOfOtherSchemas(t *testing.T) {
	const zero = `{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}`
	answer := func(content, stop, usage string) string {
		return `{"id":"x","type":"message","role":"assistant","model":"gpt","content":` + content + `,"stop_reason":"` + stop + `","stop_sequence":null,"usage":` + usage + `}`
	}
	for name, c := range map[string]struct {
		choices []llm.Choice
		usage   llm.Usage
		want    string
	}{
		"no choice":           {nil, llm.Usage{}, answer(`[]`, "end_turn", zero)},
		"only the first":      {[]llm.Choice{{Parts: []llm.Part{llm.Text{Text: "a"}}}, {Parts: []llm.Part{llm.Text{Text: "b"}}}}, llm.Usage{}, answer(`[{"type":"text","text":"a"}]`, "end_turn", zero)},
		"refusal in words":    {[]llm.Choice{{Parts: []llm.Part{llm.Refusal{Text: "I <won't>"}}, Stop: llm.StopEnd}}, llm.Usage{}, answer(`[{"type":"text","text":"I <won't>"}]`, "refusal", zero)},
		"content filter":      {[]llm.Choice{{Stop: llm.StopRefusal}}, llm.Usage{}, answer(`[]`, "refusal", zero)},
		"unsigned thinking":   {[]llm.Choice{{Parts: []llm.Part{llm.Thinking{Text: "hm"}, llm.Text{Text: "a"}}, Stop: llm.StopEnd}}, llm.Usage{}, answer(`[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"a"}]`, "end_turn", zero)},
		"stop after a call":   {[]llm.Choice{{Parts: []llm.Part{llm.ToolCall{ID: "call.1", Name: "f", Arguments: ""}}, Stop: llm.StopEnd}}, llm.Usage{}, answer(`[{"type":"tool_use","id":"call.1","name":"f","input":{}}]`, "tool_use", zero)},
		"cut off in a call":   {[]llm.Choice{{Parts: []llm.Part{llm.ToolCall{ID: "c", Name: "f", Arguments: "{}"}}, Stop: llm.StopLength}}, llm.Usage{}, answer(`[{"type":"tool_use","id":"c","name":"f","input":{}}]`, "max_tokens", zero)},
		"sloppy arguments":    {[]llm.Choice{{Parts: []llm.Part{llm.ToolCall{ID: "c", Name: "f", Arguments: "\n{\"a\":1.0,\"a\":2,\"s\":\"\\ud800\"} "}}}}, llm.Usage{}, answer(`[{"type":"tool_use","id":"c","name":"f","input":{"a":1.0,"a":2,"s":"`+"\ufffd"+`"}}]`, "tool_use", zero)},
		"cached tokens apart": {nil, llm.Usage{Input: 100, Output: 9, CacheRead: 70, CacheWrite: 10, Reasoning: 5}, answer(`[]`, "end_turn", `{"input_tokens":20,"cache_creation_input_tokens":10,"cache_read_input_tokens":70,"output_tokens":9}`)},
		"inconsistent counts": {nil, llm.Usage{Input: 1, CacheRead: 70}, answer(`[]`, "end_turn", `{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":70,"output_tokens":0}`)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Messages{}.EncodeResponse(llm.Asked{}, &llm.Response{ID: "x", Model: "gpt", Choices: c.choices, Usage: c.usage})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestEncodeResponseRefusesBrokenArguments(t *testing.T) {
	for _, arguments := range []string{`{"a":`, `[1]`, `"{}"`, `{}{}`} {
		_, err := Messages{}.EncodeResponse(llm.Asked{}, &llm.Response{Choices: []llm.Choice{{Parts: []llm.Part{llm.ToolCall{Name: "f", Arguments: arguments}}}}})
		if e, ok := err.(*llm.Error); !ok || e.Type != llm.ErrBadGateway {
			t.Errorf("%s: got %v, want a bad gateway", arguments, err)
		}
	}
}

func TestMessageIDIsMadeUp(t *testing.T) {
	a, b := messageID(""), messageID("")
	if form := regexp.MustCompile(`^msg_[A-Z0-9]{26}$`); a == b || !form.MatchString(a) {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	reset := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	for name, c := range map[string]struct {
		status  int
		headers map[string]string
		want    time.Duration
	}{
		"none":                       {429, nil, 0},
		"seconds":                    {503, map[string]string{"retry-after": "2.5"}, 2500 * time.Millisecond},
		"date":                       {429, map[string]string{"retry-after": now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		"date that is over":          {429, map[string]string{"retry-after": now.Add(-time.Minute).Format(http.TimeFormat)}, 0},
		"negative":                   {429, map[string]string{"retry-after": "-1"}, 0},
		"not a number":               {429, map[string]string{"retry-after": "NaN"}, 0},
		"endless":                    {429, map[string]string{"retry-after": "1e300"}, 0},
		"the limit that is used up":  {429, map[string]string{"anthropic-ratelimit-requests-reset": reset(time.Hour), "anthropic-ratelimit-requests-remaining": "5", "anthropic-ratelimit-input-tokens-reset": reset(9 * time.Second), "anthropic-ratelimit-input-tokens-remaining": "0"}, 9 * time.Second},
		"the later of two":           {429, map[string]string{"anthropic-ratelimit-requests-reset": reset(3 * time.Second), "anthropic-ratelimit-tokens-reset": reset(5 * time.Second)}, 5 * time.Second},
		"resets count on 429 only":   {529, map[string]string{"anthropic-ratelimit-requests-reset": reset(3 * time.Second)}, 0},
		"retry-after outranks them":  {429, map[string]string{"retry-after": "1", "anthropic-ratelimit-requests-reset": reset(3 * time.Second)}, time.Second},
		"a reset that is not a time": {429, map[string]string{"anthropic-ratelimit-requests-reset": "soon"}, 0},
	} {
		h := http.Header{}
		for k, v := range c.headers {
			h.Set(k, v)
		}
		if got := retryAfter(c.status, h, now); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestEncodeErrorKnowsEveryType(t *testing.T) {
	for e, want := range map[llm.ErrorType]string{
		llm.ErrInvalidRequest: "invalid_request_error", llm.ErrAuthentication: "authentication_error", llm.ErrBilling: "billing_error",
		llm.ErrPermission: "permission_error", llm.ErrNotFound: "not_found_error", llm.ErrMethod: "invalid_request_error",
		llm.ErrConflict: "invalid_request_error", llm.ErrTooLarge: "request_too_large", llm.ErrRateLimit: "rate_limit_error",
		llm.ErrTimeout: "timeout_error", llm.ErrInternal: "api_error", llm.ErrBadGateway: "api_error",
		llm.ErrUnavailable: "overloaded_error", llm.ErrOverloaded: "overloaded_error", "of_the_future": "api_error",
	} {
		got := string(Messages{}.EncodeError(&llm.Error{Type: e, Message: "<m> \"\xff"}))
		if want := `{"type":"error","error":{"type":"` + want + `","message":"<m> \"` + "\ufffd" + `"}}`; got != want {
			t.Errorf("%s: got %s, want %s", e, got, want)
		}
	}
}
