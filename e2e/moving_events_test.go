package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEventsFileMoves: the file that events go to is changed while requests flow. Each request has
// one event, in the old file or in the new one; the old one ends where the new one begins. A file
// that cannot be opened is refused, and REST, which has no say in it, moves nothing.
func TestEventsFileMoves(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g, admin := withAdmin(t, "", pool("", to("a", a, provider(t, a))))
	old, next := g.events, filepath.Join(t.TempDir(), "next.jsonl")
	move := func(from, to string) {
		t.Helper()
		g.edit(func(s string) string {
			return strings.Replace(s, "events: {file: "+from+"}", "events: {file: "+to+"}", 1)
		})
	}
	lines := func(path string) int {
		content, _ := os.ReadFile(path) // it may not be there yet
		return bytes.Count(content, []byte("\n"))
	}
	grows := func(path string) {
		t.Helper()
		was := lines(path)
		g.eventually(path+" grows", func() error {
			if now := lines(path); now < was+20 {
				return fmt.Errorf("from %d lines to %d", was, now)
			}
			return nil
		})
	}

	stop := g.chats()
	grows(old)

	move(old, "/no/such/folder/events.jsonl")
	g.said("events.file: open /no/such/folder/events.jsonl: no such file or directory")
	grows(old)

	move("/no/such/folder/events.jsonl", next)
	grows(next)
	ended := lines(old)
	newPool(t, admin+"/api/v1/gateways/default", "more", "/more", target("a", provider(t, a), nil))
	status, _, told, err := api("POST", admin+"/api/v1/apply", map[string]any{
		"gateway": map[string]any{"name": "other", "subdomain": "other"}, "events": map[string]any{"file": old}})
	if err != nil || status != 422 || !strings.Contains(fmt.Sprint(told), "only the configuration file can set it") {
		t.Errorf("events over REST: %d %v, %v", status, told, err)
	}
	grows(next)

	asked := stop() // how many events each has
	g.stop()
	if got := lines(old); got != ended {
		t.Errorf("the old file has %d lines, and had %d when the new one began", got, ended)
	}
	read := func(path string) {
		g.events = path
		for _, e := range g.readEvents() {
			if n, ours := asked[e.Id]; ours {
				asked[e.Id] = n + 1
			}
		}
	}
	read(old)
	read(next)
	for id, n := range asked {
		if n != 1 {
			t.Errorf("request %s has %d events", id, n)
		}
	}
	if len(asked) < 60 {
		t.Errorf("only %d requests: this test shows nothing", len(asked))
	}
}

// chats has clients ask until stop is called, which returns the ids of what was asked, with 0 for
// each. Every request must be answered.
func (g *gateway) chats() (stop func() map[string]int) {
	done := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	asked := map[string]int{} // guarded by mu
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond): // the machine has other work
				}
				r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello)))
				if err != nil {
					g.t.Error(err)
					return
				}
				r.Body.Close()
				if r.StatusCode != 200 {
					g.t.Errorf("status %d", r.StatusCode)
				}
				mu.Lock()
				asked[r.Header.Get("x-millrace-request-id")] = 0
				mu.Unlock()
			}
		})
	}
	return func() map[string]int {
		close(done)
		clients.Wait()
		return asked
	}
}
