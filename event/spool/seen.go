package spool

import (
	"context"
	"sync"

	"millrace/event"
)

// remembered is how many events are known again at least.
const remembered = 100_000

// seen knows the latest events again. The zero value does not look yet.
type seen struct {
	mu           sync.Mutex // guards what follows
	now, earlier map[identity]struct{}
}

type identity struct{ source, id string }

// add notes events, where anybody wants to know.
func (s *seen) add(records []event.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; s.now != nil && i < len(records); i++ {
		s.note(identity{records[i].Source, records[i].ID})
	}
}

func (s *seen) note(i identity) {
	if len(s.now) >= remembered {
		s.earlier, s.now = s.now, map[identity]struct{}{}
	}
	s.now[i] = struct{}{}
}

func (s *seen) has(i identity) bool {
	if _, ok := s.now[i]; ok {
		return true
	}
	_, ok := s.earlier[i]
	return ok
}

// Take puts events of others on disk, and returns how many of them are new: one that is among the
// latest that are kept is not taken again. Two processes that share an engine do not know what the
// other has just taken.
func (s *Spool) Take(ctx context.Context, records []event.Record) (taken int, err error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	if err := s.remember(ctx); err != nil {
		return 0, err
	}
	fresh := s.seen.without(records)
	for len(fresh) > 0 {
		batch := event.Batch(fresh)
		if err := s.append(ctx, batch); err != nil {
			return taken, err
		}
		s.seen.add(batch)
		taken, fresh = taken+len(batch), fresh[len(batch):]
	}
	return taken, nil
}

// without returns the records that are not known, each once.
func (s *seen) without(records []event.Record) []event.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []event.Record
	given := map[identity]bool{}
	for _, r := range records {
		if i := (identity{r.Source, r.ID}); !s.has(i) && !given[i] {
			given[i] = true
			fresh = append(fresh, r)
		}
	}
	return fresh
}

// remember reads what the stream has, the first time.
func (s *Spool) remember(ctx context.Context) error {
	s.seen.mu.Lock()
	knows := s.seen.now != nil
	if !knows { // from here on what the recorder sends is noted
		s.seen.now = map[identity]struct{}{}
	}
	s.seen.mu.Unlock()
	if knows {
		return nil
	}
	page, err := s.Read(ctx, event.Query{Limit: remembered})
	if err != nil {
		s.seen.mu.Lock()
		defer s.seen.mu.Unlock()
		s.seen.now = nil
		return err
	}
	s.seen.add(page.Records)
	return nil
}
