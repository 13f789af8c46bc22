package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/config"
	"millrace/config/store"
	"millrace/extproc"
	"millrace/xds"
)

// settler owns what both halves are told, what Envoy has taken of it, and what goes back when Envoy
// refuses. Whoever has a new version hands it to offer, which returns at once; run follows what
// Envoy says for as long as the process lives, and acts on it whatever began the change.
type settler struct {
	sidecar *extproc.Server
	envoy   *xds.Server
	log     *slog.Logger
	onPhase func(*version) // is called after both halves were told
	events  *events
	// openLogs is Options.OpenLogs.
	openLogs func(*config.Config) error
	dataDir  string        // where the last applied version is kept; "" keeps none
	file     string        // path of the configuration file; "" for none
	poked    chan struct{} // of length 1: there is something to settle that Envoy did not say
	owes     chan struct{} // of length 1: the store has to be put back

	now    atomic.Pointer[version] // what both halves were told last; it changes while mu is held
	status atomic.Pointer[Status]  // see publish
	saved  *version                // the one in dataDir; run's own

	// mu guards what follows, and the order of offers. Nobody waits for Envoy, the store or the
	// disk while holding it.
	mu      sync.Mutex
	applied *version // the last one that Envoy took whole; nil before the first
	head    store.Version
	debt    *debt
	reason  string  // what Envoy said of what it refused last
	waiting []*fate // of refused versions, to be told once it was tried to put the store back

	fileErr, detached, storeErr string // for the status
}

// debt is a version in the store, its latest, that this sidecar wrote and Envoy refused: what was
// there before is to be written again.
type debt struct {
	base   store.Version // what was there before
	reason string
}

// fate is what came of a version.
type fate struct {
	known  chan struct{} // closed once the rest is set
	state  State         // Applied or Rejected
	reason string
}

