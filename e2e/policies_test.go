package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// speaker is a client by its official SDK, with its usual retries, that says something and reads
// the answer.
type speaker struct {
	name string
	say  func(ctx context.Context, g *gateway, text string) (answer string, status int, err error)
}

// speakers are the clients of both schemas, for whole answers and for streams.
var speakers = []speaker{
	{"openai", func(ctx context.Context, g *gateway, text string) (string, int, error) {
		return sayOpenAI(ctx, g, text, false)
	}},
	{"openai stream", func(ctx context.Context, g *gateway, text string) (string, int, error) {
		return sayOpenAI(ctx, g, text, true)
	}},
	{"anthropic", func(ctx context.Context, g *gateway, text string) (string, int, error) {
		return sayAnthropic(ctx, g, text, false)
	}},
	{"anthropic stream", func(ctx context.Context, g *gateway, text string) (string, int, error) {
		return sayAnthropic(ctx, g, text, true)
	}},
}

// sayOpenAI returns what the model says, with the reason why it stopped in brackets.
func sayOpenAI(ctx context.Context, g *gateway, text string, stream bool) (string, int, error) {
	client := openai.NewClient(openaioption.WithBaseURL(g.URL+"/v1/"), openaioption.WithAPIKey("client-key"))
	params := openai.ChatCompletionNewParams{Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
	answer := ""
	read := func(content, finish string) {
		if answer += content; finish != "" {
			answer += " [" + finish + "]"
		}
	}
	var err error
	if stream {
		s := client.Chat.Completions.NewStreaming(ctx, params)
		for s.Next() {
			for _, c := range s.Current().Choices {
				read(c.Delta.Content, c.FinishReason)
			}
		}
		err = s.Err()
	} else {
		var whole *openai.ChatCompletion
		if whole, err = client.Chat.Completions.New(ctx, params); err == nil {
			read(whole.Choices[0].Message.Content, whole.Choices[0].FinishReason)
		}
	}
	if refused := (*openai.Error)(nil); errors.As(err, &refused) {
		return answer, refused.StatusCode, errors.New(refused.Message)
	}
	return answer, http.StatusOK, err
}

func sayAnthropic(ctx context.Context, g *gateway, text string, stream bool) (string, int, error) {
	client := anthropic.NewClient(anthropicoption.WithBaseURL(g.URL), anthropicoption.WithAPIKey("client-key"))
	params := anthropic.MessageNewParams{Model: "claude-sonnet-4-5", MaxTokens: 500, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
	message, err := &anthropic.Message{}, error(nil)
	if stream {
		s := client.Messages.NewStreaming(ctx, params)
		for s.Next() {
			if err := message.Accumulate(s.Current()); err != nil {
				return "", 0, err
			}
		}
		err = s.Err()
	} else {
		message, err = client.Messages.New(ctx, params)
	}
	if refused := (*anthropic.Error)(nil); errors.As(err, &refused) {
		return "", refused.StatusCode, err
	}
	if err != nil {
		return "", 0, err
	}
	answer := ""
	for _, block := range message.Content {
		answer += block.Text
	}
	return answer + " [" + string(message.StopReason) + "]", http.StatusOK, nil
}

// policed runs f for every client and every kind of target, behind a gateway with these policies.
func policed(t *testing.T, policies string, f func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, server *fakellm.Server)) {
	sdkTypes(t, func(t *testing.T, p *fakellm.Provider) {
		server := provider(t, p)
		g := start(t, "", pool("", to(p.Name, p, server, "default_model: served-model"))+"policies: "+policies+"\n")
		for _, s := range speakers {
			t.Run(s.name, func(t *testing.T) {
				g.t = t
				f(t, g, s, p, server)
			})
		}
	})
}

// sdkTypes runs f for a target of each schema, side by side.
func sdkTypes(t *testing.T, f func(t *testing.T, p *fakellm.Provider)) {
	for _, p := range []*fakellm.Provider{
		{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"},
		{Name: "an", Schema: fakellm.AnthropicMessages, Key: "key-an"},
	} {
		t.Run(p.Schema, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

// TestPolicyBlocksRequest: what a policy does not let in is a 409 in the client's schema, at once:
// no connection is made to the target, and no SDK asks again (E02, E30).
func TestPolicyBlocksRequest(t *testing.T) {
	policed(t, "{chain: [dlp], policy: {dlp: {action: block, detect: [credit-card]}}}", func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, server *fakellm.Server) {
		_, status, err := s.say(t.Context(), g, "My card is 4111 1111 1111 1111.")
		if status != http.StatusConflict || !strings.Contains(err.Error(), `not allowed in the request: credit-card`) {
			t.Fatalf("%d, %v", status, err)
		}
		if strings.Contains(err.Error(), "4111") {
			t.Errorf("the error repeats what was found: %v", err)
		}
		if n := server.Connections(); n > 0 {
			t.Errorf("%d connections to the target", n)
		}
		wants := strings.HasSuffix(s.name, "stream")
		e := g.event("the one request", func(e *millracev1.Event) bool {
			return strings.HasPrefix(e.Schema, strings.Fields(s.name)[0]) && e.Stream == wants
		})
		v := e.Policies[0]
		if e.Status != 409 || len(e.Attempts) > 0 || v.Policy != "dlp" || v.Verdict != "block" || v.Phase != "input" || v.Found["credit-card"] != 1 || v.Observed {
			t.Errorf("event: %v", e)
		}
	})
}

// TestPolicyRedactsRequest: every attempt, and every retry, gets the request without what was found
// in it (E02); where the policy is reversible the client reads its own values in the answer.
func TestPolicyRedactsRequest(t *testing.T) {
	policed(t, "{chain: [dlp], policy: {dlp: {detect: [email], reversible: true}}}", func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, _ *fakellm.Server) {
		before := len(p.Requests())
		p.Script(fakellm.Reply{Failure: &fakellm.Failure{Status: 503}})
		got, status, err := s.say(t.Context(), g, "Write to anna@example.com.")
		if err != nil || status != 200 || !strings.Contains(got, "heard: Write to anna@example.com.") {
			t.Fatalf("%q, %d, %v", got, status, err)
		}
		asked := p.Requests()[before:]
		if len(asked) != 2 {
			t.Errorf("%d requests to the target", len(asked))
		}
		for _, r := range asked {
			if body := string(r.Body); strings.Contains(body, "anna") || !strings.Contains(body, "Write to [EMAIL_1].") {
				t.Errorf("the target got %s", body)
			}
		}
	})
}

// TestPolicyRedactsAnswer: what a target says is redacted on its way, whole and in streams that cut
// it anywhere (E05, E22).
func TestPolicyRedactsAnswer(t *testing.T) {
	policed(t, "{chain: [dlp], policy: {dlp: {phase: output, detect: [email, secret]}}}", func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, _ *fakellm.Server) {
		for _, cut := range []int{0, 1, 7, 40} {
			p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "Ask bob@example.org, key AKIAIOSFODNN7EXAMPLQ, or nobody."}, CutEvery: cut})
			got, _, err := s.say(t.Context(), g, "hi")
			if err != nil || !strings.HasPrefix(got, "Ask [EMAIL_1], key [SECRET_1], or nobody. [") {
				t.Errorf("cut every %d: %q, %v", cut, got, err)
			}
		}
	})
}

