package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says how to start Envoy. Binary, Bootstrap and AdminSocket are required.
type Config struct {
	Binary         string        // from Find
	Bootstrap      string        // path of the bootstrap file
	AdminSocket    string        // the path in the bootstrap's admin address
	LogLevel       string        // trace … critical, off; empty is Envoy's default, info
	DrainTime      time.Duration // how long Envoy lets connections of a replaced listener live; rounded up to seconds, 0 is Envoy's default
	Concurrency    int           // worker threads; 0 is one per core
	Stdout, Stderr io.Writer     // Envoy logs to stderr; nil discards
}

// Process is an Envoy that runs as our child, and is killed by the kernel when we die (on Linux).
// Its methods may be called at the same time.
type Process struct {
	Admin *Admin

	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

// Start starts Envoy and returns when it runs; Ready waits until it serves. ctx bounds only the
// start: Envoy outlives it, so that a cancelled context still leaves time to drain. The owner must
// call Stop or see Done.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd := exec.Command(cfg.Binary, cfg.args()...)
	cmd.Env = environment(envoyReads)
	cmd.Stdout, cmd.Stderr = cfg.Stdout, cfg.Stderr
	cmd.SysProcAttr = childAttr()

	p := &Process{Admin: NewAdmin(cfg.AdminSocket), cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's parent-death signal is tied to the thread that started the child, not to the
		// process: keep that thread for as long as the child lives (golang.org/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.ended(cmd.Wait())
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	return p, nil
}

func (cfg Config) args() []string {
	args := []string{
		"-c", cfg.Bootstrap,
		// Several Envoys on one machine otherwise fight over one shared-memory segment.
		"--use-dynamic-base-id",
		// Once draining, every answer says "connection: close", not a growing share of them.
		"--drain-strategy", "immediate",
	}
	if cfg.LogLevel != "" {
		args = append(args, "--log-level", cfg.LogLevel)
	}
	if cfg.DrainTime > 0 {
		seconds := (cfg.DrainTime + time.Second - 1) / time.Second
		args = append(args, "--drain-time-s", strconv.Itoa(int(seconds)))
	}
	if cfg.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(cfg.Concurrency))
	}
	return args
}

// ended keeps why Envoy ended. Its own end under Stop, exit status 0 or the kill, is no error; a
// crash then still is.
func (p *Process) ended(err error) {
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && !exit.Exited()
	switch {
	case p.stopping.Load() && (err == nil || killed):
	case err != nil:
		p.err = fmt.Errorf("envoy ended: %w", err)
	default:
		p.err = errors.New("envoy ended by itself")
	}
	close(p.done)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when Envoy has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why Envoy ended: nil if Stop was called or it still runs, otherwise an error, even for
// exit status 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Ready waits until Envoy serves. It fails when ctx ends, with the last state, and when Envoy ends.
func (p *Process) Ready(ctx context.Context) error {
	tick := time.NewTicker(adminPoll)
	defer tick.Stop()
	last := errors.New("no answer")
	for {
		err := p.Admin.Ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-p.done:
			if p.err == nil {
				return errors.New("envoy was stopped before it was ready")
			}
			return p.err
		case <-ctx.Done():
			return fmt.Errorf("envoy is not ready: %w (last: %w)", ctx.Err(), last)
		case <-tick.C:
		}
	}
}

// Idle waits until no client request is in flight. It fails when ctx ends first: that is how the
// drain timeout is kept. Before it comes Admin.Drain, behind it Stop in both cases.
func (p *Process) Idle(ctx context.Context) error {
	tick := time.NewTicker(adminPoll)
	defer tick.Stop()
	active := 0
	for {
		n, err := p.Admin.ActiveRequests(ctx)
		switch {
		case err == nil && n == 0:
			return nil
		case err == nil:
			active = n
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-p.done:
			return p.err
		case <-ctx.Done():
			return fmt.Errorf("envoy still has %d requests in flight: %w", active, ctx.Err())
		case <-tick.C:
		}
	}
}

// Stop ends Envoy, cutting what still runs, and waits for it. If ctx ends before Envoy has, it is
// killed and Stop says so. Stopping an ended Envoy returns nil; Err tells why it ended.
func (p *Process) Stop(ctx context.Context) error {
	p.stopping.Store(true)
	// An error means that it has ended already.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("envoy did not stop and was killed: %w", ctx.Err())
}
