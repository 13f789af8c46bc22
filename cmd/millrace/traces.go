package main

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/trace"
)

// traces sends requests' spans where the present configuration says.
type traces struct {
	options trace.Options // but for what a configuration says
	counts  trace.Counts
	config  func() *config.Config

	mu       sync.RWMutex // guards what follows
	now      config.Telemetry
	exporter *trace.Exporter // nil: they go nowhere
	closing  sync.WaitGroup  // of those before
	closed   bool
}

// tracesPatience bounds the wait for a collector at the end of an exporter.
const tracesPatience = 3 * time.Second

// Record queues the spans of a request.
func (t *traces) Record(e *millracev1.Event) {
	if c := t.config(); c != nil {
		t.follow(c.Telemetry)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.exporter != nil && !t.closed {
		t.exporter.Record(e)
	}
}

// follow goes on with another collector, if it is another.
func (t *traces) follow(next config.Telemetry) {
	t.mu.RLock()
	same := reflect.DeepEqual(t.now, next)
	t.mu.RUnlock()
	if same {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if reflect.DeepEqual(t.now, next) || t.closed {
		return
	}
	t.end()
	t.now = next
	if next.Endpoint == "" {
		return
	}
	o := t.options
	o.Endpoint, o.Headers, o.Sample = next.Endpoint, next.Headers, next.Sample
	var err error
	if t.exporter, err = trace.New(o, &t.counts); err != nil {
		t.options.Log.Error("telemetry", "error", err)
	}
}

// end lets the exporter send what waits. mu is held.
func (t *traces) end() {
	ending := t.exporter
	t.exporter = nil
	if ending == nil {
		return
	}
	t.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), tracesPatience)
		defer cancel()
		if err := ending.Close(ctx); err != nil {
			t.options.Log.Warn("traces are lost: the collector did not take the last ones", "error", err)
		}
	})
}

// close sends what waits. What is recorded afterwards is not sent.
func (t *traces) close() {
	t.mu.Lock()
	t.closed = true
	t.end()
	t.mu.Unlock()
	t.closing.Wait()
}

func newTraces(log *slog.Logger, instance string, config func() *config.Config) *traces {
	return &traces{options: trace.Options{Version: version, Instance: instance, Log: log}, config: config}
}
