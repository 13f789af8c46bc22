package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"millrace/event"
)

// shelf keeps what it is given, until it is full.
type shelf struct {
	records []event.Record
	query   event.Query
	err     error
}

func (s *shelf) Take(_ context.Context, records []event.Record) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.records = append(s.records, records...)
	return len(records), nil
}

func (s *shelf) Read(_ context.Context, q event.Query) (event.Page, error) {
	s.query = q
	return event.Page{Records: s.records, Next: "1-0"}, s.err
}

func packed(body string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	io.WriteString(w, body)
	w.Close()
	return out.String()
}

// TestEventsREST (E31, A24): what POST and GET /v1/events answer, and that nothing is half taken.
func TestEventsREST(t *testing.T) {
	const batch, plain = "application/cloudevents-batch+json", "application/json"
	const good = `{"specversion":"1.0","id":"a","source":"/b","type":"dev.millrace.request","data":{"id":"a","status":200}}`
	for name, c := range map[string]struct {
		method, query, contentType, coding, body string
		err                                      error
		status                                   int
		said                                     string
		taken                                    int
	}{
		"a batch":                  {method: "POST", contentType: batch, body: "[" + good + "]", status: 202, said: `"taken":1`, taken: 1},
		"an empty batch":           {method: "POST", contentType: batch, body: "[]", status: 202, said: `"taken":0`},
		"packed":                   {method: "POST", contentType: batch, coding: "gzip", body: packed("[" + good + "]"), status: 202, taken: 1},
		"not packed":               {method: "POST", contentType: batch, coding: "gzip", body: good, status: 400, said: "gzip"},
		"packed otherwise":         {method: "POST", contentType: batch, coding: "br", body: good, status: 415, said: "want gzip"},
		"a bomb":                   {method: "POST", contentType: batch, coding: "gzip", body: packed(strings.Repeat(" ", maxEvents+1)), status: 413, said: "unpack"},
		"too large":                {method: "POST", contentType: batch, body: strings.Repeat(" ", maxBody+1), status: 413, said: "may have"},
		"one of two is wrong":      {method: "POST", contentType: batch, body: "[" + good + ",{}]", status: 400, said: "[1]"},
		"no list":                  {method: "POST", contentType: batch, body: good, status: 400, said: "want a list"},
		"a list of events":         {method: "POST", contentType: plain, body: `[{"id":"a"}]`, status: 202, taken: 1},
		"no type":                  {method: "POST", body: "[]", status: 415, said: "cloudevents-batch"},
		"full":                     {method: "POST", contentType: plain, body: `[{"id":"a"}]`, err: event.ErrFull, status: 503, said: "no room"},
		"too large for the engine": {method: "POST", contentType: plain, body: `[{"id":"a"}]`, err: &event.Refused{Err: event.ErrCursor}, status: 413},
		"another method":           {method: "DELETE", status: 405, said: "GET"},
		"all":                      {method: "GET", status: 200, said: `{"events":[],"next":"1-0","more":false}`},
		"those refused":            {method: "GET", query: "refused=true", status: 200, said: `"events":[]`},
		"refused or not":           {method: "GET", query: "refused=perhaps", status: 400, said: "true or false"},
		"a wrong time":             {method: "GET", query: "since=yesterday", status: 400, said: "since"},
		"a wrong status":           {method: "GET", query: "status=ok", status: 400, said: "5xx"},
		"a wrong limit":            {method: "GET", query: "limit=0", status: 400, said: "limit"},
		"too high a limit":         {method: "GET", query: "limit=100000", status: 400, said: "limit"},
		"a wrong cursor":           {method: "GET", query: "after=x", err: event.ErrCursor, status: 400, said: "after"},
		"an unknown parameter":     {method: "GET", query: "colour=blue", status: 400, said: "colour"},
		"twice":                    {method: "GET", query: "since=1h&since=2h", status: 400, said: "2 times"},
	} {
		t.Run(name, func(t *testing.T) {
			kept := &shelf{err: c.err}
			api := New(Options{Plane: newMemory(""), Events: func() Events { return kept }})
			r := httptest.NewRequest(c.method, "http://localhost/v1/events?"+c.query, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Content-Encoding", c.coding)
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.said) || len(kept.records) != c.taken {
				t.Errorf("%d, %d taken: %.300s", w.Code, len(kept.records), w.Body)
			}
			if (w.Header().Get("Retry-After") != "") != (c.err == event.ErrFull) {
				t.Errorf("%v", w.Header())
			}
		})
	}
}

// TestEventsQuery: every parameter comes to the query.
func TestEventsQuery(t *testing.T) {
	kept := &shelf{}
	api := New(Options{Plane: newMemory(""), Events: func() Events { return kept }})
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/events?since=15m&until=2026-01-02T03:04:05Z&status=5xx&status=none&gateway=g&service=s&target=t&key=k&model=m&after=1-2&limit=7", nil))
	q := kept.query
	if ago := time.Since(q.Since); w.Code != http.StatusOK || ago < 15*time.Minute || ago > time.Hour || q.Until.Unix() != 1767323045 ||
		strings.Join(q.Status, " ") != "5xx none" || q.Gateways[0] != "g" || q.Services[0] != "s" || q.Targets[0] != "t" || q.Keys[0] != "k" || q.Models[0] != "m" || q.After != "1-2" || q.Limit != 7 {
		t.Errorf("%d %+v", w.Code, q)
	}
	for _, none := range []func() Events{nil, func() Events { return nil }} {
		w := httptest.NewRecorder()
		New(Options{Plane: newMemory(""), Events: none}).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/events", nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "events.retention") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
