package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// TestTracesFollow: spans go to the collector of the configuration that holds when their request is
// over; those that wait for another one still get there, and without one none are made.
func TestTracesFollow(t *testing.T) {
	collector := func() (*httptest.Server, *atomic.Int64) {
		var exports atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			exports.Add(1)
			w.Header().Set("Content-Type", "application/x-protobuf")
		}))
		t.Cleanup(s.Close)
		return s, &exports
	}
	first, toFirst := collector()
	second, toSecond := collector()
	now := &config.Config{}
	s := newTraces(slog.New(slog.DiscardHandler), "here", func() *config.Config { return now })
	n := 0
	record := func(t config.Telemetry) {
		now = &config.Config{Telemetry: t}
		n++
		s.Record(&millracev1.Event{Id: fmt.Sprint(n), Time: timestamppb.Now(), Status: 200})
	}
	record(config.Telemetry{Sample: 1})
	record(config.Telemetry{Endpoint: first.URL, Sample: 1})
	record(config.Telemetry{Endpoint: second.URL, Sample: 1})
	record(config.Telemetry{Endpoint: second.URL, Sample: 0})
	record(config.Telemetry{Sample: 1})
	s.close()
	record(config.Telemetry{Endpoint: first.URL, Sample: 1}) // it is over
	if toFirst.Load() != 1 || toSecond.Load() != 1 || s.counts.Exported() != 2 || s.counts.Lost() != 0 {
		t.Errorf("%d and %d exports, %d spans of 2, %d lost", toFirst.Load(), toSecond.Load(), s.counts.Exported(), s.counts.Lost())
	}
}
