package control

import (
	"errors"
	"io/fs"
	"slices"

	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/config/store"
	millracev1 "millrace/proto/millrace/v1"
)

// Last is what was applied last, as far as the data directory remembers. File and store are
// compared with it, so that what they have lost is not taken for a change.
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

// Check tries all that Start would try before anything serves, for the document of the
// configuration file beside what was applied last. The result is what would be served. With path ""
// there is no file: REST has said all, and doc is nil.
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
	if err := v.prepare(nil, nil); err != nil {
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
