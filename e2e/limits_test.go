package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// TestSlowStart: a target that health checks find well again gets little at first and its share in
// the end, and so does one that is new (B32).
func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"round-robin", "least-connections"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			a, b, c := openAI("a"), openAI("b"), openAI("c")
			g := start(t, "", pool("algorithm: "+algorithm+"\nhealth_checks: {slow_start: 6s, active: {path: /v1/models, interval: 0.2s, fall: 1, rise: 1}}",
				to("a", a, provider(t, a)), to("b", b, provider(t, b))))
			const n = 60
			g.eventually("a target that returns has little", func() error { // once the other one has its whole share
				a.Probe(fakellm.Fail(503, "down"))
				g.answeredBy("b")
				a.Reset()
				g.answersSome("a")
				if s := g.shares(n); s["a"] > n/3 {
					return fmt.Errorf("shares %v", s)
				}
				return nil
			})
			g.eventually("it has half", func() error {
				if s := g.shares(n); s["a"] < n/2-3 {
					return fmt.Errorf("shares %v", s)
				}
				return nil
			})
			server, tried := provider(t, c), 0
			g.eventually("a target that is new has little", func() error { // once it was counted soon enough
				tried++
				id := fmt.Sprintf("c%d", tried)
				line := "  - " + to(id, c, server) + "\n"
				g.edit(func(s string) string { return strings.Replace(s, "  targets:\n", "  targets:\n"+line, 1) })
				g.answersSome(id)
				if s, fair := g.shares(n), n/(2+tried); s[id] > fair/2 {
					return fmt.Errorf("shares %v", s)
				}
				return nil
			})
		})
	}
}

// shares counts which target answers how many of n requests.
func (g *gateway) shares(n int) map[string]int {
	g.t.Helper()
	counted := map[string]int{}
	for range n {
		counted[g.post("/v1/chat/completions", chatHello).want(200).Header.Get("x-millrace-target")]++
	}
	return counted
}

// answersSome waits until the target is among those that answer.
func (g *gateway) answersSome(target string) {
	g.t.Helper()
	g.eventually(target+" answers", func() error {
		if s := g.shares(4); s[target] == 0 {
			return fmt.Errorf("answers %v", s)
		}
		return nil
	})
}

// TestMaxRequests: what is more than the upstream may have under way is refused at once, in the
// client's schema, and nobody else is (C22, E14).
func TestMaxRequests(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g := start(t, "connection_pool: {max_requests: 2}", pool("", to("a", a, provider(t, a)), to("b", b, provider(t, b))))
	gate := make(chan struct{})
	held := fakellm.Usual()
	held.Head = fakellm.Pace{Gate: gate}
	a.Always(held)
	b.Always(held)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { g.post("/v1/chat/completions", chatStream).want(200) })
		g.eventually("the request is under way", func() error {
			if n := len(a.Requests()) + len(b.Requests()); n != i+1 {
				return fmt.Errorf("%d requests", n)
			}
			return nil
		})
	}
	g.post("/v1/chat/completions", chatHello).want(503, "too many requests").openAIError("server_error")
	g.post("/v1/chat/completions", chatStream).want(503, "too many requests").openAIError("server_error")
	g.post("/v1/messages", claudeHello).want(503, "too many requests").anthropicError("overloaded_error")
	if n := len(a.Requests()) + len(b.Requests()); n != 2 {
		t.Errorf("%d requests reached a target", n)
	}
	close(gate)
	wg.Wait()
	g.post("/v1/chat/completions", chatHello).want(200)
}

