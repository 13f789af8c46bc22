package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/internal/fakellm"
)

// three starts fake providers a, b and c, and writes a target for each; more[i] are further fields
// of the i-th.
func three(t *testing.T, more ...string) (fakes []*fakellm.Provider, targets []string) {
	t.Helper()
	return threeAt(t, provider, more...)
}

// atTheSameAddress starts a fake where it is in every run: what is chosen by a hash of where
// targets are is then the same in every run. A run of this test that another process has under way
// is waited for.
func atTheSameAddress(t *testing.T, p *fakellm.Provider) *fakellm.Server {
	t.Helper()
	addr := "127.71.0." + strconv.Itoa(int(p.Name[0])) + ":19471" // an address that nothing else listens on
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s, err := fakellm.Start(p, addr)
		if err == nil {
			t.Cleanup(s.Close)
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// threeAt is three whose fakes are started by start.
func threeAt(t *testing.T, start func(*testing.T, *fakellm.Provider) *fakellm.Server, more ...string) (fakes []*fakellm.Provider, targets []string) {
	t.Helper()
	for i, name := range []string{"a", "b", "c"} {
		p := openAI(name)
		p.KeepRequests = 4000
		fakes = append(fakes, p)
		var fields []string
		if i < len(more) && more[i] != "" {
			fields = append(fields, more[i])
		}
		targets = append(targets, to(name, p, start(t, p), fields...))
	}
	return fakes, targets
}

// chatTurns is turn n of a conversation: everything said so far, and asks for another model each
// time.
func chatTurns(conversation string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"model":"m%d","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"this is %s"}`, n, conversation)
	for i := range n {
		fmt.Fprintf(&b, `,{"role":"assistant","content":"answer %d"},{"role":"user","content":"question %d"}`, i, i)
	}
	return b.String() + "]}"
}

// TestPromptHash shows the stickiness of A28 that pays for LLMs: all turns of a conversation go to
// one target, conversations are shared by weight (A17), and when the target fails another one
// answers (B30) and later turns go on.
func TestPromptHash(t *testing.T) {
	t.Parallel()
	for _, choice := range []string{"any", "listed"} {
		t.Run(choice, func(t *testing.T) {
			models := ""
			if choice == "listed" {
				models = ", models: [m0, m1, m2, m3]"
			}
			fakes, targets := threeAt(t, atTheSameAddress, "weight: 50"+models, "weight: 30"+models, "weight: 20"+models)
			g := start(t, "", pool("algorithm: prompt-hash\nhash_balance_factor: 0\nmodel_choice: "+choice, targets...))
			const conversations, turns = 600, 4
			var mu sync.Mutex
			shares := map[string]int{}
			parallel(4, conversations, func(i int) {
				name := fmt.Sprint("conversation ", i)
				first := ""
				for n := range turns {
					target := g.post("/v1/chat/completions", chatTurns(name, n)).want(200).Header.Get("x-millrace-target")
					if n == 0 {
						first = target
						mu.Lock()
						shares[target]++
						mu.Unlock()
					}
					if target != first {
						t.Errorf("%s, turn %d: target %s, before it was %s", name, n, target, first)
					}
				}
			})
			for target, weight := range map[string]int{"a": 50, "b": 30, "c": 20} {
				if got, want := shares[target], conversations*weight/100; got < want-conversations/10 || got > want+conversations/10 { // what hashes give is the same in every run, and no exact share
					t.Errorf("target %s has %d conversations, want about %d", target, got, want)
				}
			}

			home := g.post("/v1/chat/completions", chatTurns("one that moves", 0)).want(200).Header.Get("x-millrace-target")
			for _, p := range fakes {
				if p.Name == home {
					p.Always(fakellm.Fail(503, "down"))
				}
			}
			for n := range 4 {
				a := g.post("/v1/chat/completions", chatTurns("one that moves", n)).want(200)
				if a.Header.Get("x-millrace-target") == home {
					t.Errorf("turn %d: target %s is down and answered", n, home)
				}
			}
			for _, p := range fakes {
				for _, r := range p.Requests() {
					if r.Header.Get("x-millrace-prompt-hash") != "" {
						t.Fatalf("target %s got the gateway's own header: %v", p.Name, r.Header)
					}
				}
			}
		})
	}
}

// TestPromptHashIsBounded: a conversation that asks for more at once than twice a target's share
// overflows to the others.
func TestPromptHashIsBounded(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t)
	gate := make(chan struct{})
	for _, p := range fakes {
		reply := fakellm.Usual()
		reply.Head = fakellm.Pace{Gate: gate}
		p.Always(reply)
	}
	g := start(t, "", pool("algorithm: prompt-hash", targets...))
	const n = 12
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { g.post("/v1/chat/completions", chatTurns("a busy one", 0)).want(200) })
		g.eventually("the request is under way", func() error {
			if total := len(fakes[0].Requests()) + len(fakes[1].Requests()) + len(fakes[2].Requests()); total != i+1 {
				return fmt.Errorf("%d requests, want %d", total, i+1)
			}
			return nil
		})
	}
	for _, p := range fakes {
		if got := len(p.Requests()); got > n*2/3+1 {
			t.Errorf("target %s has %d of %d requests", p.Name, got, n)
		}
	}
	close(gate)
	wg.Wait()
}

