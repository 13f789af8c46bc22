package match

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// randomJSON writes a value, with escapes where none are needed.
func randomJSON(r *rand.Rand, b *strings.Builder, depth int) {
	space := func() { b.WriteString([]string{"", "", " ", "\n\t"}[r.IntN(4)]) }
	space()
	switch n := r.IntN(9); {
	case n < 2 && depth > 0:
		b.WriteByte('{')
		for i := range r.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			randomString(r, b)
			space()
			b.WriteByte(':')
			randomJSON(r, b, depth-1)
		}
		space()
		b.WriteByte('}')
	case n < 4 && depth > 0:
		b.WriteByte('[')
		for i := range r.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			randomJSON(r, b, depth-1)
		}
		space()
		b.WriteByte(']')
	case n == 5:
		b.WriteString([]string{"4111111111111111", "-1.5e10", "0", "1234567890123", "12"}[r.IntN(5)])
	case n == 6:
		b.WriteString([]string{"true", "false", "null"}[r.IntN(3)])
	default:
		randomString(r, b)
	}
	space()
}

func randomString(r *rand.Rand, b *strings.Builder) {
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(randomText(r, 8), "?") {
		switch n := r.IntN(12); {
		case n == 0 && c < 0x10000:
			b.WriteString(`\u` + strconv.FormatInt(0x10000+int64(c), 16)[1:])
		case n == 1 && c >= 0x10000:
			c -= 0x10000
			b.WriteString(`\u` + strconv.FormatInt(0xd800+int64(c>>10), 16) + `\u` + strings.ToUpper(strconv.FormatInt(0xdc00+int64(c&0x3ff), 16)))
		case n == 2:
			b.WriteString(`\ud83d`) // half a character
			fallthrough
		default:
			b.WriteString(Quote(string(c)))
		}
	}
	b.WriteByte('"')
}

// inJSON finds with encoding/json and Find: what each pattern matched, in order.
func inJSON(t *testing.T, s *Set, text string) (matched []string) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return matched
		}
		var decoded string
		number := false
		switch v := token.(type) {
		case string:
			decoded = v
		case json.Number:
			decoded, number = v.String(), true
		}
		found, err := s.Find(decoded)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for _, f := range found {
			if !number {
				matched = append(matched, strconv.Itoa(f.Pattern)+decoded[f.From:f.To])
			} else if !seen[f.Pattern] {
				matched = append(matched, strconv.Itoa(f.Pattern)+decoded)
			}
			seen[f.Pattern] = true
		}
	}
}

func TestFindJSON(t *testing.T) {
	patterns := testPatterns()
	s := mustCompile(t, patterns)
	hits := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 5))
		var b strings.Builder
		randomJSON(r, &b, 4)
		text := b.String()
		if !json.Valid([]byte(text)) {
			t.Fatalf("seed %d: not JSON: %s", seed, text)
		}
		found, err := s.FindJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			raw := text[f.From:f.To]
			if !f.Number {
				var decoded string
				if err := json.Unmarshal([]byte(`"`+raw+`"`), &decoded); err != nil {
					t.Fatalf("seed %d: %q is not within a string of %s", seed, raw, text)
				}
				raw = decoded
			}
			got = append(got, strconv.Itoa(f.Pattern)+raw)
		}
		want := inJSON(t, s, text)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, %s:\n got %q\nwant %q", seed, text, got, want)
		}
		hits += len(got)
	}
	if hits < 1000 {
		t.Errorf("only %d matches", hits)
	}
}

func TestStreamJSONIsFindJSON(t *testing.T) {
	all := testPatterns()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 6))
		s, patterns := some(t, r, all)
		var b strings.Builder
		randomJSON(r, &b, 4)
		text := b.String()
		switch r.IntN(4) { // what is not JSON
		case 0:
			text = text[:r.IntN(len(text)+1)]
		case 1:
			i := r.IntN(len(text) + 1)
			text = text[:i] + randomText(r, 4) + text[i:]
		}
		checkStreamJSON(t, s, patterns, r, text, seed)
	}
}

