package xds

import (
	"maps"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
)

// Envoy hears of clusters before it hears of endpoints. Between the two, attempts still choose
// endpoints of the configuration before, and a target that is gone from there must not have lost
// its cluster: it leaves with the next change but one.

// leaving are the clusters of the snapshot's targets.
func (s *Snapshot) leaving() map[string]types.ResourceWithTTL {
	clusters := maps.Clone(s.cache.Resources[types.Cluster].Items)
	maps.DeleteFunc(clusters, func(name string, _ types.ResourceWithTTL) bool { return !s.targets[name] })
	return clusters
}

// keeping returns the snapshot with the clusters that leave, as far as it has none of the name. The
// snapshot itself stays as it is.
func (s *Snapshot) keeping(leaving map[string]types.ResourceWithTTL) (*Snapshot, error) {
	clusters := map[string]types.ResourceWithTTL{}
	maps.Copy(clusters, leaving)
	maps.Copy(clusters, s.cache.Resources[types.Cluster].Items)
	if len(clusters) == len(s.cache.Resources[types.Cluster].Items) {
		return s, nil
	}
	return s.with(types.Cluster, clusters)
}
