package extproc

import (
	"bytes"
	"log/slog"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestBodies(t *testing.T) {
	var b bodies
	for _, step := range []struct {
		what, id string
		size     int64
		fits     bool
	}{
		{"the first, however large", "a", 150, true},
		{"beside it nothing", "b", 1, false},
		{"it turns out smaller", "a", 60, true},
		{"now there is room", "b", 40, true},
		{"to the last byte", "c", 1, false},
		{"no more than it was let in for", "b", 41, false},
		{"the same again", "b", 40, true},
	} {
		if fits := b.hold(step.id, step.size, 100); fits != step.fits {
			t.Errorf("%s: %v", step.what, fits)
		}
	}
	b.release("a")
	b.release("a")
	b.release("nobody")
	if b.used != 40 {
		t.Errorf("%d bytes used", b.used)
	}
	b.forget(time.Now().Add(time.Hour), func(id string) bool { return id == "b" })
	if b.used != 40 {
		t.Error("a request that lives was forgotten")
	}
	b.forget(time.Now().Add(time.Hour), func(string) bool { return false })
	if b.used != 0 || len(b.known) != 0 {
		t.Errorf("%d bytes of %d requests are left", b.used, len(b.known))
	}
}

// TestMemoryIsShort: what is alive counts, not garbage, and it is looked at again.
func TestMemoryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
		defer debug.SetGCPercent(debug.SetGCPercent(100))
		t.Setenv("GOGC", "")
		collects := func() int {
			percent := debug.SetGCPercent(100)
			debug.SetGCPercent(percent)
			return percent
		}
		var m memory
		m.bound(256<<20, slog.New(slog.DiscardHandler))
		garbage := func() {
			for range 10 {
				runtime.KeepAlive(bytes.Repeat([]byte{1}, 64<<20))
			}
		}
		garbage()
		runtime.GC()
		if m.short() {
			t.Error("short because of garbage")
		}
		if got := collects(); got != rarely {
			t.Errorf("with much room, garbage is collected at %d %%", got)
		}
		func() {
			alive := bytes.Repeat([]byte{1}, 220<<20)
			runtime.GC()
			time.Sleep(memoryInterval)
			if !m.short() {
				t.Error("not short")
			}
			if got := collects(); got != usually {
				t.Errorf("with little room, garbage is collected at %d %%", got)
			}
			runtime.KeepAlive(alive)
		}()
		runtime.GC()
		time.Sleep(memoryInterval)
		if m.short() {
			t.Error("still short")
		}
	})
}
