package webhook

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var question = &Question{ID: "r-1", Phase: "input", Gateway: "main", Schema: "openai.chat", Texts: []Text{{"user", "said", "hello"}}}

// service is a server that counts what it is asked. A handler that waits must end with the request.
type service struct {
	*httptest.Server
	asked, connections atomic.Int32
	open               sync.WaitGroup // connections
}

func serve(t *testing.T, handle http.HandlerFunc) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		handle(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.connections.Add(1)
			s.open.Add(1)
		case http.StateClosed:
			s.open.Done()
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func says(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang waits until its client is gone.
func hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // else the server does not notice
	<-r.Context().Done()
}

// at is a configuration that is generous; with changes it.
func at(url string, with func(*Config)) Config {
	c := Config{URL: url, Timeout: time.Minute, Concurrency: 4, MaxAnswerBytes: 1 << 20}
	if with != nil {
		with(&c)
	}
	return c
}

func client(t *testing.T, url string, with func(*Config)) *Client {
	t.Helper()
	c, err := New(at(url, with))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestAsk: what a service gets, with a signature that the library of the standard takes, on one
// connection.
func TestAsk(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	ids := map[string]bool{}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		library, err := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = library.Verify(body, r.Header)
		}
		if err != nil {
			t.Error(err)
		}
		if want := `{"id":"r-1","phase":"input","gateway":"main","schema":"openai.chat","stream":false,"texts":[{"role":"user","kind":"said","text":"hello"}]}`; string(body) != want {
			t.Errorf("%s\nwant %s", body, want)
		}
		for name, want := range map[string]string{"Authorization": "Bearer s3cret", "Content-Type": "application/json", "X-Idempotency-Key": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if r.Method != http.MethodPost || r.URL.String() != "/judge?v=1" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		ids[r.Header.Get("Webhook-Id")] = true
		io.WriteString(w, `{"verdict":"flag","category":"tone"}`)
	})
	c := client(t, s.URL+"/judge?v=1", func(c *Config) {
		c.Secret, c.Headers = secret, map[string]string{"authorization": "Bearer s3cret"}
	})
	for range 5 {
		v, err := c.Ask(t.Context(), question)
		if err != nil || v.Action != Flag || v.Category != "tone" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if n := s.connections.Load(); n != 1 || len(ids) != 5 {
		t.Errorf("5 questions took %d connections and have %d ids", n, len(ids))
	}
	if v, err := c.Ask(t.Context(), &Question{ID: "r-2"}); v.Action != Pass || err != nil || s.asked.Load() != 5 {
		t.Errorf("about nothing: %+v, %v", v, err)
	}
}

// TestModerationAsk: the other format, end to end.
func TestModerationAsk(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) != `{"model":"m","input":["hello"]}` {
			t.Errorf("%s", body)
		}
		io.WriteString(w, `{"results":[{"flagged":true,"categories":{"hate":true},"category_scores":{"hate":0.9}}]}`)
	})
	c := client(t, s.URL, func(c *Config) { c.Format, c.Model = Moderation, "m" })
	if v, err := c.Ask(t.Context(), question); err != nil || v.Action != Block || v.Category != "hate" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := c.Ask(t.Context(), &Question{Texts: []Text{{Text: " "}}}); err != nil || v.Action != Pass || s.asked.Load() != 1 {
		t.Errorf("about nothing: %+v, %v", v, err)
	}
}

