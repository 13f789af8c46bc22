package extproc

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"millrace/config"
	"millrace/extproc/llm"
)

// keys are those of one gateway, by the SHA-256 of the key. A key is 256 random bits, so looking
// its hash up in a map tells a guesser nothing.
type keys struct {
	byHash map[string]*config.Key
	now    func() time.Time
}

// compileKeys returns nil for a gateway that lets in anyone.
func compileKeys(g *config.Gateway) *keys {
	if !g.NeedsKey {
		return nil
	}
	k := &keys{byHash: make(map[string]*config.Key, len(g.Keys)), now: time.Now}
	for i := range g.Keys {
		k.byHash[g.Keys[i].Hash] = &g.Keys[i]
	}
	return k
}

// admit checks the client's key where the gateway has any. No answer tells more than that there was
// none, or not a good one.
func (r *routing) admit(h headers) *llm.Error {
	keys := r.x.route.keys
	if keys == nil {
		return nil
	}
	presented := presentedKey(h)
	if presented == "" {
		return llm.Errorf(llm.ErrAuthentication, "no API key: send it as Authorization: Bearer KEY or as X-Api-Key")
	}
	key := keys.byHash[hashKey(presented)]
	if key == nil || !key.Expires.IsZero() && !keys.now().Before(key.Expires) {
		e := llm.Errorf(llm.ErrAuthentication, "the API key is not valid here, or has expired")
		e.Code = "invalid_api_key"
		return e
	}
	r.x.key = key
	return nil
}

// presentedKey is the key in any of the headers that the SDKs send one in.
func presentedKey(h headers) string {
	if scheme, key, ok := strings.Cut(h.get("authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(key)
	}
	for _, name := range []string{"x-api-key", "api-key", "x-goog-api-key"} {
		if key := h.get(name); key != "" {
			return key
		}
	}
	return ""
}

func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
