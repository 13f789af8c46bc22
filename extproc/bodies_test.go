package extproc

import (
	"bytes"
	"log/slog"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
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
			if got := collects(); got != often {
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

// TestBodyOfUnknownSize: it is counted as it comes, from a little on, until the request has ended.
// Where there is no room it is refused, by its headers if it can be; and it makes room at once when
// it is, or when the client leaves before all of it is there.
func TestBodyOfUnknownSize(t *testing.T) {
	const most = 1 << 20
	p := newPeerOf(t, "gateway: {max_request_bytes: 1MiB, max_request_bytes_total: 1536KiB}\n"+document)
	bodies := &p.server.exchanges.bodies
	used := func() int64 {
		bodies.mu.Lock()
		defer bodies.mu.Unlock()
		return bodies.used
	}
	begin := func(id string) extprocv3.ExternalProcessor_ProcessClient {
		s := p.open(t, envoy.StreamAdmission)
		if m := exchangeMessage(t, s, headersMessage(id)); m.GetRequestHeaders() == nil {
			t.Fatalf("%s is refused: %v", id, m)
		}
		return s
	}
	piece := func(size int, last bool) *extprocv3.ProcessingRequest {
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: make([]byte, size), EndOfStream: last},
		}}
	}
	ended := func(s extprocv3.ExternalProcessor_ProcessClient) {
		t.Helper()
		s.CloseSend()
		if _, err := s.Recv(); err == nil {
			t.Error("the stream goes on")
		}
	}
	want := func(what string, size int64) {
		t.Helper()
		if got := used(); got != size {
			t.Errorf("%s: %d bytes are counted, want %d", what, got, size)
		}
	}

	whole := begin("whole")
	want("nothing has come", heldAtFirst)
	exchangeMessage(t, whole, piece(heldAtFirst, false))
	exchangeMessage(t, whole, piece(most-heldAtFirst, true))
	ended(whole)
	want("all of it is there", most)

	left := begin("left")
	exchangeMessage(t, left, piece(heldAtFirst+1, false))
	want("some has come of another", most+heldAtFirst+1)
	ended(left)
	want("its client has left", most)

	refused := begin("refused")
	if m := exchangeMessage(t, refused, piece(most/2+1, false)); m.GetImmediateResponse().GetStatus().GetCode() != 503 {
		t.Errorf("more than there is room for: %v", m)
	}
	ended(refused)
	want("it is refused", most)

	first, second := begin("first"), begin("second")
	want("there is no room left", most+2*heldAtFirst)
	third := p.open(t, envoy.StreamAdmission)
	if m := exchangeMessage(t, third, headersMessage("third")); m.GetImmediateResponse().GetStatus().GetCode() != 503 {
		t.Errorf("there is no room to begin: %v", m)
	}
	ended(first)
	ended(second)
	ended(third)

	p.server.exchanges.bodies.release("whole")
	alone := begin("alone")
	if m := exchangeMessage(t, alone, piece(most+1, false)); m.GetImmediateResponse().GetStatus().GetCode() != 413 {
		t.Errorf("more than one may be: %v", m)
	}
	ended(alone)
	want("nothing is under way", 0)
}