// TestFailures: however a service fails, the question ends with an error that says how, after as
// many tries as are worth it. No error has the URL, which may have a secret in it.
func TestFailures(t *testing.T) {
	const short = 100 * time.Millisecond
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		with   func(*Config)
		want   string
		asked  int32
	}{
		"hangs": {hang, func(c *Config) { c.Timeout = short }, "webhook: no answer within 100ms", 1},
		"hangs in its answer": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"verdict":`)
			w.(http.Flusher).Flush()
			hang(w, r)
		}, func(c *Config) { c.Timeout = short }, "webhook: no answer within 100ms", 1},
		"one byte and another": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
			}
		}, func(c *Config) { c.Timeout, c.MaxAnswerBytes = short, 1<<40 }, "webhook: no answer within 100ms", 1},
		"without an end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, strings.Repeat(" ", 1<<16))
			}
		}, nil, "the answer has more than 1048576 bytes", 1},
		"a byte too many": {says(`{"verdict":"pass"}`), func(c *Config) { c.MaxAnswerBytes = 17 }, "the answer has more than 17 bytes", 1},
		"no JSON":         {says(`<html>`), nil, "the answer is no JSON, at byte 0", 1},
		"nothing":         {says(``), nil, "the answer is no JSON", 1},
		"no verdict":      {says(`{"verdict":"allow"}`), nil, `the answer's verdict is "allow"`, 1},
		"a compressed one": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("it asks for compression")
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, `{"verdict":"pass"}`+strings.Repeat(" ", 1<<16))
			z.Close()
		}, nil, "the answer is no JSON, at byte 0", 1},
		"no content":        {status(204), nil, "status 204", 1},
		"a redirect":        {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", 307) }, nil, "status 307", 1},
		"refuses":           {status(401), nil, "status 401", 1},
		"is not there":      {status(404), nil, "status 404", 1},
		"has too much":      {status(429), nil, "status 429", 1},
		"fails":             {status(503), nil, "status 503", 3},
		"fails, no retries": {status(503), func(c *Config) { c.Retries = 0 }, "status 503", 1},
		"fails, no time":    {status(503), func(c *Config) { c.Backoff = time.Hour }, "status 503", 1},
		"cuts its answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"verdict":"pass"}`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil, "unexpected EOF", 1},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 128<<10 /* more than are read */))
		}, nil, "server response headers exceeded", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.handle)
			client := client(t, s.URL+"/?token=s3cret", func(config *Config) {
				config.Retries, config.Backoff = 2, time.Millisecond
				if c.with != nil {
					c.with(config)
				}
			})
			v, err := client.Ask(t.Context(), question)
			if err == nil || !strings.Contains(err.Error(), c.want) || v.Action != "" {
				t.Errorf("%+v, %v, want %q", v, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v has a secret", err)
			}
			if n := s.asked.Load(); n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
		})
	}
}

// TestRetry: a service that is back at the next try has answered.
func TestRetry(t *testing.T) {
	var ids []string
	var s *service
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		ids = append(ids, r.Header.Get("Webhook-Id"))
		if s.asked.Load() < 3 {
			w.WriteHeader(500)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "hello") {
			t.Errorf("the last try has %s", body)
		}
		io.WriteString(w, `{"verdict":"pass"}`)
	})
	c := client(t, s.URL, func(c *Config) { c.Retries = 2 })
	if v, err := c.Ask(t.Context(), question); err != nil || v.Action != Pass {
		t.Errorf("%+v, %v", v, err)
	}
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("the tries have the ids %v", ids)
	}
}

// TestNoConnection: a service that does not listen is tried again, and one whose address is refused
// is never connected to.
func TestNoConnection(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	tries := 0
	c := client(t, "http://"+closed.Addr().String(), func(c *Config) {
		c.Retries, c.Refuse = 3, func(netip.AddrPort) error { tries++; return nil }
	})
	if _, err := c.Ask(t.Context(), question); err == nil || !strings.Contains(err.Error(), "connection refused") || tries != 4 {
		t.Errorf("%v after %d tries", err, tries)
	}
	s := serve(t, says(`{"verdict":"pass"}`))
	where := netip.MustParseAddrPort(s.Listener.Addr().String())
	c = client(t, fmt.Sprintf("http://localhost:%d", where.Port()), func(c *Config) {
		c.Refuse = func(a netip.AddrPort) error {
			if a.Addr().IsLoopback() && a.Port() == where.Port() {
				return errors.New("that is this machine")
			}
			return nil
		}
	})
	if _, err := c.Ask(t.Context(), question); err == nil || !strings.Contains(err.Error(), "that is this machine") || s.connections.Load() != 0 {
		t.Errorf("%v, %d connections", err, s.connections.Load())
	}
}

