package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// How a request may end. Any other ending is one that a client could take for something it is not.
const (
	answered   = "answer"      // complete
	clearError = "error"       // a 5xx and an error of the client's schema
	errorEvent = "error event" // a stream with an error event of the client's schema at its end, and no end of its own
	cut        = "cut"         // the connection broke in the middle of an answer
	unanswered = "no answer"   // no connection, or one that broke before the answer
)

// shot is one request and how it ended.
type shot struct {
	stream       bool
	began, ended time.Time
	id           string // x-millrace-request-id
	ending       string
}

func (s shot) String() string {
	kind := "request"
	if s.stream {
		kind = "stream"
	}
	return fmt.Sprintf("%s %s, of %s to %s: %s", kind, s.id, s.began.Format("05.000"), s.ended.Format("05.000"), s.ending)
}

// load makes requests at a steady rate and keeps streams open beside them, half of each in either
// schema.
type load struct {
	url    string
	client *http.Client
	end    context.CancelFunc
	all    sync.WaitGroup

	mu    sync.Mutex
	shots []shot
}

// startLoad begins; rate is in requests a second.
func startLoad(t *testing.T, url string, rate, streams int) *load {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	l := &load{url: url, end: end, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: rate + streams,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
	}}}
	const workers = 10
	for i := range workers {
		l.all.Go(func() {
			tick := time.NewTicker(workers * time.Second / time.Duration(rate))
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				l.all.Go(func() { l.shoot(i%2 == 1, false) }) // at its rate, however long an answer takes
			}
		})
	}
	for i := range streams {
		l.all.Go(func() {
			for ctx.Err() == nil {
				if l.shoot(i%2 == 1, true).ending != answered {
					time.Sleep(100 * time.Millisecond) // clients wait before they try again
				}
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// open opens further streams, once.
func (l *load) open(streams int) {
	for i := range streams {
		l.all.Go(func() { l.shoot(i%2 == 1, true) })
	}
}

// stop begins no more requests, waits for those under way and returns all there were. Twice is
// once.
func (l *load) stop() []shot {
	l.end()
	l.all.Wait()
	l.client.CloseIdleConnections()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.shots)
}

func (l *load) shoot(claude, stream bool) shot {
	path, body := "/v1/chat/completions", chatHello
	switch {
	case claude && stream:
		path, body = "/v1/messages", claudeStream
	case claude:
		path, body = "/v1/messages", claudeHello
	case stream:
		body = chatStream
	}
	s := shot{stream: stream, began: time.Now()}
	r, err := l.client.Post(l.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		s.ending = unanswered
	} else {
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		s.id = r.Header.Get("x-millrace-request-id")
		s.ending = ending(claude, stream, r.StatusCode, string(text), err)
	}
	s.ended = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shots = append(l.shots, s)
	return s
}

// ending says how an answer ended; what is none of the known endings is shown as it is.
func ending(claude, stream bool, status int, body string, err error) string {
	complete, broken := `"finish_reason":"stop"`, `data: {"error":{`
	last := "data: [DONE]\n\n"
	if claude {
		complete, broken, last = `"stop_reason":"end_turn"`, "event: error\n", "data: {\"type\":\"message_stop\"}\n\n"
	}
	switch {
	case status >= 500 && err == nil && isError(claude, body):
		return clearError
	case status == 200 && stream && strings.Contains(body, broken) && !strings.HasSuffix(body, last):
		return errorEvent
	case status == 200 && err != nil && !(stream && strings.HasSuffix(body, last)):
		return cut
	case status == 200 && err == nil && strings.Contains(body, complete) && (strings.HasSuffix(body, last) || !stream):
		return answered
	}
	return fmt.Sprintf("%d, %v, …%s", status, err, body[max(0, len(body)-300):])
}

func isError(claude bool, body string) bool {
	var e struct {
		Type  string
		Error struct{ Message, Type string }
	}
	return json.Unmarshal([]byte(body), &e) == nil && e.Error.Message != "" && e.Error.Type != "" && (e.Type == "error") == claude
}

// tally counts endings, in words.
func tally(shots []shot) string {
	counts := map[string]int{}
	for _, s := range shots {
		kind := "requests: "
		if s.stream {
			kind = "streams: "
		}
		counts[kind+s.ending]++
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(words, ", ")
}

// loaded is a provider for load: whole answers take a moment, so that some are always under way,
// and streams a few seconds.
func loaded(name string) *fakellm.Provider {
	p := openAI(name)
	p.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: strings.Repeat("word ", 12)}, Head: fakellm.Pace{Delay: 50 * time.Millisecond}, Each: fakellm.Pace{Delay: 150 * time.Millisecond}})
	return p
}

// oneEventAtMost: no request has two events. It returns the ids of those that have one.
func (g *gateway) oneEventAtMost() map[string]bool {
	g.t.Helper()
	ids := map[string]bool{}
	for _, e := range g.readEvents() {
		if ids[e.Id] {
			g.t.Errorf("two events for one request: %v", e)
		}
		ids[e.Id] = true
	}
	return ids
}
