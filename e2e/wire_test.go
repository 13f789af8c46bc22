package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"millrace/internal/fakellm"
)

// wireRequest is a request as its bytes stand on the wire, and what becomes of it.
type wireRequest struct {
	what    string
	bytes   string
	status  int
	outcome outcome
}

// outcome is what is left of a connection after the first answer, and says what the provider has
// seen.
type outcome int

const (
	served     outcome = iota // the provider has seen the request, once and well-formed; the connection takes another
	last                      // as served, but what stands behind it on the connection is not taken for a request
	turnedDown                // the provider has seen nothing; the connection takes another, for where the request ends is beyond doubt
	closed                    // the provider has seen nothing, and what stands behind the request on the connection is never read
)

// caseBody is a chat request; the mark is made different for each case, so that the provider tells
// which one it has seen.
const (
	caseMark = "@@@@"
	caseBody = `{"model":"m","messages":[{"role":"user","content":"case ` + caseMark + `"}]}`
)

func wireRequests() []wireRequest {
	n := len(caseBody)
	host := "Host: gw\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", n)
	te := "Transfer-Encoding: chunked\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n", n, caseBody)
	chunked := chunk + "0\r\n\r\n"
	// line has a request line of its own, headers follow the Host and precede the length, framed
	// brings its own length and body.
	line := func(line string) string { return line + "\r\n" + host + length + "\r\n" + caseBody }
	post := func(lines string) string { return "POST /v1/chat/completions HTTP/1.1\r\n" + lines }
	headers := func(lines string) string { return post(host + lines + length + "\r\n" + caseBody) }
	hosts := func(lines string) string { return post(lines + length + "\r\n" + caseBody) }
	framed := func(lines, body string) string { return post(host + lines + "\r\n" + body) }
	path := func(path string) string { return line("POST " + path + " HTTP/1.1") }
	return []wireRequest{
		{"by length", framed(length, caseBody), 200, served},
		{"by chunks", framed(te, chunked), 200, served},
		{"two at once", framed(length, caseBody) + "GET /health HTTP/1.1\r\n" + host + "\r\n", 200, served},
		{"what is longer than its length", framed(length, caseBody+"garbage"), 200, last},

		// Host
		{"the same Host twice", hosts(host + host), 400, turnedDown},
		{"two Hosts", hosts(host + "Host: other\r\n"), 400, turnedDown},
		{"a list of Hosts without a space", hosts("Host: gw,other\r\n"), 400, turnedDown},
		{"a list of Hosts", hosts("Host: gw, other\r\n"), 400, closed},
		{"a Host folded to two", hosts("Host: gw\r\n other\r\n"), 400, closed},
		{"no Host", hosts(""), 400, closed},
		{"an empty Host", hosts("Host:\r\n"), 200, served},
		{"a Host with a space", hosts("Host: a b\r\n"), 400, closed},
		{"a Host with a slash", hosts("Host: a/b\r\n"), 400, closed},
		{"a Host with a user", hosts("Host: user@gw\r\n"), 400, turnedDown},
		{"a Host that is not ASCII", hosts("Host: g\xffw\r\n"), 400, closed},
		{"a Host with a port", hosts("Host: gw:8080\r\n"), 200, served},
		{"a Host with a port that is no number", hosts("Host: gw:x\r\n"), 400, turnedDown},
		{"a Host with two ports", hosts("Host: gw:80:80\r\n"), 400, turnedDown},
		{"a Host that is an address", hosts("Host: [::1]:8080\r\n"), 200, served},
		{"an absolute target", line("POST http://gw/v1/chat/completions HTTP/1.1"), 200, served},
		{"an absolute target of another host", line("POST http://other/v1/chat/completions HTTP/1.1"), 200, served},
		{"an absolute target with a user", line("POST http://user:pass@gw/v1/chat/completions HTTP/1.1"), 200, served},
		{"an absolute target of two hosts", line("POST http://gw,other/v1/chat/completions HTTP/1.1"), 400, closed},
		{"an absolute target that is no HTTP", line("POST ftp://gw/v1/chat/completions HTTP/1.1"), 400, closed},
		{"a target that is a host", line("POST gw:80 HTTP/1.1"), 400, closed},
		{"CONNECT", "CONNECT gw:80 HTTP/1.1\r\n" + host + "\r\n", 404, closed},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 404, turnedDown},

		// How long the body is
		{"length, then chunks", framed(length+te, chunked), 400, closed},
		{"chunks, then length", framed(te+length, chunked), 400, closed},
		{"chunks, and length 0", framed(te+"Content-Length: 0\r\n", chunked), 400, closed},
		{"the same length twice", framed(length+length, caseBody), 400, closed},
		{"two lengths", framed(length+"Content-Length: 3\r\n", caseBody), 400, closed},
		{"a list of lengths", framed(fmt.Sprintf("Content-Length: %d, %d\r\n", n, n), caseBody), 400, closed},
		{"a list of two lengths", framed(fmt.Sprintf("Content-Length: %d,3\r\n", n), caseBody), 400, closed},
		{"length +", framed(fmt.Sprintf("Content-Length: +%d\r\n", n), caseBody), 400, closed},
		{"length -1", framed("Content-Length: -1\r\n", caseBody), 400, closed},
		{"length 0x", framed(fmt.Sprintf("Content-Length: 0x%x\r\n", n), caseBody), 400, closed},
		{"length 00", framed(fmt.Sprintf("Content-Length: 00%d\r\n", n), caseBody), 200, served},
		{"length 1 1", framed("Content-Length: 1 1\r\n", caseBody), 400, closed},
		{"a length of nothing", framed("Content-Length:\r\n", caseBody), 400, closed},
		{"a length beyond 64 bits", framed("Content-Length: 99999999999999999999999\r\n", caseBody), 400, closed},
		{"a length with a space before the colon", framed(strings.Replace(length, ":", " :", 1), caseBody), 400, closed},
		{"identity", framed("Transfer-Encoding: identity\r\n"+length, caseBody), 400, closed},
		{"gzip, chunked", framed("Transfer-Encoding: gzip, chunked\r\n", chunked), 501, closed},
		{"chunked, chunked", framed("Transfer-Encoding: chunked, chunked\r\n", chunked), 501, closed},
		{"chunked twice", framed(te+te, chunked), 501, closed},
		{"xchunked", framed("Transfer-Encoding: xchunked\r\n", chunked), 501, closed},
		{"quoted chunked", framed("Transfer-Encoding: \"chunked\"\r\n", chunked), 501, closed},
		{"chunked after a vertical tab", framed("Transfer-Encoding: \x0bchunked\r\n", chunked), 400, closed},
		{"chunked after a tab", framed("Transfer-Encoding:\tchunked\r\n", chunked), 200, served},
		{"CHUNKED", framed("Transfer-Encoding: CHUNKED\r\n", chunked), 200, served},
		{"chunked before a space and the colon", framed("Transfer-Encoding : chunked\r\n", chunked), 400, closed},
		{"chunked on a folded line", framed("Transfer-Encoding:\r\n chunked\r\n", chunked), 200, served},
		{"no length and no chunks", framed("", caseBody), 400, closed},

		// Chunks
		{"chunk 0x", framed(te, "0x"+chunked), 400, closed},
		{"chunk +", framed(te, "+"+chunked), 400, closed},
		{"chunk -", framed(te, "-"+chunked), 400, closed},
		{"a space, then the chunk's size", framed(te, " "+chunked), 400, closed},
		{"a chunk's size, then a space", framed(te, strings.Replace(chunked, "\r\n", " \r\n", 1)), 200, served},
		{"a chunk of more than 64 bits", framed(te, "fffffffffffffffff\r\n"+caseBody+"\r\n0\r\n\r\n"), 400, closed},
		{"chunk lines that end in LF", framed(te, strings.ReplaceAll(chunked, "\r\n", "\n")), 400, closed},
		{"a chunk that ends in LF", framed(te, fmt.Sprintf("%x\r\n%s\n0\r\n\r\n", n, caseBody)), 400, closed},
		{"a chunk longer than it says", framed(te, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n-2, caseBody)), 400, closed},
		{"a chunk extension", framed(te, strings.Replace(chunked, "\r\n", ";name=\"value\"\r\n", 1)), 200, served},
		{"a chunk extension of 100 kB", framed(te, strings.Replace(chunked, "\r\n", ";"+strings.Repeat("a", 100_000)+"\r\n", 1)), 200, served},
		{"a chunk extension with LF", framed(te, strings.Replace(chunked, "\r\n", ";a\nb\r\n", 1)), 400, closed},
		{"a chunk extension with CR", framed(te, strings.Replace(chunked, "\r\n", ";a\rb\r\n", 1)), 400, closed},
		{"trailers", framed(te, chunk+"0\r\nContent-Length: 3\r\nAuthorization: x\r\nX-A: b\r\n\r\n"), 200, served},

		// Lines
		{"a folded header", headers("X-A: one\r\n two\r\n"), 200, served},
		{"a folded header that looks like a length", headers("X-A: one\r\n Content-Length: 3\r\n"), 200, served},
		{"a first header that is folded", post(" X-A: b\r\n" + host + length + "\r\n" + caseBody), 400, closed},
		{"lines that end in LF", strings.ReplaceAll(framed(length, caseBody), "\r\n", "\n"), 200, served},
		{"one line that ends in LF", headers("X-A: b\n"), 200, served},
		{"chunked after an LF", headers("X-A: b\nTransfer-Encoding: chunked\r\n"), 400, closed},
		{"CR in a value", headers("X-A: b\rX-B: c\r\n"), 200, served},
		{"chunked after a CR", headers("X-A: b\rTransfer-Encoding: chunked\r\n"), 200, served},
		{"NUL in a value", headers("X-A: a\x00b\r\n"), 400, closed},
		{"a control character in a value", headers("X-A: a\x01b\r\n"), 400, closed},
		{"DEL in a value", headers("X-A: a\x7fb\r\n"), 400, closed},
		{"a value that is not ASCII", headers("User-Agent: a\xffb\r\n"), 200, served},
		{"NUL in a name", headers("X\x00A: b\r\n"), 400, closed},
		{"a name that is not ASCII", headers("X\xffA: b\r\n"), 400, closed},
		{"a space in a name", headers("X A: b\r\n"), 400, closed},
		{"a space before the colon", headers("X-A : b\r\n"), 400, closed},
		{"no colon", headers("X-A\r\n"), 400, closed},
		{"no name", headers(": b\r\n"), 400, closed},
		{"a pseudo header", headers(":path: /x\r\n"), 400, closed},
		{"a length with an underscore", headers("Content_Length: 3\r\n"), 200, served},
		{"empty lines before the request", "\r\n\r\n" + framed(length, caseBody), 200, served},

		// The request line
		{"HTTP/1.0", line("POST /v1/chat/completions HTTP/1.0"), 200, last},
		{"HTTP/1.0 without a Host", "POST /v1/chat/completions HTTP/1.0\r\n" + length + "\r\n" + caseBody, 200, last},
		{"HTTP/1.0 in chunks", "POST /v1/chat/completions HTTP/1.0\r\n" + host + te + "\r\n" + chunked, 200, last},
		{"HTTP/1.0 in chunks, kept alive", "POST /v1/chat/completions HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n" + te + "\r\n" + chunked, 200, served},
		{"HTTP/1.0 until the end", "POST /v1/chat/completions HTTP/1.0\r\n" + host + "\r\n" + caseBody, 400, closed},
		{"HTTP/0.9", "POST /v1/chat/completions\r\n\r\n", 400, closed},
		{"HTTP/1.2", line("POST /v1/chat/completions HTTP/1.2"), 200, last},
		{"HTTP/2.0", line("POST /v1/chat/completions HTTP/2.0"), 200, last},
		{"HTTP/1.1x", line("POST /v1/chat/completions HTTP/1.1x"), 400, closed},
		{"http/1.1", line("POST /v1/chat/completions http/1.1"), 400, closed},
		{"post", line("post /v1/chat/completions HTTP/1.1"), 400, closed},
		{"a method that nobody knows", line("BREW /v1/chat/completions HTTP/1.1"), 400, closed},
		{"a method that is not for this path", line("PUT /v1/chat/completions HTTP/1.1"), 405, turnedDown},
		{"a method with a control character", line("PO\x01ST /v1/chat/completions HTTP/1.1"), 400, closed},
		{"a method with a parenthesis", line("P(ST /v1/chat/completions HTTP/1.1"), 400, closed},
		{"a method of 5 kB", line(strings.Repeat("A", 5000) + " /v1/chat/completions HTTP/1.1"), 400, closed},
		{"two spaces", line("POST  /v1/chat/completions HTTP/1.1"), 200, served},
		{"tabs", line("POST\t/v1/chat/completions\tHTTP/1.1"), 200, served},
		{"a space at the end", line("POST /v1/chat/completions HTTP/1.1 "), 200, served},
		{"a space in the path", path("/v1/chat/completions x"), 400, closed},
		{"NUL in the path", path("/v1/chat/completions\x00"), 400, closed},
		{"%00 in the path", path("/v1/chat/completions%00"), 400, closed},
		{"%zz in the path", path("/v1/chat/completions%zz"), 404, turnedDown},
		{"a path that is not ASCII", path("/v1/chat/completions?\xff"), 400, closed},
		{"a fragment", path("/v1/chat/completions#x"), 400, closed},
		{"a path without a slash", path("v1/chat/completions"), 400, closed},
		{"a backslash in the path", path("/v1\\chat/completions"), 200, served},
		{"an escaped slash in the path", path("/v1%2fchat/completions"), 404, turnedDown},
		{"dots in the path", path("/x/../v1/chat/completions"), 200, served},
		{"escaped dots in the path", path("/x/%2e%2e/v1/chat/completions"), 200, served},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400, closed},

		// Headers about the connection
		{"an upgrade to h2c", headers("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"), 200, served},
		{"an upgrade to a WebSocket", headers("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 403, closed},
		{"Connection that takes the length away", headers("Connection: content-length\r\n"), 200, served},
		{"Connection that takes the id away", headers("Connection: x-request-id, host\r\n"), 400, closed},
		{"TE", headers("TE: trailers, gzip\r\n"), 200, served},
		{"an expectation that nobody knows", headers("Expect: 200-ok\r\n"), 200, served},
	}
}

