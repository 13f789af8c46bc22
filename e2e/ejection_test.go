package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// requestFailures are the ways in which all attempts of one request may fail.
var requestFailures = map[string]struct {
	reply fakellm.Reply
	body  string
}{
	"500":                  {fakellm.Fail(500, "Internal server error"), chatHello},
	"429":                  {fakellm.Fail(429, "slow down"), chatHello},
	"429 with retry-after": {fakellm.RateLimited(time.Second), chatHello},
	"error in a stream":    {fakellm.FailInStream(529, "overloaded"), chatStream},
	"reset":                {fakellm.RefuseTCP(), chatHello},
	"reset after a head":   {fakellm.Reply{Answer: &fakellm.Answer{Text: "one"}, StopAfter: 1, End: fakellm.ResetTCP}, chatStream},
	"streamed silence":     {fakellm.Reply{NoHead: true, End: fakellm.Hang}, chatStream},
	"silence":              {fakellm.Reply{NoHead: true, End: fakellm.Hang}, chatHello},
}

// TestOneRequestDecidesForNobody: in the README's own short form, whatever all attempts of one
// request meet at the only target, the next request is answered by it
// (one-request-takes-the-target-out.json; B18-B20).
func TestOneRequestDecidesForNobody(t *testing.T) {
	t.Parallel()
	for name, c := range requestFailures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			only := openAI("only")
			s := provider(t, only)
			g := start(t, "timeouts: {request_timeout: 1s, first_byte_timeout: 1s}",
				fmt.Sprintf("providers: {targets: [{id: only, provider: {base_url: %q, secret_key_ref: %s}, default_model: m}]}\n", s.URL()+"/v1", only.Key))
			only.Always(c.reply)
			for range 4 { // more than threshold
				if got := g.post("/v1/chat/completions", c.body); got.Status == 200 {
					t.Fatalf("answered: %s", got.Body)
				}
			}
			only.Reset()
			g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "only=200")
		})
	}
}

