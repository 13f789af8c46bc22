package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/config"
	"millrace/config/store"
	millracev1 "millrace/proto/millrace/v1"
)

// pairing is a plane with a fake Envoy beside it.
type pairing struct {
	*Plane
	t     *testing.T
	site  *site
	envoy *fakeEnvoy
	end   func() // ends the plane; its Envoy is cut off
}

// open is a document whose gateway needs no key, with an upstream of this name.
func open(upstream string) string {
	return fmt.Sprintf("gateway: {auth: none}\nupstreams: [{name: %s, targets: [{id: t, host: 127.0.0.1, port: 1, protocol: http}]}]\n", upstream)
}

// pairUp starts a plane at the site and connects an Envoy, which has applied the start.
func pairUp(t *testing.T, s *site) *pairing {
	t.Helper()
	p := away(t, s)
	p.envoy.connect()
	p.wants("the start is applied", Applied)
	return p
}

// away is pairUp before Envoy connects.
func away(t *testing.T, s *site) *pairing {
	t.Helper()
	plane, closePlane := s.mustStart()
	p := &pairing{Plane: plane, t: t, site: s, envoy: newFakeEnvoy(t, plane.Envoy)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { plane.Run(ctx) })
	p.end = sync.OnceFunc(func() {
		p.envoy.leave()
		cancel()
		running.Wait()
		closePlane()
	})
	t.Cleanup(p.end)
	return p
}

// leave has Envoy go, and waits until that is known.
func (p *pairing) leave() {
	p.t.Helper()
	p.envoy.leave()
	until(p.t, "it is gone", func() bool { return !p.Status().Envoy.Connected && p.Status().State != Applied })
}

// wants waits until the status says this state, and both halves have the upstreams and no other.
func (p *pairing) wants(what string, state State, upstreams ...string) {
	p.t.Helper()
	until(p.t, what, func() bool { return p.Status().State == state && (upstreams == nil || p.serves(upstreams...)) })
}

// serves tells whether both halves have these upstreams and no other.
func (p *pairing) serves(upstreams ...string) bool {
	if got := upstreamsOf(p.Config()); got != strings.Join(upstreams, " ") {
		return false
	}
	for _, name := range upstreams {
		if !p.envoy.holds("/" + name + "/") {
			return false
		}
	}
	return true
}

func upstreamsOf(c *config.Config) string {
	var names []string
	for _, u := range c.Gateways[0].Upstreams {
		names = append(names, strings.TrimPrefix(u.Name, "default/"))
	}
	return strings.Join(names, " ")
}

// stored are the upstreams in the store's latest version.
func (p *pairing) stored() string {
	p.t.Helper()
	latest, err := p.opened(p.t).Get(context.Background())
	if err != nil {
		return err.Error()
	}
	return namesIn(latest.State)
}

func namesIn(state *millracev1.State) string {
	var names []string
	for _, d := range state.Documents {
		for _, u := range d.Upstreams {
			names = append(names, u.Name)
		}
	}
	return strings.Join(names, " ")
}

