package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/config"
	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

// TestSinksWithoutEngine (E06): where nothing is kept, a sink on the network gets its events from
// memory; what stays in a configuration stays open, and one that cannot be opened changes nothing.
func TestSinksWithoutEngine(t *testing.T) {
	var mu sync.Mutex
	got := ""
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got += string(body)
	}))
	defer service.Close()
	log := slog.New(slog.DiscardHandler)
	d := &destinations{recorder: event.NewRecorder("/millrace/test"), log: log}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.recorder.Run(ctx, log) })

	path := filepath.Join(t.TempDir(), "events.jsonl")
	with := func(sinks ...config.Sink) *config.Config { return &config.Config{Events: config.Events{Sinks: sinks}} }
	file := config.Sink{Field: "events.file", Name: "file", Type: "file", Path: path}
	away := config.Sink{Field: "events.sinks[0]", Name: "control", Type: "http", URL: service.URL, Timeout: time.Minute}
	if err := d.use(with(file, away)); err != nil {
		t.Fatal(err)
	}
	opened := d.local[0].Destination
	d.recorder.Record(&millracev1.Event{Id: "first"})
	broken := config.Sink{Field: "events.sinks[1]", Name: "b", Type: "file", Path: "/no/such/folder/x"}
	if err := d.use(with(file, broken)); err == nil || !strings.Contains(err.Error(), "events.sinks[1]: ") {
		t.Errorf("%v", err)
	}
	bus := config.Sink{Field: "events.sinks[2]", Name: "n", Type: "nats", Subject: "x"}
	if err := d.use(with(bus)); err == nil || !strings.Contains(err.Error(), "events.sinks[2]: url is needed") {
		t.Errorf("%v", err)
	}
	d.recorder.Record(&millracev1.Event{Id: "second", Status: 500})
	away.Only.Status = []string{"2xx"}
	if err := d.use(with(file, away)); err != nil {
		t.Fatal(err)
	}
	if len(d.local) != 2 || d.local[0].Destination != opened {
		t.Error("the file that stays was opened again")
	}
	d.recorder.Record(&millracev1.Event{Id: "third", Status: 500})
	cancel()
	running.Wait()
	content, err := os.ReadFile(path)
	mu.Lock()
	defer mu.Unlock()
	for id, wanted := range map[string]bool{"first": true, "second": true, "third": false} {
		if strings.Contains(got, `"id":"`+id) != wanted || !strings.Contains(string(content), id) {
			t.Errorf("%s: the service has %s; the file %s, %v", id, got, content, err)
		}
	}
	if d.err() != nil || d.kept() != nil || d.recorder.Dropped() != 0 {
		t.Errorf("%v, %v, %d", d.err(), d.kept(), d.recorder.Dropped())
	}
}
