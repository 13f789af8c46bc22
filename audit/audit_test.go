package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

type said struct {
	N int `json:"n"`
}

func mustOpen(t testing.TB, dir string, s Settings) *Log {
	t.Helper()
	l, err := Open(dir, s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// folderOf is a folder that is nobody else's, with a log of n records in it.
func folderOf(t testing.TB, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, Settings{})
	for i := range n {
		appendOne(t, l, i)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func appendOne(t testing.TB, l *Log, n int) {
	t.Helper()
	if err := l.Append(t.Context(), Entry{"intent", said{n}}); err != nil {
		t.Fatal(err)
	}
}

// files are the names of the segments.
func files(t testing.TB, dir string) []string {
	t.Helper()
	segments, err := segmentsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range segments {
		names = append(names, filepath.Base(s.path))
	}
	return names
}

func linesOf(t testing.TB, file string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	return lines[:len(lines)-1]
}

func write(t testing.TB, file string, lines ...[]byte) {
	t.Helper()
	if err := os.WriteFile(file, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

// verified checks that the log is as it was written, and returns the report.
func verified(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecords: what is appended is there in order, before and after the log was closed and opened
// again (E20).
func TestRecords(t *testing.T) {
	dir := folderOf(t, 3)
	l := mustOpen(t, dir, Settings{})
	appendOne(t, l, 3)
	if r := verified(t, dir); r.Records != 4 || r.From != 1 || r.Head.Sequence != 4 || r.Segments != 1 || r.First.IsZero() || r.Last.Before(r.First) {
		t.Errorf("while it is open: %+v", r)
	}
	for i, line := range linesOf(t, filepath.Join(dir, segmentName(1))) {
		if want := fmt.Sprintf(`{"sequence":%d,`, i+1); !strings.HasPrefix(string(line), want) || !strings.Contains(string(line), fmt.Sprintf(`"kind":"intent","data":{"n":%d}`, i)) {
			t.Errorf("line %d: %s", i+1, line)
		}
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, segmentName(1)): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if _, err := Open(dir, Settings{}, quiet); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("a second log of the folder: %v", err)
	}
	l.Close()
	if err := l.Append(t.Context(), Entry{"intent", said{}}); err == nil {
		t.Error("a closed log takes records")
	}
}

// TestEveryFlip: a changed byte is found wherever it is, whatever it becomes, and the record that
// it is in is named (E20).
func TestEveryFlip(t *testing.T) {
	dir := folderOf(t, 3)
	file := filepath.Join(dir, segmentName(1))
	lines := linesOf(t, file)
	data := bytes.Join(lines, nil)
	record, end := 0, 0
	for i := range data {
		if i == end {
			end += len(lines[record])
			record++
		}
		for _, flip := range []byte{0x01, 0xff} {
			changed := slices.Clone(data)
			changed[i] ^= flip
			write(t, file, changed)
			_, _, err := verify(dir, nil)
			var p *Problem
			if !errors.As(err, &p) || p.File != file || p.Line != record || !strings.Contains(p.Reason, fmt.Sprintf("record %d ", record)) {
				t.Fatalf("byte %d of record %d: %v", i, record, err)
			}
		}
	}
}

// TestMoved: what is missing, doubled or at another place is found, and so is a record that was
// written anew with its hash (E20).
func TestMoved(t *testing.T) {
	dir := folderOf(t, 4)
	file := filepath.Join(dir, segmentName(1))
	l := linesOf(t, file)
	r, err := parse(bytes.TrimSuffix(l[1], []byte("\n")))
	if err != nil {
		t.Fatal(err)
	}
	r.Data = []byte(`{"n":9}`)
	forged := r.appendLine(nil)
	for name, c := range map[string]struct {
		lines [][]byte
		line  int
		says  string
	}{
		"the first is missing":        {[][]byte{l[1], l[2], l[3]}, 1, "record 1 is missing here: 2 stands in its place"},
		"one is missing":              {[][]byte{l[0], l[2], l[3]}, 2, "record 2 is missing here: 3 stands in its place"},
		"two are swapped":             {[][]byte{l[0], l[2], l[1], l[3]}, 2, "record 2 is missing here: 3 stands in its place"},
		"one is there twice":          {[][]byte{l[0], l[1], l[1], l[2], l[3]}, 3, "record 2 stands where 3 belongs"},
		"one is written anew":         {[][]byte{l[0], forged, l[2], l[3]}, 3, "record 3 does not follow the one before it"},
		"an empty line":               {[][]byte{l[0], []byte("\n"), l[1]}, 2, "record 2 is not a record"},
		"another product's line":      {[][]byte{l[0], []byte("{}\n"), l[1]}, 2, "record 2 is changed"},
		"white space in it":           {[][]byte{l[0], append([]byte(" "), l[1]...)}, 2, "record 2 is changed"},
		"a line of more than a MiB":   {[][]byte{l[0], bytes.Repeat([]byte("x"), 3*maxRecord), []byte("\n")}, 2, "record 2 is longer"},
		"a last record that was torn": {[][]byte{l[0], l[1][:20]}, 2, "record 2 is cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, file, c.lines...)
			_, _, err := verify(dir, nil)
			var p *Problem
			if !errors.As(err, &p) || p.Line != c.line || !strings.HasPrefix(p.Reason, c.says) {
				t.Errorf("%v, want line %d: %s", err, c.line, c.says)
			}
		})
	}

	write(t, file, l...)
	head := verified(t, dir).Head
	if _, err := Verify(dir, Head{2, r.Previous}); err == nil || !strings.Contains(err.Error(), "record 2 is another") {
		t.Errorf("another head: %v", err)
	}
	write(t, file, l[:3]...)
	verified(t, dir) // nothing in it says how long it was
	if _, err := Verify(dir, head); err == nil || !strings.Contains(err.Error(), "record 4 is missing: the log ends with 3") {
		t.Errorf("a log that was cut off, with its head: %v", err)
	}
}

// TestTornEnd: whatever a crash has left of the last record is taken off at the start, and the log
// goes on.
func TestTornEnd(t *testing.T) {
	for name, c := range map[string]struct {
		torn  func(last []byte) []byte
		whole int
	}{
		"nothing":                {func([]byte) []byte { return nil }, 2},
		"its beginning":          {func(last []byte) []byte { return last[:10] }, 2},
		"all but the line's end": {func(last []byte) []byte { return last[:len(last)-1] }, 2},
		"zeros":                  {func([]byte) []byte { return make([]byte, 3*maxRecord) }, 2},
		"all of it":              {func(last []byte) []byte { return last }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folderOf(t, 3)
			file := filepath.Join(dir, segmentName(1))
			l := linesOf(t, file)
			write(t, file, l[0], l[1], c.torn(l[2]))
			var says bytes.Buffer
			again, err := Open(dir, Settings{}, slog.New(slog.NewTextHandler(&says, nil)))
			if err != nil {
				t.Fatal(err)
			}
			appendOne(t, again, 9)
			again.Close()
			if r := verified(t, dir); r.Records != uint64(c.whole)+1 {
				t.Errorf("%d records", r.Records)
			}
			if repaired := len(c.torn(l[2])) > 0 && c.whole == 2; repaired != strings.Contains(says.String(), "cut short") {
				t.Errorf("the log says %q", says.String())
			}
		})
	}
	t.Run("a segment that was only begun", func(t *testing.T) {
		dir := folderOf(t, 3)
		write(t, filepath.Join(dir, segmentName(4)), []byte(`{"seq`))
		l := mustOpen(t, dir, Settings{})
		appendOne(t, l, 9)
		if r := verified(t, dir); r.Records != 4 || r.Segments != 1 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("damage is no torn end", func(t *testing.T) {
		dir := folderOf(t, 3)
		file := filepath.Join(dir, segmentName(1))
		l := linesOf(t, file)
		l[1][20] ^= 1
		write(t, file, l...)
		if _, err := Open(dir, Settings{}, quiet); err == nil || !strings.Contains(err.Error(), file+":2: record 2 is") {
			t.Errorf("%v", err)
		}
	})
}

// TestSegments: a segment is closed when it is a day old or large, is read-only from then on, and
// the chain goes through.
func TestSegments(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, dir, Settings{ReadOnly: true})
		appendOne(t, l, 1)
		time.Sleep(maxAge)
		appendOne(t, l, 2)
		for range maxSegment/maxRecord + 2 {
			if err := l.Append(t.Context(), Entry{"intent", strings.Repeat("x", maxRecord-1024)}); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
	})
	want := []string{segmentName(1), segmentName(2), segmentName(20)}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Fatalf("segments %v, want %v", got, want)
	}
	for i, name := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || (info.Mode().Perm() == 0o400) != (i < 2) {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	verified(t, dir)
	os.Rename(filepath.Join(dir, want[1]), filepath.Join(t.TempDir(), "taken"))
	if _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), "record 2 is missing here: the segment begins with 20") {
		t.Errorf("a segment is taken: %v", err)
	}
}

// TestRetention: whole segments go when all their records are older than the retention, a record
// says so, and the rest is intact. A segment that somebody else has taken away is missing (E20).
func TestRetention(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, dir, Settings{Retention: 3 * day, ReadOnly: true})
		for n := range 6 { // a segment a day
			appendOne(t, l, n)
			time.Sleep(day)
		}
		l.Close()
	})
	r, err := Verify(dir)
	if err != nil || r.From != 3 || r.Segments != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	synctest.Test(t, func(t *testing.T) { // its clock begins before all that: nothing is old
		l := mustOpen(t, dir, Settings{Retention: time.Hour})
		synctest.Wait()
		if got := files(t, dir); len(got) != 4 {
			t.Errorf("%v", got)
		}
		time.Sleep(30 * day)
		synctest.Wait()
		l.Close()
	})
	if got := files(t, dir); len(got) > 2 {
		t.Errorf("after a month: %v", got)
	}
	r = verified(t, dir)
	if data, _ := os.ReadFile(filepath.Join(dir, segmentName(r.From))); !strings.Contains(string(data)+lastSegment(t, dir), `"kind":"pruned"`) {
		t.Error("nothing says that records were removed")
	}

	dir = filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, dir, Settings{})
		appendOne(t, l, 1)
		time.Sleep(day)
		appendOne(t, l, 2)
		l.Close()
	})
	if err := os.Remove(filepath.Join(dir, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), "record 1 is missing here, with what was before it") {
		t.Errorf("the first segment is taken: %v", err)
	}
}

