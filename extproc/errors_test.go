package extproc

import (
	"fmt"
	"strings"
	"testing"

	"millrace/extproc/provider"
	"millrace/internal/golden"
	"millrace/schema"
)

// words are what a client must be told of every error here that has any.
const words = "the quota of team blue is used up"

// errorBodies are bodies of errors as APIs, frameworks and proxies write them.
var errorBodies = map[string]string{
	"OpenAI":                     `{"error":{"message":"WORDS","type":"requests","param":null,"code":"x"}}`,
	"Anthropic":                  `{"type":"error","error":{"type":"rate_limit_error","message":"WORDS"},"request_id":"r"}`,
	"Azure":                      `{"error":{"code":"429","message":"WORDS","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`,
	"Google":                     `{"error":{"code":429,"message":"WORDS","status":"RESOURCE_EXHAUSTED","details":[{"@type":"x","reason":"R"}]}}`,
	"Google, in an array":        `[{"error":{"code":429,"message":"WORDS","status":"RESOURCE_EXHAUSTED"}}]`,
	"vLLM":                       `{"object":"error","message":"WORDS","type":"TooManyRequests","param":null,"code":429}`,
	"Ollama":                     `{"error":"WORDS"}`,
	"Hugging Face":               `{"error":"WORDS","error_type":"overloaded"}`,
	"FastAPI":                    `{"detail":"WORDS"}`,
	"FastAPI, a list":            `{"detail":[{"type":"missing","loc":["body","messages",0],"msg":"WORDS"}]}`,
	"FastAPI, an object":         `{"detail":{"error":{"message":"WORDS"}}}`,
	"Mistral":                    `{"object":"error","message":{"detail":[{"loc":["body"],"msg":"WORDS"}]}}`,
	"flat":                       `{"message":"WORDS"}`,
	"AWS":                        `{"__type":"ThrottlingException","Message":"WORDS"}`,
	"Baidu":                      `{"error_code":18,"error_msg":"WORDS"}`,
	"Cloudflare":                 `{"success":false,"errors":[{"code":10000,"message":"WORDS"}],"messages":[],"result":null}`,
	"a list of texts":            `{"errors":["WORDS"]}`,
	"OAuth":                      `{"error":"invalid_grant","error_description":"WORDS"}`,
	"Spring":                     `{"timestamp":"2026-11-25","status":429,"error":"Too Many Requests","message":"WORDS","path":"/v1"}`,
	"Apigee":                     `{"fault":{"faultstring":"WORDS","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}`,
	"problem details":            `{"type":"https://example.com/quota","title":"Quota","status":429,"detail":"WORDS"}`,
	"problem details, the title": `{"type":"about:blank","title":"WORDS"}`,
	"an array of texts":          `["WORDS"]`,
	"an error in an error":       `{"error":{"error":{"message":"WORDS"}}}`,
	"a byte order mark":          "\xef\xbb\xbf" + `{"detail":"WORDS"}`,
	"torn":                       `{"error":{"message":"WORDS","type":"x","details":{"a":`,
	"plain text":                 "WORDS",
	"an event of OpenAI":         `data: {"error":{"message":"WORDS","type":"requests"}}` + "\n\n",
	"an event of Anthropic":      "event: error\n" + `data: {"type":"error","error":{"type":"rate_limit_error","message":"WORDS"}}` + "\n\n",
	"a flat event":               ": sorry\n\n" + `data: {"message":"WORDS"}` + "\n\ndata: [DONE]\n\n",
	"HTML":                       "<html><head><title>429 Too Many Requests</title></head></html>",
	"an empty object":            "{}",
	"nothing":                    "",
}

// TestErrorsOfAnyShape: whatever a target's error looks like, and whatever it is called, the client
// gets the status, an error that its SDK reads as one, and the words, whether it asked for a stream
// or not. That the body is gzip changes nothing.
func TestErrorsOfAnyShape(t *testing.T) {
	p := newPeer(t)
	for name, body := range errorBodies {
		t.Run(name, func(t *testing.T) {
			for _, pair := range pairs() {
				for _, label := range []string{"application/json", "text/html", "text/event-stream"} {
					for _, encoding := range []string{"", "gzip"} {
						said := golden.Packed(t, encoding, strings.Replace(body, "WORDS", words, 1))
						for _, status := range []int{429, 500} {
							c := p.call(t, pair.app, pair.request(), pair.target)
							c.head(fmt.Sprintf(":status= %d", status), "content-type= "+label, "content-encoding= "+encoding, fmt.Sprintf("content-length= %d", len(said)))
							c.ends(string(said)).all()
							if problem := errorProblem(pair.app, c, status, strings.Contains(body, "WORDS")); problem != "" {
								t.Fatalf("%d, %s, %s %s: %s", status, pair, label, encoding, problem)
							}
						}
					}
				}
			}
		})
	}
}

