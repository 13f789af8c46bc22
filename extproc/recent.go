package extproc

import (
	"maps"
	"slices"
	"sync"

	millracev1 "millrace/proto/millrace/v1"
)

// keptOutcomes is how many are kept for each target.
const keptOutcomes = 10

// recent keeps how the latest attempts at each target ended, for the operator to look at.
type recent struct {
	mu       sync.Mutex
	outcomes map[string][]*millracev1.Outcome // by the target's identity; the latest last
	troubles map[string]string                // by the target's identity; until its next good answer
}

// add keeps an outcome. It returns what was wrong in the one before, and whether the trouble, ""
// for none, is news.
func (r *recent) add(target string, o *millracev1.Outcome, trouble string) (before string, news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outcomes == nil {
		r.outcomes, r.troubles = map[string][]*millracev1.Outcome{}, map[string]string{}
	}
	switch {
	case trouble != "":
		news = r.troubles[target] != trouble
		r.troubles[target] = trouble
	case o.Status >= 200 && o.Status < 300:
		delete(r.troubles, target)
	}
	kept := r.outcomes[target]
	if len(kept) > 0 {
		before = kept[len(kept)-1].Error
	}
	if len(kept) == keptOutcomes {
		kept = append(kept[:0], kept[1:]...)
	}
	r.outcomes[target] = append(kept, o)
	return before, news
}

// keep forgets the targets that are not among these.
func (r *recent) keep(targets map[string]*target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.outcomes, func(identity string, _ []*millracev1.Outcome) bool { return targets[identity] == nil })
	maps.DeleteFunc(r.troubles, func(identity, _ string) bool { return targets[identity] == nil })
}

// Troubles are what targets, by identity, have answered since their last good answer that an
// operator has to see to.
func (s *Server) Troubles() map[string]string {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	return maps.Clone(s.recent.troubles)
}

// Recent returns how the latest attempts at a target, by its identity, ended; the latest first.
// They must not be changed.
func (s *Server) Recent(target string) []*millracev1.Outcome {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	latest := slices.Clone(s.recent.outcomes[target])
	slices.Reverse(latest)
	return latest
}
