package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestReadyWhen: /health/ready says which upstreams have no target that can serve, and
// gateway.ready_when what it is 200 for (A08). An upstream that no rule leads to does not count.
func TestReadyWhen(t *testing.T) {
	t.Parallel()
	const (
		none = "upstreams: [{name: idle, targets: [{id: x, provider: {base_url: \"http://127.0.0.1:9/v1\", secret_key_ref: k}}]}]\n"
		down = `"upstreams_down":["default/left"]`
		both = `"upstreams_down":["default/left","default/right"]`
	)
	for when, c := range map[string]struct {
		none, all, one, no int    // statuses: without a target, with all, without left's, without any
		oneSays, noSays    string // of the upstreams
	}{
		"":           {503, 200, 200, 503, down, both},
		"any":        {503, 200, 200, 503, down, both},
		"all":        {503, 200, 503, 503, down, both},
		"configured": {200, 200, 200, 200, "ready", "ready"},
	} {
		t.Run("ready when "+when, func(t *testing.T) {
			t.Parallel()
			setting := ""
			if when != "" {
				setting = "ready_when: " + when
			}
			empty := start(t, setting, none)
			if got := empty.get("/health/ready").want(c.none); c.none == 503 && !strings.Contains(got.Body, `"status":"not ready","reason":"`+noTarget+`"`) {
				t.Errorf("without a target: %s", got.Body)
			}
			left, right := openAI("left"), openAI("right")
			upstream := func(name string, p *fakellm.Provider) string {
				return fmt.Sprintf("- {name: %s, health_checks: {active: {path: /v1/models, interval: 0.1s, fall: 1, rise: 1}}, targets: [%s]}\n", name, to(name, p, provider(t, p)))
			}
			g := start(t, setting, "upstreams:\n"+upstream("left", left)+upstream("right", right)+upstream("idle", openAI("idle"))+
				"services: [{name: left, upstream: left}, {name: right, upstream: right}]\nrules: [{path: /left, service: left}, {path: /right, service: right}]\n")
			says := func(status int, text string, not ...string) {
				t.Helper()
				g.eventually(fmt.Sprintf("it is %d and says %s", status, text), func() error {
					r := g.get("/health/ready")
					if r.Status != status || !strings.Contains(r.Body, text) || len(not) > 0 && strings.Contains(r.Body, not[0]) {
						return errors.New(r.Body)
					}
					return nil
				})
				g.get("/health").want(200, `"status":"ok"`)
			}
			says(c.all, `"ready"`, "upstreams_down")
			left.Probe(fakellm.Fail(500, "ill"))
			says(c.one, c.oneSays)
			right.Probe(fakellm.Fail(500, "ill"))
			says(c.no, c.noSays)
			left.Reset()
			right.Reset()
			says(c.all, `"ready"`, "upstreams_down")
		})
	}
}
