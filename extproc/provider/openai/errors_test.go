package openai

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bufio"

	"millrace/extproc/llm"
	"millrace/internal/golden"
)

// TestError reads a provider's failure and writes it for a client of this schema.
func TestError(t *testing.T) {
	golden.Run(t, "testdata/error/*.txtar", func(c *golden.Case) {
		status, err := strconv.Atoi(string(c.Input("status")))
		if err != nil {
			c.T.Fatal(err)
		}
		head := string(c.Input("header")) + "\r\n\r\n"
		h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(head))).ReadMIMEHeader()
		if err != nil {
			c.T.Fatal(err)
		}
		e := Chat{}.DecodeError(status, http.Header(h), c.Input("body"))
		if e.HTTPStatus() != status {
			c.T.Errorf("status %d becomes %d", status, e.HTTPStatus())
		}
		failed(c, e)
	})
}

func TestEncodeErrorWords(t *testing.T) {
	for class, want := range map[llm.ErrorType]string{
		llm.ErrInvalidRequest: `"type":"invalid_request_error","param":null,"code":null`,
		llm.ErrAuthentication: `"type":"authentication_error","param":null,"code":"invalid_api_key"`,
		llm.ErrBilling:        `"type":"permission_error","param":null,"code":null`,
		llm.ErrPermission:     `"type":"permission_error","param":null,"code":null`,
		llm.ErrNotFound:       `"type":"not_found_error","param":null,"code":null`,
		llm.ErrMethod:         `"type":"invalid_request_error","param":null,"code":null`,
		llm.ErrConflict:       `"type":"invalid_request_error","param":null,"code":null`,
		llm.ErrTooLarge:       `"type":"request_too_large","param":null,"code":null`,
		llm.ErrRateLimit:      `"type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"`,
		llm.ErrTimeout:        `"type":"timeout","param":null,"code":null`,
		llm.ErrInternal:       `"type":"server_error","param":null,"code":null`,
		llm.ErrBadGateway:     `"type":"server_error","param":null,"code":"bad_gateway"`,
		llm.ErrUnavailable:    `"type":"server_error","param":null,"code":"overloaded"`,
		llm.ErrOverloaded:     `"type":"server_error","param":null,"code":"overloaded"`,
		llm.ErrLoop:           `"type":"server_error","param":null,"code":"loop_detected"`,
		"new":                 `"type":"server_error","param":null,"code":null`,
	} {
		got := string(Chat{}.EncodeError(llm.Errorf(class, `a "quoted" <b> text`)))
		if got != `{"error":{"message":"a \"quoted\" <b> text",`+want+`}}` {
			t.Errorf("%s: got %s", class, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header map[string]string
		want   time.Duration
	}{
		"none":                      {429, nil, 0},
		"seconds":                   {429, map[string]string{"Retry-After": "7"}, 7 * time.Second},
		"on any status":             {500, map[string]string{"Retry-After": "7"}, 7 * time.Second},
		"fraction":                  {429, map[string]string{"Retry-After": "0.5"}, 500 * time.Millisecond},
		"milliseconds win":          {429, map[string]string{"Retry-After": "7", "Retry-After-Ms": "250"}, 250 * time.Millisecond},
		"date":                      {503, map[string]string{"Retry-After": "Sat, 01 Jan 2000 00:00:30 GMT"}, 30 * time.Second},
		"date gone by":              {503, map[string]string{"Retry-After": "Fri, 31 Dec 1999 00:00:30 GMT"}, 0},
		"nonsense":                  {429, map[string]string{"Retry-After": "soon"}, 0},
		"negative":                  {429, map[string]string{"Retry-After": "-1"}, 0},
		"not a number":              {429, map[string]string{"Retry-After": "NaN"}, 0},
		"absurd":                    {429, map[string]string{"Retry-After": "1e300"}, 0},
		"reset of requests":         {429, map[string]string{"X-Ratelimit-Reset-Requests": "6m0s"}, 6 * time.Minute},
		"reset of what is used up":  {429, map[string]string{"X-Ratelimit-Reset-Requests": "6m0s", "X-Ratelimit-Reset-Tokens": "20ms", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Remaining-Requests": "9"}, 20 * time.Millisecond},
		"reset, both used up":       {429, map[string]string{"X-Ratelimit-Reset-Requests": "6m0s", "X-Ratelimit-Reset-Tokens": "20ms", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Remaining-Requests": "0"}, 6 * time.Minute},
		"reset in seconds":          {429, map[string]string{"X-Ratelimit-Reset-Tokens": "13"}, 13 * time.Second},
		"reset is there on success": {400, map[string]string{"X-Ratelimit-Reset-Tokens": "13s"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its clock begins at 2000-01-01
				h := http.Header{}
				for k, v := range c.header {
					h.Set(k, v)
				}
				if got := (Chat{}).DecodeError(c.status, h, nil).RetryAfter; got != c.want {
					t.Fatalf("got %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestLongMessageIsCut(t *testing.T) {
	e := Chat{}.DecodeError(400, nil, []byte(`{"error":{"message":"`+strings.Repeat("ä", 5000)+`"}}`))
	if len(e.Message) > maxMessageBytes+3 || !strings.HasSuffix(e.Message, "ä...") {
		t.Fatalf("%d bytes, ending in %q", len(e.Message), e.Message[len(e.Message)-5:])
	}
}
