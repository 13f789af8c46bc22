package xds

import (
	"regexp"
	"testing"
)

func TestOthers(t *testing.T) {
	names := []string{":*", "accept", "accept-language", "te", "x-rate-*", "x-request-id"}
	re := regexp.MustCompile("^" + others(names) + "$")
	for _, kept := range []string{":path", ":", "accept", "accept-language", "te", "x-rate-", "x-rate-limit", "x-request-id"} {
		if re.MatchString(kept) {
			t.Errorf("%s is removed", kept)
		}
	}
	for _, removed := range []string{"a", "accep", "accept-", "accept-languages", "acceptor", "authorization", "cookie", "t", "tea", "x-rate", "x-request-id2", "x-request-ie", "y"} {
		if !re.MatchString(removed) {
			t.Errorf("%s is kept", removed)
		}
	}
}
