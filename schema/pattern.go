package schema

import "strings"

// Pattern is a path whose segments may hold a name in braces, which stands for one character or
// more: "/models/{model}:generateContent". There is at most one in a segment.
type Pattern string

// Params are what the names of a pattern stand for in a path, as the path has it.
type Params map[string]string

// Match tells whether the path is one of the pattern's, and what the names stand for in it.
func (p Pattern) Match(path string) (Params, bool) {
	if p.fixed() {
		return nil, path == string(p)
	}
	wanted, given := strings.Split(string(p), "/"), strings.Split(path, "/")
	if len(wanted) != len(given) {
		return nil, false
	}
	params := Params{}
	for i, segment := range wanted {
		before, name, after, variable := parameter(segment)
		if !variable {
			if segment != given[i] {
				return nil, false
			}
			continue
		}
		value, begins := strings.CutPrefix(given[i], before)
		value, ends := strings.CutSuffix(value, after)
		if !begins || !ends || value == "" {
			return nil, false
		}
		params[name] = value
	}
	return params, true
}

// fixed tells whether the pattern is one path.
func (p Pattern) fixed() bool { return !strings.Contains(string(p), "{") }

// parameter takes a segment apart.
func parameter(segment string) (before, name, after string, variable bool) {
	before, rest, open := strings.Cut(segment, "{")
	name, after, shut := strings.Cut(rest, "}")
	return before, name, after, open && shut
}
