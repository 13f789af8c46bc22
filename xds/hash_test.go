package xds

import (
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"millrace/config"
	"millrace/envoy"
)

// clusters returns the clusters of a snapshot by name, without the hash of an identity.
func clusters(s *Snapshot) map[string]*clusterv3.Cluster {
	found := map[string]*clusterv3.Cluster{}
	for name, r := range s.cache.GetResources(resource.ClusterType) {
		found[config.NameOf(name)] = r.(*clusterv3.Cluster)
	}
	return found
}

func TestHashingPools(t *testing.T) {
	s := build(t, `upstreams:
- {name: one, algorithm: prompt-hash, targets: [{provider: openai}]}
- {name: two, algorithm: header-hash, hash_header: x-user, targets: [{provider: openai}, {provider: anthropic, priority: 5}]}
`)
	all := clusters(s)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"default/one", "default/one/openai-1", "default/two", "default/two/#0", "default/two/#1", "default/two/anthropic-2", "default/two/openai-1"}
	if !slices.Equal(names, want) {
		t.Fatalf("clusters %q, want %q", names, want)
	}
	subsets, policy := &subsetv3.Subset{}, &maglevv3.Maglev{}
	if err := all["default/one"].LoadBalancingPolicy.Policies[0].TypedExtensionConfig.TypedConfig.UnmarshalTo(subsets); err != nil {
		t.Fatal(err)
	}
	if err := subsets.SubsetLbPolicy.Policies[0].TypedExtensionConfig.TypedConfig.UnmarshalTo(policy); err != nil {
		t.Fatal(err)
	}
	hashing := policy.ConsistentHashingLbConfig
	if hashing.HashBalanceFactor.GetValue() != 200 || hashing.HashPolicy[0].GetHeader().GetHeaderName() != envoy.HeaderPromptHash {
		t.Errorf("prompt-hash: %v", hashing)
	}
}
