package xds

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"millrace/envoy"
)

// TestTargetsLeaveLater: the cluster of a target that is gone stays for one change more, for Envoy
// hears of clusters first. What Envoy has not applied does not stay.
func TestTargetsLeaveLater(t *testing.T) {
	s := NewServer(t.Context(), slog.New(slog.DiscardHandler))
	told := func() map[string]bool {
		t.Helper()
		snapshot, err := s.cache.GetSnapshot(envoy.NodeID)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]bool{}
		for name := range snapshot.GetResources(served[0]) {
			has[name] = true
		}
		return has
	}
	offer := func(port int, applied bool, want ...int) {
		t.Helper()
		offered := build(t, fmt.Sprintf("upstreams: [{name: a, targets: [{id: t, host: 127.0.0.1, port: %d, protocol: http}]}]", port))
		if err := s.Offer(context.Background(), offered); err != nil {
			t.Fatal(err)
		}
		has := told()
		if len(has) != 1+len(want) { // the pool, and these targets
			t.Errorf("port %d: %v, want targets %v", port, has, want)
		}
		for name := range offered.targets {
			if !has[name] {
				t.Errorf("port %d: %s is missing", port, name)
			}
		}
		s.acks.mu.Lock()
		defer s.acks.mu.Unlock()
		if applied {
			s.acks.stream, s.acks.settled = 1, true
		} else {
			s.acks.reason = "refused"
		}
	}
	offer(1, true, 1)
	offer(2, true, 2, 1)
	offer(3, false, 3, 2)
	offer(2, true, 2) // back: what was refused is gone
	offer(4, true, 4, 2)
	offer(4, true, 4)
}
