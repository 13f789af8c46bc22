package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"millrace/internal/fakellm"
)

// chatOf is a chat request whose body has this many bytes.
func chatOf(size int) string {
	body := `{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}`
	return fmt.Sprintf(body, strings.Repeat("x", size-len(body)+2))
}

// held is a gateway whose target answers once the gate is closed.
func held(t *testing.T, settings string) (g *gateway, a *fakellm.Provider, gate chan struct{}) {
	a = openAI("a")
	gate = make(chan struct{})
	a.Always(fakellm.Reply{Answer: fakellm.Usual().Answer, Head: fakellm.Pace{Gate: gate}})
	g = start(t, settings, pool("", to("a", a, provider(t, a))))
	t.Cleanup(func() { // what still waits ends before the gateway does
		select {
		case <-gate:
		default:
			close(gate)
		}
	})
	return g, a, gate
}

// underWay posts the body and waits until the target has it.
func (g *gateway) underWay(wg *sync.WaitGroup, a *fakellm.Provider, body string) {
	g.t.Helper()
	before := len(a.Requests())
	wg.Go(func() { g.post("/v1/chat/completions", body).want(200) })
	g.eventually("the request is under way", func() error {
		if len(a.Requests()) == before {
			return errors.New("not there")
		}
		return nil
	})
}

// announce sends the headers of a request and nothing of its body, and returns the answer.
func (g *gateway) announce(path string, header ...string) *answer {
	return g.begin("", path, header...)
}

// begin sends the headers of a request and a part of its body as it goes over the wire, and returns
// the answer.
func (g *gateway) begin(part, path string, header ...string) *answer {
	g.t.Helper()
	conn := g.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", path, strings.Join(header, "\r\n"))
	go io.WriteString(conn, part) // it may be refused before it is sent
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.read(r)
}

