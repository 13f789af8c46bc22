package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// guard lets in who may: with a token where there is one, else whoever open admits. Either way, no
// page of another site may write.
type guard struct {
	tokens func() []string         // any of them will do; asked for with every request
	open   func(host string) error // why a host is not admitted, while there are no tokens
	wrong  *wrongTokens
	sites  *http.CrossOriginProtection
	next   http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if refused := g.refusal(w.Header(), r); refused != nil {
		refused.write(w)
		return
	}
	g.next.ServeHTTP(w, r)
}

// refusal is why the request may not go on, nil when it may; h are the headers of the answer.
func (g *guard) refusal(h http.Header, r *http.Request) *problem {
	tokens := slices.DeleteFunc(g.tokens(), func(token string) bool { return token == "" })
	if len(tokens) == 0 {
		if err := g.open(r.Host); err != nil {
			return forbidden.because("%v", err)
		}
	} else if refused := g.checkToken(h, r, tokens); refused != nil {
		return refused
	}
	if g.sites.Check(r) != nil {
		return forbidden.because("a page of another site sent this")
	}
	return nil
}

func (g *guard) checkToken(h http.Header, r *http.Request, tokens []string) *problem {
	sent, ok := bearer(r)
	if ok {
		right, wait := g.wrong.look(clientOf(r), sent, func() bool { return isOneOf(sent, tokens) })
		if wait > 0 {
			h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			return tooManyWrong.because("too many wrong tokens came from this address: none is looked at for %s", wait.Round(1e9))
		}
		if right {
			return nil
		}
	}
	h.Set("WWW-Authenticate", "Bearer")
	return unauthorized.because("send Authorization: Bearer and the token")
}

func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, token != "" && strings.EqualFold(scheme, "Bearer")
}

// isOneOf compares hashes, in constant time, so that neither content nor length of a token shows.
func isOneOf(sent string, tokens []string) bool {
	got, found := sha256.Sum256([]byte(sent)), 0
	for _, token := range tokens {
		want := sha256.Sum256([]byte(token))
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return found == 1
}

// clientOf is the address that a request came from; of IPv6 the part that one client has to itself.
func clientOf(r *http.Request) netip.Prefix {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{} // not over TCP: all are one client
	}
	addr := from.Addr().Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr.WithZone(""), bits).Masked()
}

// isLocalHost tells whether a Host header names this machine.
func isLocalHost(host string, others []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		return true
	}
	return host == "localhost" || slices.Contains(others, host)
}
