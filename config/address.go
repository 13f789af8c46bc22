package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// Which upstream addresses are refused, and why, is in docs/rationale.md, "Which upstream addresses
// are refused?".

// guard decides which addresses targets may have.
type guard struct {
	own   []ownAddress
	allow []upstreamAddress
	local []netip.Addr // of this machine's interfaces
}

// ownAddress is where this process listens.
type ownAddress struct {
	what string
	ip   netip.Addr // unspecified: every address of this machine
	port uint32
}

// upstreamAddress is an entry of gateway.allow_upstreams and gateway.hide_via.
type upstreamAddress struct {
	name    string // in lower case; "" when network is set
	network netip.Prefix
	port    uint32 // 0: all
}

// addresses checks where targets are. main is the gateway of the file, which says where the process
// listens and what is allowed.
func (v *validation) addresses(main *millracev1.Gateway, upstreams []*millracev1.Upstream) {
	allow, _ := parseUpstreamAddresses(main.GetAllowUpstreams()) // wrong ones are the gateway's errors
	guard{own: ownAddresses(main), allow: allow, local: localAddresses()}.check(v, "", upstreams)
}

// Reaching finds the targets that lead to an address where this process listens that no document
// says: its REST API's, as the flags have it. documents are Merge's.
func Reaching(documents []*millracev1.Document, what, listen string) Errors {
	allow, _ := parseUpstreamAddresses(documents[0].Gateway.GetAllowUpstreams())
	g := guard{own: listening(what, listen), allow: allow, local: localAddresses()}
	v := &validation{}
	for _, d := range documents {
		g.check(v, fmt.Sprintf("gateways[%s].", d.Gateway.Name), d.Upstreams)
	}
	return v.found
}

func (g guard) check(v *validation, prefix string, upstreams []*millracev1.Upstream) {
	for i, u := range upstreams {
		for j, t := range u.Targets {
			if field, reason := g.target(t); reason != "" {
				v.errorf(fmt.Sprintf("%supstreams[%d].targets[%d].%s", prefix, i, j, field), "%s", reason)
			}
		}
	}
}

// upstreamLists checks the gateway's own lists of addresses.
func (v *validation) upstreamLists(g *millracev1.Gateway) {
	entries, wrong := parseUpstreamAddresses(g.GetAllowUpstreams())
	for i, e := range entries {
		if e.name != "" && metadataNames[e.name] == "" && !isLoopbackName(e.name) {
			wrong[i] = "allows nothing: of names, only localhost and those of clouds' metadata services are refused"
		}
	}
	_, wrongToo := parseUpstreamAddresses(g.GetHideVia())
	for _, l := range []struct {
		field       string
		list, wrong []string
	}{{"allow_upstreams", g.GetAllowUpstreams(), wrong}, {"hide_via", g.GetHideVia(), wrongToo}} {
		for i, reason := range l.wrong {
			if reason != "" {
				v.errorf(fmt.Sprintf("gateway.%s[%d]", l.field, i), "%q %s", l.list[i], reason)
			}
		}
	}
}

func ownAddresses(g *millracev1.Gateway) []ownAddress {
	own := listening("this gateway's own listener", hostPort(g.GetListenAddress(), g.GetListenPort()))
	own = append(own, listening("the listener of this gateway's health checks", hostPort(ProbeAddress(g.GetListenAddress(), g.GetListenPort())))...)
	own = append(own, listening("this gateway's REST API", g.GetAdmin().GetListen())...)
	return append(own, listening("this gateway's metrics", g.GetAdmin().GetMetrics().GetListen())...)
}

// listening reads an address and a port to listen on; it is empty for "" and for what is none.
func listening(what, at string) []ownAddress {
	host, text, err := net.SplitHostPort(at)
	port, portErr := strconv.ParseUint(text, 10, 16)
	if err != nil || portErr != nil {
		return nil
	}
	if isLoopbackName(host) {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(cmp.Or(host, "0.0.0.0"))
	if err != nil {
		return nil
	}
	return []ownAddress{{what, ip.Unmap(), uint32(port)}}
}

// ProbeAddress is that of the listener that active health checks go through, given the gateway's:
// on the loopback, at the same port, or at another one where the gateway's listener is everywhere
// and so has that port there too.
func ProbeAddress(listen string, port uint32) (string, uint32) {
	if ip, err := netip.ParseAddr(listen); err == nil && ip.IsUnspecified() {
		const first, ports = 1024, 31_000 // below those that outgoing connections get
		return "127.0.0.2", first + (port+ports/2)%ports
	}
	if listen == "127.0.0.2" {
		return "127.0.0.3", port
	}
	return "127.0.0.2", port
}

func localAddresses() []netip.Addr {
	var local []netip.Addr
	all, _ := net.InterfaceAddrs() // without it only the loopback is known to be local
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			local = append(local, p.Addr().Unmap())
		}
	}
	return local
}

