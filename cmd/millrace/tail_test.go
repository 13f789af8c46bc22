package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTail (A24): a line an event, with what a client or a sink has said made fit for a terminal,
// page by page until there is no more.
func TestTail(t *testing.T) {
	var asked []string
	pages := []string{
		`{"events":[{"id":"a","method":"POST","path":"/v1/x","status":200,"model":"m\u001b[2J","target":"t","key":"k","duration_ms":12.6,"usage":{"input":3,"output":4}}],"next":"1-1","more":true}`,
		`{"events":[{"id":"b","status":429,"error":"too\nmany"}],"next":"1-2","more":false,"refusals":[{"sink":"s","reason":"no"}]}`,
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		w.Write([]byte(pages[(len(asked)-1)%2]))
	}))
	defer api.Close()
	c := &tailCommand{adminFlags: adminFlags{Admin: api.URL, Output: "text"}, Last: 1, Since: "1h", Refused: true, Status: []string{"4xx"}}
	var out strings.Builder
	if err := c.Run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"200  POST /v1/x  m\ufffd[2J  t  k  13ms  3+4", "429", "too\ufffdmany s: no\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
	if len(asked) != 2 || !strings.Contains(asked[0], "since=1h") || !strings.Contains(asked[1], "after=1-1") || strings.Contains(asked[1], "since") {
		t.Errorf("asked %q", asked)
	}
	out.Reset()
	c.Output = "json"
	if err := c.Run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		var said struct {
			Refused string
			Event   struct{ ID string }
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Event.ID == "" {
			t.Errorf("%v: %s", err, line)
		}
	}
}
