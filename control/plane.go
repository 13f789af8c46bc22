package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/config/store"
	"millrace/extproc"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/xds"
)

// Options are the parts that a Plane moves.
type Options struct {
	Sidecar *extproc.Server
	Envoy   *xds.Server
	// OpenStore opens the store; nil when there is nothing but the file. Should it not be
	// reachable, the gateway starts with the configuration that was applied last, and OpenStore is
	// called again until it is.
	OpenStore func(context.Context) (*store.Store, error)
	File      string // path of the configuration file; "" for none
	DataDir   string // where the last applied configuration is kept; "" keeps none
	Log       *slog.Logger
	// Check says why the first configuration cannot be served here; nil is no further condition.
	Check func(*config.Config) error
	// Draining tells that the process is about to end; it is then not ready.
	Draining func() bool
	// Living asks Envoy which targets, by identity, pass their checks and are not draining; nil
	// when Envoy does not tell.
	Living func() map[string]bool
	// Admin tells where REST listens, given what the file says; "" when it does not. It is nil
	// where nothing listens.
	Admin func(listen string) string
	// Events tells why events cannot be written, nil while they can; it is nil where there are
	// none.
	Events func() error
	// EventsTo makes events go where the configuration says; an error refuses the configuration.
	// The file alone says that, so it is called for what the file brings, before anything else
	// changes. nil: they go nowhere.
	EventsTo func(*config.Config) error
	// OpenLogs opens the audit logs that the configuration writes; an error refuses the
	// configuration. It is called before anything else changes, for what REST and the store bring
	// too. nil: there are none.
	OpenLogs func(*config.Config) error
}

// Plane carries out changes. Its methods may be called at the same time.
type Plane struct {
	Options
	*cooling
	*session
	settler *settler
	files   *files
	events  *events
	first   *version // what the process was started with

	// changing is held from the reading of what a version is made of until both halves were told of
	// it, the write to the store included; not while anybody waits for Envoy.
	changing sync.Mutex
}

// Start reads the file and the store and offers what they say. Nothing serves before it has
// returned without an error.
func Start(ctx context.Context, o Options) (*Plane, error) {
	p := newPlane(o)
	v := &version{file: &millracev1.Document{}, state: &millracev1.State{}}
	config.SetDefaults(v.file)
	last := LoadLast(o.DataDir)
	var err error
	if o.File != "" {
		if v.file, v.content, err = p.files.read(); err != nil {
			return nil, err
		}
		if err := last.CheckFile(o.File, v.file); err != nil {
			return nil, err
		}
	}
	if o.OpenStore != nil {
		stored, err := p.session.start(ctx, last)
		if err != nil {
			p.Close()
			return nil, err
		}
		v.state, v.revision = stored.State, stored.Revision
	}
	v.state = remember(v.state, last.State.Keyed)
	err = v.prepare(p.Admin, nil)
	if err == nil && o.Check != nil {
		err = o.Check(v.config)
	}
	if err == nil {
		err = errors.Join(p.OpenLogs(v.config), p.events.to(v.config))
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	p.first = v
	p.settler.offer(v)
	return p, nil
}

func newPlane(o Options) *Plane {
	if o.OpenLogs == nil {
		o.OpenLogs = func(*config.Config) error { return nil }
	}
	cools, goTo := newCooling(o.Envoy, o.Log), &events{use: o.EventsTo}
	settles := &settler{
		sidecar: o.Sidecar, envoy: o.Envoy, log: o.Log, onPhase: cools.told, events: goTo, openLogs: o.OpenLogs, dataDir: o.DataDir, file: o.File,
		poked: make(chan struct{}, 1), owes: make(chan struct{}, 1),
	}
	p := &Plane{
		Options: o,
		cooling: cools,
		session: &session{open: o.OpenStore, log: o.Log, said: settles.storeFailed},
		settler: settles,
		events:  goTo,
	}
	p.files = &files{path: o.File, now: p.current, reload: p.reload, detached: settles.fileDetached}
	return p
}

// Close closes the store. Run must have returned.
func (p *Plane) Close() { p.session.close() }

// Config is the configuration that was offered last.
func (p *Plane) Config() *config.Config { return p.current().config }

func (p *Plane) current() *version { return p.settler.now.Load() }

// tries bounds how often a change is made again because another sidecar wrote first.
const tries = 10

// Change carries out one change. The error says why it was refused; then nothing has changed.
// Errors are what Edit returned, a config.Errors, or the store's. The change goes on without its
// caller: when ctx ends, that ends the wait for Envoy alone.
func (p *Plane) Change(ctx context.Context, c Change) (Result, error) {
	if _, err := p.need(); err != nil && !c.DryRun {
		return Result{}, err
	}
	v, r, err := p.accept(ctx, c)
	if err != nil || c.DryRun || c.Wait <= 0 {
		return r, err
	}
	settled := p.settler.await(ctx, v, c.Wait)
	settled.Warnings = r.Warnings
	return settled, nil
}

// accept makes the change and tells both halves. The version is nil after a dry run.
func (p *Plane) accept(ctx context.Context, c Change) (*version, Result, error) {
	ctx = context.WithoutCancel(ctx)
	p.changing.Lock()
	defer p.changing.Unlock()
	for range tries {
		if !c.DryRun {
			if err := p.putBack(ctx); err != nil {
				return nil, Result{}, err
			}
		}
		v, r, err := p.change(ctx, c)
		if !errors.Is(err, store.ErrConflict) {
			return v, r, err
		}
		if err := p.catchUp(ctx); err != nil {
			return nil, Result{}, err
		}
	}
	return nil, Result{}, fmt.Errorf("%w: others keep writing", ErrStale)
}

// change makes the change once. changing is held.
func (p *Plane) change(ctx context.Context, c Change) (*version, Result, error) {
	was, stored := p.current(), p.settler.wanted()
	next := &version{file: was.file, content: was.content, state: proto.CloneOf(stored.State), base: &stored}
	if err := c.Edit(next.state); err != nil {
		return nil, Result{}, err
	}
	store.Stamp(next.state, stored.State, c.Cause)
	if err := next.prepare(p.Admin, was); err != nil {
		return nil, Result{}, err
	}
	r := Result{Revision: stored.Revision, Version: next.config.Version, State: Accepted, Warnings: next.warnings(was)}
	if c.DryRun {
		return nil, r, nil
	}
	opened, err := p.need()
	if err != nil {
		return nil, Result{}, err
	}
	if err := p.OpenLogs(next.config); err != nil {
		return nil, Result{}, err
	}
	if next.revision, err = opened.Put(ctx, stored.Revision, next.state); err != nil {
		return nil, Result{}, err
	}
	r.Revision = next.revision
	p.settler.offer(next)
	return next, r, nil
}

// putBackCause is how the cause of a version begins that stands in for one that Envoy has refused.
const putBackCause = "back to the version before: "

// putBack writes what the store held before a version of ours that Envoy has refused. Where another
// sidecar has written on top of it, the store is left alone. changing is held.
func (p *Plane) putBack(ctx context.Context) error {
	owed, head := p.settler.owed()
	if owed == nil {
		return nil
	}
	opened, err := p.need()
	if err != nil {
		return err
	}
	state := proto.CloneOf(owed.base.State)
	store.Stamp(state, head.State, putBackCause+owed.reason)
	revision, err := opened.Put(ctx, head.Revision, state)
	switch {
	case err == nil:
		p.settler.paid(owed, &store.Version{Revision: revision, State: state})
		return nil
	case errors.Is(err, store.ErrConflict):
		p.settler.paid(owed, nil)
		return p.catchUp(ctx)
	}
	return err
}

// payDebts puts the store back whenever that is owed, and tries again while it cannot be written,
// until ctx ends.
func (p *Plane) payDebts(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.settler.owes:
		case <-again:
		}
		p.changing.Lock()
		err := p.putBack(ctx)
		p.changing.Unlock()
		p.settler.announce()
		if again = nil; err != nil {
			p.Log.Error("put the store back", "error", err)
			again = time.After(storeRetry)
		}
	}
}