// target returns the field of a target that says where it is and why it must not be there, "" when
// it may.
func (g guard) target(t *millracev1.Target) (field, reason string) {
	field = "host"
	if base := t.GetProvider().GetBaseUrl(); base != "" {
		field = "provider.base_url"
		if _, err := url.Parse(base); err != nil {
			return field, "" // said already
		}
	}
	switch p, at := place(t); {
	case at.host == "" && field != "host":
		return field, "names no host"
	case p.Schema == schema.Static:
		return field, ""
	default:
		return field, g.refuse(at.host, at.port)
	}
}

// refuse says why a target must not be there, "" when it may.
func (g guard) refuse(host string, port uint32) string {
	if usual := usualForm(host); usual != "" {
		return fmt.Sprintf("%s is an unusual way to write an address, which resolvers take for one: write %s", host, usual)
	}
	if strings.ContainsFunc(host, func(c rune) bool { return c > '~' }) {
		return "want the host in ASCII (xn--…): others may read other letters as an address"
	}
	name, ip := nameAndAddress(host)
	why, entry := metadataNames[name], host
	if ip.IsValid() {
		why = special(ip)
	}
	if why == "" {
		why, entry = g.ownReason(name, ip, port), hostPort(host, port)
	}
	if why == "" || slices.ContainsFunc(g.allow, func(a upstreamAddress) bool { return a.matches(name, ip, port) }) {
		return ""
	}
	return fmt.Sprintf("%s is %s; if that is meant, put %q into gateway.allow_upstreams of the configuration file", entry, why, entry)
}

// nameAndAddress is a host as lists are searched for it: in lower case, and the address that it is,
// which is not valid for a name.
func nameAndAddress(host string) (name string, ip netip.Addr) {
	name = strings.ToLower(strings.TrimSuffix(host, "."))
	ip, _ = netip.ParseAddr(name) // the zero address for a name
	return name, ip.WithZone("")
}

func (a upstreamAddress) matches(name string, ip netip.Addr, port uint32) bool {
	return (a.port == 0 || a.port == port) && (a.name != "" && a.name == name || ip.IsValid() && a.network.Contains(ip))
}

// ownReason tells whether the address is one where this process listens. Names other than localhost
// are not looked up: what they lead to is known when Envoy has asked, and a request that comes back
// is known by x-millrace-via.
func (g guard) ownReason(name string, ip netip.Addr, port uint32) string {
	for _, own := range g.own {
		same := own.ip == ip
		if own.ip.IsUnspecified() {
			same = ip.IsValid() && (ip.IsLoopback() || slices.Contains(g.local, ip))
		}
		if isLoopbackName(name) {
			same = own.ip.IsLoopback() || own.ip.IsUnspecified()
		}
		if same && own.port == port {
			return own.what
		}
	}
	return ""
}

// isLoopbackName holds for the names that lead to this machine everywhere (RFC 6761, 6.3), and
// those that distributions give it.
func isLoopbackName(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback":
		return true
	}
	return strings.HasSuffix(name, ".localhost")
}

// metadataService is where a cloud tells a machine, and whoever can ask in its name, its
// credentials.
const metadataService = "a cloud's metadata service, which gives out credentials"

// metadataNames are names of such services, metadataAddresses those that are not link-local.
var metadataNames = map[string]string{
	"metadata":                   metadataService, // Google Cloud
	"metadata.google.internal":   metadataService,
	"metadata.goog":              metadataService,
	"instance-data":              metadataService, // EC2
	"instance-data.ec2.internal": metadataService,
	"metadata.tencentyun.com":    metadataService,
	"api.metadata.cloud.ibm.com": metadataService,
}

var metadataAddresses = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),          // EC2: metadata, credentials of pods, DNS, time
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure
}

// special says what an address is that no provider has, "" for any other.
func special(ip netip.Addr) string {
	switch inner := embedded(ip); {
	case ip.IsUnspecified(), within("0.0.0.0/8", ip):
		return "an unspecified address, which leads to this machine"
	case ip.IsLinkLocalUnicast():
		return "a link-local address: there clouds give out a machine's credentials"
	case ip.IsMulticast():
		return "a multicast address"
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case slices.ContainsFunc(metadataAddresses, func(p netip.Prefix) bool { return p.Contains(ip) }):
		return metadataService
	case inner.IsValid() && special(inner) != "":
		return fmt.Sprintf("%s in IPv6, %s", inner, special(inner))
	}
	return ""
}

// RefusedAddress says why nothing of this process's own must connect to an address, nil where it
// may: what no provider has no webhook has either, but for this machine.
func RefusedAddress(at netip.AddrPort) error {
	if why := special(at.Addr()); why != "" {
		return fmt.Errorf("%s is %s", at.Addr(), why)
	}
	return nil
}

func within(network string, ip netip.Addr) bool { return netip.MustParsePrefix(network).Contains(ip) }

