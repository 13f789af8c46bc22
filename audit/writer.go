package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// writer owns the files of a log. One goroutine runs it.
type writer struct {
	log      *Log
	open     func(path string, flags int) (file, error)
	segments []segment // the last is the one that is written to, unless file is nil
	file     file      // nil: the next record begins another segment
	size     int64     // of its records that are on the disk
	dirty    bool      // it holds more than that
	sequence uint64    // of the last record
	hash     string    // of that
	failed   error     // of the last write; nil: it went well
	lines    []byte    // of the last write; its memory is used again
}

// resume finds where the log ends.
func (w *writer) resume() (err error) {
	if w.segments, err = segmentsOf(w.log.dir); err != nil {
		return err
	}
	w.hash = noHash
	for len(w.segments) > 0 {
		last := w.segments[len(w.segments)-1]
		c := &chain{sequence: last.first - 1}
		whole, torn, line, err := readLines(last.path, c.take)
		if err != nil {
			return fmt.Errorf("%s:%d: %w: the audit log does not go on from a damaged record; move its folder away to begin another", last.path, line, err)
		}
		if c.records == 0 { // begun, and nothing of it came to the disk
			w.log.log.Warn("audit: a segment without a whole record is taken away", "file", last.path, "bytes", torn)
			if err := os.Remove(last.path); err != nil {
				return err
			}
			w.segments = w.segments[:len(w.segments)-1]
			continue
		}
		w.sequence, w.hash = c.sequence, c.hash
		if err := w.reopen(last, whole, torn); err != nil {
			return err
		}
		break
	}
	for i := range w.segments {
		if w.segments[i].began, err = timeOf(w.segments[i].path); err != nil {
			w.log.log.Error("audit: retention takes a damaged segment for new", "error", err)
			w.segments[i].began = time.Now()
		}
	}
	return nil
}

