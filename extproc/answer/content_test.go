package answer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"millrace/internal/golden"
)

// TestForm: how a body begins says what it is.
func TestForm(t *testing.T) {
	for start, want := range map[string]form{
		"": formUnknown, "\n": formUnknown, " \r\n\t": formUnknown, "d": formUnknown, "\n\ndata": formUnknown, "\xef": formUnknown, "\xef\xbb\xbf": formUnknown,
		"data:": formStream, "data: {": formStream, "\n\r\nevent: x": formStream, ": OPENROUTER PROCESSING": formStream, "id:1": formStream,
		"retry: 3": formStream, "\xef\xbb\xbfdata:x": formStream,
		"{": formWhole, " \n [": formWhole, "\xef\xbb\xbf{": formWhole, "<html>": formWhole, "upstream connect error": formWhole, "date": formWhole,
		" data: x": formWhole, "dat\n": formWhole, "\x00": formWhole,
	} {
		if got := formOf([]byte(start)); got != want {
			t.Errorf("%q: form %d, want %d", start, got, want)
		}
	}
}

// read pushes chunks through a content, and returns its form and all that it unpacked to.
func (c *content) read(chunks [][]byte) string {
	defer c.close()
	var out strings.Builder
	take := func(b []byte) error {
		if c.form == formUnknown {
			return errors.New("bytes of a form that is not known")
		}
		out.Write(b)
		return nil
	}
	for _, chunk := range chunks {
		if err := c.push(chunk, take); err != nil {
			return fmt.Sprintf("%d %q %v", c.form, out.String(), err)
		}
	}
	err := c.end(take)
	return fmt.Sprintf("%d %q %v", c.form, out.String(), err)
}

// TestContent: whatever the header says of the encoding, and however the bytes are cut, the body is
// what it unpacks to.
func TestContent(t *testing.T) {
	for _, c := range []struct {
		name, encoding string
		labelled       bool
		body           []byte
		want           string
	}{
		{"a stream", "", false, []byte("data: a\n\n"), `2 "data: a\n\n" <nil>`},
		{"with a byte order mark", "", false, []byte("\xef\xbb\xbfdata: a\n\n"), `2 "data: a\n\n" <nil>`},
		{"identity", "Identity ", true, []byte("data: a\n\n"), `2 "data: a\n\n" <nil>`},
		{"JSON that is called a stream", "", true, []byte(`{"a":1}`), `1 "{\"a\":1}" <nil>`},
		{"blank lines that are called a stream", "", true, []byte("\n\n"), `2 "\n\n" <nil>`},
		{"a text that is called a stream", "", true, []byte("oops"), `1 "oops" <nil>`},
		{"one byte", "", false, []byte("x"), `1 "x" <nil>`},
		{"nothing", "gzip", false, nil, `1 "" <nil>`},
		{"gzip", "gzip", false, golden.Packed(t, "gzip", "data: a\n", "\n", "data: b\n\n"), `2 "data: a\n\ndata: b\n\n" <nil>`},
		{"gzip that nobody calls so", "", false, golden.Packed(t, "gzip", `{"a":`, `1}`), `1 "{\"a\":1}" <nil>`},
		{"gzip with a byte order mark in it", "x-gzip", false, golden.Packed(t, "gzip", "\xef\xbb\xbf{}"), `1 "{}" <nil>`},
		{"deflate", "deflate", true, golden.Packed(t, "deflate", "data: a\n\n"), `2 "data: a\n\n" <nil>`},
		{"called gzip, and is not", "gzip", false, []byte(`{"a":1}`), `1 "{\"a\":1}" <nil>`},
		{"called deflate, and is not", "deflate", false, []byte(`{"a":1}`), `1 "{\"a\":1}" <nil>`},
		{"gzip, each event by itself", "gzip", false, append(golden.Packed(t, "gzip", "data: a\n\n"), golden.Packed(t, "gzip", "data: b\n\n")...), `2 "data: a\n\ndata: b\n\n" <nil>`},
		{"what is not gzip behind it", "gzip", false, append(golden.Packed(t, "gzip", "{}"), "not what it should be"...), `1 "{}" cannot be unpacked: gzip: invalid header`},
		{"brotli", "br", false, []byte("\x0b\x02\x80{}\x03"), `0 "" cannot be unpacked: it is in br, which was not asked for`},
		{"two encodings", "gzip, br", false, []byte("\x0b\x02\x80{}\x03"), `0 "" cannot be unpacked: it is in gzip, br, which was not asked for`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := func(chunks [][]byte) string {
				return (&content{encoding: newContent("", c.encoding, "").encoding, labelled: c.labelled}).read(chunks)
			}
			if got := f([][]byte{c.body}); got != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			golden.EveryCut(t, c.body, f)
		})
	}
}

