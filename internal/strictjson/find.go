package strictjson

import (
	"bytes"
	"iter"
)

// Strings finds a string that stands anywhere in JSON, as a name or a value, without reading the
// rest, and yields what comes after each. quoted is how it is written, with its quotes; one that is
// written with escapes is not found. A longer string that ends in an escaped quote and these very
// bytes is taken for it.
func Strings(raw []byte, quoted string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			i := bytes.Index(raw, []byte(quoted))
			if i < 0 {
				return
			}
			raw = raw[i+len(quoted):]
			if !yield(raw) {
				return
			}
		}
	}
}

// ValueAfter is the string that is the value of the member whose name rest comes after, with its
// quotes, as it is written; nil where rest comes after no name, or the value is no string.
func ValueAfter(rest []byte) []byte {
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if len(rest) == 0 || rest[0] != ':' {
		return nil
	}
	rest = bytes.TrimLeft(rest[1:], " \t\r\n")
	if len(rest) == 0 || rest[0] != '"' {
		return nil
	}
	return rest[:StringEnd(rest, 0)+1]
}

// StringEnd returns the place of the quote that ends the string that begins at i; that of the last
// byte where none does.
func StringEnd(raw []byte, i int) int { return min(stringEnd(raw, i), len(raw)-1) }
