package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// look opens a stream.
func look(t *testing.T, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+FeedPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", eventStream)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// next reads an event of a stream.
func next(t *testing.T, from *bufio.Scanner) (name, data string) {
	t.Helper()
	for from.Scan() && from.Text() != "" {
		field, value, _ := strings.Cut(from.Text(), ": ")
		if field == "event" {
			name = value
		} else {
			data = value
		}
	}
	if from.Err() != nil || name == "" {
		t.Fatalf("the stream ends: %v", from.Err())
	}
	return name, data
}

func lines(r *http.Response) *bufio.Scanner {
	s := bufio.NewScanner(r.Body)
	s.Buffer(nil, 1<<20)
	return s
}

// TestFeed: a stream has a frame, the last requests, and then what is new; a bound on the time of
// requests does not end it. It ends with the feed.
func TestFeed(t *testing.T) {
	g := newGateway(t)
	g.requests(lastRequests + 5)
	server := httptest.NewUnstartedServer(g.handler)
	server.Config.ReadTimeout = 100 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	answer := look(t, server.URL)
	from := lines(answer)
	name, data := next(t, from)
	var frame Frame
	if err := json.Unmarshal([]byte(data), &frame); err != nil || name != "frame" || frame.Totals.Requests != lastRequests+5 {
		t.Fatalf("%s %s: %v", name, data, err)
	}
	name, data = next(t, from)
	var requests []Request
	if err := json.Unmarshal([]byte(data), &requests); err != nil || name != "requests" || len(requests) != lastRequests || requests[0].Number != 6 {
		t.Fatalf("%s %s: %v", name, data, err)
	}
	g.requests(1)
	for name = ""; name != "requests"; {
		name, data = next(t, from)
	}
	if err := json.Unmarshal([]byte(data), &requests); err != nil || len(requests) != 1 || requests[0].Number != lastRequests+6 {
		t.Fatalf("%s: %v", data, err)
	}
	for range 3 { // seconds
		if name, _ := next(t, from); name != "frame" {
			t.Fatalf("an event is %s", name)
		}
	}
	g.feed.Close()
	for from.Scan() {
	}
	if from.Err() != nil {
		t.Error(from.Err())
	}
}

// TestNothingIsMadeForNobody: while nobody looks no frame is made, and one is for all who look at
// the same time.
func TestNothingIsMadeForNobody(t *testing.T) {
	g := newGateway(t)
	g.requests(1000)
	if n := g.digests.Load(); n != 0 {
		t.Errorf("%d digests were made for nobody", n)
	}
	begun := time.Now()
	for range 200 {
		w := httptest.NewRecorder()
		g.feed.ServeHTTP(w, httptest.NewRequest(http.MethodGet, FeedPath, nil))
		if w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
	}
	if n, most := g.digests.Load(), int64(time.Since(begun)/(frameEvery/2))+1; n > most {
		t.Errorf("%d digests were made, want %d at most", n, most)
	}
	e := &millracev1.Event{Status: 200, Attempts: []*millracev1.Attempt{{Target: "eu-1", Upstream: "chat"}}, Policies: []*millracev1.PolicyVerdict{{Policy: "p", Verdict: "pass"}}}
	if allocations := testing.AllocsPerRun(1000, func() { g.recent.Record(e) }); allocations > 0 {
		t.Errorf("to count a request takes %v allocations", allocations)
	}
}

// TestVersionsOfALostStore: while the store does not answer, frames are made all the same, with the
// versions that were there before, and it is asked again after a while.
func TestVersionsOfALostStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t)
		asked := 0
		answers := g.feed.options.Versions
		g.feed.options.Versions = func(ctx context.Context) ([]control.VersionInfo, error) {
			if asked++; asked < 3 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answers(ctx)
		}
		for seconds, want := range []struct{ asked, versions int }{0: {1, 0}, 1: {1, 0}, 9: {1, 0}, 10: {2, 0}, 22: {3, 2}, 40: {3, 2}} {
			if want.asked > 0 {
				frame, _, err := g.feed.current()
				if err != nil || asked != want.asked || len(frame.Versions) != want.versions {
					t.Errorf("after %d s: asked %d times, %d versions, %v; want %+v", seconds, asked, len(frame.Versions), err, want)
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// TestViewersAreBounded: one more is told to come back; when one has left there is room again.
func TestViewersAreBounded(t *testing.T) {
	g := newGateway(t)
	server := g.serve(t)
	var first *http.Response
	for range maxViewers {
		answer := look(t, server.URL)
		next(t, lines(answer))
		first = answer
	}
	if answer := look(t, server.URL); answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Fatalf("one too many got %d", answer.StatusCode)
	}
	first.Body.Close()
	for code := 0; code != http.StatusOK; {
		answer := look(t, server.URL)
		code = answer.StatusCode
		answer.Body.Close()
		if t.Context().Err() != nil {
			t.Fatal("there is never room again")
		}
	}
}

// TestFeedIsGuarded: who may not use the API gets no frame, and the page alone tells nothing.
func TestFeedIsGuarded(t *testing.T) {
	g := newGateway(t)
	g.token = "right-token"
	server := g.serve(t)
	if answer := look(t, server.URL); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", answer.StatusCode)
	}
	for path := range files {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Security-Policy") != contentPolicy || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, answer.StatusCode, answer.Header)
		}
	}
	if answer, err := http.Get(server.URL + "/other"); err != nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("/other: %v %v", answer, err)
	}
	g.token = ""
	r := httptest.NewRequest(http.MethodGet, FeedPath, nil)
	r.Host = "attacker.example" // whose name resolves to this machine
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("for a name of another site: %d", w.Code)
	}
	for site, want := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost"+FeedPath, nil)
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		g.handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("for a page that is %q: %d, want %d", site, w.Code, want)
		}
	}
}
