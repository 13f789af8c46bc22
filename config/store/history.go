package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	millracev1 "millrace/proto/millrace/v1"
)

// ErrLost: the store does not hold what is known to have been in it. It was wiped, damaged, or put
// back from a copy.
var ErrLost = errors.New("has lost what was applied")

// Stamp makes state the next version after before: it says when and why, and belongs to the same
// history. The first version of a store begins one.
func Stamp(state, before *millracev1.State, cause string) {
	state.SchemaVersion = SchemaVersion
	state.Time, state.Cause = timestamppb.Now(), cause
	state.History, state.Replaces = before.GetHistory(), before.GetReplaces()
	if state.History == "" {
		state.History = rand.Text()
	}
}

// Continues returns an error that is ErrLost, with the way out, unless latest is known or came
// after it. Revisions alone do not show that: a store that was wiped and written again may have
// any. So the versions must belong to one history, and the known one must still be in it, as far
// back as the store keeps versions. A person can say that a history takes the place of another, see
// Accept and Restore.
func (s *Store) Continues(ctx context.Context, known, latest Version) error {
	if known.Revision == 0 || slices.Contains(latest.State.GetReplaces(), known.State.GetHistory()) {
		return nil
	}
	lost := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %s; millrace store restore writes what was applied last into it, millrace store accept takes it as it is",
			s.name, ErrLost, fmt.Sprintf(format, args...))
	}
	switch {
	case latest.Revision < known.Revision:
		return lost("it is at revision %d, and revision %d was applied", latest.Revision, known.Revision)
	case latest.State.GetTime() == nil && known.State.GetTime() != nil:
		return lost("its key was deleted, and revision %d was applied", known.Revision)
	case known.State.GetHistory() != "" && latest.State.GetHistory() != known.State.GetHistory():
		return lost("its revision %d was not made from the revision %d that was applied", latest.Revision, known.Revision)
	}
	then := latest
	if latest.Revision > known.Revision {
		var err error
		then, err = s.At(ctx, known.Revision)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt): // an old version, that is all
			return nil
		case err != nil:
			return err
		}
	}
	if !sameContent(then.State, known.State) {
		return lost("its revision %d is not the one that was applied", known.Revision)
	}
	return nil
}

func sameContent(a, b *millracev1.State) bool {
	return proto.Equal(&millracev1.State{Documents: a.Documents, Time: a.Time}, &millracev1.State{Documents: b.Documents, Time: b.Time})
}

// Restore writes what was applied last as the next version, whatever the store holds. Sidecars that
// know either follow.
func (s *Store) Restore(ctx context.Context, last Applied) (uint64, error) {
	present, err := s.Get(ctx)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return 0, err
	}
	return s.replace(ctx, last.State, "millrace store restore", last.State, present.State)
}

// Accept makes what the store holds the successor of what was applied last: the latest version that
// can be read is written as the next one. Gateways that have asked for a key go on asking. It
// returns what it took.
func (s *Store) Accept(ctx context.Context, last Applied) (taken Version, revision uint64, err error) {
	taken, err = s.Get(ctx)
	if errors.Is(err, ErrCorrupt) {
		taken, err = s.newestReadable(ctx)
	}
	if err != nil {
		return Version{}, 0, err
	}
	state := proto.CloneOf(taken.State)
	state.Keyed = slices.Compact(slices.Sorted(slices.Values(append(state.Keyed, last.State.GetKeyed()...))))
	revision, err = s.replace(ctx, state, "millrace store accept", last.State, taken.State)
	return taken, revision, err
}

func (s *Store) newestReadable(ctx context.Context) (Version, error) {
	changes, err := s.Versions(ctx)
	if err != nil {
		return Version{}, err
	}
	for _, c := range changes {
		if c.Err == nil {
			return s.At(ctx, c.Revision)
		}
	}
	return Version{}, fmt.Errorf("%s: %w: none of its versions can be read", s.name, ErrCorrupt)
}

// replace writes state on top of whatever there is, as the beginning of a history that stands in
// for those of the others.
func (s *Store) replace(ctx context.Context, state *millracev1.State, cause string, others ...*millracev1.State) (uint64, error) {
	next := proto.CloneOf(state)
	Stamp(next, nil, cause)
	for _, other := range others {
		if other != nil {
			next.Replaces = append(append(next.Replaces, other.History), other.Replaces...)
		}
	}
	next.Replaces = slices.Compact(slices.Sorted(slices.Values(next.Replaces)))
	return s.write(ctx, next, func(ctx context.Context, value []byte) (uint64, error) { return s.kv.Put(ctx, key, value) })
}
