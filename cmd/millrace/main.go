// Command millrace is the sidecar that makes Envoy an LLM gateway: `millrace run` starts both,
// `millrace serve` the sidecar alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"millrace/envoy"
)

// version is set by the linker.
var version = "dev"

type commands struct {
	Run      runCommand      `cmd:"" help:"Start Envoy and the sidecar, and stop both together."`
	Serve    serveCommand    `cmd:"" help:"Start the sidecar alone; Envoy runs elsewhere with envoy/bootstrap.yaml."`
	Validate validateCommand `cmd:"" help:"Check a configuration file and print its effective form."`
	Explain  explainCommand  `cmd:"" help:"Show what each rule of a configuration costs: attempts, clocks, and the messages to the sidecar with their reasons."`
	Health   healthCommand   `cmd:"" help:"Tell by the exit code whether the sidecar in this folder is up."`
	Drain    drainCommand    `cmd:"" help:"Have the gateway of this folder drain and end, and wait for it."`

	Status   statusCommand   `cmd:"" help:"Show where a running gateway stands."`
	Stats    statsCommand    `cmd:"" help:"Show what has become of requests, and how the targets are: one digest of what Envoy and the sidecar count."`
	Top      topCommand      `cmd:"" help:"Watch a running gateway: targets, policies and the last requests, each second; q or Ctrl-C ends."`
	Apply    applyCommand    `cmd:"" help:"Send a whole document for one gateway."`
	Get      getCommand      `cmd:"" help:"Show resources."`
	Diff     diffCommand     `cmd:"" help:"Show what changed between two versions."`
	Rollback rollbackCommand `cmd:"" help:"Go back to a version."`
	Target   targetCommand   `cmd:"" help:"Drain, enable, disable or weigh a target."`

	Events eventsCommand `cmd:"" help:"Look at the events that a running gateway keeps."`

	Audit auditCommand `cmd:"" help:"Look at the audit log of a gateway."`
	Store storeCommand `cmd:"" help:"Compare a store with what was applied last, and say which of them is right."`

	Version kong.VersionFlag `help:"Print the version."`
}

func main() {
	ctx, end := untilSignal()
	parser := kong.Must(&commands{},
		kong.Name("millrace"),
		kong.Description("An LLM gateway: a stock Envoy and a small sidecar."),
		kong.Vars{"version": version, "socketDir": envoy.SocketDir},
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(end),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// errInterrupt is the cause of the end of the context when the signal was Ctrl-C.
var errInterrupt = errors.New("interrupted")

// untilSignal returns a context that ends with the first signal to end, or by the function. A
// second signal ends the process at once.
func untilSignal() (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		var cause error
		if <-signals == syscall.SIGINT {
			cause = errInterrupt
		}
		signal.Stop(signals)
		cancel(cause)
	}()
	return ctx, cancel
}

// logger writes JSON lines to stderr.
func logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
