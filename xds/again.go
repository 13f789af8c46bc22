package xds

import (
	"fmt"
	"maps"

	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// A response is refused as a whole, for one bad resource among good ones, and go-control-plane
// sends no version twice on one stream. Without what follows the good ones would be missing, or not
// be known to be there, when the next offer has them unchanged.

// refusals are those of a resource in one version, the last one that was refused.
type refusals struct {
	version string
	times   int
}

func (r refusals) and(version string) refusals {
	if r.version != version {
		return refusals{version, 1}
	}
	return refusals{version, r.times + 1}
}

// again returns the snapshot in which resources in a version that was refused are sent once more
// for each time. To Envoy their versions stay what they are. The snapshot itself stays as it is.
func (s *Snapshot) again(refused map[resource.Type]map[string]refusals) *Snapshot {
	marked := maps.Clone(s.cache.VersionMap)
	found := false
	for kind, resources := range refused {
		for name, r := range resources {
			if s.cache.VersionMap[kind][name] != r.version {
				continue
			}
			if !found {
				found = true
				for kind, versions := range marked {
					marked[kind] = maps.Clone(versions)
				}
			}
			marked[kind][name] = fmt.Sprintf("%s, after %d refusals", r.version, r.times)
		}
	}
	if !found {
		return s
	}
	c := &cachev3.Snapshot{Resources: s.cache.Resources, VersionMap: marked}
	return &Snapshot{Version: s.Version, cache: c, hashes: s.hashes, targets: s.targets}
}