// errorProblem is what is wrong with the error that an app has got.
func errorProblem(a app, c *call, status int, worded bool) string {
	codec, _ := provider.Of(a.schema)
	switch got := c.header.Get(":status"); {
	case got != fmt.Sprint(status):
		return "status " + got
	case !codec.Client.IsError([]byte(c.body)):
		return "no error of the schema: " + c.body
	case worded && !strings.Contains(c.body, words):
		return "without the words: " + c.body
	case c.header.Get("content-type") != "application/json" || c.header.Get("content-encoding") != "" || c.header.Get("content-length") != fmt.Sprint(len(c.body)):
		return fmt.Sprintf("headers %v", c.header)
	}
	return ""
}

// TestErrorsWithStatus200: an error that a target gives with status 200, in a stream or whole, is
// one. Where another target is asked, the client sees none of it; here there is none.
func TestErrorsWithStatus200(t *testing.T) {
	p := newPeer(t)
	for name, c := range map[string]struct {
		of     schema.Name // the targets that say so
		status int
		body   string
	}{
		"JSON of OpenAI":    {schema.OpenAIChat, 429, `{"error":{"message":"WORDS","type":"requests","code":"rate_limit_exceeded"}}`},
		"an event of it":    {schema.OpenAIChat, 429, `data: {"error":{"message":"WORDS","code":"rate_limit_exceeded"}}` + "\n\n"},
		"Google's array":    {schema.OpenAIChat, 429, `[{"error":{"code":429,"message":"WORDS","status":"RESOURCE_EXHAUSTED"}}]`},
		"an event with it":  {schema.OpenAIChat, 429, `data: [{"error":{"code":429,"message":"WORDS","status":"RESOURCE_EXHAUSTED"}}]` + "\n\n"},
		"FastAPI's":         {schema.OpenAIChat, 502, `{"detail":"WORDS"}`},
		"an event of it ":   {schema.OpenAIChat, 502, `data: {"detail":"WORDS"}` + "\n\n"},
		"JSON of Anthropic": {schema.AnthropicMessages, 529, `{"type":"error","error":{"type":"overloaded_error","message":"WORDS"}}`},
		"its event":         {schema.AnthropicMessages, 529, "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"WORDS"}}` + "\n\n"},
		"its flat form":     {schema.AnthropicMessages, 500, `{"message":"WORDS"}`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pair := range pairs() {
				if targetSchemas[pair.target] != c.of {
					continue
				}
				status := c.status
				if status == 529 && pair.app.schema != schema.AnthropicMessages {
					status = 503 // 529 is Anthropic's own
				}
				for _, label := range []string{"application/json", "text/html", "text/event-stream"} {
					got := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= "+label)
					got.ends(strings.Replace(c.body, "WORDS", words, 1)).all()
					if problem := errorProblem(pair.app, got, status, true); problem != "" {
						t.Errorf("%s, %s: %s", pair, label, problem)
					}
				}
			}
		})
	}
}

// TestErrorEventThatIsNone: an error in the middle of a stream that the client's SDK would not read
// as one is written as one that it does.
func TestErrorEventThatIsNone(t *testing.T) {
	p := newPeer(t)
	for _, a := range apps {
		for target, spoken := range targetSchemas {
			for _, said := range []string{`data: {"object":"error","message":"WORDS"}`, `data: {"error":"WORDS"}`, "event: error\ndata: {\"error\":{\"message\":\"WORDS\"}}"} {
				if spoken == schema.AnthropicMessages && !strings.HasPrefix(said, "event: error") {
					continue // an event that has no name there means nothing
				}
				c := p.call(t, a, a.stream, target).head(":status= 200", "content-type= text/event-stream")
				c.says(streamedAnswers[spoken][:3]...).ends(strings.Replace(said, "WORDS", words, 1) + "\n\n").all()
				_, err := understood(a, true, c.body)
				last := c.body[strings.LastIndex(c.body, "data: ")+len("data: "):]
				codec, _ := provider.Of(a.schema)
				if err == nil || !strings.Contains(err.Error(), words) || !codec.Client.IsError([]byte(last)) {
					t.Errorf("%s at %s, %s: %v, %s", a.schema, spoken, said, err, last)
				}
			}
		}
	}
}

// TestUnknownEncoding: what the gateway did not ask for and does not know is an error that says so.
func TestUnknownEncoding(t *testing.T) {
	p := newPeer(t)
	for _, pair := range pairs() {
		for _, status := range []string{"200", "400"} {
			c := p.call(t, pair.app, pair.request(), pair.target).head(":status= "+status, "content-type= application/json", "content-encoding= br")
			c.ends("\x0b\x02\x80{}\x03").all()
			if problem := errorProblem(pair.app, c, 502, false); problem != "" || !strings.Contains(c.body, "it is in br, which was not asked for") {
				t.Errorf("%s, %s: %s %s", pair, status, problem, c.body)
			}
		}
	}
}
