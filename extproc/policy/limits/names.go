// Package limits is what the kinds model-access and request-limits are made of: which models and
// tools a list of names allows, how large a request is, and what the model may write at most. All
// of it is plain functions of a request in its client's own bytes.
package limits

import (
	"fmt"
	"path"
	"strings"
)

// Names is which names are allowed: those that an allow list has, or all, without those that a deny
// list has. It is never changed; its methods may be called at the same time. The zero value allows
// every name.
//
// A list has patterns: * is any text, also none, ? is one character, [a-c] is one of a few
// (path.Match), and a backslash before one of these is itself. Other than in paths, * and ? stand
// for a slash too: names of models have slashes in them, and "*-preview" is to be all previews.
// Whether letters are large or small does not count, as it does not for every host.
type Names struct{ allow, deny []string }

// NewNames compiles the two lists; the error says which entry of which one is wrong. An empty allow
// list allows every name: to allow none, deny "*".
func NewNames(allow, deny []string) (*Names, error) {
	n := &Names{}
	for _, l := range []struct {
		what string
		from []string
		to   *[]string
	}{{"allow", allow, &n.allow}, {"deny", deny, &n.deny}} {
		for i, pattern := range l.from {
			if pattern == "" {
				return nil, fmt.Errorf("%s[%d]: the pattern is empty, which no name is", l.what, i)
			}
			plain := fold(pattern)
			if _, err := path.Match(plain, ""); err != nil {
				return nil, fmt.Errorf("%s[%d]: %q is no pattern: a bracket is open, or a backslash ends it", l.what, i, pattern)
			}
			*l.to = append(*l.to, plain)
		}
	}
	return n, nil
}

// Allows tells whether a name is allowed. What both lists have is not.
func (n *Names) Allows(name string) bool {
	name = fold(name)
	return (len(n.allow) == 0 || has(n.allow, name)) && !has(n.deny, name)
}

// fold makes what counts of a name or a pattern: no slashes, which path.Match treats apart.
func fold(name string) string { return strings.ReplaceAll(strings.ToLower(name), "/", "\x00") }

func has(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}
