package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// wireAnswers are what a provider may write, and the status of the client when there is no other
// target to ask: 200 is an answer, 400 an error that is passed on, and what is a failure of the
// target is 500 or more.
func wireAnswers() []wireBytes {
	const close = "Connection: close\r\n"
	const usual = "Content-Type: TYPE\r\nContent-Length: LENGTH\r\n" + close
	const chunked = "HTTP/1.1 200 OK\r\nContent-Type: TYPE\r\n" + close + "Transfer-Encoding: chunked\r\n\r\n"
	head := func(what, lines string, status int) wireBytes {
		return wireBytes{what, "HTTP/1.1 200 OK\r\n" + lines + close + "\r\nBODY", status}
	}
	more := func(what, lines string, status int) wireBytes {
		return wireBytes{what, "HTTP/1.1 200 OK\r\n" + lines + usual + "\r\nBODY", status}
	}
	const typed = "Content-Type: TYPE\r\n"
	answers := []wireBytes{
		{"as usual", "HTTP/1.1 200 OK\r\n" + usual + "\r\nBODY", 200},
		{"two answers to one request", strings.ReplaceAll("HTTP/1.1 200 OK\r\n"+usual+"\r\nBODYHTTP/1.1 200 OK\r\n"+usual+"\r\nBODY", close, ""), 200},
		{"as usual, after two answers", "HTTP/1.1 200 OK\r\n" + usual + "\r\nBODY", 200},

		// How long the body is
		{"chunks", chunked + "HEX\r\nBODY\r\n0\r\n\r\n", 200},
		{"trailers", chunked + "HEX\r\nBODY\r\n0\r\nX-Ratelimit-Limit: 1\r\nRetry-After: 5\r\n\r\n", 200},
		head("no length", typed, 200),
		more("two lengths", "Content-Length: 5\r\n", 502),
		more("the same length twice", "Content-Length: LENGTH\r\n", 502),
		head("a list of lengths", typed+"Content-Length: LENGTH, LENGTH\r\n", 502),
		head("length +", typed+"Content-Length: +LENGTH\r\n", 502),
		head("length -1", typed+"Content-Length: -1\r\n", 502),
		head("length x", typed+"Content-Length: x\r\n", 502),
		head("a length that is too small", typed+"Content-Length: 10\r\n", 502),
		head("a length that is too large", typed+"Content-Length: 10000\r\n", 502),
		{"length and chunks", strings.Replace(chunked, typed, typed+"Content-Length: LENGTH\r\n", 1) + "HEX\r\nBODY\r\n0\r\n\r\n", 502},
		{"chunk lines that end in LF", chunked + "HEX\nBODY\n0\n\n", 502},
		{"a chunk that ends in LF", chunked + "HEX\r\nBODY\n0\r\n\r\n", 502},
		{"chunk 0x", chunked + "0xHEX\r\nBODY\r\n0\r\n\r\n", 502},
		{"chunks without an end", chunked + "HEX\r\nBODY\r\n", 502},
		head("gzip, chunked", typed+"Transfer-Encoding: gzip, chunked\r\n", 502),
		head("identity", typed+"Transfer-Encoding: identity\r\n", 502),

		// Lines
		more("a folded header", "X-Request-Id: a\r\n b\r\n", 200),
		more("a folded header that looks like a length", "X-A: b\r\n Content-Length: 5\r\n", 200),
		more("CR in a value", "X-Request-Id: a\rb\r\n", 200),
		{"lines that end in LF", strings.ReplaceAll("HTTP/1.1 200 OK\r\n"+usual+"\r\nBODY", "\r\n", "\n"), 200},
		more("a value that is not ASCII", "X-Request-Id: a\xffb\r\n", 200),
		more("NUL in a value", "X-Request-Id: a\x00b\r\n", 502),
		more("a control character in a value", "X-Request-Id: a\x01b\r\n", 502),
		more("a space in a name", "X A: b\r\n", 502),
		more("a space before the colon", "X-A : b\r\n", 502),
		more("no colon", "nonsense\r\n", 502),
		more("a pseudo header", ":status: 404\r\n", 502),
		more("200 headers", strings.Repeat("X-A: b\r\n", 200), 502),
		more("a header of 100 kB", "X-A: "+strings.Repeat("b", 100_000)+"\r\n", 502),

		// The status line
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n" + usual + "\r\nBODY", 200},
		{"HTTP/1.0 in chunks", strings.Replace(chunked, "1.1", "1.0", 1) + "HEX\r\nBODY\r\n0\r\n\r\n", 200},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n" + usual + "\r\nBODY", 200},
		{"no reason", "HTTP/1.1 200\r\n" + usual + "\r\nBODY", 200},
		{"a body alone", "BODY", 502},
		{"ICY", "ICY 200 OK\r\n" + usual + "\r\nBODY", 502},
		{"nothing", "", 503},
		{"204 without a body", "HTTP/1.1 204 No Content\r\n" + close + "\r\n", 502},

		// Interim answers are none
		{"many interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 1000) + "HTTP/1.1 200 OK\r\n" + usual + "\r\nBODY", 200},
	}
	for _, status := range []string{"100", "102", "103", "104", "199"} {
		answers = append(answers, wireBytes{status + ", then 200", "HTTP/1.1 " + status + " X\r\nX-A: b\r\n\r\nHTTP/1.1 200 OK\r\n" + usual + "\r\nBODY", 200})
	}
	for _, s := range []struct {
		says []string
		gets int
	}{
		{[]string{"201", "299", "+200"}, 0}, // its own
		{[]string{"400", "499", "500", "599"}, 0},
		{[]string{"000", "001", "099", "99", "20", "100", "101", "102", "103", "104", "199", "2OO", "-200", "0xC8", ""}, 502},
		{[]string{"204", "205", "300", "302", "304", "399"}, 502}, // neither an answer nor an error
		{[]string{"600", "700", "999", "1000", "1200", "2000", "4000"}, 502},
	} {
		for _, status := range s.says {
			gets, _ := strconv.Atoi(status)
			if s.gets != 0 {
				gets = s.gets
			}
			answers = append(answers, wireBytes{"status " + status, "HTTP/1.1 " + status + " X\r\n" + usual + "\r\nBODY", gets})
		}
	}
	return answers
}

// wireBytes is one row of wireAnswers.
type wireBytes struct {
	what, bytes string
	status      int
}

// What stands for BODY.
const (
	rawWhole  = `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"from raw"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
	rawStream = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"from raw"},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

`
)

// rawProvider answers each request with the bytes of the row that the request names, and ends the
// connection where they say so.
func rawProvider(t *testing.T, answers []wireBytes) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	named := regexp.MustCompile(`case (\d{4})`)
	serve := func(conn net.Conn) {
		defer conn.Close()
		for in := bufio.NewReader(conn); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			request, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			body, kind := rawWhole, "application/json"
			if strings.Contains(string(request), `"stream":true`) {
				body, kind = rawStream, "text/event-stream"
			}
			row, _ := strconv.Atoi(named.FindStringSubmatch(string(request))[1])
			answer := answers[row].bytes
			last := strings.Contains(answer, "Connection: close") || !strings.Contains(answer, "Content-Length")
			if last {
				withItsEnd(conn)
			}
			io.WriteString(conn, strings.NewReplacer("TYPE", kind, "LENGTH", strconv.Itoa(len(body)), "HEX", fmt.Sprintf("%x", len(body)), "BODY", body).Replace(answer))
			if last {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "http://" + l.Addr().String() + "/v1"
}

// withItsEnd has what is written now arrive together with the end of the connection. Else the
// gateway may have said an answer that lacks its end before it hears that it lacks it.
func withItsEnd(conn net.Conn) {
	const cork = 3 // Linux's TCP_CORK
	if raw, err := conn.(*net.TCPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, cork, 1) })
	}
}

