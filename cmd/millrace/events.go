package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"millrace/admin"
	"millrace/config"
	"millrace/engine"
	"millrace/event"
	"millrace/event/spool"
)

// destinations are where events go. Which are in use control knows.
//
// The recorder hands on to the files and the standard output of this machine, and to the spool,
// which stands before the sinks that can be away; where there is no engine to keep a spool in,
// those too get their events from the recorder.
type destinations struct {
	recorder *event.Recorder
	engine   *engine.Engine // nil: nothing is kept
	log      *slog.Logger
	console  *console // where the configuration names nothing; nil: nowhere

	mu    sync.Mutex // guards what follows
	local []localSink
	spool *spool.Spool // nil: there is none
}

// localSink is one that gets its events from the recorder.
type localSink struct {
	config config.Sink
	event.Destination
}

// use opens what a configuration names, and gives it to the recorder in place of what there was.
// What has not changed stays open.
func (d *destinations) use(c *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var local []localSink
	var remote, opened []event.Destination
	for _, k := range c.Events.Sinks {
		spooled := d.engine != nil && k.Remote()
		if i := slices.IndexFunc(d.local, func(l localSink) bool { return reflect.DeepEqual(l.config, k) }); i >= 0 && !spooled {
			local = append(local, d.local[i])
			continue
		}
		to, err := d.open(k)
		if err != nil {
			return errors.Join(append(closeAll(opened), fmt.Errorf("%s: %w", k.Field, err))...)
		}
		opened = append(opened, to)
		if spooled {
			remote = append(remote, to)
			continue
		}
		local = append(local, localSink{k, to})
	}
	var all []event.Destination
	for _, l := range local {
		all = append(all, l.Destination)
	}
	d.local, d.spool = local, nil
	if d.engine != nil && c.Events.Spooled() {
		d.spool = spool.Start(spool.Options{
			Engine: d.engine, MaxBytes: c.Events.SpoolBytes, RefuseWhenFull: c.Events.RefuseWhenFull,
			Retention: c.Events.Retention, Sinks: remote, Log: d.log,
		})
		all = append(all, d.spool)
	} else if c.Events.Spooled() {
		d.log.Warn(inMemory)
	}
	if len(c.Events.Sinks) == 0 && d.console != nil {
		all = append(all, d.console)
	}
	return d.recorder.Use(all...)
}

// inMemory is what is said of sinks that can be away, where there is nothing to keep events in.
const inMemory = "events for the sinks http and nats wait in memory alone, 4096 for each, and none are kept to be read: " +
	"for them to wait on disk the gateway needs --data-dir or --store"

func closeAll(opened []event.Destination) []error {
	var errs []error
	for _, to := range opened {
		errs = append(errs, to.Close())
	}
	return errs
}

func (d *destinations) open(k config.Sink) (to event.Destination, err error) {
	switch k.Type {
	case "file":
		to, err = event.OpenFile(event.FileOptions{
			Path: k.Path, CloudEvents: k.CloudEvents, MaxBytes: k.MaxBytes, MaxAge: k.MaxAge, Keep: k.Keep,
		}, d.log)
	case "stdout":
		to = event.Stdout(k.CloudEvents)
	case "http":
		to, err = openHTTP(k)
	case "nats":
		to, err = d.openNATS(k)
	}
	if err != nil {
		return nil, err
	}
	return event.Only(event.Filter(k.Only), to), nil
}

func openHTTP(k config.Sink) (*event.HTTP, error) {
	return event.NewHTTP(event.HTTPOptions{
		Name: k.Name, URL: k.URL, Token: k.Token, Gzip: k.Gzip, Timeout: k.Timeout,
		CA: k.CAFile, Cert: k.CertFile, Key: k.KeyFile, Refuse: config.RefusedAddress,
	})
}

func (d *destinations) openNATS(k config.Sink) (*event.NATS, error) {
	to := &event.NATS{Sink: k.Name, Subject: k.Subject}
	if k.URL == "" {
		if d.engine == nil || !d.engine.External() {
			return nil, errors.New("url is needed: the gateway has no --store, and nobody can connect to the one in its data directory")
		}
		to.Connect = d.engine.Connect
		return to, nil
	}
	secured, err := tlsOf(k)
	if err != nil {
		return nil, err
	}
	e := engine.New(engine.Options{URL: k.URL, Credentials: k.Credentials, TLS: secured, Log: d.log})
	to.Connect = func(ctx context.Context) (*nats.Conn, error) { return e.Connect(ctx) }
	to.End = e.Close
	return to, nil
}

// tlsOf is nil for a sink that says nothing about it.
func tlsOf(k config.Sink) (*tls.Config, error) {
	if k.CAFile == "" && k.CertFile == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.CAFile != "" {
		pem, err := os.ReadFile(k.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s has no certificate in PEM", k.CAFile)
		}
	}
	if k.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// err is why events do not get where they are to go, nil while they do.
func (d *destinations) err() error {
	err := d.recorder.Err()
	if s := d.present(); s != nil {
		err = errors.Join(err, s.Err())
	}
	return err
}

// kept is present for the API.
func (d *destinations) kept() admin.Events {
	if s := d.present(); s != nil {
		return s
	}
	return nil
}

// present is the spool; nil while there is none.
func (d *destinations) present() *spool.Spool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spool
}
