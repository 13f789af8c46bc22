package extproc

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

// full is a destination that has no room.
type full struct{}

func (full) Name() string                                      { return "full" }
func (full) Close() error                                      { return nil }
func (full) Send(context.Context, []event.Record) (int, error) { return 0, event.ErrFull }

// TestNoRoomForEvents (E06): while there is no room for events, and requests are to be refused
// then, they are, in the client's schema and with the word when to come again; /health is answered.
func TestNoRoomForEvents(t *testing.T) {
	p := newPeer(t)
	recorder := event.NewRecorder("test")
	p.server.options.Events = recorder
	ask := func(path string) *extprocv3.ProcessingResponse {
		t.Helper()
		m := headersMessage("r1")
		for _, h := range m.GetRequestHeaders().Headers.Headers {
			if h.Key == ":path" {
				h.RawValue = []byte(path)
			}
		}
		return exchangeMessage(t, p.open(t, envoy.StreamRouter), m)
	}
	if refused := ask("/v1/chat/completions").GetImmediateResponse(); refused != nil {
		t.Fatalf("refused: %v", refused)
	}
	if err := recorder.Use(full{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { recorder.Run(ctx, slog.New(slog.DiscardHandler)); close(done) }()
	recorder.Record(&millracev1.Event{Id: "one"})
	for !recorder.Full() {
		runtime.Gosched()
	}
	refused := ask("/v1/chat/completions").GetImmediateResponse()
	if refused.GetStatus().GetCode() != 503 || !strings.Contains(string(refused.GetBody()), "no room left to record requests") {
		t.Errorf("%v", refused)
	}
	if health := ask("/health").GetImmediateResponse(); health.GetStatus().GetCode() != 200 {
		t.Errorf("/health: %v", health)
	}
	cancel()
	<-done
	if refused := ask("/v1/chat/completions").GetImmediateResponse(); refused != nil {
		t.Errorf("refused once there is room: %v", refused)
	}
}