// TestPolicyBlocksAnswer: a first answer that is blocked is a 409; in mid-stream the stream ends as
// its schema has it, and the target is left at once (E05).
func TestPolicyBlocksAnswer(t *testing.T) {
	policed(t, "{chain: [dlp], policy: {dlp: {phase: output, action: block, detect: [email]}}}", func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, _ *fakellm.Server) {
		p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "bob@example.org is his address."}})
		if got, status, err := s.say(t.Context(), g, "hi"); status != 409 || err == nil || strings.Contains(got, "bob") {
			t.Errorf("at once: %q, %d, %v", got, status, err)
		}
		if !strings.HasSuffix(s.name, "stream") {
			return
		}
		n := len(p.Requests()) + 1
		p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "The address, as far as I know, is bob@example.org indeed."}, End: fakellm.Hang})
		got, status, err := s.say(t.Context(), g, "hi")
		ends := map[string]string{"openai stream": " [content_filter]", "anthropic stream": " [refusal]"}[s.name]
		if err != nil || status != 200 || !strings.HasPrefix(got, "The address") || strings.Contains(got, "bob") || !strings.HasSuffix(got, ends) {
			t.Errorf("in mid-stream: %q, %d, %v", got, status, err)
		}
		if r, err := p.WaitEnded(t.Context(), n); err != nil || r.Outcome != fakellm.Cancelled {
			t.Errorf("the target: %v, %v", r.Outcome, err)
		}
	})
}

