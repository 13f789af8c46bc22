package extproc

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"millrace/config"
	"millrace/extproc/llm"
)

// TestConditions: what a failure is called in retry.on. Providers word a missing model in many
// ways; a missing path says nothing of one.
func TestConditions(t *testing.T) {
	failure := func(status int, code, message string) *llm.Error {
		return &llm.Error{Type: llm.ErrorTypeOf(status), Status: status, Code: code, Message: message}
	}
	for _, c := range []struct {
		failure *llm.Error
		want    string
	}{
		{failure(400, "", "bad"), ""}, {failure(405, "", "no"), ""}, {failure(409, "", "no"), ""}, {failure(413, "", "no"), ""}, {failure(422, "", "no"), ""}, {failure(508, "", "no"), ""},
		{failure(401, "", "no"), config.OnCredential}, {failure(402, "", "no"), config.OnCredential}, {failure(403, "", "no"), config.OnCredential},
		{failure(404, "model_not_found", ""), config.OnModel},
		{failure(404, "DeploymentNotFound", "The API deployment for this resource does not exist."), config.OnModel},
		{failure(404, "", "model: claude-x"), config.OnModel},
		{failure(404, "", "model 'gpt-x' not found, try pulling it first"), config.OnModel},
		{failure(404, "", "No endpoints found for gpt-x."), config.OnModel},
		{failure(404, "", "Not Found"), ""}, {failure(404, "", "404 page not found"), ""}, {failure(404, "", "Invalid URL (POST /v1/chat)"), ""},
		{failure(408, "", "slow"), config.OnNoAnswer}, {failure(504, "", "slow"), config.OnNoAnswer}, {llm.Errorf(llm.ErrTimeout, "slow"), config.OnNoAnswer},
		{failure(429, "", "no"), config.OnRateLimit}, {failure(498, "", "no"), config.OnRateLimit},
		{failure(425, "", "no"), config.OnServerError}, {failure(500, "", "no"), config.OnServerError}, {failure(524, "", "no"), config.OnServerError},
		{failure(529, "", "no"), config.OnServerError}, {failure(302, "", "no"), config.OnServerError}, {llm.Errorf(llm.ErrBadGateway, "no"), config.OnServerError},
		{llm.Errorf(llm.ErrAuthentication, "inside a stream"), config.OnCredential},
	} {
		o := outcome{x: &exchange{}, model: "gpt-x"}
		if got := o.condition(c.failure); got != c.want {
			t.Errorf("%d %s %s: %q, want %q", c.failure.HTTPStatus(), c.failure.Code, c.failure.Message, got, c.want)
		}
	}
}

// TestClientsOwnKey: a target that is asked with the client's own key says of that one that it is
// wrong.
func TestClientsOwnKey(t *testing.T) {
	o := outcome{x: &exchange{clientRequest: clientRequest{forward: map[string]string{"authorization": "Bearer own"}}},
		target: &target{config: &config.Target{Forward: []string{"authorization"}}}}
	e := llm.Errorf(llm.ErrAuthentication, "Incorrect API key provided")
	if o.condition(e) != "" || o.trouble(e) != "" || o.forClient(e) != e {
		t.Errorf("%q, %q, told %v", o.condition(e), o.trouble(e), o.forClient(e))
	}
}

// TestAnnounced: what clients say of how long they wait; the shorter word counts, and what makes no
// sense is not heeded.
func TestAnnounced(t *testing.T) {
	for _, c := range []struct {
		timeout, read string
		want          time.Duration
	}{
		{"600", "", 599 * time.Second}, {"", "600.0", 599 * time.Second}, {"5", "", 4500 * time.Millisecond}, {"0.5", "", 450 * time.Millisecond},
		{"600", "60", 59 * time.Second}, {"60", "600", 59 * time.Second}, {"soon", "60", 59 * time.Second},
		{"", "", 0}, {"0", "", 0}, {"-1", "", 0}, {"NaN", "", 0}, {"Inf", "", 0}, {"-Inf", "", 0}, {"1e999", "", 0}, {"86400", "", 0}, {"60s", "", 0}, {"6 0", "", 0}, {"0x", "", 0},
	} {
		h := headers{}
		for name, value := range map[string]string{"x-stainless-timeout": c.timeout, "x-stainless-read-timeout": c.read} {
			if value != "" {
				h = append(h, &corev3.HeaderValue{Key: name, Value: value})
			}
		}
		if got := announced(h); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.timeout, c.read, got, c.want)
		}
	}
}
