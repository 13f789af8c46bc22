package extproc

import (
	"log/slog"
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
	mu     sync.Mutex
	looked time.Time
	tight  bool
}

// bound sets the limit: bytes, or with 0 what $GOMEMLIMIT says, or half of what the container or the
// machine has. The other half is for Envoy, which as a rule runs beside this process.
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
	// tightAt is the share of the limit, in per cent, that may be in use after a collection. The rest
	// is for garbage, stacks, and the requests that were let in since.
	tightAt = 80
)

// short tells it, as of a moment ago.
func (m *memory) short() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.looked) >= memoryInterval {
		m.looked, m.tight = now, inUse() > m.limit()/100*tightAt
	}
	return m.tight
}

// inUse is what the latest collection found alive, and the stacks.
func inUse() int64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() + samples[1].Value.Uint64())
}
