package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	// OpenStore opens the store; nil when there is nothing but the file. Should it not be reachable, the gateway starts with
	// the configuration that was applied last, and OpenStore is called again until it is.
	OpenStore func(context.Context) (*store.Store, error)
	File      string // path of the configuration file; "" for none
	DataDir   string // where the last applied configuration is kept; "" keeps none
	Log       *slog.Logger
	// Check says why the first configuration cannot be served here; nil is no further condition.
	Check func(*config.Config) error
	// Draining tells that the process is about to end; it is then not ready.
	Draining func() bool
	// Living asks Envoy which targets, by identity, pass their checks and are not draining; nil when Envoy does not tell.
	Living func() map[string]bool
	// Admin tells where REST listens, given what the file says; "" when it does not. It is nil where nothing listens.
	Admin func(listen string) string
	// Events tells why events cannot be written, nil while they can; it is nil where there are none.
	Events func() error
	// EventsTo makes events go where the configuration says; an error refuses the configuration. The file alone says that, so it
	// is called for what the file brings, before anything else changes. nil: they go nowhere.
	EventsTo func(*config.Config) error
}

// Plane carries out changes, one at a time. Its methods may be called at the same time.
type Plane struct {
	Options
	cooling  *cooling
	ejection *ejection

	changing sync.Mutex // held by the one change under way

	mu       sync.Mutex // guards what follows, for short looks only
	now      *version   // what both halves were told last
	applied  *version   // the last one that Envoy took whole
	fileErr  string
	named    map[string]sum // what the files held that the file's document, as last read, has secrets in
	detached string         // why a file cannot be followed; "" when all can be
	storeErr error
	opened   *store.Store // nil while it could not be reached
}

// version is one configuration with everything made of it.
type version struct {
	file     *millracev1.Document // without a file, what an empty one means
	content  string               // of the file, as read
	state    *millracev1.State
	revision uint64

	config    *config.Config
	doubtful  []string
	upstreams map[string]*config.Upstream // by their targets' identities
	runtime   *extproc.Runtime
	snapshot  *xds.Snapshot
}

// Start reads the file and the store and offers what they say. Nothing serves before it has returned without an error.
func Start(ctx context.Context, o Options) (*Plane, error) {
	p := &Plane{Options: o, cooling: newCooling(), ejection: &ejection{accounts: map[string]*account{}}}
	v := &version{file: &millracev1.Document{}, state: &millracev1.State{}}
	config.SetDefaults(v.file)
	last := LoadLast(o.DataDir)
	var err error
	if o.File != "" {
		if v.file, v.content, err = p.readFile(); err != nil {
			return nil, err
		}
		if err := last.CheckFile(o.File, v.file); err != nil {
			return nil, err
		}
	}
	if err := p.readStore(ctx, v, last); err != nil {
		p.Close()
		return nil, err
	}
	v.state = remember(v.state, last.State.Keyed)
	err = v.prepare(p.Admin)
	if err == nil && o.Check != nil {
		err = o.Check(v.config)
	}
	if err == nil {
		err = p.eventsTo(v)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, p.commit(ctx, v)
}

// Close closes the store. Run must have returned.
func (p *Plane) Close() {
	if s := p.store(); s != nil {
		s.Close()
	}
}

// store is the opened store, nil when there is none or it cannot be reached yet.
func (p *Plane) store() *store.Store {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// needStore is store, or why there is none that can be relied on.
func (p *Plane) needStore() (*store.Store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.OpenStore == nil:
		return nil, ErrNoStore
	case p.opened == nil, refused(p.storeErr):
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, p.storeErr)
	}
	return p.opened, nil
}

// Config is the configuration that was offered last.
func (p *Plane) Config() *config.Config { return p.current().config }

