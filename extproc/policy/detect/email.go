package detect

import (
	"slices"
	"strings"
)

// Letters of an address: ASCII, and of the scripts that put spaces between words (Latin to
// Sinhala). Han, Kana and Hangul are not among them, for there an address has no space before it.
const mailLetters = `0-9A-Za-z\x{C0}-\x{DFF}\x{1E00}-\x{1FFF}`

// The first alternative of the domain is the ASCII one: it ends where ideographs go on. Before the
// address may not stand what makes it the user or the password of a URL.
const mailExpr = `(://(?:[^\s/@:]{0,64}:)?|[` + mailLetters + `_.])??([` + mailLetters + `_][` + mailLetters + `_.%+'-]{0,63}@` +
	`(?:[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){1,8}|[` + mailLetters + `\x{3040}-\x{D7A3}][` + mailLetters + `\x{3040}-\x{D7A3}.-]{2,80}))()`

var emails = []Detector{{Name: "email", Category: Email, Expr: mailExpr, Check: checkEmail}}

// notTopLevel are the ends of names that look like a domain: of files (logo@2x.png) and of
// systemd's units (getty@tty1.service).
var notTopLevel = []string{"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "mjs", "ts", "html", "json", "yml", "yaml", "txt", "xml", "service", "socket", "timer", "target", "mount", "slice", "scope"}

// checkEmail checks the lengths of RFC 5321 (4.5.3.1) and the form of the labels. What stands after
// the domain and cannot belong to it is cut off.
func checkEmail(text string, groups []int) (from, to int, ok bool) {
	from, to, ok = alone(nil)(text, groups)
	if !ok {
		return 0, 0, false
	}
	local, domain, _ := strings.Cut(text[from:to], "@")
	if len(local) > 64 || strings.HasSuffix(local, ".") || strings.Contains(local, "..") || local == "git" { // git@host: is how SSH names a repository
		return 0, 0, false
	}
	domain = strings.TrimRight(domain, ".-")
	labels := strings.Split(domain, ".")
	last := strings.ToLower(labels[len(labels)-1])
	if len(labels) < 2 || len(domain) > 253 || slices.ContainsFunc(labels, badLabel) || slices.Contains(notTopLevel, last) || !topLevel(last) {
		return 0, 0, false
	}
	return from, from + len(local) + len("@") + len(domain), true
}

func badLabel(label string) bool {
	return label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-'
}

// topLevel: letters, at least two bytes of them, or punycode.
func topLevel(label string) bool {
	return strings.HasPrefix(label, "xn--") || len(label) >= 2 && !strings.ContainsAny(label, "0123456789-")
}
