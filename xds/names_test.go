package xds

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// TestNamesDoNotCollide: whatever names a valid configuration has, what they become at Envoy is
// told apart: no two clusters have one name, and none counts into a statistic of another. Envoy
// writes a colon as an underscore in names of statistics, takes the name up to the first dot for
// the cluster's, and counts in parts such as "external." of a cluster.
func TestNamesDoNotCollide(t *testing.T) {
	names := []string{"u", "u#0", "u#1", "u@x", "u:x", "u_x", "u%3Ax", "u.x", "u%2Ex", "u.external", "u.external.x", "open:u", "probe:u", "millrace", "Ü u"}
	var document strings.Builder
	document.WriteString("gateway: {auth: none}\nupstreams:\n")
	for _, name := range names {
		fmt.Fprintf(&document, "- {name: %q, algorithm: header-hash, hash_header: x, health_checks: {active: {}}, targets: [{id: \"0\", provider: openai}, {id: external, host: b.example, priority: 1}]}\n", name)
	}
	document.WriteString("services:\n")
	for i, name := range names {
		fmt.Fprintf(&document, "- {name: s%d, upstream: %q, failure: open}\n", i, name)
	}
	s := build(t, document.String())

	clusters := s.cache.GetResources(resource.ClusterType)
	if want := len(names) * 10; len(clusters) != want { // an aggregate and two pools, twice; two targets, each with its probe
		t.Errorf("%d clusters, want %d", len(clusters), want)
	}
	stats := map[string]string{} // the names of clusters by what Envoy counts them as
	for name, r := range clusters {
		stat := r.(*clusterv3.Cluster).AltStatName
		if stat == "" {
			stat = name
		}
		if written := strings.ReplaceAll(stat, ":", "_"); written != stat || strings.Contains(stat, ".") {
			t.Errorf("cluster %q counts as %q", name, stat)
		}
		if other, taken := stats[stat]; taken {
			t.Errorf("clusters %q and %q both count as %q", name, other, stat)
		}
		stats[stat] = name
	}
}
