package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"millrace/config"
	"millrace/control"
	"millrace/envoy"
)

type runCommand struct {
	sidecarFlags
	EnvoyLogLevel string `help:"Envoy's own log level." default:"warning"`
	Concurrency   int    `help:"Envoy's worker threads; one per core when not given."`
	Quiet         bool   `help:"Do not print requests. Without events in the configuration each is a line: for people in a terminal, else JSON." short:"q" env:"MILLRACE_QUIET"`
}

// startTimeout bounds the wait for Envoy to serve.
const startTimeout = 30 * time.Second

// stopTimeout bounds the wait for Envoy to end once it is told to.
const stopTimeout = 5 * time.Second

// Run starts the sidecar, then Envoy, and waits: for a signal, which drains both and is a success,
// or for either to die, which stops the other and is a failure.
func (c *runCommand) Run(ctx context.Context, end context.CancelCauseFunc, out io.Writer) error {
	binary, err := envoy.Find(ctx)
	if err != nil {
		return err
	}
	if !c.Quiet {
		c.console = newConsole(out)
	}
	dir, remove, err := newPrivate()
	if err != nil {
		return err
	}
	defer remove()
	s, err := startSidecar(ctx, end, c.sidecarFlags, dir, func(served *config.Config) error {
		return errors.Join(checkMachine(served), checkPort(served.Listen)) // Envoy, which has not started yet, is on this machine
	})
	if err != nil {
		return err
	}
	removeLeftovers(s.log)
	process, err := c.startEnvoy(ctx, binary, dir)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	if err := c.awaitReady(ctx, s, process); err != nil && ctx.Err() == nil {
		return errors.Join(err, c.stopEnvoy(process), s.stop())
	}
	if ctx.Err() == nil {
		s.log.Info("ready", "listen", fmt.Sprintf("%s:%d", s.config.Listen.Address, s.config.Listen.Port))
		if c.Demo {
			s.demo.greet(out, s.config, adminAddress(c.sidecarFlags, s.config.Admin.Listen))
		}
	}
	select {
	case <-ctx.Done():
		err = nil
	case <-process.Done():
		err = fmt.Errorf("envoy: %w", process.Err())
	case err = <-s.failed:
		err = fmt.Errorf("sidecar: %w", err)
	}
	if err == nil {
		if err := c.drain(ctx, s, process); err != nil {
			s.log.Warn("drain", "error", err)
		}
	}
	return errors.Join(err, c.stopEnvoy(process), s.stop())
}

// drain lets Envoy finish. New requests are served until balancers have noticed that the gateway is
// not ready any more, then those under way may end; what is left at the end of the drain timeout is
// ended in its client's schema.
func (c *runCommand) drain(signalled context.Context, s *sidecar, p *envoy.Process) error {
	ctx, whole, cancel := s.beginDrain(signalled)
	defer cancel()
	err := p.Admin.Drain(whole)
	s.awaitNotice(ctx, signalled, func() bool { return p.Err() != nil })
	err = errors.Join(err, p.Admin.StopAccepting(whole))
	if busy := p.Idle(ctx); busy != nil {
		s.data.Stop()
		err = errors.Join(err, busy, p.Idle(whole))
	}
	s.awaitSettled()
	return err
}

func (c *runCommand) startEnvoy(ctx context.Context, binary, dir string) (*envoy.Process, error) {
	bootstrap := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(bootstrap, envoy.Bootstrap(dir), 0o600); err != nil {
		return nil, err
	}
	return envoy.Start(ctx, envoy.Config{
		Binary:      binary,
		Bootstrap:   bootstrap,
		AdminSocket: filepath.Join(dir, envoy.AdminSocket),
		LogLevel:    c.EnvoyLogLevel,
		Concurrency: c.Concurrency,
		Stdout:      os.Stderr,
		Stderr:      os.Stderr,
	})
}

func (c *runCommand) stopEnvoy(p *envoy.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return p.Stop(ctx)
}

// awaitReady waits until Envoy serves the configuration.
func (c *runCommand) awaitReady(ctx context.Context, s *sidecar, p *envoy.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	switch r := s.plane.First(ctx); r.State {
	case control.Applied:
		return nil
	case control.Rejected:
		return fmt.Errorf("envoy rejected the configuration: %s", r.Reason)
	default:
		return errors.New("envoy did not take the configuration in time")
	}
}