// TestHashes: what has the same header, path, address or cookie goes to one target (A28, C07), and
// its failure moves the request on to the next priority (B30).
func TestHashes(t *testing.T) {
	t.Parallel()
	jar := func() *http.Client {
		j, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Client{Jar: j, Transport: &http.Transport{}} // Envoy makes the cookie of the connection's addresses
	}
	for _, c := range []struct {
		name, upstream string
		spreads        bool // different clients have different targets
		ask            func(g *gateway, client *http.Client, i int) *http.Request
	}{
		{"source-hash", "algorithm: source-hash", false, func(g *gateway, _ *http.Client, _ int) *http.Request {
			return g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello))
		}},
		{"uri-hash", "algorithm: uri-hash", false, func(g *gateway, _ *http.Client, i int) *http.Request {
			return g.request("POST", fmt.Sprint("/v1/chat/completions?q=", i), strings.NewReader(chatHello))
		}},
		{"header-hash", "algorithm: header-hash\nhash_header: X-User", true, func(g *gateway, _ *http.Client, i int) *http.Request {
			return g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello), fmt.Sprint("X-User: user", i))
		}},
		{"cookie-hash", "algorithm: cookie-hash\nhash_cookie: GWID", true, func(g *gateway, _ *http.Client, _ int) *http.Request {
			return g.request("POST", "/v1/chat/completions", strings.NewReader(chatHello))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakes, targets := three(t)
			spare := openAI("spare")
			targets = append(targets, to("spare", spare, provider(t, spare), "priority: 9"))
			g := start(t, "", pool(c.upstream+"\nretry: {attempts: 4}", targets...))
			const clients = 30
			seen := map[string]bool{}
			for i := range clients {
				client, first := jar(), ""
				for range 5 {
					r, err := client.Do(c.ask(g, client, i))
					if err != nil {
						t.Fatal(err)
					}
					target := g.read(r).want(200).Header.Get("x-millrace-target")
					if first == "" {
						first = target
					}
					if target != first {
						t.Fatalf("client %d: target %s, before it was %s", i, target, first)
					}
				}
				seen[first] = true
				client.CloseIdleConnections()
			}
			if want := map[bool]int{true: 3, false: 1}[c.spreads]; len(seen) != want {
				t.Errorf("targets %v, want %d of them", seen, want)
			}
			for _, p := range fakes {
				p.Always(fakellm.Fail(503, "down"))
			}
			r, err := http.DefaultClient.Do(c.ask(g, http.DefaultClient, 0))
			if err != nil {
				t.Fatal(err)
			}
			g.read(r).want(200).header("x-millrace-target", "spare")
			for _, p := range append(fakes, spare) {
				for _, r := range p.Requests() {
					if r.Header.Get("X-User")+r.Header.Get("Cookie") != "" {
						t.Fatalf("target %s got what was hashed: %v", p.Name, r.Header)
					}
				}
			}
		})
	}
}

// TestLeastConnections: a request goes to the target that has the fewest under way (A35, B05, C17).
func TestLeastConnections(t *testing.T) {
	t.Parallel()
	fakes, targets := three(t)
	g := start(t, "", pool("algorithm: least-connections", targets...))
	gates := map[string]chan struct{}{}
	for _, p := range fakes {
		gates[p.Name] = make(chan struct{})
		reply := fakellm.Usual()
		reply.Head = fakellm.Pace{Gate: gates[p.Name]}
		p.Always(reply)
	}
	arrived := func(n int) {
		g.eventually("requests have arrived", func() error {
			if total := len(fakes[0].Requests()) + len(fakes[1].Requests()) + len(fakes[2].Requests()); total != n {
				return fmt.Errorf("%d, want %d", total, n)
			}
			return nil
		})
	}
	var wg sync.WaitGroup
	var done atomic.Int32
	const each = 3
	for i := range 3 * each { // one after the other, each held: they share out evenly
		wg.Go(func() {
			g.post("/v1/chat/completions", chatStream).want(200)
			done.Add(1)
		})
		arrived(i + 1)
	}
	for _, p := range fakes {
		if got := len(p.Requests()); got != each {
			t.Errorf("target %s has %d requests, want %d", p.Name, got, each)
		}
	}
	close(gates["b"])
	g.eventually("b is idle", func() error {
		if n := done.Load(); n != each {
			return fmt.Errorf("%d requests have ended", n)
		}
		return nil
	})
	for range 20 {
		g.post("/v1/chat/completions", chatHello).want(200).header("x-millrace-target", "b")
	}
	close(gates["a"])
	close(gates["c"])
	wg.Wait()
}
