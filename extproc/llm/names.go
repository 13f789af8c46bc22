package llm

import (
	"crypto/sha256"
	"encoding/hex"
)

// Names lists members in the order in which they were added, each once. The zero value is an empty
// list. Adding costs the same however many there are: clients choose how many members a body has.
type Names struct {
	list  []string
	known map[string]struct{}
}

// Add puts the name at the end of the list, and tells whether it was not there yet: else nothing
// changes.
func (n *Names) Add(name string) bool {
	if _, ok := n.known[name]; ok {
		return false
	}
	if n.known == nil {
		n.known = map[string]struct{}{}
	}
	n.known[name] = struct{}{}
	n.list = append(n.list, name)
	return true
}

// List returns the names, nil for none.
func (n *Names) List() []string { return n.list }

// NameRule is what a schema takes as a name or an id: so many bytes at most, all of them legal.
type NameRule struct {
	Max   int
	Legal func(byte) bool
}

// Takes tells whether the name can be sent as it is.
func (n NameRule) Takes(name string) bool {
	if len(name) > n.Max || name == "" {
		return false
	}
	for i := range len(name) {
		if !n.Legal(name[i]) {
			return false
		}
	}
	return true
}

// Fit returns the name if the rule takes it, else another name made of it: as much of it as there
// is room for, _ for what is not legal, and a hash of the whole name. Equal names give equal names,
// in every request and every process; Max must be 16 at least.
func (n NameRule) Fit(name string) string {
	if n.Takes(name) {
		return name
	}
	const digits = 8
	kept := make([]byte, 0, n.Max)
	for i := 0; i < len(name) && i < n.Max-digits-1; i++ {
		c := name[i]
		if !n.Legal(c) {
			c = '_'
		}
		kept = append(kept, c)
	}
	return string(kept) + "_" + Digest(name)[:digits]
}

// Digest stands for an id that is too long: 64 hexadecimal digits, equal for equal ids.
func Digest(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// WordByte tells the bytes that tool names and call ids are made of in most schemas: letters,
// digits, _ and -.
func WordByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
