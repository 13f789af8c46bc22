package match

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/policy/detect"
)

// realPatterns are those of all detectors: 221 rules for secrets, and personal data.
func realPatterns() (patterns []Pattern) {
	for _, d := range detect.All() {
		patterns = append(patterns, Pattern{Expr: d.Expr, Check: d.Check})
	}
	return patterns
}

// prose is from this repository's documents; fresh is a part of it that no call had before.
func prose(b testing.TB) string {
	var text strings.Builder
	for _, name := range []string{"rationale", "request-path", "config-path", "glossary", "performance", "requirements"} {
		page, err := os.ReadFile("../../../docs/" + name + ".md")
		if err != nil {
			b.Fatal(err)
		}
		text.Write(page)
	}
	return text.String()
}

const secrets = ` github_token = "abcdefghij0123456789klmnop", jane.doe@example.com, 4111 1111 1111 1111. `

func BenchmarkCompile(b *testing.B) {
	patterns := realPatterns()
	b.ReportMetric(float64(len(patterns)), "patterns")
	for b.Loop() {
		if _, err := Compile(patterns); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory: what a set keeps, new and after 200 KB of prose.
func BenchmarkMemory(b *testing.B) {
	patterns, text := realPatterns(), prose(b)[:200<<10]
	inUse := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		before := inUse()
		s, err := Compile(patterns)
		if err != nil {
			b.Fatal(err)
		}
		compiled := inUse()
		if _, err := s.Find(text); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(compiled-before, "B/set")
		b.ReportMetric(inUse()-before, "B/used-set")
		runtime.KeepAlive(s)
	}
}

func BenchmarkFind(b *testing.B) {
	s := mustCompile(b, realPatterns())
	all := prose(b)
	for _, size := range []int{1, 20, 200} {
		text := all[:size<<10]
		hits := text
		for i := range size {
			hits = hits[:i<<10] + secrets + hits[i<<10:len(hits)-len(secrets)]
		}
		for name, text := range map[string]string{"clean": text, "hits": hits} {
			b.Run(fmt.Sprintf("%dKB/%s", size, name), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				found := 0
				for b.Loop() {
					f, err := s.Find(text)
					if err != nil {
						b.Fatal(err)
					}
					found = len(f)
				}
				b.ReportMetric(float64(found), "found")
			})
		}
	}
}

// BenchmarkFindFresh: 20 KB that a set sees for the first time, after the others.
func BenchmarkFindFresh(b *testing.B) {
	all := prose(b)
	const size = 20 << 10
	for _, kind := range []string{"prose", "base64", "hostile"} {
		b.Run(kind, func(b *testing.B) {
			text := func(i int) string { return all[i*size:][:size] }
			parts := len(all) / size
			if kind != "prose" {
				text, parts = func(i int) string { return noise(kind, uint64(i), size) }, 10
			}
			for b.Loop() {
				b.StopTimer()
				s := mustCompile(b, realPatterns())
				b.StartTimer()
				for i := range parts {
					b.StopTimer()
					t := text(i)
					b.StartTimer()
					if _, err := s.Find(t); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*parts), "ns/20KB")
		})
	}
}

// BenchmarkFindJSON: 20 KB of arguments with a string each 40 bytes.
func BenchmarkFindJSON(b *testing.B) {
	s := mustCompile(b, realPatterns())
	all := prose(b)
	var values []string
	for i := range 512 {
		values = append(values, `"`+Quote(all[i*40:][:40])+`"`)
	}
	text := "[" + strings.Join(values, ",") + "]"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.FindJSON(text); err != nil {
			b.Fatal(err)
		}
	}
}

func noise(kind string, seed uint64, size int) string {
	r := rand.New(rand.NewPCG(seed, 12))
	var b strings.Builder
	for b.Len() < size {
		if kind == "base64" {
			b.WriteByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[r.IntN(64)])
			continue
		}
		b.WriteString(words[r.IntN(len(words))])
		b.WriteString([]string{"github", "slack_", "stripe", "key", "=", ": ", "a1b2", "\"", " "}[r.IntN(9)])
	}
	return b.String()[:size]
}

// BenchmarkPush: pieces of prose; also how much is held back between them.
func BenchmarkPush(b *testing.B) {
	s := mustCompile(b, realPatterns())
	all := prose(b)
	for _, size := range []int{4, 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			w := s.Stream(4 << 10)
			at, window := 0, 0
			var held []int
			for b.Loop() {
				step, err := w.Push(all[at : at+size])
				if err != nil {
					b.Fatal(err)
				}
				window += size - step.Settled
				if len(held) < 100_000 {
					held = append(held, window)
				}
				if at += size; at+size > len(all) {
					at = 0
				}
			}
			slices.Sort(held)
			b.ReportMetric(float64(held[len(held)/2]), "held-p50")
			b.ReportMetric(float64(held[len(held)*99/100]), "held-p99")
		})
	}
}

// BenchmarkPushHeld: pieces of a text that is held back.
func BenchmarkPushHeld(b *testing.B) {
	s := mustCompile(b, realPatterns())
	b.ReportAllocs()
	w := s.Stream(8 << 10)
	_, _ = w.Push("-----BEGIN PRIVATE KEY-----")
	for b.Loop() {
		if _, err := w.Push("abcd"); err != nil {
			b.Fatal(err)
		}
	}
}
