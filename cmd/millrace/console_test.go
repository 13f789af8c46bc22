package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

// TestConsole: a request is a line for people in a terminal, else the event's own JSON; nothing of
// what a client chose can be a command to the terminal. A reader that has left is no trouble.
func TestConsole(t *testing.T) {
	at := time.Date(2026, 11, 29, 7, 30, 0, 0, time.Local)
	good := &millracev1.Event{Time: timestamppb.New(at), Model: "gpt-4o\x1b[2J", Stream: true, Status: 200, Target: "b", DurationMs: 1204, Usage: &millracev1.Usage{Input: 11, Output: 7},
		Attempts: []*millracev1.Attempt{{Target: "a", Status: 503, Condition: "server-error"}, {Target: "b", Status: 200, BeganMs: 40, FirstTokenMs: 160}}}
	bad := &millracev1.Event{Time: timestamppb.New(at), Status: 503, DurationMs: 2, Policies: []*millracev1.PolicyVerdict{{Policy: "secrets", Verdict: "block"}}}
	var records []event.Record
	var asJSON string
	for _, e := range []*millracev1.Event{good, bad} {
		r, err := event.NewRecord("test", e)
		if err != nil {
			t.Fatal(err)
		}
		records, asJSON = append(records, r), asJSON+string(r.JSON)+"\n"
	}
	for name, c := range map[string]struct {
		console console
		want    string
	}{
		"for people": {console{readable: true}, "" +
			"07:30:00  200   gpt-4o\ufffd[2J            a (server-error) > b      first token 200 ms, whole 1.20 s, tokens 11 / 7\n" +
			"07:30:00  503   -                     -                         first token -, whole 2.0 ms, tokens 0 / 0, block by secrets\n"},
		"in color": {console{readable: true, colors: true}, "" +
			"07:30:00  200   gpt-4o\ufffd[2J            a (server-error) > b      first token 200 ms, whole 1.20 s, tokens 11 / 7\n" +
			"07:30:00  " + red + "503 " + plain + "  -                     -                         first token -, whole 2.0 ms, tokens 0 / 0, block by secrets\n"},
		"no terminal": {console{}, asJSON},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c.console.out = &out
			if taken, err := c.console.Send(t.Context(), records); taken != 2 || err != nil {
				t.Errorf("%d were taken: %v", taken, err)
			}
			if out.String() != c.want {
				t.Errorf("got\n%q, want\n%q", out.String(), c.want)
			}
		})
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	left := newConsole(w)
	for range 2 {
		if taken, err := left.Send(t.Context(), records); taken != 2 || err != nil || left.readable || !left.gone {
			t.Errorf("of a reader that has left: %d %v %+v", taken, err, left)
		}
	}
}
