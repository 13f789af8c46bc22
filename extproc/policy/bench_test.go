package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/extproc/llm"
	"millrace/schema"
)

// allKinds is a chain of all kinds that look for patterns.
const allKinds = "{chain: [dlp, content-filter, prompt-injection]}"

// corpus is prose and code of this repository, about so many bytes: what people paste into prompts.
func corpus(tb testing.TB, bytes int) string {
	var b strings.Builder
	for _, name := range []string{"../../docs/request-path.md", "session.go", "../../README.md", "../../docs/rationale.md", "gate.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		b.Write(text)
	}
	for b.Len() < bytes {
		b.WriteString(b.String())
	}
	return strings.ToValidUTF8(b.String()[:bytes], "")
}

// BenchmarkInput asks a chain of all kinds that look for patterns about a prompt. Issue 12 wants a
// p99 below 1 ms for 20 KB and below 10 ms for 200 KB, on one core (-cpu 1).
func BenchmarkInput(b *testing.B) {
	chain := chainOf(b, allKinds)
	for _, size := range []int{1 << 10, 20 << 10, 200 << 10} {
		for name, more := range map[string]string{"clean": "", "with findings": "\nMail bob@example.org, card 4111 1111 1111 1111."} {
			body := asking(corpus(b, size) + more)
			b.Run(fmt.Sprintf("%d KiB/%s", size>>10, name), func(b *testing.B) {
				var took []time.Duration
				b.ReportAllocs()
				for b.Loop() {
					began := time.Now()
					if _, e := chain.Start(quiet, schema.Usual(), Request{}, nobody).Input(b.Context(), body); e != nil && e.Code != "policy_violation" {
						b.Fatal(e)
					}
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
				b.ReportMetric(float64(len(chain.input.acts.owners)), "patterns")
			})
		}
	}
}

// BenchmarkStream shows a chain the events of a stream, a word each.
func BenchmarkStream(b *testing.B) {
	chain := chainOf(b, allKinds)
	words := strings.SplitAfter(corpus(b, 20<<10), " ")
	d := said(schema.OpenAIChat, words...)
	asked := llm.Asked{Head: llm.Head{Model: "m", Stream: true}}
	encoder := d.client.Client.NewStreamEncoder(asked)
	var events [][]byte
	for _, e := range d.events {
		if out := encoder.Encode(nil, e); len(out) > 0 {
			events = append(events, out)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		answer := chain.Start(quiet, schema.Usual(), Request{}, nobody).Answer(b.Context(), d.client.Client, asked)
		var out []byte
		for _, e := range events {
			var blocked *llm.Error
			if out, _, blocked = answer.Stream(out[:0], e, true); blocked != nil {
				b.Fatal(blocked)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
}

// TestCorpus: what the benchmarks call clean has nothing in it.
func TestCorpus(t *testing.T) {
	s := chainOf(t, allKinds).Start(quiet, schema.Usual(), Request{}, nobody)
	if _, e := s.Input(t.Context(), asking(corpus(t, 20<<10))); e != nil {
		said, _ := json.Marshal(s.Verdicts())
		t.Errorf("%v: %s", e, said)
	}
}