// opened opens what the plane has open already.
func (p *pairing) opened(t *testing.T) *store.Store {
	t.Helper()
	opened, err := p.need()
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// adding is the change that adds an upstream.
func adding(name string, wait bool) Change {
	c := Change{Cause: "add " + name, Edit: func(state *millracev1.State) error {
		if len(state.Documents) == 0 {
			state.Documents = append(state.Documents, &millracev1.Document{Gateway: &millracev1.Gateway{Id: "default", Name: "default"}})
		}
		d := state.Documents[0]
		d.Upstreams = append(d.Upstreams, &millracev1.Upstream{Id: name, Name: name, Targets: []*millracev1.Target{
			{Id: "t", Host: "127.0.0.1", Port: 2, Protocol: "http"},
		}})
		return nil
	}}
	if wait {
		c.Wait = patience
	}
	return c
}

// add adds an upstream over REST, and wants the answer to say so.
func (p *pairing) add(name string, wait bool, want State) {
	p.t.Helper()
	r, err := p.Change(context.Background(), adding(name, wait))
	if err != nil || r.State != want {
		p.t.Errorf("add %s: %s %q %v, want %s", name, r.State, r.Reason, err, want)
	}
}

// edit writes the configuration file; the plane finds it by itself.
func (p *pairing) edit(upstream string) { p.t.Helper(); p.site.write(open(upstream)) }

// TestAppliedWhileEnvoyWasAway: what Envoy takes when it comes back is what a later refusal goes
// back to.
func TestAppliedWhileEnvoyWasAway(t *testing.T) {
	p := pairUp(t, newSite(t, open("f")))
	p.leave()
	p.add("one", true, Offered) // nobody is there to take it
	p.envoy.connect()
	p.wants("Envoy takes what it missed", Applied, "f", "one")
	p.envoy.refuse("/bad/")
	p.add("bad", true, Rejected)
	p.wants("the refusal goes back one step", Applied, "f", "one")
	if got := p.stored(); got != "one" {
		t.Errorf("the store has %q", got)
	}
	var states []State
	versions, err := p.Versions(context.Background())
	for _, v := range versions {
		states = append(states, v.State)
	}
	if want := []State{"", Rejected, ""}; err != nil || !slices.Equal(states, want) { // the newest first
		t.Errorf("the versions are %q (%v), want %q", states, err, want)
	}
}

// TestRefusedWhenEnvoyComesBack: a change that was offered to nobody is put back when Envoy refuses
// it in the end.
func TestRefusedWhenEnvoyComesBack(t *testing.T) {
	p := pairUp(t, newSite(t, open("f")))
	p.leave()
	p.envoy.forget()
	p.add("bad", false, Accepted)
	p.envoy.refuse("/bad/")
	p.envoy.connect()
	p.wants("back", Applied, "f")
	until(t, "the store is put back", func() bool { return p.stored() == "" })
}

// TestSecondOfTwoIsRefused: of two changes that nobody waits for the first one stays, whether Envoy
// had the time to take it or not.
func TestSecondOfTwoIsRefused(t *testing.T) {
	for name, slow := range map[string]bool{"at its own pace": false, "while it thinks about the first": true} {
		t.Run(name, func(t *testing.T) {
			p := pairUp(t, newSite(t, open("f")))
			p.envoy.refuse("/bad/")
			release := func() {}
			if slow {
				release = p.envoy.hold()
			}
			p.add("one", false, Accepted)
			p.add("bad", false, Accepted)
			release()
			until(t, "it is refused", func() bool { return p.envoy.refusals() > 0 })
			p.wants("the first one stays", Applied, "f", "one")
			until(t, "the store has the first one alone", func() bool { return p.stored() == "one" })
		})
	}
}

// shared are two planes at one store that have agreed on "f".
func shared(t *testing.T) (a, b *pairing) {
	t.Helper()
	url := startNATS(t, t.TempDir(), 0).ClientURL()
	site := func() *site { s := newSite(t, open("f")); s.url = url; return s }
	return pairUp(t, site()), pairUp(t, site())
}

// TestOthersChangeStays: with a shared store, what this Envoy refuses of another sidecar's change,
// or of its own on top of that, does not undo what the other has applied.
func TestOthersChangeStays(t *testing.T) {
	t.Run("its own is refused", func(t *testing.T) {
		a, b := shared(t)
		b.envoy.refuse("/bad/")
		bad := adding("bad", true)
		edit := bad.Edit
		first := sync.OnceFunc(func() { a.add("one", true, Applied) }) // and so the write conflicts
		bad.Edit = func(s *millracev1.State) error { first(); return edit(s) }
		if r, err := b.Change(context.Background(), bad); err != nil || r.State != Rejected {
			t.Errorf("%+v %v", r, err)
		}
		b.wants("back to the other's", Applied, "f", "one")
		a.wants("the other goes on", Applied, "f", "one")
		if got := a.stored(); got != "one" {
			t.Errorf("the store has %q", got)
		}
	})
	t.Run("the other's is refused", func(t *testing.T) {
		a, b := shared(t)
		b.envoy.refuse("/one/")
		a.add("one", true, Applied)
		until(t, "it is said", func() bool { return strings.Contains(b.Status().Store, refusal) })
		b.wants("what was applied is served", Applied, "f")
		if got := a.stored(); got != "one" {
			t.Errorf("the store has %q", got)
		}
		b.add("two", true, Rejected) // on top of what it cannot serve
		if got := a.stored(); got != "one" {
			t.Errorf("the store has %q, want what the other one wrote", got)
		}
		a.wants("the other has what it wrote", Applied, "f", "one")
		b.envoy.refuse("")
		b.add("three", true, Applied)
		b.wants("it has caught up", Applied, "f", "one", "three")
		if told := b.Status().Store; told != "" {
			t.Errorf("the status still says %q", told)
		}
	})
}

// TestReadyWhileOffered: a gateway that serves stays ready while Envoy thinks about a change,
// refuses one, and is away; before its first configuration is applied, and while it drains, it is
// not.
func TestReadyWhileOffered(t *testing.T) {
	s := newSite(t, "gateway: {auth: none, ready_when: configured}\n"+strings.TrimPrefix(open("f"), "gateway: {auth: none}\n"))
	p := away(t, s)
	ready := func(want bool, when string) {
		t.Helper()
		if got := p.Ready(); (got.Reason == "") != want || p.Status().Ready != want {
			t.Errorf("%s: ready: %+v, want %v", when, got, want)
		}
	}
	ready(false, "before the first")
	p.envoy.connect()
	p.wants("start", Applied, "f")
	ready(true, "applied")
	release := p.envoy.hold()
	p.add("one", false, Accepted)
	ready(true, "offered")
	release()
	p.wants("the change", Applied, "f", "one")
	p.envoy.refuse("/bad/")
	p.add("bad", true, Rejected)
	ready(true, "refused")
	p.leave()
	ready(true, "away")
	p.Draining = func() bool { return true }
	ready(false, "draining")
}

// looker is a log that has the site look whenever something is logged.
type looker struct {
	slog.Handler
	site *site
}

func (l looker) Handle(ctx context.Context, r slog.Record) error {
	if l.site.look != nil {
		l.site.look()
	}
	return l.Handler.Handle(ctx, r)
}

// TestStatusIsOfOneMoment: applied is never said of a version that Envoy was not even told of.
func TestStatusIsOfOneMoment(t *testing.T) {
	s := newSite(t, open("f"))
	var looks atomic.Int64
	var look atomic.Pointer[func()]
	s.look = func() {
		if f := look.Load(); f != nil {
			looks.Add(1)
			(*f)()
		}
	}
	p := pairUp(t, s)
	was := p.Status().Version
	release := p.envoy.hold()
	looking := func() {
		if s := p.Status(); s.State == Applied && s.Version != was {
			t.Errorf("%s is said to be applied, and Envoy has %s", s.Version, was)
		}
	}
	look.Store(&looking)
	doubtful := adding("one", false)
	edit := doubtful.Edit
	doubtful.Edit = func(state *millracev1.State) error {
		err := edit(state)
		d := state.Documents[0]
		passive := false
		d.Upstreams[0].HealthChecks = &millracev1.HealthChecks{Passive: &passive, Threshold: 3}
		return err
	}
	if r, err := p.Change(context.Background(), doubtful); err != nil || len(r.Warnings) == 0 {
		t.Fatalf("%v %v: want a warning", r, err)
	}
	look.Store(nil)
	if s := p.Status(); looks.Load() == 0 || s.State != Offered || s.Version == was {
		t.Errorf("%d looks, then %+v", looks.Load(), s)
	}
	release()
	p.wants("it is applied", Applied, "f", "one")
}

// TestClientHangsUp: a change goes on without its client, from the write of the store to Envoy's
// word.
func TestClientHangsUp(t *testing.T) {
	for name, hangUp := range map[string]func(p *pairing, cancel func()) Change{
		"before the write": func(_ *pairing, cancel func()) Change {
			c := adding("one", true)
			edit := c.Edit
			c.Edit = func(s *millracev1.State) error { cancel(); return edit(s) }
			return c
		},
		"after the write": func(p *pairing, cancel func()) Change {
			go func() {
				for p.stored() != "one" {
				}
				cancel()
			}()
			return adding("one", true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pairUp(t, newSite(t, open("f")))
			release := p.envoy.hold()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if r, err := p.Change(ctx, hangUp(p, cancel)); err != nil || r.State != Offered {
				t.Errorf("%+v %v", r, err)
			}
			release()
			p.wants("it goes on", Applied, "f", "one")
			p.envoy.refuse("/bad/")
			p.add("bad", true, Rejected)
			p.wants("it is what a refusal goes back to", Applied, "f", "one")
			if got := p.stored(); got != "one" {
				t.Errorf("the store has %q", got)
			}
		})
	}
}

// TestStoreIsAwayAtTheRefusal: both halves go back at once, the status says what the store holds,
// and the store is put back when it is there again.
func TestStoreIsAwayAtTheRefusal(t *testing.T) {
	dir := t.TempDir()
	nats := startNATS(t, dir, 0)
	s := newSite(t, open("f"))
	s.url = nats.ClientURL()
	p := pairUp(t, s)
	p.envoy.refuse("/bad/")
	release := p.envoy.hold()
	p.add("bad", false, Accepted)
	port := nats.Addr().(*net.TCPAddr).Port
	nats.Shutdown()
	nats.WaitForShutdown()
	until(t, "the store is away", func() bool { return strings.Contains(p.stored(), "not connected") })
	release()
	p.wants("both halves are back", Applied, "f")
	until(t, "it is said", func() bool { return strings.Contains(p.Status().Store, refusal) })
	startNATS(t, dir, port)
	until(t, "the store is put back", func() bool { return p.Status().Store == "" && p.stored() == "" })
	p.envoy.refuse("")
	p.add("one", true, Applied)
	p.wants("and is written again", Applied, "f", "one")
}

// TestSlowAnswerStallsNobody: while Envoy thinks about one change, others are accepted and the file
// is read.
func TestSlowAnswerStallsNobody(t *testing.T) {
	p := pairUp(t, newSite(t, open("f")))
	release := p.envoy.hold()
	first := make(chan State)
	go func() {
		r, err := p.Change(context.Background(), adding("one", true))
		if err != nil {
			t.Error(err)
		}
		first <- r.State
	}()
	until(t, "the first is offered", func() bool { return upstreamsOf(p.Config()) == "f one" })
	p.add("two", false, Accepted)
	p.edit("g")
	until(t, "the file is taken", func() bool { return upstreamsOf(p.Config()) == "g one two" })
	release()
	if got := <-first; got != Applied {
		t.Errorf("the first change: %s", got)
	}
	p.wants("all is applied", Applied, "g", "one", "two")
}

// TestFileIsRefused: what Envoy refuses of the file changes nothing in the store, is said, and is
// over with the next good edit.
func TestFileIsRefused(t *testing.T) {
	for name, here := range map[string]bool{"while Envoy is there": true, "when Envoy comes back": false} {
		t.Run(name, func(t *testing.T) {
			p := pairUp(t, newSite(t, open("f")))
			p.add("one", true, Applied)
			p.envoy.refuse("/bad/")
			if !here {
				p.leave()
			}
			p.edit("bad")
			if !here {
				until(t, "it is offered", func() bool { return upstreamsOf(p.Config()) == "bad one" })
				p.envoy.connect()
			}
			until(t, "it is said", func() bool { return strings.Contains(p.Status().File.Error, refusal) })
			p.wants("back", Applied, "f", "one")
			if got := p.stored(); got != "one" {
				t.Errorf("the store has %q", got)
			}
			p.edit("g")
			p.wants("the next edit", Applied, "g", "one")
			if told := p.Status().File.Error; told != "" {
				t.Errorf("the status still says %q", told)
			}
		})
	}
}

// TestFirstIsRefused: with nothing to go back to the gateway is not ready, says why, and is as soon
// as Envoy takes what it has, or something else.
func TestFirstIsRefused(t *testing.T) {
	for name, mend := range map[string]func(p *pairing) string{
		"another change": func(p *pairing) string { p.edit("g"); return "g" },
		"another Envoy": func(p *pairing) string {
			p.leave()
			p.envoy.forget()
			p.envoy.refuse("")
			p.envoy.connect()
			return "f"
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := away(t, newSite(t, open("f")))
			p.envoy.refuse("/f/")
			p.envoy.connect()
			p.wants("it is refused", Rejected)
			if s := p.Status(); s.Ready || s.Reason != refusal {
				t.Errorf("%+v", s)
			}
			p.wants("it is applied", Applied, mend(p))
		})
	}
}