// TestMaxPerTarget: a target has no more connections than it may have, each of Envoy's two threads
// one of its own; what is beyond that waits, as many as may, and is answered later; the rest is
// refused at once (C09, C22, C27).
func TestMaxPerTarget(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	s := provider(t, a)
	g := start(t, "connection_pool: {max_per_target: 1, max_pending: 3}", pool("", to("a", a, s)))
	gate := make(chan struct{})
	held := fakellm.Usual()
	held.Head = fakellm.Pace{Gate: gate}
	a.Always(held)
	const n, waiting, threads = 12, 3, 2
	var wg sync.WaitGroup
	var answered, refused atomic.Int64
	for i := range n {
		wg.Go(func() {
			if r := g.post("/v1/chat/completions", chatStream); r.Status == 200 {
				answered.Add(1)
			} else {
				r.want(503, "too many requests").openAIError("server_error")
				refused.Add(1)
			}
		})
		g.eventually("the request is somewhere", func() error {
			if at := len(a.Requests()) + g.stat("cluster.default/chat/a.upstream_rq_pending_active") + int(refused.Load()); at != i+1 {
				return fmt.Errorf("%d of %d are", at, i+1)
			}
			return nil
		})
	}
	under := len(a.Requests())
	if connections := len(connectionsTo(t, s.Addr())); under < 1 || under > threads || connections != under {
		t.Errorf("%d connections for %d requests under way", connections, under)
	}
	close(gate)
	wg.Wait()
	if got := int(answered.Load()); got != under+waiting {
		t.Errorf("%d answered and %d refused, with %d under way and %d waiting", got, refused.Load(), under, waiting)
	}
}