func lastSegment(t *testing.T, dir string) string {
	names := files(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, names[len(names)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRetentionOfDamage: an old segment that cannot be read is no reason to remove what is before
// it.
func TestRetentionOfDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, dir, Settings{})
		for n := range 3 {
			appendOne(t, l, n)
			time.Sleep(maxAge)
		}
		l.Close()
		write(t, filepath.Join(dir, segmentName(2)), []byte("{}\n"))
		l = mustOpen(t, dir, Settings{Retention: 2*maxAge + time.Hour})
		time.Sleep(2 * pruneEvery)
		synctest.Wait()
		l.Close()
	})
	if got := files(t, dir); !slices.Contains(got, segmentName(1)) {
		t.Errorf("segments %v", got)
	}
}

// flaky is a file whose disk can be full, and which counts.
type flaky struct {
	file
	room    *atomic.Int64 // bytes; below 0: any
	badSync *atomic.Bool
	syncs   *atomic.Int64
	gate    chan struct{} // nil: a sync does not wait
}

func (f *flaky) Write(p []byte) (int, error) {
	if room := f.room.Load(); room >= 0 && int64(len(p)) > room {
		n, _ := f.file.Write(p[:room])
		return n, syscall.ENOSPC
	}
	return f.file.Write(p)
}

func (f *flaky) Sync() error {
	f.syncs.Add(1)
	if f.gate != nil {
		<-f.gate
	}
	if f.badSync.Load() {
		return syscall.EIO
	}
	return f.file.Sync()
}

