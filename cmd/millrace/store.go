package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"text/tabwriter"

	"millrace/config/store"
	"millrace/engine"
	millracev1 "millrace/proto/millrace/v1"
)

// storeCommand is for a store that is not what it was: wiped, damaged, or put back from a copy. A
// gateway does not follow such a store, and these are the ways to say what shall hold. The gateway
// whose data directory it is must not run; one that uses an external store may, and follows.
type storeCommand struct {
	Show    showStore    `cmd:"" help:"Compare the store with what was applied last."`
	Restore restoreStore `cmd:"" help:"Write what was applied last into the store, as a new version."`
	Accept  acceptStore  `cmd:"" help:"Take the store as it is, in place of what was applied last."`
}

// storeFlags say which store.
type storeFlags struct {
	DataDir string `help:"The data directory of the gateway: its store, and what it applied last." type:"path" required:"" env:"MILLRACE_DATA_DIR"`
	Store   string `help:"The external NATS cluster that the gateway keeps it in, if it does." env:"MILLRACE_STORE"`
}

// open opens the store; end closes it. Only one in the data directory needs the directory for
// itself.
func (f storeFlags) open(ctx context.Context) (s *store.Store, end func(), err error) {
	if _, err := os.Stat(f.DataDir); err != nil { // it would be made
		return nil, nil, err
	}
	o := engine.Options{URL: f.Store, Log: logger(slog.LevelWarn)}
	if f.Store == "" {
		o.DataDir = f.DataDir
	}
	e := engine.New(o)
	if s, err = store.Open(ctx, e, store.Options{Log: o.Log}); err != nil {
		e.Close()
		return nil, nil, err
	}
	return s, func() { s.Close(); e.Close() }, nil
}

type showStore struct{ storeFlags }

// Run shows both and fails unless the store continues what was applied.
func (c *showStore) Run(ctx context.Context, out io.Writer) error {
	s, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	latest, storeErr := s.Get(ctx)
	last, lastErr := store.LoadApplied(c.DataDir)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "store\t%s\n", describe(latest.Revision, latest.State, storeErr))
	fmt.Fprintf(w, "applied\t%s\n", describe(last.Revision, last.State, lastErr))
	if err := w.Flush(); err != nil {
		return err
	}
	if errors.Is(lastErr, fs.ErrNotExist) {
		lastErr = nil
	}
	if err := errors.Join(storeErr, lastErr); err != nil {
		return err
	}
	return s.Continues(ctx, store.Version{Revision: last.Revision, State: last.State}, latest)
}

func describe(revision uint64, state *millracev1.State, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "nothing yet"
	case err != nil:
		return "cannot be read"
	case revision == 0:
		return "revision 0, empty"
	}
	resources := 0
	for _, d := range state.GetDocuments() {
		resources += len(d.Upstreams) + len(d.Services) + len(d.Rules) + len(d.Keys) + len(d.Packs)
	}
	return fmt.Sprintf("revision %d, %s, %d gateways, %d resources, by %s", revision, state.GetTime().AsTime().Format("2006-01-02 15:04:05"),
		len(state.GetDocuments()), resources, cmp.Or(state.GetCause(), "nobody who said so"))
}

type restoreStore struct{ storeFlags }

// Run restores the store.
func (c *restoreStore) Run(ctx context.Context, out io.Writer) error {
	last, err := store.LoadApplied(c.DataDir)
	if err != nil {
		return err
	}
	s, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	revision, err := s.Restore(ctx, last)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "what was applied as revision %d is revision %d of the store\n", last.Revision, revision)
	return nil
}

type acceptStore struct{ storeFlags }

// Run accepts the store. What was applied last, where it cannot be read, is put aside, or the
// gateway could not start.
func (c *acceptStore) Run(ctx context.Context, out io.Writer) error {
	s, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	last, lastErr := store.LoadApplied(c.DataDir)
	damaged := errors.Is(lastErr, store.ErrCorrupt)
	if lastErr != nil && !damaged && !errors.Is(lastErr, fs.ErrNotExist) {
		return lastErr
	}
	if latest, err := s.Get(ctx); damaged && err == nil && latest.Revision == 0 {
		return fmt.Errorf("%s is empty, and nobody can say which gateways had keys: to begin with nothing, move %s away\n%w", s, c.DataDir, lastErr)
	}
	taken, revision, err := s.Accept(ctx, last)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "revision %d of the store is taken as it is, as revision %d\n", taken.Revision, revision)
	if !damaged {
		return nil
	}
	aside, err := store.PutAside(c.DataDir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "what was applied last cannot be read and is put aside: %s\n", aside)
	return nil
}
