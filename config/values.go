package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	maxName = 128 // bytes
	maxHost = 253

	// MaxModel bounds the names of models, in bytes, a configuration's and those that clients give:
	// they stand in headers and metadata. It is more than any provider's names have; resource names
	// of clouds have under 200.
	MaxModel = 512
)

// values checks what texts are made of, where they end in a path, a header, a host or the name of
// something at Envoy: a value that cannot stand there would be found out with the first request, or
// by Envoy's refusal of everything.
func (v *validation) values(doc *millracev1.Document) {
	v.name("gateway.name", doc.GetGateway().GetName())
	if strings.Contains(doc.GetGateway().GetName(), ":") {
		v.errorf("gateway.name", "must have no colon: names at Envoy that begin with one word and a colon have a meaning of their own")
	}
	v.name("gateway.id", doc.GetGateway().GetId())
	for i, u := range doc.Upstreams {
		path := fmt.Sprintf("upstreams[%d]", i)
		v.wirePath(path+".health_checks.active.path", u.GetHealthChecks().GetActive().GetPath())
		sameHeader(v, path+".health_checks.active.headers", u.GetHealthChecks().GetActive().GetHeaders())
		for j, t := range u.Targets {
			v.targetValues(fmt.Sprintf("%s.targets[%d]", path, j), t)
		}
	}
	for i, r := range doc.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		v.name(path+".id", r.Id)
		v.wirePath(path+".path", r.Path)
		if segments := strings.Split(r.Path, "/"); slices.Contains(segments, ".") || slices.Contains(segments, "..") {
			v.errorf(path+".path", "the segments . and .. are taken out of requests' paths, so it would never match")
		}
		for k, m := range r.Models {
			v.model(fmt.Sprintf("%s.models[%d]", path, k), m)
		}
		sameHeader(v, path+".headers", r.Headers)
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			if !headerName.MatchString(name) {
				v.errorf(path+".headers", "%s is not a header name", quoted(name))
			}
			v.headerValue(path+".headers."+name, r.Headers[name])
		}
		for _, name := range slices.Sorted(maps.Keys(r.Query)) {
			if hasControl(name) || hasControl(r.Query[name]) {
				v.errorf(path+".query", "%s holds a control character, which no query can carry", quoted(name))
			}
		}
	}
}

func (v *validation) targetValues(path string, t *millracev1.Target) {
	v.wirePath(path+".path", t.Path)
	sameHeader(v, path+".headers", t.Headers)
	v.host(path+".host", t.Host)
	if base := t.GetProvider().GetBaseUrl(); base != "" {
		if u, err := url.Parse(base); err == nil { // baseURL says what is wrong otherwise
			v.wirePath(path+".provider.base_url", u.EscapedPath())
			v.host(path+".provider.base_url", u.Hostname())
			if port := u.Port(); port != "" {
				if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
					v.errorf(path+".provider.base_url", "port %s: want 1 to 65535", port)
				}
			}
		}
	}
	v.model(path+".default_model", t.DefaultModel)
	for i, m := range t.Models {
		v.model(fmt.Sprintf("%s.models[%d]", path, i), m)
	}
	for _, m := range slices.Sorted(maps.Keys(t.ModelMap)) {
		v.model(path+".model_map", m)
		v.model(path+".model_map."+m, t.ModelMap[m])
	}
}

// name checks a name or an id. People choose them freely; they are segments of the API's paths and
// parts of names at Envoy.
func (v *validation) name(path, name string) {
	switch {
	case len(name) > maxName:
		v.errorf(path, "is %d bytes long: want at most %d", len(name), maxName)
	case name == "." || name == ".." || strings.Contains(name, "/"):
		v.errorf(path, "%s cannot be a segment of a path: want no slash, and more than dots", quoted(name))
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		v.errorf(path, "%s holds a character that cannot be seen", quoted(name))
	case name != strings.TrimSpace(name):
		v.errorf(path, "%s begins or ends with a space", quoted(name))
	}
}

func (v *validation) model(path, model string) {
	switch {
	case len(model) > MaxModel:
		v.errorf(path, "is %d bytes long: want at most %d", len(model), MaxModel)
	case hasControl(model):
		v.errorf(path, "%s holds a control character", quoted(model))
	}
}

var (
	plainPath  = regexp.MustCompile(`^[!-~]*$`)
	badEscape  = regexp.MustCompile(`%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)`)
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	hostLabel  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
)

// wirePath checks a path that is sent as it is.
func (v *validation) wirePath(path, value string) {
	switch {
	case !plainPath.MatchString(value):
		v.errorf(path, "%s: want visible ASCII characters, others as %%XX of their UTF-8 bytes", quoted(value))
	case badEscape.MatchString(value):
		v.errorf(path, "%s: want two hexadecimal digits after each %%", quoted(value))
	case strings.Contains(value, "#"):
		v.errorf(path, "%s: must have no fragment, which is never sent", quoted(value))
	}
}

// host checks a host name or an address. What it leads to is another question.
func (v *validation) host(path, host string) {
	if host == "" || isIP(host) || strings.ContainsAny(host, "/:@") { // of which target says what is wrong
		return
	}
	if !isName(host) {
		v.errorf(path, "%s is no host name: want labels of letters, digits and hyphens with dots between them, other letters as xn--…", quoted(host))
	}
}

// isName tells whether a host is a name that can be looked up.
func isName(host string) bool {
	return len(host) <= maxHost && areLabels(strings.TrimSuffix(host, "."))
}

func areLabels(name string) bool {
	return !slices.ContainsFunc(strings.Split(name, "."), func(l string) bool { return !hostLabel.MatchString(l) })
}

func (v *validation) headerValue(path, value string) {
	if hasControl(value) {
		v.errorf(path, "holds a control character, which no header can carry")
	}
}

// sameHeader refuses names that differ in case alone: they are one header, and which of its values
// counts would be chance.
func sameHeader[V any](v *validation, path string, headers map[string]V) {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		if other, again := first[lower]; again {
			v.errorf(path+"."+name, "is the header %s once more: want each once", other)
		}
		first[lower] = name
	}
}

// quoted shows a value that may be anything, and not all of one that is long.
func quoted(value string) string {
	const shown = 80
	if len(value) > shown {
		return strconv.Quote(value[:shown]) + "…"
	}
	return strconv.Quote(value)
}