// TestBodiesAreBounded: the bodies of all requests under way together stay within their bound. What
// would go beyond is refused before its body is taken in, whether it says how large it is or not,
// and served when there is room again (C08).
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	g, a, gate := held(t, "max_request_bytes: 2MiB\nmax_request_bytes_total: 4MiB")
	var wg sync.WaitGroup
	g.underWay(&wg, a, chatOf(1_500_000))
	g.underWay(&wg, a, chatOf(1_500_000))
	seen := len(a.Requests())

	for size, part := range map[string]string{
		"Content-Length: 1500000":    "",
		"Transfer-Encoding: chunked": fmt.Sprintf("%x\r\n%s", 1_500_000, strings.Repeat("x", 1_500_000)),
	} {
		r := g.begin(part, "/v1/chat/completions", size).want(503, "take all the room").header("retry-after", "1")
		r.openAIError("server_error")
		g.begin(part, "/v1/messages", size).want(503).header("retry-after", "1").anthropicError("overloaded_error")
	}
	g.get("/health").want(200)
	g.get("/health/ready").want(200)
	g.underWay(&wg, a, chatOf(500_000)) // it still fits

	uploads := make([]net.Conn, 0, 4) // the last room is taken by one that has only begun
	for range cap(uploads) {
		conn := g.dial()
		fmt.Fprint(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{")
		uploads = append(uploads, conn)
	}
	g.eventually("there is no room", func() error {
		conn := g.dial() // one that is let in waits for its body, so it is given up soon
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		fmt.Fprint(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		if r.StatusCode != 503 {
			return errors.New(r.Status)
		}
		return nil
	})
	for _, conn := range uploads {
		conn.Close()
	}
	if n := len(a.Requests()); n != seen+1 {
		t.Errorf("%d requests that were refused reached the target", n-seen-1)
	}
	close(gate)
	wg.Wait()
	g.eventually("there is room for the largest, twice, again", func() error {
		var both sync.WaitGroup
		statuses := make([]int, 2)
		for i := range statuses {
			both.Go(func() { statuses[i] = g.post("/v1/chat/completions", chatOf(2<<20)).Status })
		}
		both.Wait()
		if statuses[0] != 200 || statuses[1] != 200 {
			return fmt.Errorf("statuses %v", statuses)
		}
		return nil
	})
}

// TestManyOfUnknownSize: what does not say how large it is takes what has come of it, and not the
// most that it may be: by the defaults a hundred requests whose bodies come bit by bit are served
// beside each other, over HTTP/1.1 and HTTP/2.
func TestManyOfUnknownSize(t *testing.T) {
	t.Parallel()
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, protocols := range map[string]*http.Protocols{"HTTP/1.1": nil, "HTTP/2": h2} {
		t.Run(name, func(t *testing.T) {
			a := openAI("a")
			g := start(t, "", pool("", to("a", a, provider(t, a))))
			client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
			const all = 100
			rest := make(chan struct{})
			var answered atomic.Int32
			var wg sync.WaitGroup
			for range all {
				body, upload := io.Pipe()
				wg.Go(func() {
					io.WriteString(upload, chatHello[:9])
					<-rest
					io.WriteString(upload, chatHello[9:])
					upload.Close()
				})
				wg.Go(func() {
					r, err := client.Do(g.request("POST", "/v1/chat/completions", body))
					answered.Add(1)
					body.Close()
					if err != nil {
						t.Error(err)
						return
					}
					g.read(r).want(200)
				})
			}
			g.eventually("all are under way", func() error {
				if n := g.stat("http.ingress.downstream_rq_active"); n+int(answered.Load()) < all {
					return fmt.Errorf("%d are", n)
				}
				return nil
			})
			if n := answered.Load(); n > 0 {
				t.Errorf("%d were answered before their bodies were in", n)
			}
			close(rest)
			wg.Wait()
		})
	}
}

// TestRefusedBeforeTheBody: a large request that cannot be served is refused by its headers: nobody
// without a key fills memory.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_request_bytes: 2MiB\nauth: required", pool("", to("a", a, provider(t, a))))
	for _, size := range []string{"Content-Length: 1500000", "Transfer-Encoding: chunked"} {
		g.announce("/v1/chat/completions", size).want(401).openAIError("authentication_error")
		g.announce("/v1/messages", size, "X-Api-Key: wrong").want(401).anthropicError("authentication_error")
		g.announce("/nowhere", size).want(404)
	}
	g.announce("/v1/chat/completions", "Content-Length: 3000000").want(401) // who may not ask is not told of limits
	g.announce("/v1/models", "Content-Length: 1500000").want(401)
}

// TestMoreThanAnnounced: a body cannot be longer than its content-length said, in HTTP/2 either,
// where the two are independent.
func TestMoreThanAnnounced(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
	conn := g.dial()
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	f.WriteSettings()
	var block bytes.Buffer
	h := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/v1/chat/completions"}, {"content-length", "100000"},
	} {
		h.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	for range 8 {
		f.WriteData(1, false, make([]byte, 16_000))
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if _, reset := frame.(*http2.RSTStreamFrame); reset {
			break
		}
		if _, answered := frame.(*http2.HeadersFrame); answered {
			t.Fatal("it was answered")
		}
	}
	g.post("/v1/chat/completions", chatHello).want(200)
	if n := len(a.Requests()); n != 1 {
		t.Errorf("%d requests reached the target", n)
	}
}

// TestSidecarMemory: the bodies under way stay within a third of the sidecar's memory limit,
// however many come in one moment, whether they say how large they are or not; the rest is refused,
// health answers, and what was let in is served.
func TestSidecarMemory(t *testing.T) {
	t.Parallel()
	const all, fit = 16, 3
	for name, c := range map[string]struct {
		reader func(string) io.Reader
		least  int32 // are served
	}{
		"known size":   {func(s string) io.Reader { return strings.NewReader(s) }, fit},
		"unknown size": {func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }, 0}, // all of them may have begun
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, a, gate := held(t, "max_sidecar_memory: 96MiB")
			var wg sync.WaitGroup
			var served, refused atomic.Int32
			for range all {
				wg.Go(func() {
					r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", c.reader(chatOf(10_000_000))))
					if err != nil {
						t.Error(err)
						return
					}
					switch g.read(r).Status {
					case 200:
						served.Add(1)
					case 503:
						refused.Add(1)
					}
				})
			}
			g.eventually("each is refused or under way", func() error {
				if r, s := refused.Load(), len(a.Requests()); int(r)+s < all {
					return fmt.Errorf("%d refused, %d under way", r, s)
				}
				return nil
			})
			g.get("/health").want(200, `"status":"ok"`)
			close(gate)
			wg.Wait()
			if s, r := served.Load(), refused.Load(); s < c.least || s > fit || s+r != all {
				t.Errorf("%d served, %d refused of %d; want %d served", s, r, all, fit)
			}
			g.eventually("one is served again", func() error {
				r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", c.reader(chatOf(10_000_000))))
				if err != nil {
					return err
				}
				if status := g.read(r).Status; status != 200 {
					return fmt.Errorf("status %d", status)
				}
				return nil
			})
		})
	}
}
