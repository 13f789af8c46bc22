package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

const (
	answerEvent = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}` + "\n\n"
	answerEnd   = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	answerWhole = `{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
)

// largeAnswer is a target's answer of about so many bytes.
func largeAnswer(bytes int, stream bool) fakellm.Reply {
	if !stream {
		return fakellm.Reply{Header: http.Header{"Content-Type": {"application/json"}}, Body: fmt.Sprintf(answerWhole, strings.Repeat("x", bytes)), CutEvery: 64 << 10}
	}
	event := fmt.Sprintf(answerEvent, strings.Repeat("x", 16<<10))
	return fakellm.Reply{
		Header:   http.Header{"Content-Type": {"text/event-stream"}},
		Body:     strings.Repeat(event, bytes/len(event)) + answerEnd,
		CutEvery: 64 << 10,
	}
}

// asking is a kind of client: its schema and whether it wants a stream. The target speaks OpenAI.
type asking struct{ name, path, body, end string }

var askings = []asking{
	{"native stream", "/v1/chat/completions", chatStream, "data: [DONE]\n\n"},
	{"native whole", "/v1/chat/completions", chatHello, "}"},
	{"translated stream", "/v1/messages", claudeStream, "\"message_stop\"}\n\n"},
	{"translated whole", "/v1/messages", claudeHello, "}"},
}

func (a asking) stream() bool { return strings.Contains(a.name, "stream") }

// slowly asks over a connection of its own with the smallest of buffers.
func (a asking) slowly(url string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := d.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s", a.path, len(a.body), a.body)
	return conn, err
}

// TestLargeAnswersSlowAndFast: the target has ended when the client begins to read, or while it reads; every byte arrives and nothing
// crashes. `make soak`: 500 answers of each kind.
func TestLargeAnswersSlowAndFast(t *testing.T) {
	answers := 40
	if soak {
		answers = 500
	}
	for _, a := range askings {
		t.Run(a.name, func(t *testing.T) {
			p := openAI("p")
			p.KeepRequests = 1
			p.Always(largeAnswer(5<<20, a.stream()))
			g := start(t, "", pool("", to("p", p, provider(t, p))))
			var bad atomic.Int64
			var next atomic.Int64
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					for n := next.Add(1); n <= int64(answers); n = next.Add(1) {
						if err := a.wholeOf(g.URL, 5<<20, n%2 == 0); err != nil && bad.Add(1) < 4 {
							t.Errorf("answer %d: %v", n, err)
						}
					}
				})
			}
			all.Wait()
			if n := bad.Load(); n > 0 {
				t.Errorf("%d answers of %d were not whole", n, answers)
			}
		})
	}
}

// wholeOf reads one answer; with pause it waits until the target is long done.
func (a asking) wholeOf(url string, least int, pause bool) error {
	conn, err := a.slowly(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if pause {
		time.Sleep(time.Second)
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%d bytes, %w", len(body), err)
	case r.StatusCode != http.StatusOK || len(body) < least*9/10 || !bytes.HasSuffix(bytes.TrimRight(body, "\n"), []byte(strings.TrimRight(a.end, "\n"))):
		return fmt.Errorf("%s, %d bytes, ending in %q", r.Status, len(body), body[max(0, len(body)-80):])
	}
	return nil
}
