package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// issue makes an authority's file, and a server's configuration with a certificate of it for these
// addresses and names.
func issue(t *testing.T, addresses []net.IP, names ...string) (caFile string, conf *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), IPAddresses: addresses, DNSNames: names, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		t.Fatal(err)
	}
	return caFile, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
}

// atPort is a target with TLS at a host of this machine.
func atPort(id, host, addr, key string, more ...string) string {
	_, port, _ := net.SplitHostPort(addr)
	return "{" + strings.Join(append([]string{fmt.Sprintf("id: %s, host: %q, port: %s, protocol: https, provider: {type: openai, secret_key_ref: %s}", id, host, port, key)}, more...), ", ") + "}"
}

// TestTLSToAnAddress: the certificate of a target whose host is an IP address is checked against
// its IP addresses, also beside targets with names, with HTTP/2 and by active health checks; one
// for another address, or for a name alone, is refused.
func TestTLSToAnAddress(t *testing.T) {
	t.Parallel()
	ca, conf := issue(t, []net.IP{net.IPv4(127, 0, 0, 1)}, "localhost")
	p := openAI("p")
	s := providerTLS(t, p, conf)
	for name, c := range map[string]struct{ settings, upstream string }{
		"alone":   {},
		"HTTP/2":  {settings: "connection_pool: {http2: true}"},
		"checked": {upstream: "health_checks: {active: {path: /v1/models, interval: 0.2s}}"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, "ca_file: "+ca+"\n"+c.settings, pool(c.upstream, atPort("address", "127.0.0.1", s.Addr(), p.Key), atPort("name", "localhost", s.Addr(), p.Key)))
			g.answersSome("address")
			g.answersSome("name")
			for range 10 {
				g.post("/v1/chat/completions", chatHello).want(200)
			}
			r := p.Requests()
			if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[name == "HTTP/2"]; r[len(r)-1].Proto != want {
				t.Errorf("%s, want %s", r[len(r)-1].Proto, want)
			}
		})
	}
	for name, c := range map[string]struct {
		addresses []net.IP
		names     []string
	}{
		"another address": {addresses: []net.IP{net.IPv4(127, 0, 0, 9)}},
		"a name alone":    {names: []string{"localhost", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			ca, conf := issue(t, c.addresses, c.names...)
			s := providerTLS(t, p, conf)
			g := start(t, "ca_file: "+ca, pool("", atPort("a", "127.0.0.1", s.Addr(), p.Key)))
			g.post("/v1/chat/completions", chatHello).want(503)
		})
	}
}

// TestTLSFailureIsSaid: what was wrong with the TLS of a target is in the log and in the target's
// health, also when another target has answered the request.
func TestTLSFailureIsSaid(t *testing.T) {
	t.Parallel()
	ca, good := issue(t, []net.IP{net.IPv4(127, 0, 0, 1)})
	_, stranger := issue(t, []net.IP{net.IPv4(127, 0, 0, 1)})
	b := openAI("b")
	last := to("b", b, provider(t, b), "priority: 2")
	for name, c := range map[string]struct {
		target func(t *testing.T, p *fakellm.Provider) string
		says   string
	}{
		"an unknown authority": {func(t *testing.T, p *fakellm.Provider) string {
			s := providerTLS(t, p, stranger)
			return atPort("a", "127.0.0.1", s.Addr(), p.Key)
		}, "CERTIFICATE_VERIFY_FAILED"},
		"another host": {func(t *testing.T, p *fakellm.Provider) string {
			s := providerTLS(t, p, good)
			return atPort("a", "localhost", s.Addr(), p.Key)
		}, "CERTIFICATE_VERIFY_FAILED"},
		"no TLS": {func(t *testing.T, p *fakellm.Provider) string {
			return atPort("a", "127.0.0.1", provider(t, p).Addr(), p.Key)
		}, "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			g, admin := withAdmin(t, "ca_file: "+ca, pool("", c.target(t, openAI("a")), last))
			g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
			g.said("target cannot be reached")
			g.said(c.says)
			g.eventually("the target's health says it", func() error {
				health := must(t, "GET", admin+"/api/v1/gateways/default/upstreams/chat/health", nil)
				if said := fmt.Sprint(health["targets"].([]any)[0]); !strings.Contains(said, "no connection: ") || !strings.Contains(said, c.says) {
					return fmt.Errorf("it says %s", said)
				}
				return nil
			})
		})
	}
}