// flakyLog is a log whose disk the test has in its hands.
func flakyLog(t *testing.T, dir string, gate chan struct{}) (*Log, *flaky) {
	t.Helper()
	d := &flaky{room: &atomic.Int64{}, badSync: &atomic.Bool{}, syncs: &atomic.Int64{}, gate: gate}
	d.room.Store(-1)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{dir: dir, log: quiet, lock: lock, wake: make(chan struct{}, 1)}
	l.settings.Store(&Settings{})
	l.start(&writer{log: l, hash: noHash, open: func(path string, flags int) (file, error) {
		f, err := openFile(path, flags)
		return &flaky{f, d.room, d.badSync, d.syncs, d.gate}, err
	}})
	t.Cleanup(func() { l.Close() })
	return l, d
}

// TestDiskFails: while the disk takes nothing Append says so at once, and what was recorded waits;
// when it takes records again they are there, once each and in order. What is half written is taken
// back.
func TestDiskFails(t *testing.T) {
	for name, fail := range map[string]func(d *flaky, now bool){
		"it is full": func(d *flaky, now bool) { d.room.Store(map[bool]int64{true: 100, false: -1}[now]) },
		"fsync says that something was not written": func(d *flaky, now bool) { d.badSync.Store(now) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			synctest.Test(t, func(t *testing.T) {
				l, disk := flakyLog(t, dir, nil)
				appendOne(t, l, 0)
				fail(disk, true)
				for n := 1; n < 3; n++ {
					if err := l.Append(t.Context(), Entry{"intent", said{n}}); err == nil || !strings.Contains(err.Error(), "is not written") {
						t.Errorf("%v", err)
					}
				}
				verified(t, dir)
				for n := 3; n < waiting+10; n++ {
					l.Add(Entry{"outcome", said{n}})
				}
				if l.Err() == nil {
					t.Error("Err says that it is written")
				}
				fail(disk, false)
				time.Sleep(2 * retryEvery)
				if err := l.Err(); err != nil {
					t.Errorf("Err says %v", err)
				}
				appendOne(t, l, -1)
				l.Close()
			})
			r := verified(t, dir)
			if r.Records != waiting+1+2 { // the first, those that waited, how many were lost, the last
				t.Errorf("%d records", r.Records)
			}
			lines := linesOf(t, filepath.Join(dir, segmentName(1)))
			for n := range waiting {
				at := n
				if !strings.Contains(string(lines[at]), fmt.Sprintf(`{"n":%d}`, n)) && !strings.Contains(string(lines[at+1]), fmt.Sprintf(`{"n":%d}`, n)) {
					t.Fatalf("record %d: %s", n, lines[at])
				}
			}
			if all := string(bytes.Join(lines, nil)); strings.Count(all, `"kind":"lost","data":{"records":9}`) != 1 {
				t.Error("nothing says that records were lost")
			}
		})
	}
}

