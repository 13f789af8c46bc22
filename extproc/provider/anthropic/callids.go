package anthropic

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"millrace/extproc/llm"
)

// callIDs gives tool calls ids that match ^[a-zA-Z0-9_-]+$ and that no other call of the
// conversation has ("`tool_use` ids must be unique"). https://docs.anthropic.com/en/api/messages
type callIDs struct {
	used  map[string]bool // given so far
	legal map[string]bool // the client's own that need no change; no other call gets them
	next  map[string]int  // by the base of ids that were changed: the number to try next
}

func newCallIDs(legal map[string]bool) callIDs {
	return callIDs{used: map[string]bool{}, legal: legal, next: map[string]int{}}
}

// fit makes the id of one call. A legal id stays as it is the first time it is used; the same
// conversation always gets the same ids, for the provider's prompt cache.
func (c *callIDs) fit(id string) string {
	base := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && llm.WordByte(byte(r)) {
			return r
		}
		return '_'
	}, id)
	if base == "" {
		base = "call"
	}
	out := base
	for n := max(c.next[base], 2); c.used[out] || out != id && c.legal[out]; n++ {
		out = fmt.Sprintf("%s_%d", base, n)
		c.next[base] = n + 1 // what is taken once stays taken
	}
	c.used[out] = true
	return out
}

func legalID(id string) bool {
	for i := range len(id) {
		if !llm.WordByte(id[i]) {
			return false
		}
	}
	return id != ""
}
