package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// identityMark stands between a name and its hash. The hash has none, so the last one in an
// identity is this.
const identityMark = "@"

// identity names a target by its content: its name, and a hash of all that says where a request
// goes and as what. A target that is re-pointed is therefore another one, to Envoy and to the
// sidecar, and what either half still holds of the old one leads to the old host. Two things are
// not in it, so that they change nothing but themselves: how the target is chosen (weight,
// priority, models, disabled), and the credential's value. See docs/rationale.md, "Why is a target
// known by its content?".
func identity(t *Target, credential string) string {
	return t.Name + identityMark + contentHash(t.Host, t.Port, t.TLS, t.BasePath, t.Path, t.Provider, t.Schema, t.AuthHeader, credential,
		t.Headers, t.Answer != "")
}

// poolIdentity names an upstream by the targets that it has, for what must not be shared between
// two sets of them.
func poolIdentity(u *Upstream) string {
	var targets []string
	for _, t := range u.Targets {
		targets = append(targets, t.Identity)
	}
	slices.Sort(targets)
	return u.Name + identityMark + contentHash(targets)
}

// via names a gateway to itself and to its replicas: by its name, hosts and paths, and where its
// targets are. It holds no secret, for targets are sent a part of it, and nothing that changes with
// weights, for Envoy's routes have it.
func via(g *Gateway) string {
	content := []any{g.Name, g.Domains}
	for _, r := range g.Rules {
		content = append(content, r.Path)
	}
	for _, u := range g.Upstreams {
		for _, t := range u.Targets {
			content = append(content, t.Name, t.Host, t.Port, t.TLS, t.BasePath, t.Path)
		}
	}
	return contentHash(content...)
}

// contentHash is 32 hexadecimal digits: nobody can make two contents of one hash, not even who may
// write the configuration.
func contentHash(content ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", content)) // no two contents are written alike; maps are written sorted
	return hex.EncodeToString(sum[:16])
}

// NameOf is the name in an identity.
func NameOf(identity string) string {
	if i := strings.LastIndex(identity, identityMark); i >= 0 {
		return identity[:i]
	}
	return identity
}