func checkStreamJSON(t testing.TB, s *Set, patterns []Pattern, r *rand.Rand, text string, seed uint64) {
	t.Helper()
	want, err := s.FindJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	cut := pieces(r, text)
	got, redacted, slid := streamed(t, s.StreamJSON(1<<20), cut, 1<<20)
	if !slices.Equal(got, want) || slid {
		t.Fatalf("seed %d, %q: got %v, want %v of %v", seed, cut, got, want, patterns)
	}
	if w := redact(text, want); redacted != w {
		t.Fatalf("seed %d, %q: got %q, want %q", seed, cut, redacted, w)
	}
	most := 16 + r.IntN(100)
	streamed(t, s.StreamJSON(most), cut, most)
}

func TestFindJSONSpans(t *testing.T) {
	s := mustCompile(t, []Pattern{{Expr: `\b\w+@\w+\.com\b`}, {Expr: `\d{13,16}`}, {Expr: `^a$`}})
	for _, c := range []struct {
		name, text string
		want       []Found
	}{
		{"a value", `{"to":"a@b.com"}`, []Found{{From: 7, To: 14}}},
		{"a name", `{"a@b.com":1}`, []Found{{From: 2, To: 9, Name: true}}},
		{"escapes count as they are written", `["\n\u0061@b.com"]`, []Found{{From: 4, To: 16}}},
		{"all of a number", `[-4111111111111111.5]`, []Found{{Pattern: 1, From: 1, To: 20, Number: true}}},
		{"a number alone", `4111111111111111`, []Found{{Pattern: 1, From: 0, To: 16, Number: true}}},
		{"each value begins and ends", `["a","a",{"a":"ba"}]`, []Found{{Pattern: 2, From: 2, To: 3}, {Pattern: 2, From: 6, To: 7}, {Pattern: 2, From: 11, To: 12, Name: true}}},
		{"not over the end of a value", `["a@","b.com"]`, nil},
		{"not JSON", `send a@b.com, "a@b.com"`, []Found{{From: 5, To: 12}, {From: 15, To: 22}}},
		{"not JSON from here on", `{"x":"a@b.com"] a@b.com`, []Found{{From: 6, To: 13}, {From: 16, To: 23}}},
		{"after the end", `{} a@b.com`, []Found{{From: 3, To: 10}}},
		{"a wrong escape", `["a@b.com\x a@b.com`, []Found{{From: 2, To: 9}, {From: 12, To: 19}}},
		{"a cut escape", `["a@b.com\u00`, []Found{{From: 2, To: 9}}},
		{"a cut value", `{"to":"a@b.com`, []Found{{From: 7, To: 14}}},
		{"a wrong word", `[trua@b.com]`, []Found{{From: 4, To: 11}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.FindJSON(c.text)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
			for n := range len(c.text) {
				pieces := []string{c.text[:n], c.text[n:]}
				if got, _, _ := streamed(t, s.StreamJSON(1000), pieces, 1000); !slices.Equal(got, c.want) {
					t.Errorf("in pieces %q: got %v, want %v", pieces, got, c.want)
				}
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "[EMAIL]", "a \"b\" \\ <é>\n\x00", "\"\n"} {
		var back string
		if err := json.Unmarshal([]byte(`"`+Quote(text)+`"`), &back); err != nil || back != text {
			t.Errorf("%q: got %q, %v", text, back, err)
		}
	}
}

// TestNumberSlides: a number that is longer than the window is given up in pieces, each once.
func TestNumberSlides(t *testing.T) {
	s := mustCompile(t, []Pattern{{Expr: `[0-9]{8,}`}})
	for cut := 1; cut < 12; cut++ {
		var parts []string
		for text := strings.Repeat("0", 27); text != ""; text = text[min(cut, len(text)):] {
			parts = append(parts, text[:min(cut, len(text))])
		}
		if _, redacted, slid := streamed(t, s.StreamJSON(16), parts, 16); !slid || strings.Contains(redacted, "00000000") {
			t.Errorf("in pieces of %d: %q, slid %v", cut, redacted, slid)
		}
	}
}
