package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/config/store"
	millracev1 "millrace/proto/millrace/v1"
)

// Last is what was applied last, as far as the data directory remembers. File and store are compared with it, so that what they
// have lost is not taken for a change.
type Last struct {
	store.Applied // zero but for the State when nothing was found
	found         bool
	err           error // why what is there cannot be read
}

// LoadLast reads what dir remembers; with "" that is nothing.
func LoadLast(dir string) Last {
	last := Last{Applied: store.Applied{State: &millracev1.State{}}}
	if dir == "" {
		return last
	}
	applied, err := store.LoadApplied(dir)
	switch {
	case err == nil:
		last.Applied, last.found = applied, true
	case !errors.Is(err, fs.ErrNotExist):
		last.err = err
	}
	return last
}

// CheckFile refuses a document of the configuration file at path that has lost its keys since.
func (l Last) CheckFile(path string, doc *millracev1.Document) error {
	if l.File == nil {
		return nil
	}
	was, err := config.Load("", l.File)
	if err != nil {
		return nil //nolint:nilerr // another version wrote it; that its gateway asks for a key is in State.keyed
	}
	return keysKept(path, was, doc)
}

// Check tries all that Start would try before anything serves, for the document of the configuration file beside what was applied
// last. The result is what would be served. With path "" there is no file: REST has said all, and doc is nil.
func (l Last) Check(path string, doc *millracev1.Document) (*config.Config, error) {
	switch {
	case path != "":
		if err := l.CheckFile(path, doc); err != nil {
			return nil, err
		}
	case l.err != nil:
		return nil, l.err
	case !l.found:
		return nil, errors.New("nothing was applied here yet")
	default:
		doc = &millracev1.Document{}
		config.SetDefaults(doc)
	}
	v := &version{file: doc, state: l.State}
	if err := v.prepare(nil); err != nil {
		return nil, err
	}
	return v.config, nil
}

func keysKept(path string, was, next *millracev1.Document) error {
	lost := config.KeysLost(was, next)
	if lost == nil {
		return nil
	}
	for i := range lost {
		lost[i].File = path
	}
	return lost
}

// readStore opens the store and reads what it holds. What was applied last stands in for it when it does not answer, cannot be
// read, or holds less; then nothing is written to it either, until it is well again or a person has said which of the two is right.
func (p *Plane) readStore(ctx context.Context, v *version, last Last) error {
	if p.OpenStore == nil {
		return nil
	}
	latest, err := p.openStore(ctx, last)
	switch {
	case err == nil:
		if last.err != nil {
			p.Log.Error("what was applied last cannot be read, and the store not be compared with it: serving what the store holds", "error", last.err)
		}
		v.state, v.revision = latest.State, latest.Revision
		return nil
	case last.err != nil:
		return fmt.Errorf("neither the store nor what was applied last can be used (millrace store show says more):\n%w", errors.Join(err, last.err))
	case !last.found || !errors.Is(err, store.ErrUnavailable) && !refused(err):
		return err
	}
	p.Log.Error("the store is not used: serving what was applied last", "revision", last.Revision)
	v.state, v.revision = last.State, last.Revision
	p.storeFailed(err)
	return nil
}

func (p *Plane) openStore(ctx context.Context, last Last) (store.Version, error) {
	opened, err := p.OpenStore(ctx)
	if err != nil {
		return store.Version{}, err
	}
	p.opened = opened
	latest, err := opened.Get(ctx)
	switch {
	case err != nil:
		return store.Version{}, err
	case errors.Is(last.err, store.ErrNewer):
		return store.Version{}, last.err
	case last.err != nil && latest.Revision == 0:
		return store.Version{}, fmt.Errorf("%s: it is empty", opened)
	}
	return latest, opened.Continues(ctx, store.Version{Revision: last.Revision, State: last.State}, latest)
}

// refused tells whether the error is about what the store holds: it is then not written until that is mended.
func refused(err error) bool {
	return errors.Is(err, store.ErrLost) || errors.Is(err, store.ErrCorrupt)
}

// remember makes the state one in which these gateways are keyed too.
func remember(state *millracev1.State, keyed []string) *millracev1.State {
	all := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(state.Keyed), keyed...))))
	if slices.Equal(all, state.Keyed) {
		return state
	}
	state = proto.CloneOf(state)
	state.Keyed = all
	return state
}
