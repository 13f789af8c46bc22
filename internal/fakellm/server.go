package fakellm

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Server serves one Provider on a TCP port: HTTP/1.1, and HTTP/2 with prior knowledge or by ALPN.
type Server struct {
	http     *http.Server
	listener net.Listener
	scheme   string
	running  sync.WaitGroup // the accept loop and the requests being answered
	accepted atomic.Int64

	mu     sync.Mutex // guards closed, and with it that running does not grow while Close waits
	closed bool
}

// Start serves p on addr ("127.0.0.1:9001"); an empty addr takes a free port of 127.0.0.1.
func Start(p *Provider, addr string) (*Server, error) { return start(p, addr, nil) }

// StartTLS is Start with TLS; conf needs a certificate.
func StartTLS(p *Provider, addr string, conf *tls.Config) (*Server, error) {
	return start(p, addr, conf)
}

func start(p *Provider, addr string, conf *tls.Config) (*Server, error) {
	if dialects[p.Schema] == nil {
		return nil, fmt.Errorf("fake provider %q: unknown schema %q", p.Name, p.Schema)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fake provider %q: %w", p.Name, err)
	}
	s := &Server{listener: listener, scheme: "http"}
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.enter() {
				panic(http.ErrAbortHandler)
			}
			defer s.running.Done()
			p.ServeHTTP(w, r)
		}),
		Protocols: new(http.Protocols),
		TLSConfig: conf.Clone(),               // the server changes it
		ErrorLog:  log.New(io.Discard, "", 0), // broken connections are what it is made for
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.accepted.Add(1)
			}
		},
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	serve := func() error { return s.http.Serve(listener) }
	if conf != nil {
		s.scheme = "https"
		serve = func() error { return s.http.ServeTLS(listener, "", "") }
	}
	s.running.Go(func() { _ = serve() }) // ends with http.ErrServerClosed
	return s, nil
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
	}
	return !s.closed
}

// Addr is the host and port served.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Connections counts those that were made to it so far.
func (s *Server) Connections() int64 { return s.accepted.Load() }

// URL is the address to use as a base: no path, no trailing slash.
func (s *Server) URL() string { return s.scheme + "://" + s.Addr() }

// Close stops listening, breaks every connection and waits for the requests being answered, which
// end as cancelled. Start may take the same address again afterwards.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.http.Close() // the listener's error says nothing a test could use
	s.running.Wait()
}