// TestContentTorn: a packed body that breaks off, wherever, is an error, and what had come of it is
// not lost.
func TestContentTorn(t *testing.T) {
	whole := golden.Packed(t, "gzip", "data: a\n\n", "data: b\n\n")
	for i := len(gzipMagic); i < len(whole); i++ {
		got := (&content{encoding: "gzip"}).read([][]byte{whole[:i]})
		if !strings.Contains(got, "cannot be unpacked: unexpected EOF") || i > 40 && !strings.Contains(got, `data: a\n\n`) {
			t.Errorf("cut at %d of %d: %s", i, len(whole), got)
		}
	}
}

// TestContentComesAtOnce: an event that has come is handed on before the next one comes, packed or
// not.
func TestContentComesAtOnce(t *testing.T) {
	for _, encoding := range []string{"", "gzip", "deflate"} {
		c := content{encoding: encoding}
		before := 0
		var pieces []string
		for i := range 20 {
			pieces = append(pieces, fmt.Sprintf("data: event %d\n\n", i))
			all := golden.Packed(t, encoding, pieces...)
			if encoding != "" { // without what ends it
				more, n := golden.Packed(t, encoding, append(pieces, "next")...), 0
				for n < len(all) && n < len(more) && all[n] == more[n] {
					n++
				}
				all = all[:n]
			}
			var got strings.Builder
			if err := c.push(all[before:], func(b []byte) error { got.Write(b); return nil }); err != nil {
				t.Fatal(err)
			}
			before = len(all)
			if got.String() != pieces[i] {
				t.Fatalf("%q: got %q, want %q", encoding, got.String(), pieces[i])
			}
		}
		c.close()
	}
}

// TestContentBomb: a body that unpacks to far more than it is is handed on in pieces, and no longer
// than they are taken.
func TestContentBomb(t *testing.T) {
	bomb := golden.Packed(t, "gzip", strings.Repeat("{", 100<<20))
	enough := errors.New("enough")
	taken, largest := 0, 0
	c := content{encoding: "gzip"}
	err := c.push(bomb, func(b []byte) error {
		taken, largest = taken+len(b), max(largest, len(b))
		if taken > 1<<20 {
			return enough
		}
		return nil
	})
	c.close()
	if !errors.Is(err, enough) || largest > pieceBytes || taken > 1<<20+pieceBytes {
		t.Errorf("%v after %d bytes of %d, the largest piece has %d", err, taken, 100<<20, largest)
	}
}

func FuzzContent(f *testing.F) {
	f.Add([]byte("data: a\n\n"), "gzip", false)
	f.Add(golden.Packed(f, "gzip", "data: a\n\n", "{}"), "", true)
	f.Add(golden.Packed(f, "deflate", "{}"), "deflate", false)
	f.Fuzz(func(t *testing.T, body []byte, encoding string, labelled bool) {
		read := func(size int) string {
			var chunks [][]byte
			for rest := bytes.Clone(body); len(rest) > 0; {
				n := min(size, len(rest))
				chunks, rest = append(chunks, rest[:n]), rest[n:]
			}
			return (&content{encoding: encoding, labelled: labelled}).read(chunks)
		}
		if whole, cut := read(len(body)+1), read(3); whole != cut {
			t.Errorf("whole %s\ncut   %s", whole, cut)
		}
	})
}
