package event

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

// disk is a file on a disk with room for so many bytes, which takes whole lines as File does.
type disk struct {
	mu     sync.Mutex
	lines  bytes.Buffer
	room   int
	writes int
}

func (d *disk) Write(lines []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	n := min(len(lines), d.room-d.lines.Len())
	if n == len(lines) {
		return d.lines.Write(lines)
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	d.lines.Write(lines[:whole])
	return whole, syscall.ENOSPC
}

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines.String()
}

func (d *disk) written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// grow makes room.
func (d *disk) grow(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

func (d *disk) Close() error { return nil }

func numbered(n int) *millracev1.Event { return &millracev1.Event{Id: fmt.Sprintf("request-%06d", n)} }

// wantLines checks that there is a whole line for each of the first n records, once and in order.
func wantLines(t *testing.T, got string, n int) {
	t.Helper()
	lines := strings.Split(got, "\n")
	if len(lines) != n+1 || lines[n] != "" {
		t.Fatalf("%d lines, want %d: %.300q", len(lines)-1, n, got)
	}
	for i, line := range lines[:n] {
		e := &millracev1.Event{}
		if err := protojson.Unmarshal([]byte(line), e); err != nil || e.Id != numbered(i).Id {
			t.Fatalf("line %d: %v: %q", i, err, line)
		}
	}
}

func run(r *Recorder, d *disk) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		r.Run(ctx, d, slog.New(slog.DiscardHandler))
		close(done)
	}()
	return func() { cancel(); <-done }
}

// TestFullDisk: while the disk is full the recorder says so, and what is recorded waits; once there
// is room every record is there, whole, once and in order, and none is counted as dropped.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := NewRecorder(), &disk{room: 100}
		end := run(r, d)
		const n = 51
		for i := range n {
			r.Record(numbered(i))
			synctest.Wait()
		}
		written := strings.Count(d.String(), "\n")
		if r.Err() == nil || !strings.Contains(r.Err().Error(), "no space left on device") {
			t.Errorf("Err: %v", r.Err())
		}
		if written == 0 || written == n || r.Waiting() != int64(n-written) || r.Dropped() != 0 {
			t.Errorf("%d written, %d waiting, %d dropped of %d", written, r.Waiting(), r.Dropped(), n)
		}
		if most := written + 1; d.written() > most {
			t.Errorf("%d writes, want at most %d: a full disk is asked again for every record", d.written(), most)
		}
		d.grow(1 << 20)
		time.Sleep(retryEvery)
		synctest.Wait()
		if r.Err() != nil || r.Waiting() != 0 {
			t.Errorf("with room again: %v, %d waiting", r.Err(), r.Waiting())
		}
		r.Record(numbered(n))
		end()
		wantLines(t, d.String(), n+1)
		if r.Dropped() != 0 {
			t.Errorf("%d dropped", r.Dropped())
		}
	})
}

// TestLossesAreCounted: every record is written or counted, also those that wait when Run ends, those
// that find the queue full, those that cannot be encoded and those that come after the end.
func TestLossesAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		room, records, late int
		broken              bool // the first one is not UTF-8
	}{
		"no room at all":        {room: 0, records: 51},
		"room for some":         {room: 100, records: 51},
		"more than the queue":   {room: 0, records: 2*queued + 7},
		"recorded after Run":    {room: 1 << 20, records: 3, late: 5},
		"a record is not UTF-8": {room: 1 << 20, records: 3, broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, d := NewRecorder(), &disk{room: c.room}
				end := run(r, d)
				for i := range c.records {
					e := numbered(i)
					if c.broken && i == 0 {
						e.Id = "\xff"
					}
					r.Record(e)
				}
				end()
				for i := range c.late {
					r.Record(numbered(i))
				}
				written := strings.Count(d.String(), "\n")
				if int64(written)+r.Dropped() != int64(c.records+c.late) {
					t.Errorf("%d written and %d dropped of %d", written, r.Dropped(), c.records+c.late)
				}
				if r.Waiting() != 0 {
					t.Errorf("%d still wait", r.Waiting())
				}
			})
		})
	}
}

// TestBeforeRun: what is recorded before Run runs is written.
func TestBeforeRun(t *testing.T) {
	r, d := NewRecorder(), &disk{room: 1 << 20}
	for i := range 3 {
		r.Record(numbered(i))
	}
	run(r, d)()
	wantLines(t, d.String(), 3)
}

// TestDiscard: without a place for events nothing waits, and nothing counts as lost.
func TestDiscard(t *testing.T) {
	r := NewRecorder()
	r.Record(numbered(0))
	r.Discard()
	r.Record(numbered(1))
	if r.Waiting() != 0 || r.Dropped() != 0 {
		t.Errorf("%d waiting, %d dropped", r.Waiting(), r.Dropped())
	}
	for _, r := range []*Recorder{nil, {}} {
		r.Record(numbered(0)) // does not block or panic
	}
}