// TestIdleConnection: a service that closes a connection at the moment that it is used again is
// asked on another one.
func TestIdleConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	var connections atomic.Int32
	wg.Go(func() { // it answers once on each connection, and reads the next question before it closes
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			wg.Go(func() {
				defer conn.Close()
				for i := range 2 {
					r, err := http.ReadRequest(bufio.NewReader(conn))
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					if i == 0 {
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"verdict\":\"pass\"}")
					}
				}
			})
		}
	})
	c := client(t, "http://"+l.Addr().String(), nil)
	for range 3 {
		if v, err := c.Ask(t.Context(), question); err != nil || v.Action != Pass {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
	c.Close()
}

// TestBreaker: after failures in a row nobody is asked until the pause is over; then one question
// is, and its answer decides.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{failures: 2, pause: time.Minute}
		step := func(enter bool, then state) {
			t.Helper()
			if got := b.enter(); got != enter {
				t.Fatalf("it lets pass: %v", got)
			} else if got {
				b.leave(then)
			}
		}
		step(true, down)
		step(true, up) // not in a row
		step(true, down)
		step(true, unknown)
		step(true, down)
		step(false, 0)
		time.Sleep(time.Minute - time.Nanosecond)
		step(false, 0)
		time.Sleep(time.Nanosecond)
		if !b.enter() {
			t.Fatal("the pause has no end")
		}
		step(false, 0) // one at a time
		b.leave(unknown)
		step(true, down) // the next one may see
		step(false, 0)
		time.Sleep(time.Minute)
		step(true, up)
		step(true, down)
		step(true, down)
		step(false, 0)
	})
}

// TestBreakerCounts: what fails because of the service opens the breaker, what fails because of the
// question or its client does not: else a client could turn the policy off for others.
func TestBreakerCounts(t *testing.T) {
	gone := func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		return ctx
	}
	late := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("policy_timeout"))
		t.Cleanup(cancel)
		return ctx
	}
	usual := func(t *testing.T) context.Context { return t.Context() }
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		ctx    func(*testing.T) context.Context
		opens  bool
	}{
		"fails":           {status(500), usual, true},
		"has too much":    {status(429), usual, true},
		"is late":         {hang, late, true},
		"its client left": {hang, gone, false},
		"too large":       {status(413), usual, false},
		"no JSON":         {says("<html>"), usual, false},
		"a long answer":   {says(strings.Repeat(" ", 2000)), usual, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.handle)
			client := client(t, s.URL, func(c *Config) { c.Failures, c.Pause, c.MaxAnswerBytes = 2, time.Hour, 1000 })
			var err error
			for range 4 {
				if _, err = client.Ask(c.ctx(t), question); err == nil {
					t.Fatal("no error")
				}
			}
			want := int32(4)
			if c.opens {
				want = 2
			}
			if n := s.asked.Load(); n != want || errors.Is(err, ErrOpen) != c.opens {
				t.Errorf("asked %d times, and then %v", n, err)
			}
		})
	}
}

// TestConcurrency: no more questions are under way than are allowed; another one waits, as long as
// it has time.
func TestConcurrency(t *testing.T) {
	let, came := make(chan struct{}), make(chan struct{}, 6)
	var now, most atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		came <- struct{}{}
		<-let
		now.Add(-1)
		io.WriteString(w, `{"verdict":"pass"}`)
	})
	c := client(t, s.URL, func(c *Config) { c.Concurrency = 2 })
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if v, err := c.Ask(t.Context(), question); err != nil || v.Action != Pass {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
	<-came
	<-came
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, question); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want %v", err, ErrBusy)
	}
	close(let)
	wg.Wait()
	if s.asked.Load() != 6 || most.Load() != 2 || s.connections.Load() > 2 {
		t.Errorf("%d questions, %d at once, %d connections", s.asked.Load(), most.Load(), s.connections.Load())
	}
}

