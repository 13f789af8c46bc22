package admin

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// door is a guarded API with a log.
type door struct {
	*Server
	token atomic.Value
	log   strings.Builder
}

func newDoor(token string) *door {
	d := &door{}
	d.token.Store(token)
	d.Server = New(Options{
		Plane: newMemory(""),
		Token: func() string { return d.token.Load().(string) },
		Log:   slog.New(slog.NewTextHandler(&d.log, nil)),
	})
	return d
}

// ask asks a handler with a token from an address, and returns the answer's status.
func ask(h http.Handler, from, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/api/v1/status", nil)
	r.Host, r.RemoteAddr = "localhost", from
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const operator, stranger = "192.0.2.1:1000", "198.51.100.7:1000"

// TestTokenRotates: a new token holds from the next request on, and the old one does not (B6).
func TestTokenRotates(t *testing.T) {
	d := newDoor("old")
	for _, c := range []struct {
		now, sent string
		want      int
	}{{"old", "old", 200}, {"new", "old", 401}, {"new", "new", 200}, {"old", "new", 401}, {"old", "old", 200}} {
		d.token.Store(c.now)
		if got := ask(d, operator, c.sent); got.Code != c.want {
			t.Errorf("token %s, sent %s: %d, want %d", c.now, c.sent, got.Code, c.want)
		}
	}
}

// TestGuesses: whoever sends many different wrong tokens is not listened to for a while, the right
// one included; whoever comes from another address is, and so is everybody once the time is over.
// The log and the count tell of it.
func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor("right")
		for i := range mostWrong {
			if got := ask(d, stranger, fmt.Sprint("wrong", i)); got.Code != 401 {
				t.Fatalf("guess %d: %d", i, got.Code)
			}
		}
		if d.WrongTokens() != mostWrong {
			t.Errorf("%d wrong tokens counted", d.WrongTokens())
		}
		for _, token := range []string{"right", "wrong again"} {
			got := ask(d, "198.51.100.7:2000", token)
			if got.Code != 429 || got.Header().Get("Retry-After") != "60" || !strings.Contains(got.Body.String(), "urn:millrace:too-many-wrong-tokens") {
				t.Errorf("%s: %d %v %s", token, got.Code, got.Header(), got.Body)
			}
		}
		if got := ask(d, operator, "right"); got.Code != 200 {
			t.Errorf("another address: %d", got.Code)
		}
		time.Sleep(wrongWindow)
		if got := ask(d, stranger, "right"); got.Code != 200 {
			t.Errorf("after a while: %d", got.Code)
		}
		if got := strings.Count(d.log.String(), "wrong token"); got != 2 {
			t.Errorf("%d lines of the log for %d guesses in one moment, want 2: %s", got, mostWrong, &d.log)
		}
		if !strings.Contains(d.log.String(), "198.51.100.7") || !strings.Contains(d.log.String(), "since_last_line=9 in_all=10") || strings.Contains(d.log.String(), "wrong1") {
			t.Errorf("the log says %s", &d.log)
		}
	})
}

// TestOldTokenIsNoGuess: a client that goes on with the token from before a rotation keeps nobody
// at its address out, however often it asks; nor does one that sends none.
func TestOldTokenIsNoGuess(t *testing.T) {
	d := newDoor("new")
	for range 10 * mostWrong {
		for _, token := range []string{"old", ""} {
			if got := ask(d, operator, token); got.Code != 401 {
				t.Fatalf("%q: %d", token, got.Code)
			}
		}
	}
	if got := ask(d, operator, "new"); got.Code != 200 {
		t.Errorf("the new token: %d", got.Code)
	}
}

// TestGuessesTakeLittleMemory: however many addresses guess, only so many are remembered; and the
// many addresses that one client of IPv6 has are one.
func TestGuessesTakeLittleMemory(t *testing.T) {
	d := newDoor("right")
	for i := range mostClients + 100 {
		ask(d, fmt.Sprintf("[2001:db8:%x::1]:1", i), "wrong")
	}
	if got := len(d.wrong.clients); got != mostClients {
		t.Errorf("%d clients are remembered, want %d", got, mostClients)
	}
	d = newDoor("right")
	var last int
	for i := range mostWrong + 1 {
		last = ask(d, fmt.Sprintf("[2001:db8::%x]:1", i), fmt.Sprint("wrong", i)).Code
	}
	if last != 429 || len(d.wrong.clients) != 1 {
		t.Errorf("%d, %d clients", last, len(d.wrong.clients))
	}
}

// TestMetricsDoors: what is beside the API wants the API's token or its own; what is apart wants
// its own, and is open while it has none. Neither lets the other's token into the API.
func TestMetricsDoors(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	for _, c := range []struct {
		name, api, own, sent string
		beside, apart, rest  int
	}{
		{"no tokens at all", "", "", "", 200, 200, 200},
		{"the API has one, and it is sent", "a", "", "a", 200, 200, 200},
		{"the API has one, and none is sent", "a", "", "", 401, 200, 401},
		{"both have one, none is sent", "a", "m", "", 401, 401, 401},
		{"both have one, the API's is sent", "a", "m", "a", 200, 401, 200},
		{"both have one, their own is sent", "a", "m", "m", 200, 200, 401},
		{"only the metrics have one, none is sent", "", "m", "", 401, 401, 200},
	} {
		d := newDoor(c.api)
		own := func() string { return c.own }
		got := [3]int{ask(d.Beside(page, own), operator, c.sent).Code, ask(d.Apart(page, own), operator, c.sent).Code, ask(d, operator, c.sent).Code}
		if want := [3]int{c.beside, c.apart, c.rest}; got != want {
			t.Errorf("%s: beside, apart and the API say %v, want %v", c.name, got, want)
		}
	}
}
