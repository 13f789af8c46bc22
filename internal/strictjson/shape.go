package strictjson

import (
	"bytes"
	"fmt"
)

// Bounds are the most that a body may have of each; bytes are bounded by others.
type Bounds struct {
	Members int // of the top-level object
	Items   int // of any one list
	Nested  int // objects and lists in all
	Depth   int // of objects and lists in one another
}

// Check tells which bound a body goes beyond, nil for none. Scan must have accepted the body. It
// allocates two small slices and jumps over strings, so it costs little beside Scan.
func (b Bounds) Check(body []byte) error {
	depth, nested := 0, 0
	items := make([]int, b.Depth+1) // commas seen, of the list or object that is open at this depth
	isList := make([]bool, b.Depth+1)
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = stringEnd(body, i)
		case '{', '[':
			if depth++; depth > b.Depth {
				return fmt.Errorf("more than %d levels of objects and lists, at byte %d", b.Depth, i)
			}
			if nested++; nested > b.Nested {
				return fmt.Errorf("more than %d objects and lists, at byte %d", b.Nested, i)
			}
			items[depth], isList[depth] = 0, body[i] == '['
		case '}', ']':
			depth--
		case ',':
			items[depth]++
			switch n := items[depth] + 1; {
			case isList[depth] && n > b.Items:
				return fmt.Errorf("a list of more than %d items, at byte %d", b.Items, i)
			case depth == 1 && !isList[depth] && n > b.Members:
				return fmt.Errorf("more than %d members, at byte %d", b.Members, i)
			}
		}
	}
	return nil
}

// stringEnd returns the place of the quote that ends the string that begins at i: the next one that
// an even number of backslashes precedes.
func stringEnd(body []byte, i int) int {
	for begin := i + 1; ; {
		n := bytes.IndexByte(body[i+1:], '"')
		if n < 0 {
			return len(body)
		}
		i += 1 + n
		escapes := 0
		for i-1-escapes >= begin && body[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}
