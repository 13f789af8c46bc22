package llm

import (
	"fmt"
	"slices"
	"strings"
)

// Placed are the request's messages, each with the path of every part. Where the client's is not
// known it counts what is here, in the usual spelling.
func (r *Request) Placed() []Message {
	placed, own := r.Messages, true
	for i, m := range r.Messages {
		if len(m.Paths) == len(m.Parts) {
			continue
		}
		if own {
			placed, own = slices.Clone(r.Messages), false
		}
		m.Paths = nil
		calls := 0
		for j, p := range m.Parts {
			path := fmt.Sprintf("messages[%d].content[%d]", i, j)
			if _, call := p.(ToolCall); call && m.Role == Assistant {
				path = fmt.Sprintf("messages[%d].tool_calls[%d]", i, calls)
				calls++
			}
			m.Paths = append(m.Paths, path)
		}
		placed[i] = m
	}
	return placed
}

// Unnumbered is a path without the places in its lists, as losses are named: each once, however
// often it happens.
func Unnumbered(path string) string {
	var b strings.Builder
	for {
		before, after, list := strings.Cut(path, "[")
		b.WriteString(before)
		if !list {
			return b.String()
		}
		b.WriteString("[]")
		_, path, _ = strings.Cut(after, "]")
	}
}