// TestPolicyPipeline: a request goes through input policies, to a target, through output policies,
// and into its event, in this order, and Server-Timing has the time of both phases (E01, E32).
func TestPolicyPipeline(t *testing.T) {
	const policies = `{
  chain: [dlp, content-filter, prompt-injection, model-access, request-limits, expression, disclaimer],
  policy: {
    content-filter: {words: [skunkworks], action: redact},
    model-access: {models: ["gpt-4*", "claude-*"]},
    request-limits: {max_output_tokens: 99},
    expression: {expression: 'request.model == "gpt-4-forbidden"', when: 'request.stream', reason: not this one},
    disclaimer: {after: " (No advice.)"}},
  shadow: [watch],
}`
	const policy = `policy: {watch: {kind: dlp, detect: [phone]}, `
	policed(t, strings.Replace(policies, "policy: {", policy, 1), func(t *testing.T, g *gateway, s speaker, p *fakellm.Provider, _ *fakellm.Server) {
		before := len(p.Requests())
		p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "The Skunkworks of ann@example.com, call +1 415 555 2671."}})
		got, _, err := s.say(t.Context(), g, "Mail bob@example.org about skunkworks.")
		const want = "The [CUSTOM] of [EMAIL_2], call [PHONE_1]. (No advice.) ["
		if err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
		if body := string(p.Requests()[before].Body); !strings.Contains(body, "Mail [EMAIL_1] about [CUSTOM].") || !strings.Contains(body, ":99") {
			t.Errorf("the target got %s", body)
		}
		wants := strings.HasSuffix(s.name, "stream")
		e := g.event("the request", func(e *millracev1.Event) bool {
			return strings.HasPrefix(e.Schema, strings.Fields(s.name)[0]) && e.Stream == wants
		})
		var verdicts []string
		for _, v := range e.Policies {
			verdict := v.Phase + " " + v.Policy + " " + v.Verdict
			if v.Observed {
				verdict += " (observed)"
			}
			verdicts = append(verdicts, verdict)
		}
		slices.SortStableFunc(verdicts, func(a, b string) int { return strings.Compare(a[:5], b[:5]) })
		wanted := []string{
			"input dlp redact", "input content-filter redact", "input prompt-injection pass", "input model-access pass", "input request-limits change",
		}
		for _, verdict := range append(wanted, "output dlp redact", "output content-filter redact", "output disclaimer change", "output watch redact (observed)") {
			if !slices.Contains(verdicts, verdict) {
				t.Errorf("verdicts %q lack %q", verdicts, verdict)
			}
		}
	})
}