func (f *fate) is(state State, reason string) {
	select {
	case <-f.known: // a fresh Envoy has another opinion
	default:
		f.state, f.reason = state, reason
		close(f.known)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// offer tells both halves of v, and returns before Envoy has said anything.
func (s *settler) offer(v *version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.now.Load()
	v.fate = &fate{known: make(chan struct{})}
	if was != nil && was != s.applied && !was.refused {
		v.before = was
		v.shorten()
	}
	if v.base != nil && s.debt != nil { // what v was made of was refused meanwhile
		v.base = &s.debt.base
	}
	if !v.edited {
		s.head, s.debt = store.Version{Revision: v.revision, State: v.state}, nil
	}
	for _, warning := range v.warnings(was) {
		s.log.Warn(warning)
	}
	if shut := v.shut(); len(shut) > 0 && (was == nil || !slices.Equal(was.shut(), shut)) {
		s.log.Warn("gateways without a key are closed: every request is answered 401 until there is a key, "+
			"or auth: none", "gateways", shut)
	}
	s.tell(v)
}

// tell tells both halves: first the sidecar, which keeps what requests under way have pinned, and
// then Envoy. mu is held.
func (s *settler) tell(v *version) {
	if err := s.events.to(v.config); err != nil { // it was tried before, unless this is the way back
		s.log.Error("events do not go where the configuration says", "error", err)
	}
	if err := s.openLogs(v.config); err != nil {
		s.log.Error("audit logs are not as the configuration says", "error", err)
	}
	s.sidecar.Use(v.runtime)
	s.now.Store(v)
	if err := s.envoy.Offer(context.Background(), v.snapshot); err != nil {
		s.log.Error("offer a configuration", "error", err)
	}
	s.onPhase(v)
	s.publish()
}

// run settles what was offered, whenever Envoy says something, until ctx ends.
func (s *settler) run(ctx context.Context) {
	for {
		_, said := s.envoy.Watch()
		s.settle()
		select {
		case <-ctx.Done():
			return
		case <-s.poked:
		case <-said:
		}
	}
}

// settle acts on what Envoy says now.
func (s *settler) settle() {
	s.mu.Lock()
	var taken []*fate
	var refused *fate
	word := s.word()
	switch word.Phase {
	case xds.Applied:
		taken = s.take()
	case xds.Rejected:
		refused = s.refuse(word.Reason)
	}
	s.publish()
	applied := s.applied
	s.mu.Unlock()

	s.save(applied)
	for _, f := range taken {
		f.is(Applied, "")
	}
	if refused != nil {
		refused.is(Rejected, word.Reason)
	}
}

// word is what Envoy says of the present version. mu is held, so that no other is offered
// meanwhile.
func (s *settler) word() xds.Status {
	word := s.envoy.Status()
	if word.Version != s.now.Load().config.Version {
		word.Phase = xds.Offered
	}
	return word
}

// take makes the present version the one to go back to. It returns the fates of all that is in it.
// mu is held.
func (s *settler) take() (taken []*fate) {
	now := s.now.Load()
	now.refused = false
	if s.applied == now {
		return nil
	}
	edited := false
	for v := now; v != nil; v = v.before {
		taken = append(taken, v.fate)
		edited = edited || v.edited
	}
	if edited {
		s.log.Info("configuration file applied", "version", now.config.Version)
	}
	now.before = nil
	s.applied = now
	if s.debt != nil && now.revision == s.head.Revision { // with another file it is good
		s.debt = nil
	}
	return taken
}

// refuse goes back from the present version to the one offered before it, if Envoy has not judged
// that, else to what was applied last. Without either it stays: Envoy keeps what it could take, and
// may take the rest when it comes back. It returns the fate that can be told now, if any. mu is
// held.
func (s *settler) refuse(reason string) *fate {
	bad := s.now.Load()
	if bad.refused {
		return nil
	}
	bad.refused, s.reason = true, reason
	s.log.Error("configuration rejected", "version", bad.config.Version, "reason", reason)
	if bad.edited {
		s.fileErr = reason
	}
	good := cmp.Or(bad.before, s.applied)
	if good == nil || good == bad {
		return bad.fate
	}
	told := bad.fate
	if bad.base != nil && (s.debt != nil || s.head.Revision == bad.revision) {
		s.debt = &debt{*bad.base, reason}
		s.waiting, told = append(s.waiting, bad.fate), nil
		poke(s.owes)
	}
	bad.before = nil
	s.tell(good)
	return told
}

// save keeps the applied version on disk, for the next start. It is run's own.
func (s *settler) save(v *version) {
	if v == s.saved {
		return
	}
	s.saved = v
	if s.dataDir == "" {
		return
	}
	applied := store.Applied{Revision: v.revision, State: v.state, File: []byte(v.content)}
	if err := store.SaveApplied(s.dataDir, applied); err != nil {
		s.log.Error("keep the applied configuration on disk", "error", err)
	}
}

// await waits for Envoy's word on v, no longer than wait, and not while there is no Envoy.
func (s *settler) await(ctx context.Context, v *version, wait time.Duration) Result {
	r := Result{Revision: v.revision, Version: v.config.Version, State: Offered}
	if !s.envoy.Status().Connected {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return v.fate.after(ctx, r)
}

// after is r with the fate in it, or as it is when ctx ends first.
func (f *fate) after(ctx context.Context, r Result) Result {
	select {
	case <-f.known:
		r.State, r.Reason = f.state, f.reason
	case <-ctx.Done():
	}
	return r
}

// wanted is what the next version is made of: what the store holds, without what is owed to it.
func (s *settler) wanted() store.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.debt != nil {
		return s.debt.base
	}
	return s.head
}

// owed is what has to be written to the store, on top of head; nil when nothing is.
func (s *settler) owed() (owed *debt, head store.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.debt, s.head
}

// paid notes that what was owed is the store's latest version; nil: that others have written, and
// that nothing is owed any more.
func (s *settler) paid(owed *debt, latest *store.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.debt != owed { // Envoy has taken it after all: what the store holds now comes by the watch
		return
	}
	s.debt = nil
	if latest != nil {
		s.renumber(owed.base.Revision, *latest)
	}
	s.publish()
	poke(s.poked)
}

// renumber gives the state that had a revision another one. mu is held.
func (s *settler) renumber(from uint64, to store.Version) {
	s.head = to
	was := s.now.Load()
	now := was.renumbered(from, to)
	switch {
	case s.applied == was:
		s.applied = now
	case s.applied != nil:
		s.applied = s.applied.renumbered(from, to)
	}
	s.now.Store(now)
}

// announce tells those who wait that their versions were refused. It was tried to put the store
// back.
func (s *settler) announce() {
	s.mu.Lock()
	waiting, reason := s.waiting, s.reason
	s.waiting = nil
	s.mu.Unlock()
	for _, f := range waiting {
		f.is(Rejected, reason)
	}
}

// publish makes what is known the status. mu is held.
func (s *settler) publish() {
	now := s.now.Load()
	if now == nil {
		return
	}
	word := s.word()
	next := &Status{
		Result:   Result{Revision: now.revision, Version: now.config.Version, State: Offered},
		Envoy:    Envoy{Connected: word.Connected, Node: word.Node, Version: word.EnvoyVersion},
		File:     File{Path: s.file, Error: cmp.Or(s.fileErr, s.detached)},
		Store:    s.aboutStore(now),
		Doubtful: now.doubtful,
		served:   s.applied != nil,
	}
	switch word.Phase {
	case xds.Applied:
		next.State = Applied
	case xds.Rejected:
		next.State, next.Reason = Rejected, word.Reason
	}
	s.status.Store(next)
}

// aboutStore says what is wrong with the store, and what it holds that is not served. mu is held.
func (s *settler) aboutStore(now *version) string {
	var said []string
	switch {
	case s.debt != nil:
		said = append(said, fmt.Sprintf("its revision %d is not served and not taken back yet: envoy refused it: %s",
			s.head.Revision, s.debt.reason))
	case s.head.Revision != now.revision:
		said = append(said, fmt.Sprintf("its revision %d is not served, but %d: envoy refused it: %s",
			s.head.Revision, now.revision, s.reason))
	}
	if s.storeErr != "" {
		said = append(said, s.storeErr)
	}
	return strings.Join(said, "; ")
}

// say changes what the status says of file and store.
func (s *settler) say(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.publish()
}

func (s *settler) fileFailed(reason string) { s.say(func() { s.fileErr = reason }) }

func (s *settler) storeFailed(err error) {
	s.say(func() {
		if s.storeErr = ""; err != nil {
			s.storeErr = err.Error()
		}
	})
}

// fileDetached says why a file cannot be followed, when that changes.
func (s *settler) fileDetached(reason string) {
	s.say(func() {
		if reason != "" && reason != s.detached {
			s.log.Error("configuration file not followed", "error", reason)
		}
		s.detached = reason
	})
}
