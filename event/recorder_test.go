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
	closed int
}

func (d *disk) Name() string { return "disk" }

func (d *disk) Send(_ context.Context, records []Record) (taken int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	for _, r := range records {
		if d.lines.Len()+len(r.JSON)+1 > d.room {
			return taken, syscall.ENOSPC
		}
		d.lines.Write(append(r.JSON[:len(r.JSON):len(r.JSON)], '\n'))
		taken++
	}
	return taken, nil
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

func (d *disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *disk) wantClosed(t *testing.T, times int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed != times {
		t.Errorf("closed %d times, want %d", d.closed, times)
	}
}

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

func run(t *testing.T, r *Recorder, to ...Destination) (end func()) {
	t.Helper()
	use(t, r, to...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		r.Run(ctx, slog.New(slog.DiscardHandler))
		close(done)
	}()
	return func() { cancel(); <-done }
}

func use(t *testing.T, r *Recorder, to ...Destination) {
	t.Helper()
	if err := r.Use(to...); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: while the disk is full the recorder says so, and what is recorded waits; once there
// is room every record is there, whole, once and in order, and none is counted as dropped.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := NewRecorder("test"), &disk{room: 100}
		end := run(t, r, d)
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

// TestLossesAreCounted: every record is written or counted, also those that wait when Run ends,
// those that find the queue full, those that cannot be encoded and those that come after the end.
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
				r, d := NewRecorder("test"), &disk{room: c.room}
				end := run(t, r, d)
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

// TestBeforeRun: what is recorded before Run runs is written, as far as the queue holds it; the
// rest is counted (B17).
func TestBeforeRun(t *testing.T) {
	for _, more := range []int{0, 3} {
		r, d := NewRecorder("test"), &disk{room: 1 << 20}
		use(t, r, d)
		n := 3
		if more > 0 {
			n = queued - 1 // the change of destinations is in the queue too
		}
		for i := range n + more {
			r.Record(numbered(i))
		}
		run(t, r, d)()
		wantLines(t, d.String(), n)
		d.wantClosed(t, 1)
		if r.Dropped() != int64(more) {
			t.Errorf("%d dropped, want %d", r.Dropped(), more)
		}
	}
}

// TestNoDestination: without a place for events nothing waits, and nothing counts as lost.
func TestNoDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder("test")
		end := run(t, r)
		for i := range queued + 1 {
			r.Record(numbered(i))
			synctest.Wait()
		}
		if r.Waiting() != 0 || r.Dropped() != 0 {
			t.Errorf("%d waiting, %d dropped", r.Waiting(), r.Dropped())
		}
		end()
	})
	for _, r := range []*Recorder{nil, {}} {
		r.Record(numbered(0)) // does not block or panic
	}
}

// TestSwap: destinations change while records come. Each record goes to one of them, in order, to
// the one that was in use when it was recorded, and each destination is closed once.
func TestSwap(t *testing.T) {
	r := NewRecorder("test")
	const each, swaps = 500, 8
	var disks []*disk
	end := run(t, r)
	for n := range swaps {
		disks = append(disks, &disk{room: 1 << 20})
		use(t, r, disks[n])
		for i := range each {
			r.Record(numbered(n*each + i))
		}
	}
	end()
	all := ""
	for _, d := range disks {
		if got := strings.Count(d.String(), "\n"); got != each {
			t.Errorf("%d lines, want %d", got, each)
		}
		all += d.String()
		d.wantClosed(t, 1)
	}
	wantLines(t, all, swaps*each)
	if r.Dropped() != 0 {
		t.Errorf("%d dropped", r.Dropped())
	}
}