// TestClose: a question that began before Close, or begins after it, has its answer, and no
// connection is left. That no goroutine is, TestMain sees.
func TestClose(t *testing.T) {
	let, came := make(chan struct{}), make(chan struct{}, 3)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		came <- struct{}{}
		<-let
		io.WriteString(w, `{"verdict":"pass"}`)
	})
	c := client(t, s.URL, nil)
	c.http.Transport.(*http.Transport).IdleConnTimeout = 0 // it must not be what closes them
	ask := func() {
		if v, err := c.Ask(t.Context(), question); err != nil || v.Action != Pass {
			t.Errorf("%+v, %v", v, err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(ask)
	<-came
	c.Close()
	close(let)
	wg.Wait()
	ask()
	s.open.Wait() // the test does not end where a connection stays
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// pair writes a certificate of that name and its key.
func (a *authority) pair(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	der, _ = x509.MarshalPKCS8PrivateKey(key)
	writePEM(t, keyFile, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLS: each side shows who it is, and is refused by the other when it cannot.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ours.pair(t, "service", file("server.pem"), file("server.key"))
	ours.pair(t, "gateway", file("cert.pem"), file("key.pem"))
	theirs.pair(t, "stranger", file("other.pem"), file("other.key"))
	pair, err := tls.LoadX509KeyPair(file("server.pem"), file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	var names []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names = append(names, r.TLS.PeerCertificates[0].Subject.CommonName)
		io.WriteString(w, `{"verdict":"pass"}`)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	s.StartTLS()
	defer s.Close()

	for name, c := range map[string]struct{ ca, cert, key, want string }{
		"both":                   {ours.file, file("cert.pem"), file("key.pem"), ""},
		"no certificate":         {ours.file, "", "", "tls"},
		"a stranger":             {ours.file, file("other.pem"), file("other.key"), "tls"},
		"another authority":      {theirs.file, file("cert.pem"), file("key.pem"), "certificate signed by unknown authority"},
		"the system's authority": {"", file("cert.pem"), file("key.pem"), "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			client := client(t, s.URL, func(config *Config) { config.CA, config.Cert, config.Key = c.ca, c.cert, c.key })
			v, err := client.Ask(t.Context(), question)
			if c.want == "" && (err != nil || v.Action != Pass) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%+v, %v, want %q", v, err, c.want)
			}
		})
	}
	t.Run("a new certificate", func(t *testing.T) {
		names = nil
		c := client(t, s.URL, func(c *Config) { c.CA, c.Cert, c.Key = ours.file, file("cert.pem"), file("key.pem") })
		for _, name := range []string{"gateway", "gateway-2"} {
			ours.pair(t, name, file("cert.pem"), file("key.pem"))
			if _, err := c.Ask(t.Context(), question); err != nil {
				t.Fatal(err)
			}
			c.http.CloseIdleConnections()
		}
		if !slices.Equal(names, []string{"gateway", "gateway-2"}) {
			t.Errorf("the service has seen %v", names)
		}
	})
}

// TestWrongConfig: what cannot work is refused when a client is made, and said with its field.
func TestWrongConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		want string
		with func(*Config)
	}{
		{"url: want http://", func(c *Config) { c.URL = "localhost:80" }},
		{"url: want http://", func(c *Config) { c.URL = "ftp://localhost/" }},
		{"url: want http://", func(c *Config) { c.URL = "http://[" }},
		{"url: it has a user", func(c *Config) { c.URL = "https://a:b@localhost" }},
		{"format: want guardrail", func(c *Config) { c.Format = "other" }},
		{"model and threshold are of", func(c *Config) { c.Threshold = 0.5 }},
		{"threshold: want a number", func(c *Config) { c.Format, c.Threshold = Moderation, 2 }},
		{"timeout, concurrency and max_answer_bytes", func(c *Config) { c.Timeout = 0 }},
		{"timeout, concurrency and max_answer_bytes", func(c *Config) { c.Concurrency = 0 }},
		{"timeout, concurrency and max_answer_bytes", func(c *Config) { c.MaxAnswerBytes = 0 }},
		{"retries must be from 0 to 10", func(c *Config) { c.Retries = 11 }},
		{"cert and key belong together", func(c *Config) { c.Cert = "x" }},
		{"ca, cert and key want a URL", func(c *Config) { c.URL, c.CA = "http://localhost", empty }},
		{"ca: ", func(c *Config) { c.CA = empty + ".not" }},
		{"has no certificate in PEM", func(c *Config) { c.CA = empty }},
		{"cert and key: ", func(c *Config) { c.Cert, c.Key = empty, empty }},
		{"secret: want base64", func(c *Config) { c.Secret = "whsec_!" }},
		{`headers: "a b" is no header`, func(c *Config) { c.Headers = map[string]string{"a b": "x"} }},
		{`headers: "a" is no header`, func(c *Config) { c.Headers = map[string]string{"a": "x\r\ny"} }},
		{"headers: content-type is written by", func(c *Config) { c.Headers = map[string]string{"content-type": "x"} }},
		{"headers: webhook-signature is written by", func(c *Config) { c.Headers = map[string]string{"webhook-signature": "x"} }},
	} {
		if _, err := New(at("https://localhost", w.with)); err == nil || !strings.Contains(err.Error(), w.want) {
			t.Errorf("%v, want %q", err, w.want)
		}
	}
}