// embedded is the IPv4 address that translators on the way make of an IPv6 one; it is not valid
// where they make none.
func embedded(ip netip.Addr) netip.Addr {
	if !ip.Is6() || ip.Is4In6() || ip.IsUnspecified() || ip.IsLoopback() {
		return netip.Addr{}
	}
	b := ip.As16()
	const fromSixToFour = 2
	switch {
	case within("2002::/16", ip): // 6to4
		return netip.AddrFrom4([4]byte(b[fromSixToFour:]))
	case within("64:ff9b::/96", ip), within("64:ff9b:1::/48", ip), // NAT64
		within("::/96", ip), within("::ffff:0:0:0/96", ip): // IPv4-compatible, SIIT
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.Addr{}
}

// usualForm is the form that an address should have been written in, "" for what is written so, and
// for names. Resolvers (inet_aton) take 2852039166, 0xA9.254.43518 and 0251.0376.0251.0376 for
// 169.254.169.254, and some take full-width digits for digits.
func usualForm(host string) string {
	plain := strings.Trim(strings.TrimSuffix(strings.Map(halfWidth, host), "."), "[]")
	ip, err := netip.ParseAddr(plain)
	if err != nil {
		var looks bool
		if ip, looks = loose(strings.ToLower(plain)); !looks {
			return ""
		}
	}
	if !ip.IsValid() {
		return "four numbers from 0 to 255, with dots between them"
	}
	ip = ip.Unmap()
	if !ip.IsLinkLocalUnicast() {
		ip = ip.WithZone("")
	}
	if usual := ip.String(); usual != host {
		return usual
	}
	return ""
}

// halfWidth makes ASCII of the letters that look like it and are as wide as Chinese ones.
func halfWidth(c rune) rune {
	switch {
	case c >= '！' && c <= '～':
		return c - '！' + '!'
	case c == '。', c == '｡':
		return '.'
	}
	return c
}

// loose reads an IPv4 address as inet_aton does: one to four numbers, decimal, octal (0…) or
// hexadecimal (0x…), of which the last fills the rest. It tells whether the host looks like one;
// the address is not valid where there are more numbers, or too large ones.
func loose(host string) (ip netip.Addr, looks bool) {
	const most = 4
	texts := strings.Split(host, ".")
	var numbers []uint64
	for _, text := range texts {
		n, ok := number(text)
		if !ok {
			return netip.Addr{}, false
		}
		numbers = append(numbers, n)
	}
	if len(numbers) > most {
		return netip.Addr{}, true
	}
	value := uint64(0)
	for i, n := range numbers {
		bits := 8
		if i == len(numbers)-1 {
			bits = 8 * (most - i)
		}
		if n >= 1<<bits {
			return netip.Addr{}, true
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// number reads one of them. What is too large for any is the largest there is.
func number(text string) (n uint64, ok bool) {
	digits, base := text, 10
	if rest, hex := strings.CutPrefix(text, "0x"); hex {
		digits, base = "0"+rest, 16 // 0x alone is 0 to some
	} else if strings.HasPrefix(text, "0") && !strings.ContainsAny(text, "89") {
		base = 8
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

// hideVia marks the targets that are on the list.
func hideVia(list []string, upstreams []*Upstream) {
	entries, _ := parseUpstreamAddresses(list)
	for _, u := range upstreams {
		for _, t := range u.Targets {
			name, ip := nameAndAddress(t.Host)
			t.HideVia = slices.ContainsFunc(entries, func(e upstreamAddress) bool { return e.matches(name, ip, t.Port) })
		}
	}
}

// parseUpstreamAddresses reads a list; wrong says of each entry why it is none, "" when it is one.
func parseUpstreamAddresses(list []string) (entries []upstreamAddress, wrong []string) {
	for _, text := range list {
		e, reason := parseUpstreamAddress(text)
		entries, wrong = append(entries, e), append(wrong, reason)
	}
	return entries, wrong
}

func parseUpstreamAddress(text string) (upstreamAddress, string) {
	const want = "is not an address (169.254.169.254, fe80::1), a network (169.254.0.0/16) or a name (localhost), or one with a port (localhost:41002, [fe80::1]:80)"
	if network, err := netip.ParsePrefix(text); err == nil {
		if text != network.Masked().String() {
			return upstreamAddress{}, "want the network " + network.Masked().String()
		}
		return upstreamAddress{network: network}, ""
	}
	host, port := text, uint64(0)
	if _, err := netip.ParseAddr(text); err != nil && strings.Contains(text, ":") {
		var digits string
		if host, digits, err = net.SplitHostPort(text); err != nil {
			return upstreamAddress{}, want
		}
		if port, err = strconv.ParseUint(digits, 10, 16); err != nil || port == 0 {
			return upstreamAddress{}, "has no port from 1 to 65535 after the colon: it " + want
		}
	}
	if usual := usualForm(host); usual != "" {
		return upstreamAddress{}, "is an unusual way to write an address: write " + usual
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.WithZone("")
		return upstreamAddress{network: netip.PrefixFrom(ip, ip.BitLen()), port: uint32(port)}, ""
	}
	if !isName(host) {
		return upstreamAddress{}, want
	}
	return upstreamAddress{name: strings.ToLower(strings.TrimSuffix(host, ".")), port: uint32(port)}, ""
}
