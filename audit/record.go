package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Entry is what somebody wants recorded.
type Entry struct {
	Kind string
	Data any // marshals to a JSON object
}

// Kinds of records that the log writes about itself.
const (
	kindPruned = "pruned" // retention removes the records up to "through"
	kindLost   = "lost"   // so many records could not be written, and were too many to wait
)

// maxRecord bounds a record's line, in bytes.
const maxRecord = 1 << 20

// record is one line of a segment: its body, the hash of the body, the line's end. The body holds
// the hash of the record before.
type record struct {
	Sequence uint64          `json:"sequence"`
	Time     string          `json:"time"` // when it was written, RFC 3339 in UTC
	Kind     string          `json:"kind"`
	Data     json.RawMessage `json:"data"`
	Previous string          `json:"previous"` // hash; noHash for the first record of all
	Hash     string          `json:"hash"`
}

// noHash stands for the hash of the record before the first.
var noHash = hex.EncodeToString(make([]byte, sha256.Size))

// hashKey is where the body ends and the hash begins.
const hashKey = `,"hash":"`

// appendLine completes the record with its hash, and writes it as its line.
func (r *record) appendLine(line []byte) []byte {
	from := len(line)
	line = fmt.Appendf(line, `{"sequence":%d,"time":%q,"kind":%q,"data":%s,"previous":%q`, r.Sequence, r.Time, r.Kind, r.Data, r.Previous)
	sum := sha256.Sum256(line[from:])
	r.Hash = hex.EncodeToString(sum[:])
	return append(append(append(line, hashKey...), r.Hash...), "\"}\n"...)
}

// parse reads a line without its end. There is one way to write a record: a line that holds the
// same in other bytes is none.
func parse(line []byte) (*record, error) {
	if len(line) > maxRecord {
		return nil, fmt.Errorf("is longer than %d bytes", maxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	r := &record{}
	if err := d.Decode(r); err != nil {
		return nil, errors.New("is not a record")
	}
	written := *r
	if again := written.appendLine(nil); written.Hash != r.Hash || !bytes.Equal(again[:len(again)-1], line) {
		return nil, errors.New("is changed: its hash is of other bytes")
	}
	if _, err := time.Parse(time.RFC3339Nano, r.Time); err != nil {
		return nil, errors.New("has no time")
	}
	return r, nil
}

func (r *record) time() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, r.Time) // parse has checked it
	return t
}

// chain is how far the records have been read.
type chain struct {
	sequence uint64 // of the last record; of the one before the first that is there, to begin with
	hash     string // of that
	first    *record
	last     *record
	records  uint64
	pruned   uint64 // what retention has said to have removed
}

// take checks that the line is the next record.
func (c *chain) take(line []byte) error {
	next := c.sequence + 1
	r, err := parse(line)
	if err != nil {
		return fmt.Errorf("record %d %w", next, err)
	}
	switch {
	case r.Sequence > next:
		return fmt.Errorf("record %d is missing here: %d stands in its place", next, r.Sequence)
	case r.Sequence < next:
		return fmt.Errorf("record %d stands where %d belongs", r.Sequence, next)
	case c.first == nil: // what was before it is not here
		c.hash, c.first = r.Previous, r
	}
	if r.Previous != c.hash || r.Sequence == 1 && r.Previous != noHash {
		return fmt.Errorf("record %d does not follow the one before it", r.Sequence)
	}
	c.sequence, c.hash, c.last = r.Sequence, r.Hash, r
	c.records++
	if r.Kind == kindPruned {
		var said struct{ Through uint64 }
		if json.Unmarshal(r.Data, &said) == nil {
			c.pruned = max(c.pruned, said.Through)
		}
	}
	return nil
}
