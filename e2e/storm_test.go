package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// TestFaultStorm: providers that do a bit of everything wrong, at random, under clients that leave
// at random: nobody crashes, nothing is left open, no request has two events, and who stays to the
// end gets an answer, an error of its schema, or a cut, but never a short answer that looks
// complete. The seed is in the log. `make soak`: five minutes for each of the configurations, of
// which there is one for each plan (docs/request-path.md) and one for all that an answer's clocks
// can do.
func TestFaultStorm(t *testing.T) {
	t.Parallel()
	duration := 3 * time.Second
	if soak {
		duration = 5 * time.Minute
	}
	for name, settings := range map[string][2]string{
		"plain": {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}\nstreaming: {inter_chunk_timeout: 1s}", "health_checks: {passive: false}"},
		"all at once": {"streaming: {commit: headers, keep_alive: 1s, inter_chunk_timeout: 1s}\ntimeouts: {first_byte_timeout: 1s, request_timeout: 2s}",
			"health_checks: {passive: true, threshold: 50, interval: 1}\nretry: {attempts: 4, backoff: 1ms, budget_percent: 30}"},
		"joined": {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}\nstreaming: {inter_chunk_timeout: 1s}", "health_checks: {passive: false}"},
		"joined and hedged": {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}\nstreaming: {inter_chunk_timeout: 1s}",
			"health_checks: {passive: false}\nretry: {attempts: 3, hedge: 20ms, backoff: 1ms}"},
		"hedged": {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}\nstreaming: {inter_chunk_timeout: 1s}",
			"health_checks: {passive: false}\nretry: {attempts: 3, hedge: 20ms, backoff: 1ms}"},
		"detached":            {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}", "health_checks: {passive: false}"},
		"detached and hedged": {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}", "health_checks: {passive: false}\nretry: {attempts: 3, hedge: 20ms, backoff: 1ms}"},
		"bare":                {"timeouts: {first_byte_timeout: 1s, request_timeout: 2s}", "health_checks: {passive: false}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			providers := []*fakellm.Provider{openAI("a"), anthropicAI("b"), openAI("c")}
			inspect := map[string]string{"detached": "first-token", "bare": "headers"}[strings.Fields(name)[0]]
			if strings.HasPrefix(name, "joined") || inspect != "" { // one schema
				providers[1] = openAI("b")
			}
			var targets []string
			for i, p := range providers {
				p.KeepRequests = 1_000_000
				fields := fmt.Sprintf("priority: %d, timeouts: {first_byte_timeout: %s}", i/2, []string{"1s", "0.3s", "0.5s"}[i])
				if inspect == "headers" {
					p.Key = providers[0].Key
				} else {
					fields += ", default_model: m"
				}
				targets = append(targets, to(p.Name, p, provider(t, p), fields))
			}
			resources := pool(settings[1], targets...)
			w := weather{longest: patience}
			if inspect != "" {
				resources = strings.Replace(resources, "upstream: chat}", "upstream: chat, inspect: "+inspect+"}", 1)
				w = weather{longest: time.Second, unread: true}
			}
			g := start(t, settings[0], resources)
			stop := time.Now().Add(duration)
			var all sync.WaitGroup
			all.Go(func() {
				for time.Now().Before(stop) {
					for _, p := range providers {
						p.Script(anyReply(random, p.Schema), anyReply(random, p.Schema), fakellm.Usual())
					}
					time.Sleep(time.Millisecond)
				}
			})
			for i := range 32 {
				all.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(i)+1))
					for time.Now().Before(stop) {
						w.request(g, random)
					}
				})
			}
			all.Wait()
			for _, p := range providers {
				p.Reset()
			}
			nothingIsLeft(t, providers)
			g.eventually("all is well again", func() error {
				if got := g.post("/v1/chat/completions", chatStream); got.Status != 200 || !strings.Contains(got.Body, "[DONE]") {
					return errors.New(got.Body)
				}
				return nil
			})
			ids := map[string]*millracev1.Event{}
			for _, e := range g.readEvents() {
				if ids[e.Id] != nil {
					t.Errorf("two events of %s", e.Id)
				}
				ids[e.Id] = e
			}
			for _, bad := range []string{"envoy bug", "critical", "panic"} {
				if strings.Contains(g.log.String(), bad) {
					t.Errorf("the log has a %q", bad)
				}
			}
			t.Logf("%d events", len(ids))
		})
	}
}

// anyReply is one of the faults of the matrix, or a variation of it.
func anyReply(random *rand.Rand, schema string) fakellm.Reply {
	seen := make(chan struct{})
	close(seen)
	for {
		f := faults[random.IntN(len(faults))]
		if f.reply == nil {
			continue
		}
		r := f.reply(scene{schema, random.IntN(2) == 0, seen})
		switch random.IntN(6) {
		case 0:
			r.End = fakellm.Hang
		case 1:
			r.CutEvery = 1 + random.IntN(50)
		case 2:
			r.Head = fakellm.Pace{Delay: time.Duration(random.IntN(40)) * time.Millisecond}
		case 3:
			r.Each = fakellm.Pace{Delay: time.Duration(random.IntN(20)) * time.Millisecond}
		}
		return r
	}
}

// weather is how clients are.
type weather struct {
	longest time.Duration // that one waits
	unread  bool          // what the sidecar does not read is the provider's word, and not looked at; its silence has no bound
}

// request is one request of a client that may leave.
func (w weather) request(g *gateway, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), w.longest)
	if random.IntN(4) == 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(random.IntN(100))*time.Millisecond)
	}
	defer cancel()
	path, body := "/v1/chat/completions", []string{chatHello, chatStream}[random.IntN(2)]
	if random.IntN(2) == 0 {
		path, body = "/v1/messages", []string{claudeHello, claudeStream}[random.IntN(2)]
	}
	request, err := http.NewRequestWithContext(ctx, "POST", g.URL+path, strings.NewReader(body))
	if err != nil {
		g.t.Error(err)
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return // the client left, or its connection was cut with the request before
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return // the client left, or was cut
	}
	text := string(data)
	complete := strings.Contains(text, "[DONE]") || strings.Contains(text, "message_stop") ||
		strings.Contains(text, `"finish_reason":"`) || strings.Contains(text, `"stop_reason":"`)
	failed := strings.Contains(text, `"error"`)
	if w.unread && strings.HasSuffix(path, "/chat/completions") {
		return
	}
	if response.StatusCode == 200 && !complete && !failed || response.StatusCode != 200 && !failed {
		g.t.Errorf("%s %s: %d %s", path, body, response.StatusCode, text)
	}
}
