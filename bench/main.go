// Command bench measures what the gateway costs, on one machine and in one run beside others: a
// bare Envoy, an ext_proc server that does nothing with the messages that ours takes (the floor),
// and Bifrost's core library. It reports the CPU time of a request and of a streamed token, the
// time to the first token, and the latency at a fixed rate.
//
// Compare the ratios: the absolute figures are the machine's. `make bench` runs it, and with
// MILLRACE_WRITE_DOCS=1 writes docs/performance.md.
//
// The same binary is also the provider and the floor's server (roles): each is a process of its
// own, so that its CPU time can be told from the others'.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	rounds   int
	measured time.Duration // of each load
	warmup   time.Duration
	subjects []string // those to measure, beside the bare Envoy; empty: all
	loads    []string // empty: all
	builds   builds
	page     string        // the file whose tables are rewritten; "": none
	patience time.Duration // how long to wait, in all, for others on this machine to be quiet
}

// builds are the gateway's binaries to measure, by name. Several are for comparing two versions of
// it in one run.
type builds []struct{ name, binary string }

func (b *builds) String() string { return "" }

func (b *builds) Set(s string) error {
	name, binary, named := strings.Cut(s, "=")
	if !named {
		name, binary = "millrace", s
	}
	*b = append(*b, struct{ name, binary string }{name, binary})
	return nil
}

func main() {
	if role := roles[strings.Join(os.Args[1:min(2, len(os.Args))], "")]; role != nil {
		exit(role(os.Args[2]))
	}
	var o options
	quick := flag.Bool("quick", false, "one short round: shows that all works, and little else")
	flag.DurationVar(&o.measured, "d", 4*time.Second, "how long each load is measured")
	flag.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	subjects := flag.String("subjects", "", "whom to measure beside the bare Envoy: floor, millrace, plans (its cheaper ones), bifrost; all when empty")
	names := flag.String("loads", "", "plain, stream, rate; all when empty")
	flag.Var(&o.builds, "millrace", "the binary to measure, or NAME=BINARY; may be given several times (default bin/millrace)")
	flag.DurationVar(&o.patience, "patience", 2*time.Minute, "how long to wait, in all, for a quiet machine")
	flag.StringVar(&o.page, "write", "", "the page to write the tables into")
	flag.Parse()
	o.warmup = time.Second
	if *quick {
		o.patience = 0
		o.rounds, o.measured, o.warmup = 1, 1200*time.Millisecond, 300*time.Millisecond
	}
	o.subjects, o.loads = listOf(*subjects), listOf(*names)
	if len(o.builds) == 0 {
		o.builds = builds{{"millrace", "bin/millrace"}}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func listOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// run measures every path of every subject under every load, round by round, every second round
// backwards: what the machine does to one subject in a round it does to all.
func run(ctx context.Context, o options, out io.Writer) error {
	bench, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer bench.stop()
	if err := bench.check(); err != nil {
		return err
	}
	results := &results{}
	paths := bench.paths()
	for round := range o.rounds {
		for _, l := range loads {
			if len(o.loads) > 0 && !slices.Contains(o.loads, l.name) {
				continue
			}
			for _, p := range paths {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				o.patience = awaitQuiet(ctx, o.patience)
				m, err := bench.measure(ctx, p, l, o)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name(), l.name, err)
				}
				fmt.Fprintf(os.Stderr, "round %d: %-7s %-28s %s\n", round+1, l.name, p.name(), m)
				results.add(round, l, p, m)
			}
		}
		slices.Reverse(paths)
	}
	results.memory = bench.memory()
	tables := results.tables(bench.paths())
	fmt.Fprint(out, tables)
	if o.page == "" {
		return nil
	}
	return rewrite(o.page, conditions(o)+"\n"+tables)
}