// TestQueueIsBounded: a stream that gets no connection is not left waiting (C09, E10).
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	gate := make(chan struct{})
	const token = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}`
	const stop = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	a.Always(fakellm.Reply{
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Steps:  []fakellm.Step{{Bytes: token + "\n\n"}, {Bytes: stop + "\n\ndata: [DONE]\n\n", Pace: fakellm.Pace{Gate: gate}}},
	})
	g := start(t, "connection_pool: {max_total: 1}\ntimeouts: {first_byte_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	const streams = 4 // one connection for each of Envoy's two threads, and some that wait
	var all sync.WaitGroup
	var refused atomic.Int32
	for range streams {
		all.Go(func() {
			if got := g.post("/v1/chat/completions", chatStream); got.Status == http.StatusGatewayTimeout {
				got.openAIError("timeout")
				refused.Add(1)
			}
		})
	}
	g.eventually("those that wait are told", func() error {
		if n := refused.Load(); n < streams-2 {
			return fmt.Errorf("%d of them", n)
		}
		return nil
	})
	close(gate)
	all.Wait()
	if asked := len(a.Requests()); asked > 2 {
		t.Errorf("the target was asked %d times over two connections", asked)
	}
}

// TestTCPKeepAlive: connections to targets stay open for the next request (A36), at most for
// idle_timeout (E13), and TCP asks meanwhile whether the target is there.
func TestTCPKeepAlive(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	s := provider(t, a)
	g := start(t, "connection_pool: {keep_alive: 7s, idle_timeout: 3s}", pool("", to("a", a, s)))
	for range 10 {
		g.post("/v1/chat/completions", chatHello).want(200)
	}
	connections := connectionsTo(t, s.Addr())
	if len(connections) != 1 {
		t.Fatalf("connections %v for requests one after the other", connections)
	}
	const probing, hz = 2, 100
	if c := connections[0]; c.timer != probing || c.in > 7*hz {
		t.Errorf("TCP's timer is %d, in %d", c.timer, c.in)
	}
	g.eventually("the connection is closed", func() error {
		if c := connectionsTo(t, s.Addr()); len(c) > 0 {
			return fmt.Errorf("connections %v", c)
		}
		return nil
	})
}

// TestPreconnect: the first request to a target opens connections for the next ones (E15).
func TestPreconnect(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	s := provider(t, a)
	g := start(t, "connection_pool: {preconnect: 3}", pool("", to("a", a, s)))
	g.post("/v1/chat/completions", chatHello).want(200)
	g.eventually("three connections are open", func() error {
		if n := len(connectionsTo(t, s.Addr())); n != 3 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// stat reads one of Envoy's numbers.
func (g *gateway) stat(name string) int {
	g.t.Helper()
	page, err := g.envoyAdmin("/stats?filter=^" + regexp.QuoteMeta(name) + "$")
	if err != nil {
		g.t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSpace(page), ": ")
	n, err := strconv.Atoi(value)
	if err != nil {
		g.t.Fatalf("stat %s: %q", name, page)
	}
	return n
}

// tcpConnection is a connection's kernel timer: which one runs, and in how many hundredths of a
// second it ends.
type tcpConnection struct{ timer, in int64 }

// connectionsTo lists the established connections to an address.
func connectionsTo(t *testing.T, addr string) []tcpConnection {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp") // https://docs.kernel.org/networking/proc_net_tcp.html
	if err != nil {
		t.Fatal(err)
	}
	const remote, state, timer, established = 2, 3, 5, "01"
	var found []tcpConnection
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[remote], fmt.Sprintf(":%04X", n)) || f[state] != established {
			continue
		}
		kind, in, _ := strings.Cut(f[timer], ":")
		var c tcpConnection
		c.timer, _ = strconv.ParseInt(kind, 16, 64)
		c.in, _ = strconv.ParseInt(in, 16, 64)
		found = append(found, c)
	}
	return found
}

// TestSlowUpload: a client that sends its body byte by byte is ended with 408 in its schema, and so
// is one whose headers do not come to an end; everybody else is served meanwhile (C08, A14, C14,
// A20).
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "clients: {receive_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	head := "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
	for _, c := range []struct {
		name, at string
		check    func(*answer)
	}{
		{"OpenAI", fmt.Sprintf(head, "/v1/chat/completions", 100_000), func(r *answer) { r.openAIError("timeout") }},
		{"Anthropic", fmt.Sprintf(head, "/v1/messages", 100_000), func(r *answer) { r.anthropicError("timeout_error") }},
		{"headers", "POST /v1/chat/completions HTTP/1.1\r\nx-long: ", func(r *answer) { r.openAIError("timeout") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := g.dial()
			io.WriteString(conn, c.at)
			stop := make(chan struct{})
			var sending sync.WaitGroup
			sending.Go(func() {
				slowly := time.NewTicker(50 * time.Millisecond)
				defer slowly.Stop()
				for {
					select {
					case <-slowly.C:
						io.WriteString(conn, "x")
					case <-stop:
						return
					}
				}
			})
			g.post("/v1/chat/completions", chatHello).want(200)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			close(stop)
			sending.Wait()
			if err != nil {
				t.Fatal(err)
			}
			c.check(g.read(r).want(408, "did not arrive in time"))
		})
	}
	if n := len(a.Requests()); n != 3 {
		t.Errorf("%d requests reached the target", n)
	}
}

// TestLargeHeaders: headers beyond the bounds, in size or in number, are 431 (C08). Envoy has not
// read the path by then, so the schema is OpenAI's; over HTTP/2 it resets the stream, and the
// connection goes on.
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "clients: {max_headers: 20, max_header_bytes: 4KiB}", pool("", to("a", a, provider(t, a))))
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("x-%d: 1", i)
	}
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	for name, headers := range map[string][]string{"size": {"x-large: " + strings.Repeat("x", 8000)}, "number": many} {
		t.Run(name, func(t *testing.T) {
			g.post("/v1/chat/completions", chatHello, headers...).want(431, "headers are too large").openAIError("invalid_request_error")
			if r, err := h2.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello), headers...)); err == nil || !strings.Contains(err.Error(), "stream error") {
				t.Errorf("over HTTP/2: %v, %v", r, err)
			}
			r, err := h2.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello)))
			if err != nil {
				t.Fatal(err)
			}
			g.read(r).want(200)
		})
	}
	g.post("/v1/chat/completions", chatHello, "x-large: "+strings.Repeat("x", 3000)).want(200)
	g.post("/v1/chat/completions", chatHello, many[:10]...).want(200)
}

// TestMaxConnections: connections beyond the bound are closed, those within it are served; the
// bound follows the file and closes nobody's connection (C08, C12, A19).
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "clients: {max_connections: 3}", pool("", to("a", a, provider(t, a))))
	http.DefaultClient.CloseIdleConnections() // those of waitReady
	var open []net.Conn
	g.eventually("three connections are served", func() error {
		conn := g.dial()
		if err := ask(conn); err != nil {
			return err
		}
		if open = append(open, conn); len(open) < 3 {
			return fmt.Errorf("%d are", len(open))
		}
		return nil
	})
	if err := ask(g.dial()); err == nil || strings.HasPrefix(err.Error(), "status") {
		t.Errorf("one more connection is not closed: %v", err)
	}
	g.edit(func(s string) string { return strings.Replace(s, "max_connections: 3", "max_connections: 4", 1) })
	g.eventually("a fourth is served", func() error { return ask(g.dial()) })
	for i, conn := range open {
		if err := ask(conn); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// TestIdleClient: a connection without a request is ended after its time (A10).
func TestIdleClient(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "clients: {idle_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	if err := ask(g.dial()); err != nil {
		t.Fatal(err)
	}
	g.eventually("the connection is ended", func() error {
		if n := g.stat("http.ingress.downstream_cx_idle_timeout"); n == 0 {
			return errors.New("it is not")
		}
		return nil
	})
}

// TestMaxMemory: close to the bound new requests are refused in the client's schema; those under
// way are finished, and active health checks go on; with more memory requests are served again
// (C08).
func TestMaxMemory(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := start(t, "max_memory: 2GiB", pool("health_checks: {active: {path: /v1/models, interval: 0.2s, fall: 5, rise: 1}}", to("a", a, provider(t, a))))
	g.answeredBy("a")
	gate := make(chan struct{})
	slow := fakellm.Usual()
	slow.Each = fakellm.Pace{Gate: gate}
	a.Script(slow)
	before := len(a.Requests())
	var underWay sync.WaitGroup
	underWay.Go(func() { g.post("/v1/chat/completions", chatStream).want(200, "[DONE]") })
	g.eventually("a request is under way", func() error {
		if n := len(a.Requests()); n != before+1 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	g.edit(func(s string) string { return strings.Replace(s, "max_memory: 2GiB", "max_memory: 1MiB", 1) })
	g.eventually("requests are refused", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 503 || !strings.Contains(r.Body, "short of memory") {
			return fmt.Errorf("status %d: %s", r.Status, r.Body)
		}
		return nil
	})
	before = len(a.Requests())
	g.post("/v1/chat/completions", chatHello).want(503, "short of memory").openAIError("server_error")
	g.post("/v1/messages", claudeStream).want(503, "short of memory").anthropicError("overloaded_error")
	if n := len(a.Requests()); n != before {
		t.Errorf("%d refused requests reached the target", n-before)
	}
	g.get("/health").want(200, `"status":"ok"`, "short of memory")
	g.get("/health/ready?x").want(503, `"status":"not ready"`, "short of memory")
	probes := a.Probes()
	g.eventually("the target is asked", func() error {
		if n := a.Probes() - probes; n < 3 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	g.eventually("the target is healthy", func() error { // one late check takes it out for a moment
		if n := g.stat("cluster.default/chat.membership_healthy"); n != 1 {
			return fmt.Errorf("%d healthy targets", n)
		}
		return nil
	})
	close(gate)
	underWay.Wait()
	g.edit(func(s string) string { return strings.Replace(s, "max_memory: 1MiB", "max_memory: 2GiB", 1) })
	g.answeredBy("a")
}

// dial opens a connection to the gateway, closed at the end of the test.
func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// ask makes a request on a connection.
func ask(conn net.Conn) error {
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(chatHello), chatHello)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	if r.StatusCode != 200 {
		return fmt.Errorf("status %s", r.Status)
	}
	return err
}