// TestEjectionCountsRequests: a request that fails at both targets, at one of them twice, is one
// failure of each. The second one takes them out, and health says why and until when; they are
// asked all the same, for there is no other (B18-B20, B33).
func TestEjectionCountsRequests(t *testing.T) {
	t.Parallel()
	for name, c := range requestFailures {
		if name == "429 with retry-after" || name == "silence" { // the first cools, the second is not retried
			continue
		}
		for _, algorithm := range []string{"round-robin", "source-hash"} {
			for _, priority := range []string{"1", "2"} {
				t.Run(name+" by "+algorithm+" priorities 1 and "+priority, func(t *testing.T) {
					t.Parallel()
					a, b := openAI("a"), openAI("b")
					g, admin := withAdmin(t, "timeouts: {first_byte_timeout: 1s}", pool("algorithm: "+algorithm+"\nhealth_checks: {passive: true, threshold: 2, interval: 60}\nretry: {attempts: 3}",
						to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: "+priority)))
					a.Always(c.reply)
					b.Always(c.reply)
					fails := func(n int) {
						t.Helper()
						if got := g.post("/v1/chat/completions", c.body); got.Status < 429 {
							t.Fatalf("answered: %s", got.Body)
						}
						// Every attempt has been seen: its event is written after Envoy's account
						// of its end.
						g.eventually("the event", func() error {
							if len(g.chatEvents()) != n {
								return errors.New("not yet")
							}
							return nil
						})
					}
					before := time.Now()
					fails(1)
					if n := len(a.Requests()) + len(b.Requests()); n != 3 {
						t.Fatalf("%d attempts, want 3", n)
					}
					for _, target := range []string{"a", "b"} {
						if row := healthOf(t, admin, target); row["ejected"] == true || row["healthy"] != true {
							t.Errorf("one request took %s out: %v", target, row)
						}
					}
					fails(2)
					for _, target := range []string{"a", "b"} {
						g.eventually(target+" is out", func() error {
							row := healthOf(t, admin, target)
							until, err := time.Parse(time.RFC3339, fmt.Sprint(row["ejected_until"]))
							if err != nil || row["ejected"] != true || row["healthy"] != false || until.Before(before.Add(60*time.Second)) || until.After(time.Now().Add(60*time.Second)) ||
								!strings.Contains(fmt.Sprint(row["ejected_because"]), "2 requests in a row") {
								return fmt.Errorf("%v", row)
							}
							return nil
						})
					}
					a.Reset()
					b.Reset()
					for range 5 {
						g.post("/v1/chat/completions", chatHello).want(200)
					}
				})
			}
		}
	}
}

func (g *gateway) chatEvents() (ids []string) {
	for _, e := range g.readEvents() {
		if e.Path == "/v1/chat/completions" {
			ids = append(ids, e.Id)
		}
	}
	return ids
}

// TestClientsThatLeave: a client that goes away says nothing of the target it was waiting for,
// before the answer and in the middle of a stream, and neither does a request that the target finds
// wrong.
func TestClientsThatLeave(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g, admin := withAdmin(t, "", pool("health_checks: {passive: true, threshold: 1, interval: 60}\ncircuit_breaker: {failure_percentage: 1, request_volume: 1}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	arrived := 0
	for _, reply := range []fakellm.Reply{
		{NoHead: true, End: fakellm.Hang},
		{Answer: &fakellm.Answer{Text: "one two"}, StopAfter: 3, End: fakellm.Hang},
	} {
		for _, body := range []string{chatHello, chatStream} {
			a.Script(reply)
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				if r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(body)).WithContext(ctx)); err == nil {
					r.Body.Close()
				}
			}()
			arrived++
			if _, err := a.WaitArrived(t.Context(), arrived); err != nil {
				t.Fatal(err)
			}
			leave()
			g.eventually("the event", func() error {
				if len(g.chatEvents()) != arrived {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	a.Script(fakellm.Fail(400, "no"))
	g.post("/v1/chat/completions", chatHello).want(400)
	if row := healthOf(t, admin, "a"); row["ejected"] == true || row["healthy"] != true {
		t.Errorf("a is out: %v", row)
	}
	g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-attempts", "a=200")
}

// TestEjectionIsLeftAlone: while another target can serve, one that is out is not asked, whatever
// the algorithm and the priorities; when its time is over it is asked again, and its reason is
// forgotten (B20, B32).
func TestEjectionIsLeftAlone(t *testing.T) {
	t.Parallel()
	for algorithm, more := range map[string]string{"round-robin": "", "least-connections": "", "header-hash": "hash_header: x-user"} {
		for _, priority := range []string{"1", "2"} {
			t.Run(algorithm+" priorities 1 and "+priority, func(t *testing.T) {
				t.Parallel()
				a, b := openAI("a"), openAI("b")
				g, admin := withAdmin(t, "", pool("algorithm: "+algorithm+"\n"+more+"\nhealth_checks: {passive: true, threshold: 1, interval: 3}",
					to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: "+priority)))
				user := 0
				ask := func() string {
					user++
					return g.post("/v1/chat/completions", chatHello, fmt.Sprintf("x-user: %d", user)).want(200).Header.Get("x-millrace-attempts")
				}
				a.Always(fakellm.RefuseTCP())
				g.eventually("a is out", func() error {
					ask()
					if healthOf(t, admin, "a")["ejected"] != true {
						return errors.New("not yet")
					}
					return nil
				})
				g.eventually("b is asked, and it alone", func() error {
					for range 20 {
						if got := ask(); got != "b=200" {
							return errors.New(got)
						}
					}
					return nil
				})
				a.Reset()
				g.eventually("a is asked again", func() error {
					if got := ask(); got != "a=200" {
						return errors.New(got)
					}
					return nil
				})
				if row := healthOf(t, admin, "a"); row["ejected"] == true || row["ejected_because"] != "" {
					t.Errorf("%v", row)
				}
			})
		}
	}
}

// TestBrokenStreams: streams that break off when they have begun say nothing of their target: it
// answered.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	g, admin := withAdmin(t, "", pool("health_checks: {passive: true, threshold: 1, interval: 60}",
		to("a", a, provider(t, a), "priority: 1"), to("b", b, provider(t, b), "priority: 2")))
	n := 0
	for _, end := range []fakellm.End{fakellm.ResetTCP, fakellm.Cut} {
		for range 2 {
			gate := make(chan struct{}, 2) // the role and the first word
			gate <- struct{}{}
			gate <- struct{}{}
			a.Script(fakellm.Reply{Answer: &fakellm.Answer{Text: "one two three"}, Each: fakellm.Pace{Gate: gate}, StopAfter: 3, End: end})
			r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
			if err != nil {
				t.Fatal(err)
			}
			close(gate) // the client has the head, so the stream has begun
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if r.Header.Get("x-millrace-target") != "a" {
				t.Errorf("stream %d: answered by %q", n, r.Header.Get("x-millrace-target"))
			}
			n++
			g.eventually("the event", func() error {
				if len(g.chatEvents()) != n {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	if row := healthOf(t, admin, "a"); row["ejected"] == true {
		t.Errorf("a is out: %v", row)
	}
}