// catchUp takes what the store has and this sidecar has not. changing is held.
func (p *Plane) catchUp(ctx context.Context) error {
	opened, err := p.need()
	if err != nil {
		return err
	}
	latest, err := opened.Get(ctx)
	if err != nil {
		return err
	}
	return p.follow(ctx, opened, latest)
}

// follow offers a version of the store that another sidecar has written. changing is held.
func (p *Plane) follow(ctx context.Context, opened *store.Store, latest store.Version) error {
	_, known := p.settler.owed()
	if err := opened.Continues(ctx, known, latest); err != nil {
		return err
	}
	return p.take(latest)
}

// take is follow for a version that is known to continue the present one. changing is held.
func (p *Plane) take(latest store.Version) error {
	_, known := p.settler.owed()
	if latest.Revision == known.Revision && latest.State.History == known.State.History {
		return nil
	}
	was := p.current()
	next := &version{file: was.file, content: was.content, state: remember(latest.State, was.state.Keyed), revision: latest.Revision}
	err := next.prepare(p.Admin, was)
	if err == nil {
		err = p.OpenLogs(next.config)
	}
	if err != nil {
		return fmt.Errorf("version %d of the store: %w", latest.Revision, err)
	}
	p.settler.offer(next)
	return nil
}

// watched offers a version that the watch has brought. A write of our own may have overtaken it:
// then what counts is what the store holds now.
func (p *Plane) watched(ctx context.Context, latest store.Version) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	if latest.Err != nil {
		return latest.Err
	}
	opened, err := p.reach(ctx)
	if err != nil {
		return err
	}
	if _, head := p.settler.owed(); latest.Revision < head.Revision {
		if latest, err = opened.Get(ctx); err != nil {
			return err
		}
	}
	return p.follow(ctx, opened, latest)
}

// Run follows Envoy's word, the store and the files until ctx ends.
func (p *Plane) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { p.settler.run(ctx) })
	if p.OpenStore != nil {
		running.Go(func() { p.session.watch(ctx, p.watched) })
		running.Go(func() { p.payDebts(ctx) })
	}
	running.Go(func() { p.files.watch(ctx) })
	running.Go(func() { p.cooling.run(ctx) })
	running.Wait()
}

// First waits for Envoy's word on what the process was started with, or until ctx ends.
func (p *Plane) First(ctx context.Context) Result {
	v := p.first
	return v.fate.after(ctx, Result{Revision: v.revision, Version: v.config.Version, State: Offered})
}

// Snapshot returns what REST calls read: the stored state and the file's effective document, which
// without a file is an empty one's. Neither must be changed.
func (p *Plane) Snapshot(context.Context) (uint64, *millracev1.State, *millracev1.Document, error) {
	stored := p.settler.wanted()
	return stored.Revision, stored.State, p.current().file, nil
}

// Status tells where the gateway stands. All that it says of the configuration is of one moment.
func (p *Plane) Status() Status {
	s := *p.settler.status.Load()
	s.Ready = p.Ready().Reason == ""
	if p.Events != nil {
		if err := p.Events(); err != nil {
			s.Events = err.Error()
		}
	}
	return s
}
