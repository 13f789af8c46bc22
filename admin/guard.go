package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard lets in who may: with the token where there is one, else whoever talks to a loopback address by its name. Either way,
// no page of another site may write.
func guard(o Options, next http.Handler) http.Handler {
	sites := http.NewCrossOriginProtection()
	want := sha256.Sum256([]byte(o.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case o.Token == "" && !localHost(r.Host, o.Hosts):
			forbidden.because("host %q is not this one: without a token only loopback names are answered", r.Host).write(w)
		case o.Token != "" && !hasToken(r, want):
			w.Header().Set("WWW-Authenticate", "Bearer")
			unauthorized.because("send Authorization: Bearer and the token").write(w)
		case sites.Check(r) != nil:
			forbidden.because("a page of another site sent this").write(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hasToken compares hashes, in constant time, so that neither content nor length of the token shows.
func hasToken(r *http.Request, want [sha256.Size]byte) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// localHost tells whether a Host header names this machine.
func localHost(host string, others []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		return true
	}
	return host == "localhost" || slices.Contains(others, host)
}
