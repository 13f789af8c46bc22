package event

import (
	"fmt"
	"testing"
)

// TestSpanOf: who has a trace decides; of the others as many are sampled as is wanted, the same
// ones wherever it is asked.
func TestSpanOf(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
	for flags, want := range map[string]bool{"1": true, "0": false, "3": true} {
		s := SpanOf("id", parent+flags, 0.5)
		if s.Sampled != want || fmt.Sprintf("%x %x", s.Trace, s.Parent) != "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331" {
			t.Errorf("flags %s: %+v", flags, s)
		}
	}
	for _, share := range []float64{0, .1, .5, 1} {
		const requests = 20_000
		sampled := 0
		for i := range requests {
			s := SpanOf(fmt.Sprint(i), "", share)
			if s.Sampled {
				sampled++
			}
			if s != SpanOf(fmt.Sprint(i), "", share) {
				t.Fatal("it is not the same twice")
			}
		}
		if got := float64(sampled) / requests; got < share-.02 || got > share+.02 {
			t.Errorf("of %v are sampled %v", share, got)
		}
	}
	s := SpanOf("id", "", 1)
	if s.Attempt(1) == s.Attempt(2) || s.Attempt(1) == s.ID || s.Parent != [8]byte{} || s.Trace == [16]byte{} {
		t.Errorf("%+v: ids are not told apart", s)
	}
	if got, want := s.Traceparent(2), fmt.Sprintf("00-%x-%x-01", s.Trace, s.Attempt(2)); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}
