package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestPackSwitched: a pack that is uploaded over REST is in force with the answer to the call, one
// that is switched off is not, and of two versions the one that was switched on last is. What is
// wrong with a kind's parameters is said below the pack, by the kind, and what runs goes on (E16,
// E19).
func TestPackSwitched(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	g := prepare(t, "", pool("", to("a", a, provider(t, a))))
	data, admin := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g.exec("run", "--config", g.Config, "--data-dir", data, "--admin", admin)
	g.waitReady()
	t.Cleanup(g.stop)
	packs := "http://" + admin + "/api/v1/gateways/default/packs"
	intents := func() (n int) {
		for _, r := range auditOf(t, filepath.Join(data, "audit")) {
			if r.Kind == "intent" {
				n++
			}
		}
		return n
	}
	recorded := func(when string, want bool) {
		t.Helper()
		before := intents()
		g.post("/v1/chat/completions", chatHello).want(200)
		if got := intents() - before; (got == 1) != want || got > 1 {
			t.Errorf("%s: %d records", when, got)
		}
	}
	pack := func(version string, chain []string) map[string]any {
		return map[string]any{"name": "records", "version": version, "policies": map[string]any{"chain": chain}}
	}
	recorded("without a pack", false)
	must(t, "POST", packs, pack("1.0.0", []string{"audit-logger"}))
	recorded("with it", true)
	must(t, "PATCH", packs+"/records@1.0.0", map[string]any{"enabled": false})
	recorded("switched off", false)
	must(t, "PATCH", packs+"/records@1.0.0", map[string]any{"enabled": true})
	recorded("switched on", true)
	must(t, "POST", packs, pack("1.1.0", []string{}))
	recorded("with another version, without policies", false)
	must(t, "PATCH", packs+"/records@1.0.0", map[string]any{"enabled": true})
	recorded("with the first version again", true)

	for path, params := range map[string]map[string]any{
		"policies.policy.audit-logger.retention": {"retention": 3},                              // there is no such parameter
		"policies.policy":                        {"kind": "audit-logger", "retention_days": 3}, // the log has another
	} {
		wrong := pack("2.0.0", []string{"audit-logger"})
		wrong["name"] = "wrong"
		wrong["policies"].(map[string]any)["policy"] = map[string]any{"audit-logger": params}
		status, _, problem, err := api("POST", packs, wrong)
		if err != nil || status != 422 || problem["errors"].([]any)[0].(map[string]any)["path"] != path {
			t.Errorf("%s: %d %v %v", path, status, problem, err)
		}
	}
	recorded("after a pack that was refused", true)
	must(t, "DELETE", packs+"/records@1.1.0", nil)
	must(t, "DELETE", packs+"/records@1.0.0", nil)
	recorded("removed", false)
}
