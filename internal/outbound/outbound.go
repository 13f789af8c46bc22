// Package outbound connects to the services that an operator names, over HTTP. No proxy is used,
// and each address is asked about before it is connected to, after names were looked up: so what is
// asked is what the operator wrote, and not what a name has come to mean.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"
)

const (
	maxHeaderBytes = 64 << 10 // of an answer
	idleTimeout    = 60 * time.Second
	keepAlive      = 30 * time.Second
)

// Options say how to connect.
type Options struct {
	// CA, Cert and Key are files. CA is who may vouch for the service, "" for whom the system
	// trusts. With Cert and Key the client shows who it is; they are read at each handshake, so
	// they can be replaced.
	CA, Cert, Key string
	Connections   int // at the same time
	// Refuse says why an address must not be connected to; nil: every one may.
	Refuse func(netip.AddrPort) error
}

// Client follows no redirects. Its error begins with ca or cert.
func Client(o Options) (*http.Client, error) {
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func newTransport(o Options) (*http.Transport, error) {
	dialer := &net.Dialer{KeepAlive: keepAlive}
	if o.Refuse != nil {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return o.Refuse(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		}
	}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression:     true, // the bound of an answer is one of what it is, too
		MaxConnsPerHost:        o.Connections,
		MaxIdleConnsPerHost:    o.Connections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return t, nil
}

// Plain is an error of a request without the URL, which may have a secret in its query, and with
// the reason why the time was over.
func Plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
