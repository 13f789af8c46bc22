package event

import (
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	millracev1 "millrace/proto/millrace/v1"
)

// usual is an event as requests have them.
func usual() *millracev1.Event {
	return &millracev1.Event{
		Id: "0f8fad5b-d9cb-469f-a165-70867728950e", Time: timestamppb.Now(), DurationMs: 812.25, FirstByteMs: 401.5, Gateway: "default", Method: "POST", Path: "/v1/chat/completions",
		Schema: "openai.chat", Model: "gpt-5", Stream: true, Status: 200, Target: "openai", Provider: "openai", Key: "team-a",
		Attempts: []*millracev1.Attempt{
			{Target: "azure", Provider: "azure", Model: "gpt-5", Status: 429, Error: "rate limited", DurationMs: 31.5},
			{Target: "openai", Provider: "openai", Model: "gpt-5", Status: 200, DurationMs: 780, Usage: &millracev1.Usage{Input: 1200, Output: 350}},
		},
		Usage: &millracev1.Usage{Input: 1200, Output: 350}, RequestBytes: 4096, ResponseBytes: 16384,
		ClientAddress: "10.1.2.3:51234", Details: "via_upstream",
	}
}

// BenchmarkRecord is what a request pays: it never waits.
func BenchmarkRecord(b *testing.B) {
	r, e := NewRecorder("/millrace/bench"), usual()
	b.ReportAllocs()
	for b.Loop() {
		r.Record(e)
	}
}

// BenchmarkEncode, BenchmarkCloudEvent and BenchmarkRead are the steps of an event after that.
func BenchmarkEncode(b *testing.B) {
	e := usual()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewRecord("/millrace/bench", e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCloudEvent(b *testing.B) {
	r, err := NewRecord("/millrace/bench", usual())
	if err != nil {
		b.Fatal(err)
	}
	var to []byte
	b.ReportAllocs()
	for b.Loop() {
		to = r.AppendCloudEvent(to[:0])
	}
}

func BenchmarkRead(b *testing.B) {
	r, err := NewRecord("/millrace/bench", usual())
	if err != nil {
		b.Fatal(err)
	}
	data := r.AppendCloudEvent(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadCloudEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}
