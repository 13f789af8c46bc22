package xds

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	lbcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// maglev sends what is equal to one target. Why not a ring: docs/rationale.md, "Why maglev and not
// a hash ring?".
func maglev(u *config.Upstream) *maglevv3.Maglev {
	hashing := &lbcommonv3.ConsistentHashingLbConfig{}
	if u.HashBalance > 0 {
		hashing.HashBalanceFactor = wrapperspb.UInt32(u.HashBalance)
	}
	if p := hashPolicy(u); p != nil {
		hashing.HashPolicy = []*routev3.RouteAction_HashPolicy{p}
	}
	return &maglevv3.Maglev{ConsistentHashingLbConfig: hashing}
}

// hashPolicy is what a pool hashes. It is the pool's own where it can be: the upstreams of an A/B
// test may differ.
func hashPolicy(u *config.Upstream) *routev3.RouteAction_HashPolicy {
	switch u.Algorithm {
	case config.URIHash:
		p := headerPolicy(":path")
		p.GetHeader().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: `\?.*`}}
		return p
	case config.HeaderHash:
		return headerPolicy(u.HashHeader)
	case config.PromptHash:
		return headerPolicy(envoy.HeaderPromptHash)
	}
	return nil
}

func headerPolicy(name string) *routev3.RouteAction_HashPolicy {
	return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
		Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: name},
	}}
}

// routePolicies are what only a route can hash: the address (a pool under another cluster is not
// told it), and a cookie, which is given to a client that has none.
func routePolicies(shares []config.Share) []*routev3.RouteAction_HashPolicy {
	var policies []*routev3.RouteAction_HashPolicy
	for _, s := range shares {
		switch s.Upstream.Algorithm {
		case config.SourceHash:
			policies = append(policies, &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
				ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
			}})
		case config.CookieHash:
			policies = append(policies, &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{
				Cookie: &routev3.RouteAction_HashPolicy_Cookie{
					Name: s.Upstream.HashCookie,
					Ttl:  &durationpb.Duration{}, // as long as the client's session
					Path: "/",
				},
			}})
		}
	}
	return policies
}