func (p *Plane) current() *version {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// prepare does everything that can fail before anything changes.
func (v *version) prepare(admin func(listen string) string) error {
	documents, err := config.Merge(v.file, v.state)
	if err != nil {
		return err
	}
	if keyed := config.Keyed(documents, v.state.GetKeyed()); !slices.Equal(keyed, v.state.GetKeyed()) {
		v.state = proto.CloneOf(v.state) // others may hold it
		v.state.Keyed = keyed
	}
	if err := reaching(documents, admin); err != nil {
		return err
	}
	v.doubtful = nil
	for _, d := range documents {
		if notYet := config.NotYet(d); len(notYet) > 0 {
			return fmt.Errorf("this version cannot do what is asked:\n%w", notYet)
		}
		for _, w := range config.Doubtful(d) {
			v.doubtful = append(v.doubtful, d.Gateway.Name+": "+w.Error())
		}
	}
	if v.config, err = config.Resolve(documents...); err != nil {
		return err
	}
	v.upstreams = map[string]*config.Upstream{}
	for _, g := range v.config.Gateways {
		for _, u := range g.Upstreams {
			for _, t := range u.Targets {
				v.upstreams[t.Identity] = u
			}
		}
	}
	if v.runtime, err = extproc.Compile(v.config); err != nil {
		return err
	}
	v.snapshot, err = xds.Build(v.config)
	return err
}

// reaching refuses targets that lead to the REST API. admin tells where that is, given what the file says; nil: there is none.
func reaching(documents []*millracev1.Document, admin func(listen string) string) error {
	if admin == nil {
		return nil
	}
	listen := admin(documents[0].Gateway.GetAdmin().GetListen())
	if found := config.Reaching(documents, "this gateway's REST API", listen); len(found) > 0 {
		return found
	}
	return nil
}

func (p *Plane) eventsTo(v *version) error {
	if p.EventsTo == nil {
		return nil
	}
	return p.EventsTo(v.config)
}

// commit tells the sidecar, which keeps what requests under way have pinned, and then Envoy.
func (p *Plane) commit(ctx context.Context, v *version) error {
	p.Sidecar.Use(v.runtime)
	p.mu.Lock()
	was := p.now
	p.now = v
	p.mu.Unlock()
	p.ejection.keep(v.upstreams)
	p.cooling.wake()
	for _, warning := range v.warnings(was) {
		p.Log.Warn(warning)
	}
	if shut := v.shut(); len(shut) > 0 && (was == nil || !slices.Equal(was.shut(), shut)) {
		p.Log.Warn("gateways without a key are closed: every request is answered 401 until there is a key, or auth: none", "gateways", shut)
	}
	return p.Envoy.Offer(ctx, v.snapshot)
}

// warnings are those about what was not in the version before; nil is none.
func (v *version) warnings(before *version) []string {
	if before == nil {
		return v.doubtful
	}
	return slices.DeleteFunc(slices.Clone(v.doubtful), func(w string) bool { return slices.Contains(before.doubtful, w) })
}

// shut lists the gateways that need a key and have none.
func (v *version) shut() []string {
	var names []string
	for _, g := range v.config.Gateways {
		if g.NeedsKey && len(g.Keys) == 0 {
			names = append(names, g.Name)
		}
	}
	return names
}

// tries bounds how often a change is made again because another sidecar wrote first.
const tries = 10

// Change carries out one change. The error says why it was refused; then nothing has changed. Errors are what Edit returned,
// a config.Errors, or the store's.
func (p *Plane) Change(ctx context.Context, c Change) (Result, error) {
	if _, err := p.needStore(); err != nil && !c.DryRun {
		return Result{}, err
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	for range tries {
		r, err := p.change(ctx, c)
		if !errors.Is(err, store.ErrConflict) {
			return r, err
		}
		if err := p.catchUp(ctx); err != nil {
			return Result{}, err
		}
	}
	return Result{}, fmt.Errorf("%w: others keep writing", ErrStale)
}

func (p *Plane) change(ctx context.Context, c Change) (Result, error) {
	was := p.current()
	next := &version{file: was.file, content: was.content, state: proto.CloneOf(was.state), revision: was.revision}
	if err := c.Edit(next.state); err != nil {
		return Result{}, err
	}
	store.Stamp(next.state, was.state, c.Cause)
	if err := next.prepare(p.Admin); err != nil {
		return Result{}, err
	}
	if c.DryRun {
		return Result{Revision: was.revision, Version: next.config.Version, State: Accepted, Warnings: next.warnings(was)}, nil
	}
	revision, err := p.store().Put(ctx, was.revision, next.state)
	if err != nil {
		return Result{}, err
	}
	next.revision = revision
	if err := p.commit(ctx, next); err != nil {
		return Result{}, err
	}
	if c.Wait <= 0 {
		go func() {
			p.changing.Lock()
			defer p.changing.Unlock()
			p.settle(context.WithoutCancel(ctx), next, settleTime)
		}()
		return Result{Revision: revision, Version: next.config.Version, State: Accepted, Warnings: next.warnings(was)}, nil
	}
	r := p.settle(ctx, next, c.Wait)
	r.Warnings = next.warnings(was)
	return r, nil
}

// settleTime bounds the wait for Envoy where nobody else waits.
const settleTime = 10 * time.Second

// settle waits for Envoy's word on v and acts on it. changing is held.
func (p *Plane) settle(ctx context.Context, v *version, wait time.Duration) Result {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r := Result{Revision: v.revision, Version: v.config.Version, State: Offered}
	status := p.Envoy.Status()
	if status.Connected {
		status = p.Envoy.Wait(ctx, v.config.Version)
	}
	switch {
	case status.Version != v.config.Version: // overtaken
	case status.Phase == xds.Applied:
		r.State = Applied
		p.keep(v)
	case status.Phase == xds.Rejected:
		r.State, r.Reason = Rejected, status.Reason
		p.Log.Error("configuration rejected", "version", v.config.Version, "reason", status.Reason)
		p.revert(context.WithoutCancel(ctx), v, status.Reason)
	}
	return r
}

// keep remembers v as the one to go back to, in memory and on disk.
func (p *Plane) keep(v *version) {
	p.mu.Lock()
	same := p.applied != nil && p.applied.config.Version == v.config.Version && p.applied.revision == v.revision
	p.applied = v
	p.mu.Unlock()
	if same || p.DataDir == "" {
		return
	}
	if err := store.SaveApplied(p.DataDir, store.Applied{Revision: v.revision, State: v.state, File: []byte(v.content)}); err != nil {
		p.Log.Error("keep the applied configuration on disk", "error", err)
	}
}

// revert puts store, sidecar and Envoy back to the last applied version. changing is held.
func (p *Plane) revert(ctx context.Context, bad *version, reason string) {
	p.mu.Lock()
	good := p.applied
	p.mu.Unlock()
	if good == nil {
		return // nothing was ever applied: Envoy keeps what it could take
	}
	back := *good
	if opened := p.store(); opened != nil && bad.revision != good.revision {
		state := proto.CloneOf(good.state)
		store.Stamp(state, bad.state, "back to the last applied version: "+reason)
		revision, err := opened.Put(ctx, bad.revision, state)
		if err != nil {
			p.Log.Error("put the store back", "error", err)
			return // another sidecar wrote: its version comes by the watch
		}
		back.state, back.revision = state, revision
	}
	if err := p.eventsTo(&back); err != nil {
		p.Log.Error("events do not go back to where they went", "error", err)
	}
	if err := p.commit(ctx, &back); err != nil {
		p.Log.Error("go back to the last applied configuration", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if p.Envoy.Wait(ctx, back.config.Version).Phase == xds.Applied {
		p.keep(&back)
	}
}

// catchUp takes what the store has and this sidecar has not. changing is held.
func (p *Plane) catchUp(ctx context.Context) error {
	latest, err := p.store().Get(ctx)
	if err != nil {
		return err
	}
	return p.follow(ctx, latest)
}

// follow makes a version of the store the present one. changing is held.
func (p *Plane) follow(ctx context.Context, latest store.Version) error {
	was := p.current()
	if err := p.store().Continues(ctx, store.Version{Revision: was.revision, State: was.state}, latest); err != nil {
		return err
	}
	return p.take(ctx, latest)
}

// take is follow for a version that is known to continue the present one.
func (p *Plane) take(ctx context.Context, latest store.Version) error {
	was := p.current()
	if latest.Revision == was.revision && latest.State.History == was.state.History {
		return nil
	}
	next := &version{file: was.file, content: was.content, state: remember(latest.State, was.state.Keyed), revision: latest.Revision}
	if err := next.prepare(p.Admin); err != nil {
		return fmt.Errorf("version %d of the store: %w", latest.Revision, err)
	}
	return p.commit(ctx, next)
}

// Run follows the store and the file until ctx ends, and settles what they bring.
func (p *Plane) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { p.settleFirst(ctx) })
	if p.OpenStore != nil {
		running.Go(func() { p.watchStore(ctx) })
	}
	running.Go(func() { p.watchFiles(ctx) })
	running.Go(func() { p.coolDown(ctx) })
	running.Wait()
}

// settleFirst waits, as long as it takes, for Envoy to take the first configuration: without one applied there is nothing to
// go back to.
func (p *Plane) settleFirst(ctx context.Context) {
	for ctx.Err() == nil {
		v := p.current()
		status := p.Envoy.Wait(ctx, v.config.Version)
		if status.Phase == xds.Applied && status.Version == v.config.Version {
			p.changing.Lock()
			if p.current() == v {
				p.keep(v)
			}
			p.changing.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // rejected, or overtaken by another version
		}
	}
}

// watchStore follows the versions that other sidecars write, and opens the store where that did not work at the start.
func (p *Plane) watchStore(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.followStore(ctx); err != nil && ctx.Err() == nil {
			p.storeFailed(err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func (p *Plane) followStore(ctx context.Context) error {
	opened := p.store()
	if opened == nil {
		var err error
		if opened, err = p.OpenStore(ctx); err != nil {
			return err
		}
		p.mu.Lock()
		p.opened = opened
		p.mu.Unlock()
	}
	versions, err := opened.Watch(ctx)
	if err != nil {
		return err
	}
	for latest := range versions {
		p.storeFailed(p.offered(ctx, latest))
	}
	return nil
}

// offered makes a version that the watch has brought the present one, and waits until Envoy has it. A write of our own may have
// overtaken it meanwhile: then what counts is what the store holds now.
func (p *Plane) offered(ctx context.Context, latest store.Version) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	err := latest.Err
	switch {
	case err != nil:
	case latest.Revision < p.current().revision:
		err = p.catchUp(ctx)
	default:
		err = p.follow(ctx, latest)
	}
	if v := p.current(); err == nil && v.revision == latest.Revision {
		p.settle(ctx, v, settleTime)
	}
	return err
}

func (p *Plane) storeFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.storeErr
	p.storeErr = err
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		p.Log.Error("store", "error", err)
	case err == nil && was != nil:
		p.Log.Info("store: well again")
	}
}

// Snapshot returns what REST calls read: the stored state and the file's effective document, which without a file is an empty
// one's. Neither must be changed.
func (p *Plane) Snapshot(context.Context) (uint64, *millracev1.State, *millracev1.Document, error) {
	v := p.current()
	return v.revision, v.state, v.file, nil
}

// Status tells where the gateway stands.
func (p *Plane) Status() Status {
	v := p.current()
	told := p.Envoy.Status()
	s := Status{
		Result: Result{Revision: v.revision, Version: v.config.Version, State: Offered, Reason: told.Reason},
		Envoy:  Envoy{Connected: told.Connected, Node: told.Node, Version: told.EnvoyVersion},
		File:   File{Path: p.File},
	}
	switch told.Phase {
	case xds.Applied:
		s.State = Applied
	case xds.Rejected:
		s.State = Rejected
	}
	s.Ready = p.Ready().Reason == ""
	s.Doubtful = v.doubtful
	if p.Events != nil {
		if err := p.Events(); err != nil {
			s.Events = err.Error()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.File.Error = cmp.Or(p.fileErr, p.detached)
	if p.storeErr != nil {
		s.Store = p.storeErr.Error()
	}
	return s
}

// Versions lists what can be gone back to, newest first.
func (p *Plane) Versions(ctx context.Context) ([]VersionInfo, error) {
	opened, err := p.needStore()
	if err != nil {
		return nil, err
	}
	changes, err := opened.Versions(ctx)
	if err != nil {
		return nil, err
	}
	var infos []VersionInfo
	for _, c := range changes {
		if c.Err == nil {
			infos = append(infos, VersionInfo{Revision: c.Revision, Time: c.Time, Cause: c.Cause})
		}
	}
	return infos, nil
}

// At returns the state of a version.
func (p *Plane) At(ctx context.Context, revision uint64) (*millracev1.State, error) {
	opened, err := p.needStore()
	if err != nil {
		return nil, err
	}
	v, err := opened.At(ctx, revision)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("version %d: %w", revision, ErrNotFound)
	}
	return v.State, err
}