// TestMendedInPart: an edit that mends one of several resources that were refused together is
// applied.
func TestMendedInPart(t *testing.T) {
	s := newSite(t, strings.Replace(open("f"), "upstreams: [", "upstreams: [{name: bad, targets: [{id: t, host: 127.0.0.1, port: 2, protocol: http}]}, ", 1))
	p := away(t, s)
	p.envoy.refuse("/bad/")
	p.envoy.connect()
	p.wants("it is refused", Rejected)
	p.edit("f")
	p.wants("it is mended", Applied, "f")
}

// TestRestart: what was applied is what the next process has, with an Envoy that lived on or one
// that starts anew; and a refusal goes back to it.
func TestRestart(t *testing.T) {
	for name, forgets := range map[string]bool{"Envoy lives on": false, "Envoy starts anew": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, open("f"))
			p := pairUp(t, s)
			p.add("one", true, Applied)
			has := p.envoy.has
			p.end()
			last, err := store.LoadApplied(s.data)
			if err != nil || namesIn(last.State) != "one" {
				t.Fatalf("%v %v", last, err)
			}
			p = away(t, s)
			if !forgets {
				p.envoy.has = has
			}
			p.envoy.connect()
			p.wants("start", Applied, "f", "one")
			p.envoy.refuse("/bad/")
			p.add("bad", true, Rejected)
			p.wants("back", Applied, "f", "one")
		})
	}
}

// TestReconnect: an Envoy that comes back with what it had is told nothing anew and has all at
// once; a fresh one gets everything.
func TestReconnect(t *testing.T) {
	p := pairUp(t, newSite(t, open("f")))
	p.add("one", true, Applied)
	for _, restarts := range []bool{false, true} {
		p.leave()
		if restarts {
			p.envoy.forget()
		}
		p.envoy.connect()
		p.wants("it is back", Applied, "f", "one")
	}
}

// TestStoreConflict: sidecars that write at the same time lose nothing.
func TestStoreConflict(t *testing.T) {
	a, b := shared(t)
	const writers = 4
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { a.add(fmt.Sprintf("a%d", i), true, Applied) })
		all.Go(func() { b.add(fmt.Sprintf("b%d", i), true, Applied) })
	}
	all.Wait()
	for _, p := range []*pairing{a, b} {
		until(t, "both have all", func() bool {
			return len(strings.Fields(upstreamsOf(p.Config()))) == 1+2*writers && p.Status().State == Applied
		})
	}
}
