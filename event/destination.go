package event

import (
	"context"
	"errors"
	"time"
)

// Destination is where records go. One goroutine calls its methods, so they need no lock.
type Destination interface {
	// Name is for people, and tells destinations apart.
	Name() string
	// Send takes records, in order, and returns how many of them it has for good, from the first
	// on. The others it gets again, so it must not keep a part of one. The error may be a Refused,
	// a Pause or ErrFull.
	Send(ctx context.Context, records []Record) (taken int, err error)
	// Close follows the last Send.
	Close() error
}

// Gatherer is a destination to which each Send is dear: records are gathered for it, for so long at
// the most.
type Gatherer interface{ Gather() time.Duration }

// ErrFull is the error of a destination that wants requests refused until it has room.
var ErrFull = errors.New("there is no room for more events")

// Refused is the error of a destination that will never take what it was sent: one of the records
// that it has not taken, or that many at once.
type Refused struct{ Err error }

func (r *Refused) Error() string { return "refused for good: " + r.Err.Error() }

// Unwrap returns the reason.
func (r *Refused) Unwrap() error { return r.Err }

// Pause is the error of a destination that says when it wants to be tried again.
type Pause struct {
	Err error
	For time.Duration
}

func (p *Pause) Error() string { return p.Err.Error() }

// Unwrap returns the reason.
func (p *Pause) Unwrap() error { return p.Err }

// PauseAfter is how long a destination is left alone after an error of Send.
func PauseAfter(err error) time.Duration {
	var p *Pause
	if errors.As(err, &p) {
		return p.For
	}
	return retryEvery
}

// Give sends records, and returns how many d is done with: those that it has, and those that it
// refuses for good, which go to refused, one by one. Where it refuses several at once, Give finds
// out which of them by sending fewer.
func Give(ctx context.Context, d Destination, records []Record, refused func(Record, error)) (done int, err error) {
	for most := len(records); done < len(records); {
		part := Batch(records[done:])
		part = part[:min(most, len(part))]
		taken, err := d.Send(ctx, part)
		done += taken
		var never *Refused
		switch left := len(part) - taken; {
		case err == nil:
			most = len(records)
		case !errors.As(err, &never):
			return done, err
		case left > 1:
			most = left / 2
		default:
			refused(part[taken], never.Err)
			done, most = done+1, len(records)
		}
	}
	return done, nil
}

// Only is d for the records that the filter has.
func Only(f Filter, d Destination) Destination {
	if len(f.Status)+len(f.Gateways)+len(f.Services)+len(f.Targets)+len(f.Keys)+len(f.Models) == 0 {
		return d
	}
	return &filtered{d, f}
}

type filtered struct {
	Destination
	filter Filter
}

func (f *filtered) Send(ctx context.Context, records []Record) (int, error) {
	var passed []Record
	var at []int // of each in records
	for i := range records {
		// One that cannot be read passes: whoever it is for can see to it.
		if r, err := records[i].Open(); err != nil || f.filter.Has(&r.Facts) {
			passed, at = append(passed, records[i]), append(at, i)
		}
	}
	if len(passed) == 0 {
		return len(records), nil
	}
	taken, err := f.Destination.Send(ctx, passed)
	if taken == len(passed) {
		return len(records), err
	}
	return at[taken], err
}
