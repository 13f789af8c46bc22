package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestHTTP2: targets with TLS are spoken to in the protocol that they choose, and what holds for
// HTTP/1.1 holds there: clients that read slowly, large answers both ways, many at once. With a
// plain-text target beside it, the upstream stays with HTTP/1.1.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	settings := "ca_file: " + caFile + "\nconnection_pool: {http2: true}"
	p := openAI("p")
	s := providerTLS(t, p, conf)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	target := fmt.Sprintf("{id: p, provider: {base_url: %q, secret_key_ref: %s}}", "https://localhost:"+port+"/v1", p.Key)

	t.Run("all with TLS", func(t *testing.T) {
		g := start(t, settings, pool("", target))
		g.post("/v1/chat/completions", chatHello).want(200)
		if got := p.Requests()[0].Proto; got != "HTTP/2.0" {
			t.Fatalf("protocol %s", got)
		}
		event := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 2000) + `"}}]}` + "\n\n"
		whole := strings.Repeat(event, 5000) + "data: [DONE]\n\n"
		p.Script(fakellm.Reply{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: whole, CutEvery: 64 << 10})
		r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(chatStream)))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != whole {
			t.Errorf("%d bytes of %d, %v", len(body), len(whole), err)
		}
		r.Body.Close()
		long := strings.Repeat("x", 5_000_000)
		p.Script(fakellm.Say(long), fakellm.Say(long))
		g.post("/v1/chat/completions", chatHello).want(200, long)
		g.post("/v1/messages", claudeHello).want(200, long)
		parallel(16, 100, func(int) { g.post("/v1/chat/completions", chatStream).want(200) })
	})

	t.Run("one without TLS", func(t *testing.T) {
		before := len(p.Requests())
		q := openAI("q")
		g := start(t, settings, pool("", target, to("q", q, provider(t, q))))
		for range 4 {
			g.post("/v1/chat/completions", chatHello).want(200)
		}
		for proto, requests := range map[string][]fakellm.Request{"HTTP/2.0": p.Requests()[before:], "HTTP/1.1": q.Requests()} {
			if len(requests) == 0 {
				t.Errorf("nobody was asked by %s", proto)
			}
			for _, r := range requests {
				if r.Proto != proto {
					t.Errorf("%s, want %s", r.Proto, proto)
				}
			}
		}
	})
}
