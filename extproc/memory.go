package extproc

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memory tells whether this process is close to its memory limit, which is Go's own
// (debug.SetMemoryLimit). Below the limit Go collects garbage harder; what is in use cannot be
// collected, so new work has to be refused before it reaches the limit.
type memory struct {
	mu      sync.Mutex
	looked  time.Time
	tight   bool
	percent int // of what is in use, how much garbage may gather; 0: not looked yet
}

// bound sets the limit: bytes, or with 0 what $GOMEMLIMIT says, or half of what the container or
// the machine has. The other half is for Envoy, which as a rule runs beside this process.
func (m *memory) bound(bytes uint64, log *slog.Logger) {
	if bytes > 0 {
		debug.SetMemoryLimit(int64(bytes))
		return
	}
	has := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)
	if _, err := memlimit.Set(memlimit.WithProvider(has), memlimit.WithRatio(0.5)); err != nil {
		log.Warn("the sidecar has no memory limit: give gateway.max_sidecar_memory", "error", err)
	}
}

// limit is in bytes; with none it is more than any machine has.
func (m *memory) limit() int64 { return debug.SetMemoryLimit(-1) }

const (
	// memoryInterval is how old a look may be: a look reads counters that other threads write.
	memoryInterval = 50 * time.Millisecond
	// tightAt is the share of the limit, in per cent, that may be in use after a collection. The
	// rest is for garbage, stacks, and the requests that were let in since.
	tightAt = 80
	// roomyAt is the share, in per cent, up to which there is so much room that garbage may be
	// collected more rarely. The next collection is then at 60 per cent at the latest, or the
	// latest look at what is in use would be too old to refuse requests by.
	roomyAt = 12
	// mostRoomy bounds it where there is plenty: large answers and bodies make garbage of their own
	// size.
	mostRoomy = 64 << 20
	// largeFrom is from what size on garbage is collected sooner: what is in use then are a few
	// large bodies and answers, which cost little to look at.
	largeFrom = 128 << 20
	// rarely, usually and often are how much garbage may gather, in per cent of what is in use.
	// Go's own 100 makes it a quarter of the sidecar's work to collect the garbage of small
	// requests.
	rarely, usually, often = 400, 100, 50
)

// short tells it, as of a moment ago.
func (m *memory) short() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.looked) >= memoryInterval {
		used := inUse()
		m.looked, m.tight = now, used > m.limit()/100*tightAt
		m.collect(used, m.limit())
	}
	return m.tight
}

// collect sets how often garbage is collected, unless $GOGC says it. mu is held.
func (m *memory) collect(used, limit int64) {
	percent := usually
	switch {
	case used > largeFrom:
		percent = often
	case used <= min(limit/100*roomyAt, mostRoomy) && limit < math.MaxInt64:
		percent = rarely
	}
	if percent != m.percent && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	m.percent = percent
}

// inUse is what the latest collection found alive, and the stacks.
func inUse() int64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() + samples[1].Value.Uint64())
}
