package sse

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type got struct{ Name, Data string }

// feed pushes the chunks and returns the events that carry data, and all bytes.
func feed(t *testing.T, chunks ...string) ([]got, string) {
	t.Helper()
	p := Parser{MaxBytes: 1 << 16}
	var events []got
	var raw bytes.Buffer
	yield := func(e Event) {
		raw.Write(e.Raw)
		if e.Data != nil || e.Name != nil {
			events = append(events, got{string(e.Name), string(e.Data)})
		}
	}
	for _, c := range chunks {
		if err := p.Push([]byte(c), yield); err != nil {
			t.Fatal(err)
		}
	}
	p.Close(yield)
	return events, raw.String()
}

var streams = map[string]struct {
	in   string
	want []got
}{
	"LF":                        {"data: a\n\ndata: b\n\n", []got{{"", "a"}, {"", "b"}}},
	"CRLF":                      {"event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []got{{"x", "a"}, {"", "b"}}},
	"CR":                        {"data: a\r\rdata: b\r\r", []got{{"", "a"}, {"", "b"}}},
	"mixed line ends":           {"data: a\r\n\ndata: b\r\r\ndata: c\n\r\n", []got{{"", "a"}, {"", "b"}, {"", "c"}}},
	"no blank after colon":      {"data:a\n\n", []got{{"", "a"}}},
	"only one blank is removed": {"data:  a\n\n", []got{{"", " a"}}},
	"many data lines":           {"data: a\ndata: b\ndata\ndata: c\n\n", []got{{"", "a\nb\n\nc"}}},
	"empty data":                {"data:\n\n", []got{{"", ""}}},
	"comments and ids":          {": ping\n\nid: 7\nretry: 3\ndata: a\n\n", []got{{"", "a"}}},
	"BOM":                       {"\xef\xbb\xbfdata: a\n\n", []got{{"", "a"}}},
	"unterminated last event":   {"data: a\n\ndata: [DONE]", []got{{"", "a"}, {"", "[DONE]"}}},
	"unterminated by one LF":    {"data: a\n", []got{{"", "a"}}},
	"other line separators":     {"data: a\u2028b\u0085c\n\n", []got{{"", "a\u2028b\u0085c"}}},
}

func TestEveryCut(t *testing.T) {
	for name, c := range streams {
		t.Run(name, func(t *testing.T) {
			check := func(how string, chunks ...string) {
				t.Helper()
				events, raw := feed(t, chunks...)
				if diff := cmp.Diff(c.want, events); diff != "" {
					t.Fatalf("%s: events (-want +got):\n%s", how, diff)
				}
				if raw != c.in {
					t.Fatalf("%s: bytes: got %q, want %q", how, raw, c.in)
				}
			}
			check("whole", c.in)
			check("byte by byte", strings.Split(c.in, "")...)
			for i := range c.in {
				check(fmt.Sprintf("cut at %d", i), c.in[:i], c.in[i:])
			}
		})
	}
}

func TestBound(t *testing.T) {
	p := Parser{MaxBytes: 100}
	if err := p.Push(bytes.Repeat([]byte("data: short\n\n"), 100), func(Event) {}); err != nil {
		t.Fatalf("many small events in one chunk: %v", err)
	}
	err := p.Push([]byte("data: "+strings.Repeat("x", 100)), func(Event) {})
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
}

func FuzzParser(f *testing.F) {
	for _, c := range streams {
		f.Add([]byte(c.in), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		whole, raw := feed(t, string(in))
		if raw != string(in) {
			t.Fatalf("bytes: got %q, want %q", raw, in)
		}
		n := int(step)%7 + 1
		var chunks []string
		for rest := string(in); rest != ""; {
			k := min(n, len(rest))
			chunks, rest = append(chunks, rest[:k]), rest[k:]
		}
		cut, raw := feed(t, chunks...)
		if diff := cmp.Diff(whole, cut); diff != "" || raw != string(in) {
			t.Fatalf("chunks of %d: %s", n, diff)
		}
	})
}

func BenchmarkParser(b *testing.B) {
	stream := bytes.Repeat([]byte(`data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello"}}]}`+"\n\n"), 100)
	b.ReportAllocs()
	for b.Loop() {
		p := Parser{MaxBytes: 1 << 20}
		for c := stream; len(c) > 0; {
			n := min(37, len(c))
			_ = p.Push(c[:n], func(Event) {})
			c = c[n:]
		}
	}
}
