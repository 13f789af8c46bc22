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

// sentWithLength checks that every request that the providers got said how long its body is, and
// was as long. A request with transfer-encoding has no length (RFC 9112, section 6.3), so none has
// that either.
func sentWithLength(t *testing.T, fakes ...*fakellm.Provider) {
	t.Helper()
	for _, p := range fakes {
		if len(p.Requests()) == 0 {
			t.Errorf("%s got no request", p.Name)
		}
		for _, r := range p.Requests() {
			if r.Length != int64(len(r.Body)) || len(r.Body) == 0 {
				t.Errorf("%s, request %d over %s: content-length %d, body of %d bytes", p.Name, r.N, r.Proto, r.Length, len(r.Body))
			}
		}
	}
}

// fromEveryClient posts both schemas' requests, plain and streamed, with a length and without,
// small and large (Envoy collects them in different ways).
func (g *gateway) fromEveryClient() {
	g.t.Helper()
	for _, large := range []string{"", strings.Repeat("much text ", 20_000)} {
		for _, body := range []struct{ path, body string }{
			{"/v1/chat/completions", chatHello}, {"/v1/chat/completions", chatStream}, {"/v1/messages", claudeHello}, {"/v1/messages", claudeStream},
		} {
			said := strings.Replace(body.body, `"hello"`, `"hello`+large+`"`, 1)
			g.post(body.path, said).want(200)
			chunked := g.request("POST", body.path, io.MultiReader(strings.NewReader(said))) // of unknown length
			if chunked.ContentLength != 0 {
				g.t.Fatal("the request has a length")
			}
			g.answerTo(chunked).want(200)
		}
	}
}

// TestContentLength: the body is whole before a request is sent, so a provider gets its
// content-length and no transfer-encoding: at the first attempt and at a retry, the target speaking
// the client's schema or another.
func TestContentLength(t *testing.T) {
	t.Parallel()
	for _, schemas := range [][2]func(string) *fakellm.Provider{{openAI, anthropicAI}, {anthropicAI, openAI}, {openAI, openAI}} {
		a, b := schemas[0]("a"), schemas[1]("b")
		a.Always(fakellm.Fail(503, "down"))
		g := start(t, "", pool("health_checks: {passive: false}",
			to("a", a, provider(t, a), "priority: 1", "default_model: a-model-of-another-length"), to("b", b, provider(t, b), "priority: 2")))
		g.fromEveryClient()
		if len(a.Requests()) != len(b.Requests()) {
			t.Errorf("%d attempts at a, %d at b", len(a.Requests()), len(b.Requests()))
		}
		sentWithLength(t, a, b)
	}
}

// TestContentLengthHTTP2: the same over HTTP/2, where a body may come without one.
func TestContentLengthHTTP2(t *testing.T) {
	t.Parallel()
	caFile, conf := certificate(t)
	p := openAI("p")
	s := providerTLS(t, p, conf)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, "ca_file: "+caFile+"\nconnection_pool: {http2: true}",
		pool("", fmt.Sprintf("{id: p, provider: {base_url: %q, secret_key_ref: %s}}", "https://localhost:"+port+"/v1", p.Key)))
	g.fromEveryClient()
	if got := p.Requests()[0].Proto; got != "HTTP/2.0" {
		t.Errorf("protocol %s", got)
	}
	sentWithLength(t, p)
}

// TestContentLengthOpen: an open service sends lengths too, with the sidecar and without.
func TestContentLengthOpen(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), openAI("b")
	b.Key = a.Key
	a.Always(fakellm.Fail(503, "down"))
	g := prepare(t, "", openAndClosed(t, map[string][]*fakellm.Provider{"v1": {a, b}}))
	twoProcesses(t, g)
	post := func() {
		t.Helper()
		for range 2 {
			g.post("/v1/chat/completions", chatHello).want(200)
			g.answerTo(g.request("POST", "/v1/chat/completions", io.MultiReader(strings.NewReader(chatHello)))).want(200)
		}
	}
	post()
	live := len(b.Requests())
	g.kill()
	post()
	if len(b.Requests()) == live {
		t.Error("no request without the sidecar")
	}
	sentWithLength(t, a, b)
}

// answerTo sends a request and reads its whole answer.
func (g *gateway) answerTo(r *http.Request) *answer {
	g.t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.read(response)
}