// TestSwapUnderWriters: many record at the same time as destinations change; none is lost or
// doubled.
func TestSwapUnderWriters(t *testing.T) {
	r := NewRecorder("test")
	end := run(t, r)
	const writers, each, swaps = 4, 500, 10
	disks := []*disk{{room: 1 << 20}}
	use(t, r, disks[0])
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				r.Record(numbered(w*each + i))
			}
		})
	}
	for range swaps {
		disks = append(disks, &disk{room: 1 << 20})
		use(t, r, disks[len(disks)-1])
	}
	writing.Wait()
	end()
	times := map[string]int{}
	for _, d := range disks {
		for _, line := range strings.Fields(d.String()) {
			times[line]++
		}
	}
	if len(times) != writers*each || r.Dropped() != 0 {
		t.Errorf("%d of %d written, %d dropped", len(times), writers*each, r.Dropped())
	}
	for line, n := range times {
		if n != 1 {
			t.Errorf("%d times: %s", n, line)
		}
	}
}

// TestSwapFromFullDisk: what the old destination could not take goes to the new one, once and
// before what comes after; where there is no new one it is dropped, and what comes after is not.
func TestSwapFromFullDisk(t *testing.T) {
	for name, to := range map[string][]Destination{"to another": {&disk{room: 1 << 20}}, "to none": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, full := NewRecorder("test"), &disk{room: 100}
				end := run(t, r, full)
				const n = 50
				for i := range n {
					r.Record(numbered(i))
				}
				synctest.Wait()
				use(t, r, to...)
				r.Record(numbered(n))
				synctest.Wait()
				full.wantClosed(t, 1)
				if err := r.Err(); err != nil || r.Waiting() != 0 {
					t.Errorf("%v, %d waiting", err, r.Waiting())
				}
				end()
				if to == nil {
					if written := strings.Count(full.String(), "\n"); r.Dropped() != int64(n-written) {
						t.Errorf("%d written and %d dropped of %d", written, r.Dropped(), n)
					}
					return
				}
				wantLines(t, full.String()+to[0].(*disk).String(), n+1)
				if r.Dropped() != 0 {
					t.Errorf("%d dropped", r.Dropped())
				}
			})
		})
	}
}

// TestOneStays: a destination that is given again goes on: it is not closed, and gets nothing
// twice; the new one begins with what the one that goes has not taken.
func TestOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stays, full, next := NewRecorder("test"), &disk{room: 1 << 20}, &disk{}, &disk{room: 1 << 20}
		end := run(t, r, stays, full)
		for i := range 3 {
			r.Record(numbered(i))
		}
		synctest.Wait()
		use(t, r, next, stays)
		r.Record(numbered(3))
		synctest.Wait()
		stays.wantClosed(t, 0)
		full.wantClosed(t, 1)
		end()
		wantLines(t, stays.String(), 4)
		wantLines(t, next.String(), 4)
		stays.wantClosed(t, 1)
		if r.Dropped() != 0 {
			t.Errorf("%d dropped", r.Dropped())
		}
	})
}

// TestOneFails: a destination that fails holds up no other, also when more comes than can wait for
// it, and is tried again while records keep coming.
func TestOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, good, full := NewRecorder("test"), &disk{room: 1 << 30}, &disk{}
		end := run(t, r, full, good)
		const n = queued + 100
		for i := range n {
			r.Record(numbered(i))
			synctest.Wait()
		}
		wantLines(t, good.String(), n)
		if r.Dropped() != 100 || r.Waiting() != queued || r.Err() == nil {
			t.Errorf("%d dropped, %d waiting, %v", r.Dropped(), r.Waiting(), r.Err())
		}
		full.grow(1 << 30)
		for i := range 20 { // never a second without a record
			time.Sleep(retryEvery / 10)
			r.Record(numbered(n + i))
			synctest.Wait()
		}
		if r.Waiting() != 0 || r.Err() != nil {
			t.Errorf("%d waiting, %v", r.Waiting(), r.Err())
		}
		end()
		wantLines(t, good.String(), n+20)
	})
}

// TestUseAfterRun: a destination that comes too late is closed, and not used.
func TestUseAfterRun(t *testing.T) {
	r, d := NewRecorder("test"), &disk{}
	run(t, r)()
	if err := r.Use(d); err == nil {
		t.Error("no error")
	}
	d.wantClosed(t, 1)
}
