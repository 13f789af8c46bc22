package schema

import (
	"net/url"
	"strings"
)

// Pattern is a path whose segments may hold names in braces: {model} stands for one character or
// more, {method=ask} for "ask" and nothing else. A segment has at most one name of the first kind:
// "/models/{model}:{method=ask}".
type Pattern string

// Params are what the names of a pattern stand for in a path, without percent signs.
type Params map[string]string

// Match tells whether the path is one of the pattern's, and what the names stand for in it.
func (p Pattern) Match(path string) (Params, bool) {
	if !strings.Contains(string(p), "{") {
		return nil, path == string(p)
	}
	wanted, given := strings.Split(string(p), "/"), strings.Split(path, "/")
	if len(wanted) != len(given) {
		return nil, false
	}
	params := Params{}
	for i, segment := range wanted {
		before, name, after := parameter(segment, params)
		value, begins := strings.CutPrefix(given[i], before)
		value, ends := strings.CutSuffix(value, after)
		if !begins || !ends || (value == "") != (name == "") {
			return nil, false
		}
		if name == "" {
			continue
		}
		plain, err := url.PathUnescape(value)
		if err != nil {
			return nil, false
		}
		params[name] = plain
	}
	return params, true
}

// Path is the path in which the names stand for what params say. It fails where they do not say all
// of it, or say what the pattern has otherwise, or the path would lead somewhere else.
func (p Pattern) Path(params Params) (string, bool) {
	if !strings.Contains(string(p), "{") {
		return string(p), true
	}
	segments := strings.Split(string(p), "/")
	for i, segment := range segments {
		fixed := Params{}
		before, name, after := parameter(segment, fixed)
		for n, text := range fixed {
			if value, said := params[n]; said && value != text {
				return "", false
			}
		}
		if name == "" {
			segments[i] = before
			continue
		}
		value := params[name]
		if value == "" || climbs(value) {
			return "", false
		}
		segments[i] = before + url.PathEscape(value) + after
	}
	return strings.Join(segments, "/"), true
}

// climbs tells whether a value has dots between slashes in it, which a server may take for a way
// up, escaped or not.
func climbs(value string) bool {
	for part := range strings.SplitSeq(value, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// String is the pattern as people read it, with the names that stand for anything.
func (p Pattern) String() string {
	segments := strings.Split(string(p), "/")
	for i, segment := range segments {
		before, name, after := parameter(segment, Params{})
		if name != "" {
			name = "{" + name + "}"
		}
		segments[i] = before + name + after
	}
	return strings.Join(segments, "/")
}

// parameter takes a segment apart: what it has before and after the name that stands for anything,
// "" for none. What other names stand for goes into fixed.
func parameter(segment string, fixed Params) (before, name, after string) {
	for {
		text, rest, open := strings.Cut(segment, "{")
		if name == "" {
			before += text
		} else {
			after += text
		}
		if !open {
			return before, name, after
		}
		var inner string
		inner, segment, _ = strings.Cut(rest, "}")
		known, value, constant := strings.Cut(inner, "=")
		switch {
		case !constant:
			name = inner
			continue
		case name == "":
			before += value
		default:
			after += value
		}
		fixed[known] = value
	}
}