// TestWireAnswers: whatever bytes a provider writes, the client gets an answer that is one, or an
// error of its schema with a status that HTTP has. What is no answer is a failed attempt: another
// target is asked where there is one.
func TestWireAnswers(t *testing.T) {
	t.Parallel()
	answers := wireAnswers()
	b := openAI("b")
	raw := `{id: raw, priority: 1, provider: {type: openai, base_url: "` + rawProvider(t, answers) + `", secret_key_ref: k}}`
	g := start(t, "", fmt.Sprintf(`
upstreams:
- {name: two, health_checks: {passive: false}, targets: [%s, %s]}
- {name: alone, health_checks: {passive: false}, retry: {attempts: 1}, targets: [%s]}
services: [{name: two, upstream: two}, {name: alone, upstream: alone}]
rules: [{path: /two, service: two}, {path: /alone, service: alone}]
`, raw, to("b", b, provider(t, b), "priority: 2"), raw))
	for i, c := range answers {
		for _, path := range []string{"/chat/completions", "/messages"} {
			for _, stream := range []bool{false, true} {
				body := fmt.Sprintf(`{"model":"m","max_tokens":9,"stream":%v,"messages":[{"role":"user","content":"case %04d"}]}`, stream, i)
				at := fmt.Sprintf("%s, %s, stream %v", c.what, path, stream)
				if alone := g.post("/alone/v1"+path, body); alone.Status != c.status {
					t.Errorf("%s: status %d, want %d: %s", at, alone.Status, c.status, alone.Body)
				} else {
					wireAnswered(t, at, alone, path, stream)
				}
				two := g.post("/two/v1"+path, body)
				attempts := two.Header.Get("x-millrace-attempts")
				switch {
				case c.status < 500 && (two.Status != c.status || attempts != fmt.Sprintf("raw=%d", c.status)):
					t.Errorf("%s: status %d after %s, want %d", at, two.Status, attempts, c.status)
				case c.status >= 500 && (two.Status != 200 || !strings.HasSuffix(attempts, ";b=200") || !strings.Contains(two.Body, "heard: ")):
					t.Errorf("%s: status %d after %s, want b's answer: %s", at, two.Status, attempts, two.Body)
				}
			}
		}
	}
}

