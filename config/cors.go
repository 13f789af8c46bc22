package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	millracev1 "millrace/proto/millrace/v1"
)

const anyOrigin = "*"

func (v *validation) cors(c *millracev1.Cors) {
	if c != nil && len(c.AllowedOrigins) == 0 {
		v.errorf("gateway.cors.allowed_origins", `needed: which pages may use the gateway, such as https://chat.example, or "*" for any page`)
	}
	for i, o := range c.GetAllowedOrigins() {
		if reason := badOrigin(o); reason != "" {
			v.errorf(fmt.Sprintf("gateway.cors.allowed_origins[%d]", i), "%s %s", quoted(o), reason)
		}
	}
}

// openToPages warns of what makes every page a client of the gateway's.
func (v *validation) openToPages(doc *millracev1.Document) {
	if slices.Contains(doc.Gateway.GetCors().GetAllowedOrigins(), anyOrigin) && !asksKey(doc) {
		v.errorf("gateway.cors.allowed_origins", "has * and the gateway asks for no key: any web page that is opened where the gateway "+
			"can be reached may use the providers' keys; name the origins of your pages, or have clients bring a key (keys, or auth: required)")
	}
}

var originScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// badOrigin says why no browser would send this origin, and what to write instead; "" when one
// would. https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
func badOrigin(o string) string {
	scheme, rest, ok := strings.Cut(o, "://")
	switch {
	case o == anyOrigin, o == "file://":
		return ""
	case o == "null":
		return `is the origin that any page can give itself: write "*" if every page is meant`
	case !ok || !originScheme.MatchString(scheme):
		return "has no scheme: want scheme://host or scheme://host:port, such as https://chat.example"
	case hasControl(o) || strings.ContainsRune(o, ' '):
		return "holds a character that no origin has"
	case strings.Contains(rest, "@"):
		return "has a user: an origin is scheme://host or scheme://host:port"
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return "has a path: an origin ends with its host or port: write " + scheme + "://" + rest[:i]
	}
	if lower := strings.ToLower(o); lower != o {
		return "has capitals: browsers write " + lower
	}
	host, port := splitPort(rest)
	if port == defaultPorts[scheme] && port != "" {
		return "has the port that browsers leave out: write " + scheme + "://" + host
	}
	if n, err := strconv.Atoi(port); port != "" && port != anyOrigin && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port) {
		return "has no port: want 1 to 65535, or * for any"
	}
	if strings.Count(o, "*") > 1 {
		return "has more than one *: want one, in place of the port or of the host's first label"
	}
	return badOriginHost(scheme, host)
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// splitPort cuts the host from its port. The port is "" where nothing stands for one, ":" where
// nothing stands behind its colon.
func splitPort(s string) (host, port string) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || strings.HasSuffix(s, "]") {
		return s, ""
	}
	if colon == len(s)-1 {
		return s[:colon], ":"
	}
	return s[:colon], s[colon+1:]
}

func badOriginHost(scheme, host string) string {
	if address, ok := strings.CutPrefix(host, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(address, "]")); err != nil || !strings.HasSuffix(host, "]") || "["+a.String()+"]" != host {
			return "has no IPv6 address as browsers write it, such as http://[::1]:8080"
		}
		return ""
	}
	name, wild := strings.CutPrefix(host, "*")
	switch {
	case wild && name == "" && defaultPorts[scheme] != "":
		return `has a * for the whole host: write "*" if every page is meant, or the domain behind it, as in https://*.example.com`
	case wild && name == "": // an extension's or a web view's, whose host is an id
		return ""
	case wild && !strings.HasPrefix(name, "."), strings.Contains(name, "*"):
		return "has a * within the host: want it in place of the whole first label, as in https://*.example.com"
	}
	if len(host) > maxHost || !areLabels(strings.TrimPrefix(name, ".")) {
		return "has no host: want labels of letters, digits and hyphens with dots between them, other letters as xn--…"
	}
	return ""
}