// TestWireRequests: a request that is not as HTTP wants it is turnedDown and its connection ended,
// or has one clear meaning; which, docs/rationale.md says: "How strictly is a client's HTTP read?".
// Whatever its bytes, the provider sees one well-formed request or none, and no part of one request
// is read as another.
func TestWireRequests(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 64KiB", pool("", to("a", a, provider(t, a))))
	cases := wireRequests()
	var all sync.WaitGroup // Envoy waits 5s for a client to close what it has closed: all of them at once
	for i := range cases {
		all.Go(func() {
			c, mark := cases[i], fmt.Sprintf("%04d", i)
			answer, goesOn, err := wire(g, strings.ReplaceAll(c.bytes, caseMark, mark))
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
				return
			}
			if answer.Status != c.status || goesOn != (c.outcome == served || c.outcome == turnedDown) {
				t.Errorf("%s: status %d, want %d; the connection goes on: %v; %s", c.what, answer.Status, c.status, goesOn, answer.Body)
			}
			if answer.Status >= 400 && message(answer.Body) == "" {
				t.Errorf("%s: the answer says nothing: %s", c.what, answer.Body)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	total := 0
	for i, c := range cases {
		mark := fmt.Sprintf("%04d", i)
		var seen []fakellm.Request
		for _, r := range a.Requests() {
			if strings.Contains(string(r.Body), mark) {
				seen = append(seen, r)
			}
		}
		if c.outcome == turnedDown || c.outcome == closed {
			if len(seen) > 0 {
				t.Errorf("%s: the provider has seen %d requests", c.what, len(seen))
			}
			continue
		}
		total++
		if len(seen) != 1 || seen[0].Refused != nil || string(seen[0].Body) != strings.ReplaceAll(caseBody, caseMark, mark) {
			t.Errorf("%s: the provider has seen %+v", c.what, seen)
			continue
		}
		for name, values := range seen[0].Header {
			if !slices.Contains(providerMaySee, name) || len(values) != 1 || strings.ContainsAny(values[0], "\r\n\x00") {
				t.Errorf("%s: the provider has seen the header %s: %q", c.what, name, values)
			}
		}
	}
	if sent := g.stat("cluster.default/chat/a.upstream_rq_total"); sent != total {
		t.Errorf("Envoy has sent %d requests to the provider, want %d", sent, total)
	}
}

var providerMaySee = []string{"Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "User-Agent", "X-Millrace-Via", "X-Request-Id"}

// wire writes bytes to the listener, and reads the answer. goesOn tells whether what comes after
// them on the connection, a request for /health, is answered as the request that it is.
func wire(g *gateway, bytes string) (a *wireAnswer, goesOn bool, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, bytes) // an Envoy that has turnedDown it already may have closed the connection
	in := bufio.NewReader(conn)
	a, err = readAnswer(in)
	if err != nil {
		return nil, false, fmt.Errorf("no answer: %w", err)
	}
	io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: gw\r\n\r\n")
	next, err := readAnswer(in)
	switch {
	case err == nil:
		return a, next.Status == 200, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, false, errors.New("the connection is neither used nor closed")
	case !a.closes:
		return nil, false, errors.New("the connection is closed, and the answer did not say so")
	}
	return a, false, nil
}

// wireAnswer is an answer as it came on a connection.
type wireAnswer struct {
	Status int
	Header http.Header
	Body   string
	closes bool // it says that the connection ends
}

// readAnswer reads the next answer, interim ones left out.
func readAnswer(in *bufio.Reader) (*wireAnswer, error) {
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode >= 200 {
			return &wireAnswer{r.StatusCode, r.Header, string(body), r.Close}, err
		}
	}
}

// TestWireRequestsHTTP2: as TestWireRequests, with HTTP/2. What is malformed ends its stream and no
// other: a request after it on the same connection is served.
func TestWireRequestsHTTP2(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
	usual := []string{":method", "POST", ":scheme", "http", ":authority", "gw", ":path", "/v1/chat/completions"}
	without := func(name string) []string {
		i := slices.Index(usual, name)
		return slices.Concat(usual[:i], usual[i+2:])
	}
	with := func(more ...string) []string { return slices.Concat(usual, more) }
	for _, c := range []struct {
		what   string
		header []string
		said   string // a status, or reset
	}{
		{"as usual", usual, "200"},
		{"two authorities", with(":authority", "other"), "reset"},
		{"the same authority twice", with(":authority", "gw"), "reset"},
		{"a list of authorities", append(without(":authority"), ":authority", "gw,other"), "400"},
		{"an authority with a user", append(without(":authority"), ":authority", "user@gw"), "reset"},
		{"no authority", without(":authority"), "reset"},
		{"a host in place of the authority", append(without(":authority"), "host", "gw"), "200"},
		{"another host than the authority", with("host", "other"), "200"},
		{"two paths", with(":path", "/v1/models"), "reset"},
		{"two methods", with(":method", "GET"), "reset"},
		{"no path", without(":path"), "reset"},
		{"an empty path", append(without(":path"), ":path", ""), "reset"},
		{"a path with a space", append(without(":path"), ":path", "/v1/chat/completions x"), "reset"},
		{"a path with CR LF", append(without(":path"), ":path", "/v1/chat/completions HTTP/1.1\r\nhost: x"), "reset"},
		{"a method with a space", append(without(":method"), ":method", "POST /"), "reset"},
		{"a status", with(":status", "200"), "reset"},
		{"a pseudo header that nobody knows", with(":x", "y"), "reset"},
		{"a pseudo header after another header", append(without(":path"), "x-a", "b", ":path", "/v1/chat/completions"), "reset"},
		{"CR LF in a value", with("x-a", "b\r\nx-b: c"), "reset"},
		{"LF in a value", with("user-agent", "b\nx-b: c"), "reset"},
		{"CR in a value", with("user-agent", "b\rx-b: c"), "reset"},
		{"NUL in a value", with("x-a", "b\x00c"), "reset"},
		{"a value that is not ASCII", with("user-agent", "b\xffc"), "200"},
		{"CR LF in a name", with("x-a: b\r\nx-b", "c"), "reset"},
		{"a colon in a name", with("x-a:b", "c"), "reset"},
		{"a space in a name", with("x a", "c"), "reset"},
		{"a name in upper case", with("X-A", "b"), "reset"},
		{"no name", with("", "b"), "reset"},
		{"connection", with("connection", "close"), "reset"},
		{"transfer-encoding", with("transfer-encoding", "chunked"), "reset"},
		{"upgrade", with("upgrade", "h2c"), "reset"},
		{"te", with("te", "gzip"), "reset"},
		{"two lengths", with("content-length", strconv.Itoa(len(chatHello)), "content-length", "3"), "reset"},
		{"a length that is too small", with("content-length", "3"), "reset"},
		{"a length that is too large", with("content-length", "3000"), "reset"},
		{"a length +", with("content-length", "+"+strconv.Itoa(len(chatHello))), "reset"},
	} {
		before := len(a.Requests())
		said := wireHTTP2(t, g, c.header, chatHello)
		seen := len(a.Requests()) - before - 1 // the one after it
		if said != c.said || seen != map[bool]int{true: 1}[c.said == "200"] {
			t.Errorf("%s: %s, and the provider has seen %d requests; want %s", c.what, said, seen, c.said)
		}
	}
}

// wireHTTP2 sends a request as it is, names and values in turn, and then one as it should be. It
// returns the status, or reset for a stream that ended without one. The second must be served on
// the same connection.
func wireHTTP2(t *testing.T, g *gateway, header []string, body string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	send := func(stream uint32, header []string) {
		block.Reset()
		for pair := range slices.Chunk(header, 2) {
			encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
		f.WriteData(stream, true, []byte(body))
	}
	answer := func(stream uint32) string {
		status := "reset"
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatalf("%q: stream %d: %v", header, stream, err)
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				if frame.StreamID == stream {
					status = frame.PseudoValue("status")
				}
			case *http2.GoAwayFrame:
				t.Fatalf("%q: %v", header, frame)
			case *http2.RSTStreamFrame:
				if frame.StreamID == stream {
					return status
				}
			}
			if h := frame.Header(); h.StreamID == stream && h.Flags.Has(http2.FlagDataEndStream) {
				return status
			}
		}
	}
	send(1, header)
	said := answer(1)
	send(3, []string{":method", "POST", ":scheme", "http", ":authority", "gw", ":path", "/v1/chat/completions"})
	if after := answer(3); after != "200" {
		t.Errorf("%q: the next request: %s", header, after)
	}
	return said
}
