package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"

	"golang.org/x/net/http/httpguts"

	"millrace/internal/outbound"
)

// mostRetries bounds Config.Retries.
const mostRetries = 10

// own are the headers that the client writes itself.
var own = []string{"Connection", "Content-Length", "Content-Type", "Host", "Transfer-Encoding", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp"}

// check says what is wrong with a configuration; it sets the format that is usual.
func (c *Config) check() error {
	c.Format = cmp.Or(c.Format, Guardrail)
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("url: want http://… or https://…")
	case u.User != nil:
		return errors.New("url: it has a user: put the secret into a header")
	case c.Format != Guardrail && c.Format != Moderation:
		return fmt.Errorf("format: want %s or %s", Guardrail, Moderation)
	case c.Format == Guardrail && (c.Model != "" || c.Threshold != 0):
		return errors.New("model and threshold are of the format moderation")
	case c.Threshold < 0 || c.Threshold > 1:
		return errors.New("threshold: want a number from 0 to 1")
	case c.Timeout <= 0, c.Concurrency <= 0, c.MaxAnswerBytes <= 0:
		return errors.New("timeout, concurrency and max_answer_bytes must be above 0")
	case c.Retries < 0 || c.Retries > mostRetries, c.Backoff < 0, c.Failures < 0, c.Pause < 0:
		return fmt.Errorf("retries must be from 0 to %d; backoff, failures and pause not below 0", mostRetries)
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("cert and key belong together")
	case u.Scheme == "http" && (c.CA != "" || c.Cert != ""):
		return errors.New("ca, cert and key want a URL of https")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(c.Headers[name]):
			return fmt.Errorf("headers: %q is no header, or its value is none", name)
		case slices.Contains(own, http.CanonicalHeaderKey(name)):
			return fmt.Errorf("headers: %s is written by the gateway itself", name)
		}
	}
	return nil
}

func (c *Client) headers(body []byte) (http.Header, error) {
	h := http.Header{
		"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {"millrace"},
		// Not sent. It tells net/http that a question may be put again on another connection when
		// the service closes an idle one at the moment that it is used.
		"X-Idempotency-Key": {},
	}
	for name, value := range c.config.Headers {
		h.Set(name, value)
	}
	return h, c.sign.sign(h, body)
}

// try puts the question once.
func (c *Client) try(ctx context.Context, headers http.Header, body []byte) ([]byte, *failure) {
	connected := false
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	r, err := http.NewRequestWithContext(traced, http.MethodPost, c.config.URL, bytes.NewReader(body))
	if err != nil {
		return nil, &failure{err: err}
	}
	r.Header, r.Close = headers.Clone(), c.closed.Load()
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, &failure{err: outbound.Plain(ctx, err), down: true, again: !connected}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		// 429 says that it is too much, which one more try would not mend. Any other status is said
		// of this question.
		failing := answer.StatusCode >= http.StatusInternalServerError
		return nil, &failure{
			err:  fmt.Errorf("the service answers with status %d", answer.StatusCode),
			down: failing || answer.StatusCode == http.StatusTooManyRequests, again: failing,
		}
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, int64(c.config.MaxAnswerBytes)+1))
	switch {
	case err != nil:
		return nil, &failure{err: outbound.Plain(ctx, err), down: true}
	case len(text) > c.config.MaxAnswerBytes:
		return nil, &failure{err: fmt.Errorf("the answer has more than %d bytes", c.config.MaxAnswerBytes)}
	}
	return text, nil
}
