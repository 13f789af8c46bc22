package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"millrace/config/store"
	millracev1 "millrace/proto/millrace/v1"
)

// session is the store as this sidecar has it: opened or not yet, and in which state.
type session struct {
	open func(context.Context) (*store.Store, error) // nil: there is no store
	log  *slog.Logger
	said func(error) // is told when err changes

	mu     sync.Mutex   // guards what follows
	opened *store.Store // nil while it could not be reached
	err    error        // nil while it can be read and what it holds is used
}

// storeRetry is how long the store is left alone after an error.
const storeRetry = time.Second

// need is the opened store, or why there is none that can be relied on.
func (s *session) need() (*store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open == nil:
		return nil, ErrNoStore
	case s.opened == nil, isLoss(s.err):
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, s.err)
	}
	return s.opened, nil
}

// reach opens the store unless it is open.
func (s *session) reach(ctx context.Context) (*store.Store, error) {
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	if opened != nil {
		return opened, nil
	}
	opened, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = opened
	return opened, nil
}

func (s *session) close() {
	if s.opened != nil {
		s.opened.Close()
	}
}

// failed notes what is wrong with the store, nil that nothing is.
func (s *session) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.err
	s.err = err
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		s.log.Error("store", "error", err)
	case err == nil && was != nil:
		s.log.Info("store: well again")
	}
	s.said(err)
}

// start opens the store and reads what it holds. What was applied last stands in for it when it
// does not answer, cannot be read, or holds less; then nothing is written to it either, until it is
// well again or a person has said which of the two is right.
func (s *session) start(ctx context.Context, last Last) (store.Version, error) {
	latest, err := s.read(ctx, last)
	switch {
	case err == nil:
		if last.err != nil {
			s.log.Error("what was applied last cannot be read, and the store not be compared with it: serving what the store holds", "error", last.err)
		}
		return latest, nil
	case last.err != nil:
		return store.Version{}, fmt.Errorf("neither the store nor what was applied last can be used (millrace store show says more):\n%w", errors.Join(err, last.err))
	case !last.found || !errors.Is(err, store.ErrUnavailable) && !isLoss(err):
		return store.Version{}, err
	}
	s.log.Error("the store is not used: serving what was applied last", "revision", last.Revision)
	s.failed(err)
	return store.Version{Revision: last.Revision, State: last.State}, nil
}

func (s *session) read(ctx context.Context, last Last) (store.Version, error) {
	opened, err := s.reach(ctx)
	if err != nil {
		return store.Version{}, err
	}
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

// isLoss tells whether the error is about what the store holds: it is then not written until that
// is mended.
func isLoss(err error) bool {
	return errors.Is(err, store.ErrLost) || errors.Is(err, store.ErrCorrupt)
}

// watch hands on the versions that are written, until ctx ends, and opens the store where that did
// not work at the start. What take returns is what is wrong with the store.
func (s *session) watch(ctx context.Context, take func(context.Context, store.Version) error) {
	for ctx.Err() == nil {
		if err := s.watchOnce(ctx, take); err != nil && ctx.Err() == nil {
			s.failed(err)
			select {
			case <-ctx.Done():
			case <-time.After(storeRetry):
			}
		}
	}
}

func (s *session) watchOnce(ctx context.Context, take func(context.Context, store.Version) error) error {
	opened, err := s.reach(ctx)
	if err != nil {
		return err
	}
	versions, err := opened.Watch(ctx)
	if err != nil {
		return err
	}
	for latest := range versions {
		s.failed(take(ctx, latest))
	}
	return nil
}

// Versions lists what can be gone back to, newest first.
func (s *session) Versions(ctx context.Context) ([]VersionInfo, error) {
	opened, err := s.need()
	if err != nil {
		return nil, err
	}
	changes, err := opened.Versions(ctx)
	if err != nil {
		return nil, err
	}
	var infos []VersionInfo
	var state State
	for _, c := range changes { // the newest first
		if c.Err == nil {
			infos = append(infos, VersionInfo{Revision: c.Revision, Time: c.Time, Cause: c.Cause, State: state})
		}
		if state = ""; strings.HasPrefix(c.Cause, putBackCause) {
			state = Rejected
		}
	}
	return infos, nil
}

// At returns the state of a version.
func (s *session) At(ctx context.Context, revision uint64) (*millracev1.State, error) {
	opened, err := s.need()
	if err != nil {
		return nil, err
	}
	v, err := opened.At(ctx, revision)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("version %d: %w", revision, ErrNotFound)
	}
	return v.State, err
}