// wireAnswered checks that an answer is what the provider wrote, or an error of the client's
// schema.
func wireAnswered(t *testing.T, at string, r *answer, path string, stream bool) {
	t.Helper()
	for name, values := range r.Header {
		if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") || name == "X-Ratelimit-Limit" || len(values) != 1 {
			t.Errorf("%s: header %s: %q", at, name, values)
		}
	}
	switch {
	case r.Status >= 400 && r.Status != 502 && (r.Body == rawWhole || r.Body == rawStream): // a provider's error is passed on as it is
	case r.Status >= 400:
		if message(r.Body) == "" || path == "/messages" && !strings.Contains(r.Body, `"type":"error"`) {
			t.Errorf("%s: want an error of the client's schema, got %d %s", at, r.Status, r.Body)
		}
	case path == "/messages":
		if !strings.Contains(r.Body, "from raw") || stream && !strings.Contains(r.Body, "message_stop") {
			t.Errorf("%s: want the provider's answer, translated, got %s", at, r.Body)
		}
	case r.Body != map[bool]string{false: rawWhole, true: rawStream}[stream]:
		t.Errorf("%s: want the provider's answer as it is, got %s", at, r.Body)
	}
}

// TestWireAnswerCounts: an answer that is none counts against its target, like any other failure.
func TestWireAnswerCounts(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"status 999", "two lengths", "NUL in a value"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var row []wireBytes
			for _, c := range wireAnswers() {
				if c.what == what {
					row = append(row, c)
				}
			}
			b := openAI("b")
			g := start(t, "", pool("health_checks: {passive: true, threshold: 2, interval: 600}",
				`{id: raw, priority: 1, provider: {type: openai, base_url: "`+rawProvider(t, row)+`", secret_key_ref: k}}`,
				to("b", b, provider(t, b), "priority: 2")))
			body := `{"model":"m","messages":[{"role":"user","content":"case 0000"}]}`
			for range 2 {
				if attempts := g.post("/v1/chat/completions", body).want(200).Header.Get("x-millrace-attempts"); !strings.HasPrefix(attempts, "raw=") {
					t.Fatalf("attempts %s", attempts)
				}
			}
			g.eventually("the target is taken out", func() error {
				if attempts := g.post("/v1/chat/completions", body).want(200).Header.Get("x-millrace-attempts"); attempts != "b=200" {
					return fmt.Errorf("attempts %s", attempts)
				}
				return nil
			})
		})
	}
}

// TestWireAnswersOpen: while Envoy serves an open service without the sidecar, a status that is
// neither an answer's nor an error's reaches no client either.
func TestWireAnswersOpen(t *testing.T) {
	t.Parallel()
	var odd []wireBytes
	for _, status := range []string{"200", "205", "302", "500", "600", "999", "1000", "2000"} {
		for _, c := range wireAnswers() {
			if c.what == "status "+status || status == "200" && c.what == "as usual" {
				odd = append(odd, c)
			}
		}
	}
	g := prepare(t, "", fmt.Sprintf(`
upstreams: [{name: chat, health_checks: {passive: false}, targets: [{id: raw, provider: {type: openai, base_url: "%s", secret_key_ref: k}}]}]
services: [{name: chat, upstream: chat, failure: open}]
rules: [{path: /v1, service: chat}]
`, rawProvider(t, odd)))
	twoProcesses(t, g)
	g.kill()
	for i, c := range odd {
		for _, stream := range []bool{false, true} {
			r := g.post("/v1/chat/completions", fmt.Sprintf(`{"model":"m","stream":%v,"messages":[{"role":"user","content":"case %04d"}]}`, stream, i))
			if r.Status != c.status {
				t.Errorf("%s, stream %v: status %d, want %d: %s", c.what, stream, r.Status, c.status, r.Body)
			} else {
				wireAnswered(t, c.what, r, "/chat/completions", stream)
			}
		}
	}
}
