package detect

import (
	"net/netip"
	"strings"
)

// addresses: neither versions, which look alike but stand after a word or a letter, nor addresses
// that tell nothing: of this host, of any host, of a whole network, of a mask.
var addresses = []Detector{
	{Name: "ipv4", Category: IPAddress, Check: alone(ipv4),
		Expr: `([\w.]|[A-Za-z][/_-]|(?i:(?:\b(?:v|ver|version|release|rel|build|rev|firmware|section|clause|chapter)|версия|版本|バージョン)\.?[\s:="']{0,3}))??` +
			`(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(\.?\w|-[A-Za-z])?`},
	{Name: "ipv6", Category: IPAddress, Check: checkIPv6,
		Expr: `(?i)([\w.]:?)??((?:[23][0-9a-f]{3}|f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]):[0-9a-f:]{2,35}(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})?)(\w)?`},
}

func ipv4(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return false
	}
	b := a.As4()
	return b[0] != 0 && b[0] != 127 && b[0] < 240 && (b[1] != 0 || b[2] != 0 || b[3] != 0)
}

// checkIPv6: global unicast, unique local and link local (RFC 4291, 4193). A colon after it is of
// the sentence.
func checkIPv6(text string, groups []int) (from, to int, ok bool) {
	from, to, ok = alone(nil)(text, groups)
	if !ok {
		return 0, 0, false
	}
	if s := text[from:to]; strings.HasSuffix(s, ":") && (!strings.HasSuffix(s, "::") || strings.HasSuffix(s, ":::")) {
		to--
	}
	a, err := netip.ParseAddr(text[from:to])
	return from, to, err == nil && a.Is6()
}