// reopen goes on with a segment that was not closed.
func (w *writer) reopen(last segment, whole, torn int64) error {
	info, err := os.Lstat(last.path)
	if err != nil || readOnly(info) {
		return err
	}
	f, err := w.open(last.path, 0)
	if err != nil {
		return err
	}
	if torn > 0 {
		w.log.log.Warn("audit: the last record was cut short by a crash; what there was of it is taken off", "file", last.path, "bytes", torn, "record", w.sequence+1)
		if err := errors.Join(f.Truncate(whole), f.Sync()); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	w.file, w.size = f, whole
	return nil
}

// run writes what is queued, until Close.
func (w *writer) run() {
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	var retry <-chan time.Time // nil while the disk does not fail
	w.prune()
	for {
		if w.failed != nil && retry == nil {
			retry = time.After(retryEvery)
		}
		again := false
		select {
		case <-w.log.wake:
		case <-retry:
			retry, again = nil, true
		case <-prune.C:
			w.prune()
		}
		queued, done := w.log.take()
		if w.failed == nil || again || done {
			w.write(queued)
		} else {
			w.refuse(queued)
		}
		if done {
			w.end()
			return
		}
	}
}

// write writes records until all are, or the disk fails.
func (w *writer) write(queued []*pending) {
	for len(queued) > 0 {
		n, err := w.flush(queued)
		w.said(err)
		for _, p := range queued[:n] {
			p.told(nil)
		}
		w.log.written(n)
		if err != nil {
			w.refuse(queued[n:])
			return
		}
		queued = queued[n:]
	}
}

// refuse tells those who wait why their records are not written. The records themselves wait for
// better times.
func (w *writer) refuse(queued []*pending) {
	for _, p := range queued {
		p.told(fmt.Errorf("the audit log is not written: %w", w.failed))
	}
}

func (p *pending) told(err error) {
	if p.done != nil {
		p.done <- err
		p.done = nil
	}
}

// said logs that writing fails, or works again.
func (w *writer) said(err error) {
	switch {
	case err != nil && w.failed == nil:
		w.log.log.Error("the audit log cannot be written: records wait", "folder", w.log.dir, "at_most", waiting, "error", err)
	case err == nil && w.failed != nil:
		w.log.log.Info("the audit log is written again", "folder", w.log.dir)
	}
	w.failed = err
	if err == nil {
		w.log.failure.Store(nil)
		return
	}
	w.log.failure.Store(&err)
}

// flush brings about a batch of records to the disk, with one fsync, and returns how many. When it
// fails none of them is in the log.
func (w *writer) flush(queued []*pending) (int, error) {
	if lost := w.log.lost.Swap(0); lost > 0 {
		if err := w.own(kindLost, map[string]int64{"records": lost}); err != nil {
			w.log.lost.Add(lost)
			return 0, err
		}
	}
	return w.append(queued)
}

// own writes a record about the log itself.
func (w *writer) own(kind string, data any) error {
	marshalled, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = w.append([]*pending{{kind: kind, data: marshalled}})
	return err
}

func (w *writer) append(queued []*pending) (int, error) {
	now := time.Now().UTC()
	if err := w.place(now); err != nil {
		return 0, err
	}
	n, sequence, hash := 0, w.sequence, w.hash
	w.lines = w.lines[:0]
	for n < len(queued) && len(w.lines) < batch {
		sequence++
		r := record{Sequence: sequence, Time: now.Format(time.RFC3339Nano), Kind: queued[n].kind, Data: queued[n].data, Previous: hash}
		w.lines = r.appendLine(w.lines)
		hash = r.Hash
		n++
	}
	w.dirty = true
	if _, err := w.file.Write(w.lines); err != nil {
		return 0, errors.Join(err, w.takeBack())
	}
	if err := w.file.Sync(); err != nil {
		return 0, errors.Join(err, w.takeBack())
	}
	w.dirty = false
	w.size += int64(len(w.lines))
	w.sequence, w.hash = sequence, hash
	return n, nil
}

// takeBack takes off what is not known to be on the disk: after a failed fsync nobody knows what
// is, and it is written once more.
func (w *writer) takeBack() error {
	if err := w.file.Truncate(w.size); err != nil {
		return err
	}
	w.dirty = false
	return nil
}

// place makes file the one that the next records go to.
func (w *writer) place(now time.Time) error {
	if w.file != nil && w.dirty {
		if err := w.takeBack(); err != nil {
			return err
		}
	}
	if w.file != nil && w.size > 0 && (w.size >= maxSegment || now.Sub(w.segments[len(w.segments)-1].began) >= maxAge) {
		w.shut()
	}
	if w.file != nil {
		return nil
	}
	s := segment{path: filepath.Join(w.log.dir, segmentName(w.sequence+1)), first: w.sequence + 1, began: now}
	f, err := w.open(s.path, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err := syncFolder(w.log.dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(s.path))
	}
	w.file, w.size = f, 0
	w.segments = append(w.segments, s)
	w.prune()
	return nil
}

// shut closes the segment for good. All of it is on the disk.
func (w *writer) shut() {
	if w.log.Settings().ReadOnly {
		if err := os.Chmod(w.segments[len(w.segments)-1].path, 0o400); err != nil {
			w.log.log.Error("audit: a closed segment stays writable", "error", err)
		}
	}
	if err := w.file.Close(); err != nil {
		w.log.log.Error("audit: close a segment", "error", err)
	}
	w.file = nil
}

// prune removes the segments whose records are all older than the retention: those before one that
// began that long ago. The last one stays. A record says so first, for Verify to know that they
// were not taken.
func (w *writer) prune() {
	keep := w.log.Settings().Retention
	old := 0
	for keep > 0 && old+1 < len(w.segments) && time.Since(w.segments[old+1].began) > keep {
		old++
	}
	if old == 0 {
		return
	}
	through := w.segments[old].first - 1
	if err := w.own(kindPruned, map[string]uint64{"through": through}); err != nil {
		w.log.log.Error("audit: old segments are not removed, for that cannot be recorded", "error", err)
		return
	}
	for _, s := range w.segments[:old] {
		if err := os.Remove(s.path); err != nil && !isMissing(err) {
			w.log.log.Error("audit: remove an old segment", "error", err)
			return
		}
		w.segments = w.segments[1:]
	}
	if err := syncFolder(w.log.dir); err != nil {
		w.log.log.Error("audit: remove old segments", "error", err)
	}
	w.log.log.Info("audit: records older than the retention are removed", "through", through)
}

// end tells what is lost, and closes the file.
func (w *writer) end() {
	queued, _ := w.log.take()
	if lost := int64(len(queued)) + w.log.lost.Load(); lost > 0 {
		w.log.log.Error("audit: records are lost: they could not be written until the end", "records", lost, "error", w.failed)
	}
	if w.file == nil {
		return
	}
	var err error
	if w.dirty {
		err = w.takeBack()
	}
	if err = errors.Join(err, w.file.Close()); err != nil { // what is torn the next start takes off
		w.log.log.Error("audit: close a segment", "error", err)
	}
}
