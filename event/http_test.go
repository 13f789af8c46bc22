package event

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"millrace/internal/outbound"
)

func someRecords(t testing.TB, n int) []Record {
	t.Helper()
	var all []Record
	for i := range n {
		e := usual()
		e.Id = numbered(i).Id
		r, err := NewRecord("/millrace/one", e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// TestHTTPSays (E06, E31): what a sink is sent, and what follows from what it answers. Only a
// status that is said of the events themselves gives them up; all else is tried again, later each
// time.
func TestHTTPSays(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		header  string // retry-after
		taken   int
		refused bool
		atLeast time.Duration
	}{
		"taken":                       {status: 202, taken: 3},
		"taken without content":       {status: 204, taken: 3},
		"broken events":               {status: 400, refused: true},
		"too large":                   {status: 413, refused: true},
		"wrong events":                {status: 422, refused: true},
		"the token is wrong":          {status: 401, atLeast: firstPause / 2},
		"the path is wrong":           {status: 404, atLeast: firstPause / 2},
		"too many":                    {status: 429, header: "7", atLeast: 7 * time.Second},
		"down":                        {status: 503, atLeast: firstPause / 2},
		"down for longer than we say": {status: 503, header: "86400", atLeast: time.Hour},
		"a redirect is not followed":  {status: 307, atLeast: firstPause / 2},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			var headers http.Header
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				headers = r.Header
				body := io.Reader(r.Body)
				if r.Header.Get("Content-Encoding") == "gzip" {
					body, _ = gzip.NewReader(body)
				}
				got, _ = io.ReadAll(body)
				w.Header().Set("Retry-After", c.header)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				io.WriteString(w, "because\n")
			}))
			defer sink.Close()
			h, err := NewHTTP(HTTPOptions{Name: "sink", URL: sink.URL, Token: "sesame", Gzip: true, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			records := someRecords(t, 3)
			taken, err := h.Send(t.Context(), records)
			var refused *Refused
			if taken != c.taken || (err == nil) != (taken > 0) || errors.As(err, &refused) != c.refused {
				t.Errorf("%d taken, %v", taken, err)
			}
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf(`status %d: "because"`, c.status)) {
				t.Errorf("it does not say why: %v", err)
			}
			if pause := PauseAfter(err); err != nil && !c.refused && pause < c.atLeast {
				t.Errorf("tried again after %s, want at least %s", pause, c.atLeast)
			}
			var batch []map[string]any
			if err := json.Unmarshal(got, &batch); err != nil || len(batch) != 3 {
				t.Fatalf("%v: %s", err, got)
			}
			first := batch[0]
			if data := first["data"].(map[string]any); first["specversion"] != "1.0" || first["id"] != records[0].ID || first["source"] != "/millrace/one" ||
				first["type"] != Type || first["subject"] != "default" || first["time"] == nil || data["model"] != "gpt-5" {
				t.Errorf("%v", first)
			}
			key := headers.Get("Idempotency-Key")
			if headers.Get("Authorization") != "Bearer sesame" || headers.Get("Content-Type") != cloudEventsBatch || len(key) != 32 {
				t.Errorf("%v", headers)
			}
			if h.Send(t.Context(), records); headers.Get("Idempotency-Key") != key {
				t.Error("the same batch has another key")
			}
			if h.Send(t.Context(), records[:2]); headers.Get("Idempotency-Key") == key {
				t.Error("another batch has the same key")
			}
		})
	}
}

// TestHTTPBacksOff: a sink that is away is asked again later each time, and at once when it is
// back.
func TestHTTPBacksOff(t *testing.T) {
	h := &HTTP{}
	var longest time.Duration
	for h.failures = 1; h.failures < 100; h.failures++ {
		pause := h.pause()
		if most := firstPause << min(h.failures-1, 6); pause > most || pause < min(most, longestPause)/2 {
			t.Errorf("after %d failures: %s", h.failures, pause)
		}
		longest = max(longest, pause)
	}
	if longest > longestPause || longest < longestPause/2 {
		t.Errorf("the longest is %s", longest)
	}
}

// TestHTTPAddresses: an address that nothing here must connect to is not, whatever name leads
// there.
func TestHTTPAddresses(t *testing.T) {
	asked := false
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer sink.Close()
	h, err := NewHTTP(HTTPOptions{
		URL: strings.Replace(sink.URL, "127.0.0.1", "localhost", 1), Timeout: time.Minute,
		Refuse: func(at netip.AddrPort) error {
			if at.Addr().IsLoopback() {
				return errors.New("not there")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Send(t.Context(), someRecords(t, 1)); err == nil || !strings.Contains(err.Error(), "not there") || asked {
		t.Errorf("%v, asked: %v", err, asked)
	}
	if _, err := outbound.Client(outbound.Options{CA: "/no/such/file"}); err == nil {
		t.Error("no error for a file that is not there")
	}
}
