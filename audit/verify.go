package audit

import (
	"fmt"
	"path/filepath"
	"time"
)

// Report is what a log holds, as far as it was read.
type Report struct {
	Segments    int
	Records     uint64
	From        uint64 // sequence of the first record that is there
	First, Last time.Time
	Head        Head
}

// Head is the last record. Who keeps one that Verify has reported can tell later whether the log is
// still the same up to there.
type Head struct {
	Sequence uint64
	Hash     string
}

// Problem is where a log is not as it was written.
type Problem struct {
	File   string
	Line   int
	Reason string // names the record
}

func (p *Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Reason) }

const (
	// looks is how often the end of a log is read that seems to be cut short: its writer may be at
	// it.
	looks = 10
	// lookAgain is the time between.
	lookAgain = 50 * time.Millisecond
)

// Verify reads the whole log of a folder. What is not as it was written is a *Problem, the first
// that there is. known are heads of earlier reports, which must be there unless retention has
// removed them. A gateway may be writing to the log.
func Verify(dir string, known ...Head) (Report, error) {
	for n := 1; ; n++ {
		r, again, err := verify(dir, known)
		if !again || n == looks {
			return r, err
		}
		time.Sleep(lookAgain)
	}
}

// verify is one look; again says that the writer may have changed something meanwhile.
func verify(dir string, known []Head) (r Report, again bool, err error) {
	segments, err := segmentsOf(dir)
	if err != nil {
		return r, false, err
	}
	heads := map[uint64]string{}
	for _, h := range known {
		heads[h.Sequence] = h.Hash
	}
	c := &chain{}
	for i, s := range segments {
		fresh := true // no record of the segment was read
		if c.first == nil {
			c.sequence = s.first - 1
		}
		_, torn, line, err := readLines(s.path, func(text []byte) error {
			if fresh && s.first != c.sequence+1 {
				return fmt.Errorf("record %d is missing here: the segment begins with %d", c.sequence+1, s.first)
			}
			fresh = false
			if err := c.take(text); err != nil {
				return err
			}
			if h, ok := heads[c.sequence]; ok && h != c.hash {
				return fmt.Errorf("record %d is another than it was: its hash is %s", c.sequence, c.hash)
			}
			return nil
		})
		problem := func(reason string) error { return &Problem{s.path, line, reason} }
		last := i == len(segments)-1
		switch {
		case isMissing(err): // retention has removed it
			return r, true, problem(fmt.Sprintf("record %d is missing here: the segment is gone", s.first))
		case err != nil:
			return r, false, problem(err.Error())
		case torn > 0:
			return r, last, problem(fmt.Sprintf("record %d is cut short, or its line's end is changed", c.sequence+1))
		case fresh && !last:
			return r, false, problem(fmt.Sprintf("record %d is missing here: the segment is empty", s.first))
		}
		r.Segments++
	}
	if c.first == nil {
		return r, false, nil
	}
	r.Records, r.From, r.First, r.Last = c.records, c.first.Sequence, c.first.time(), c.last.time()
	r.Head = Head{c.sequence, c.hash}
	if gone := r.From - 1; gone > c.pruned {
		return r, false, &Problem{segments[0].path, 1, fmt.Sprintf("record %d is missing here, with what was before it: no record says that retention has removed them", gone)}
	}
	for _, h := range known {
		if h.Sequence > c.sequence {
			return r, false, &Problem{filepath.Join(dir, filepath.Base(segments[len(segments)-1].path)), int(c.records), fmt.Sprintf("record %d is missing: the log ends with %d", h.Sequence, c.sequence)}
		}
	}
	return r, false, nil
}
