package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"millrace/config"
)

// checkMachine tells what a configuration names and this machine does not have. Without it Envoy
// would refuse the configuration, in other words and later.
func checkMachine(c *config.Config) error {
	return errors.Join(checkCertificate(c.Listen), checkAuthorities(c), checkSinks(c))
}

func checkCertificate(l config.Listen) error {
	if l.CertFile == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile); err != nil {
		return fmt.Errorf("gateway.tls: %w", err)
	}
	return nil
}

// checkAuthorities reads the file that providers' certificates are checked against, where any has
// one.
func checkAuthorities(c *config.Config) error {
	asked := slices.ContainsFunc(c.Gateways, func(g *config.Gateway) bool {
		return slices.ContainsFunc(g.Upstreams, func(u *config.Upstream) bool {
			return slices.ContainsFunc(u.Targets, func(t *config.Target) bool { return t.TLS })
		})
	})
	if !asked {
		return nil
	}
	data, err := os.ReadFile(c.CAFile)
	if err != nil {
		return fmt.Errorf("gateway.ca_file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return fmt.Errorf("gateway.ca_file: %s holds no certificate in PEM", c.CAFile)
	}
	return nil
}

// checkSinks looks for the folders and the certificates of the sinks of events.
func checkSinks(c *config.Config) error {
	var errs []error
	for i := range c.Events.Sinks {
		k := &c.Events.Sinks[i]
		var err error
		switch {
		case k.Path != "":
			_, err = os.Stat(filepath.Dir(k.Path))
		case k.Remote():
			err = checkCertificates(*k)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.Field, err))
		}
	}
	return errors.Join(errs...)
}

// checkCertificates reads the files that a sink names.
func checkCertificates(k config.Sink) error {
	if k.Type == "http" {
		_, err := openHTTP(k)
		return err
	}
	_, err := tlsOf(k)
	return err
}

// checkPort tells whether the listener's port is taken, by another gateway too. Envoy itself would
// say so after it has started.
func checkPort(l config.Listen) error {
	address := net.JoinHostPort(l.Address, strconv.FormatUint(uint64(l.Port), 10))
	free, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("gateway.listen_port: %s is taken: another gateway, or another program, listens there", address)
	case err != nil:
		return fmt.Errorf("gateway.listen_address: %w", err)
	}
	return free.Close()
}
