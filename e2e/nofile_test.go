package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"millrace/internal/fakellm"
)

// TestWithoutFile: a gateway can be run by REST alone; it listens where an empty file would say.
func TestWithoutFile(t *testing.T) {
	p := &fakellm.Provider{Name: "p", Schema: fakellm.OpenAIChat}
	s := provider(t, p)
	g := prepare(t, "", "")
	g.URL = "http://127.0.0.1:41002"
	if r, err := http.Get(g.URL + "/health"); err == nil {
		r.Body.Close()
		t.Fatal("something listens on :41002, where this test must")
	}
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g.exec("run", "--data-dir", t.TempDir(), "--admin", admin)
	t.Cleanup(g.interrupt)
	g.waitReady()
	base := "http://" + admin + "/api/v1/gateways"
	newPool(t, base+"/default", "chat", "/v1", target("a", s, nil))
	g.post("/v1/chat/completions", chatHello).want(200)
	must(t, "GET", base, nil)
}