// TestPolicyTimeout: a policy that hangs has failed when policy_timeout is over, for the request
// and its answer together: on_error says what becomes of it, and the event and a metric have it
// (E11).
func TestPolicyTimeout(t *testing.T) {
	hang := make(chan struct{})
	guard := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer guard.Close()
	defer close(hang)
	for _, c := range []struct {
		phase, onError string
		status         int
	}{{"input", "block", 503}, {"input", "allow", 200}, {"output", "block", 503}, {"output", "allow", 200}} {
		t.Run(c.phase+" "+c.onError, func(t *testing.T) {
			t.Parallel()
			p := &fakellm.Provider{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"}
			server := provider(t, p)
			g := start(t, "timeouts: {policy_timeout: 300ms}", pool("", to("oa", p, server))+
				fmt.Sprintf("policies: {chain: [webhook], policy: {webhook: {url: %q, phase: %s, on_error: %s, timeout: 8s}}}\n", guard.URL, c.phase, c.onError))
			for _, body := range []string{chatHello, chatStream} {
				a := g.post("/v1/chat/completions", body).want(c.status)
				if c.status == 503 && !strings.Contains(a.openAIError("server_error"), `the policy "webhook" cannot be carried out`) {
					t.Errorf("%s", a.Body)
				}
				e := g.byID(a.Header.Get("x-millrace-request-id"))
				if v := e.Policies; len(v) != 1 || v[0].Verdict != "error" || v[0].Phase != c.phase {
					t.Errorf("verdicts: %v", v)
				}
			}
			if asked := len(p.Requests()); (asked > 0) != (c.phase == "output" || c.status == 200) {
				t.Errorf("%d requests to the target", asked)
			}
		})
	}
}

// TestPolicyTimings: Server-Timing tells what policies took; the budget of the seeds is 5 ms a
// phase (E02, E05, E32).
func TestPolicyTimings(t *testing.T) {
	p := &fakellm.Provider{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"}
	g := start(t, "", pool("", to("oa", p, provider(t, p)))+"policies: {chain: [dlp, content-filter, prompt-injection]}\n")
	timing := g.post("/v1/chat/completions", chatHello).want(200).Header.Get("server-timing")
	if !regexp.MustCompile(`^policy-input;dur=\d+\.\d{3}, policy-output;dur=\d+\.\d{3}$`).MatchString(timing) {
		t.Errorf("whole: %q", timing)
	}
	timing = g.post("/v1/chat/completions", chatStream).want(200).Header.Get("server-timing")
	if !strings.HasPrefix(timing, "policy-input;dur=") {
		t.Errorf("stream: %q", timing)
	}
}

// TestHeldBack: no more of a stream's text is held back than may still become a match: what comes
// after it goes out at once, while the target is silent (E22).
func TestHeldBack(t *testing.T) {
	p := &fakellm.Provider{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"}
	g := start(t, "streaming: {buffer_size: 1KiB}", pool("", to("oa", p, provider(t, p)))+"policies: {chain: [dlp, content-filter]}\n")
	gate := make(chan struct{})
	event := func(text string) fakellm.Step { return fakellm.Step{Bytes: fmt.Sprintf(answerEvent, text)} }
	last := fakellm.Step{Bytes: answerEnd}
	last.Gate = gate
	p.Script(fakellm.Reply{
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Steps:  []fakellm.Step{event("The weather is fine, "), event("and mail to bob@exa"), event("mple.org is read. Yes, "), event("ask bob@"), last},
	})
	response, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, lines := "", bufio.NewScanner(response.Body)
	for !strings.Contains(got, "Yes, ") && lines.Scan() {
		got += lines.Text() + "\n"
	}
	if strings.Contains(got, "bob") || !strings.Contains(got, "[EMAIL_1]") {
		t.Errorf("before the end: %s", got)
	}
	close(gate)
	for lines.Scan() {
		got += lines.Text() + "\n"
	}
	if !strings.Contains(got, `"ask bob@"`) || !strings.Contains(got, "[DONE]") {
		t.Errorf("at the end: %s", got)
	}
}

// TestPolicyAsksAgain: an answer that is not of the JSON schema is asked for once more, whole and
// streamed; a second one that is not is a 409.
func TestPolicyAsksAgain(t *testing.T) {
	p := &fakellm.Provider{Name: "oa", Schema: fakellm.OpenAIChat, Key: "key-oa"}
	server := provider(t, p)
	g := start(t, "", pool("retry: {attempts: 3}", to("a", p, server), to("b", p, server))+
		"policies: {chain: [json-schema], policy: {json-schema: {retry: true, schema: {type: object, required: [city]}}}}\n")
	for _, s := range speakers {
		t.Run(s.name, func(t *testing.T) {
			g.t = t
			before := len(p.Requests())
			p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "Rome"}}, fakellm.Reply{Answer: &fakellm.Answer{Text: `{"city": "Rome"}`}})
			if got, _, err := s.say(t.Context(), g, "Which?"); err != nil || !strings.HasPrefix(got, `{"city": "Rome"} [`) {
				t.Errorf("%q, %v", got, err)
			}
			p.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "Rome"}}, fakellm.Reply{Answer: &fakellm.Answer{Text: "Rome"}})
			if got, status, err := s.say(t.Context(), g, "Which?"); status != 409 || !strings.Contains(err.Error(), "JSON schema") {
				t.Errorf("%q, %d, %v", got, status, err)
			}
			if asked := len(p.Requests()) - before; asked != 4 {
				t.Errorf("%d requests to the targets", asked)
			}
		})
	}
}