// TestGroupCommit: records that come while the disk is busy share its next fsync.
func TestGroupCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		l, disk := flakyLog(t, dir, gate)
		var callers sync.WaitGroup
		ask := func(n int) {
			callers.Go(func() {
				if err := l.Append(context.Background(), Entry{"intent", said{n}}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ask(0)
		for n := range 100 {
			ask(n)
		}
		gate <- struct{}{}
		gate <- struct{}{}
		callers.Wait()
		if n := disk.syncs.Load(); n != 2 {
			t.Errorf("%d fsyncs for 101 records, want 2", n)
		}

		ctx, leave := context.WithCancel(context.Background())
		callers.Go(func() {
			if err := l.Append(ctx, Entry{"intent", said{}}); !errors.Is(err, context.Canceled) {
				t.Errorf("a caller that leaves: %v", err)
			}
		})
		synctest.Wait()
		leave()
		callers.Wait()
		close(gate)
		l.Close()
	})
	if r := verified(t, dir); r.Records != 102 {
		t.Errorf("%d records", r.Records)
	}
}

// TestVerifyWhileWritten: a log that is being written, closed in segments and pruned is intact
// whenever one looks.
func TestVerifyWhileWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, Settings{})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for n := range 200 {
				if err := l.Append(context.Background(), Entry{"intent", strings.Repeat("x", n*50)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		verified(t, dir)
	}
	writers.Wait()
	if r := verified(t, dir); r.Records != 800 {
		t.Errorf("%d records", r.Records)
	}
}

// FuzzRecord: a line that is taken for a record is exactly what would be written of it.
func FuzzRecord(f *testing.F) {
	r := record{Sequence: 1, Time: "2026-11-29T00:00:00Z", Kind: "intent", Data: []byte(`{"n":1}`), Previous: noHash}
	line := r.appendLine(nil)
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"sequence":1,"time":"","kind":"","data":null,"previous":"","hash":""}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parse(line)
		if err != nil {
			return
		}
		if again := r.appendLine(nil); string(again) != string(line)+"\n" {
			t.Errorf("%q is written %q", line, again)
		}
		c := &chain{sequence: r.Sequence - 1}
		c.take(line)
		c.take(line)
	})
}
