package admin

import (
	"net/http"
	"strings"
	"testing"
)

// rulesPack is a pack as it is uploaded.
func rulesPack(version, more string) string {
	return `{"name": "house-rules", "version": "` + version + `", "policies": {"chain": ["audit-logger", "strict"], "policy": {"strict": {"kind": "audit-logger"}}}` + more + `}`
}

// TestPacks: packs are uploaded, listed, changed, switched and removed as other resources are; of
// one name one version is enabled, and switching one on switches the other off in one change (E16).
func TestPacks(t *testing.T) {
	a := start(t, "")
	gateway := base + "/default"
	packs := gateway + "/packs"
	enabled := func(want ...string) {
		t.Helper()
		var got []string
		for _, p := range a.send("GET", packs, "").want(200)["packs"].([]any) {
			if pack := p.(map[string]any); pack["enabled"] == true {
				got = append(got, pack["version"].(string))
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("enabled are %q, want %q", got, want)
		}
	}
	revision := func() uint64 { n, _ := a.plane.latest(); return n }

	first := a.send("POST", packs, rulesPack("1.0.0", ""))
	id := first.want(http.StatusCreated)["id"].(string)
	if !strings.HasPrefix(id, "pk_") || first.Header.Get("Location") != packs+"/"+id {
		t.Errorf("id %q, location %q", id, first.Header.Get("Location"))
	}
	same(t, a.send("GET", packs+"/house-rules@1.0.0", "").want(200), rulesPack("1.0.0", `, "enabled": true, "id": "`+id+`"`))
	a.send("POST", packs, rulesPack("1.0.0", "")).problem(409, "exists")
	a.send("POST", packs, rulesPack("1.1.0", `, "enabled": false`)).want(201)
	enabled("1.0.0")

	before := revision()
	change := a.send("PATCH", packs+"/house-rules@1.1.0", `{"enabled": true}`)
	same(t, change.want(200)["enabled"], `true`)
	enabled("1.1.0")
	if revision() != before+1 {
		t.Errorf("%d changes, want one", revision()-before)
	}
	diff := a.send("GET", "/api/v1/versions/"+change.Header.Get("X-Millrace-Revision")+"/diff/3", "").want(200)["differences"]
	same(t, diff, `[{"path": "gateways[default].packs[house-rules@1.0.0].enabled", "from": false, "to": true},
		{"path": "gateways[default].packs[house-rules@1.1.0].enabled", "from": true, "to": false}]`)

	a.send("POST", packs, rulesPack("2.0.0", "")).want(201) // an upload is in force, unless it says otherwise
	enabled("2.0.0")
	a.send("PUT", packs+"/house-rules@1.0.0", rulesPack("1.0.0", "")).want(200)
	enabled("1.0.0")
	a.send("PATCH", packs+"/house-rules@1.0.0", `{"policies": {"policy": {"strict": null}, "chain": ["audit-logger"]}, "enabled": false}`).want(200)
	same(t, a.send("GET", packs+"/"+id, "").want(200)["policies"], `{"chain": ["audit-logger"]}`)
	enabled()
	a.send("DELETE", packs+"/house-rules@2.0.0", "").want(204)
	a.send("GET", packs+"/house-rules@2.0.0", "").problem(404, "not-found")
	a.send("POST", packs, strings.Replace(rulesPack("1.0.0", ""), "house", "other", 1)).want(201)
	a.send("PATCH", packs+"/house-rules@1.1.0", `{"enabled": true}`).want(200)
	same(t, a.send("GET", packs+"/other-rules@1.0.0", "").want(200)["enabled"], `true`)
}

// TestPacksRefused: what is wrong with a pack is said below the pack, and nothing changes; a folder
// of the machine cannot be named by any way that REST has (E16, E20).
func TestPacksRefused(t *testing.T) {
	a := start(t, "")
	packs := base + "/default/packs"
	a.send("POST", packs, rulesPack("1.0.0", "")).want(201)
	before, _ := a.plane.latest()
	for body, want := range map[string]string{
		`{"name": "a/b", "version": "1"}`:                                                                                  "name",
		`{"name": "a"}`:                                                                                                    "version",
		`{"name": "a", "version": "1", "id": "a/b"}`:                                                                       "id",
		`{"name": "a", "version": "1", "policies": {"chain": ["nobody"]}}`:                                                 "policies.chain[0]",
		`{"name": "a", "version": "1", "policies": {"policy": {"x": {"kind": "y"}}}}`:                                      "policies.policy.x.kind",
		`{"name": "a", "version": "1", "policies": {"policy": {"dlp": {"mode": "y"}}}}`:                                    "policies.policy.dlp.mode",
		`{"name": "a", "version": "1", "policies": {"policy": {"audit-logger": {"dir": "/"}}}}`:                            "policies.policy.audit-logger.dir",
		`{"name": "a", "version": "1", "enabled": false, "policies": {"policy": {"webhook": {"ca_file": "/etc/passwd"}}}}`: "policies.policy.webhook.ca_file",
	} {
		if got := a.send("POST", packs, body).problem(422, "invalid"); got[want] == "" {
			t.Errorf("POST %s: %v, want %q", body, got, want)
		}
		if body := strings.Replace(body, `, "version": "1"`, ``, 1); want != "id" && want != "version" {
			put := strings.Replace(body, `"name"`, `"version": "1", "name"`, 1)
			if got := a.send("PUT", packs+"/house-rules@1.0.0", put).problem(422, "invalid"); got[want] == "" {
				t.Errorf("PUT %s: %v, want %q", put, got, want)
			}
		}
	}
	const folder = `"policies": {"policy": {"audit-logger": {"dir": "/"}}}`
	if got := a.send("PATCH", packs+"/house-rules@1.0.0", "{"+folder+"}").problem(422, "invalid"); got["policies.policy.audit-logger.dir"] == "" {
		t.Errorf("PATCH: %v", got)
	}
	if got := a.send("POST", "/api/v1/apply", `{"packs": [{"name": "a", "version": "1", `+folder+`}]}`).problem(422, "invalid"); got["packs[0].policies.policy.audit-logger.dir"] == "" {
		t.Errorf("apply: %v", got)
	}
	if now, _ := a.plane.latest(); now != before {
		t.Errorf("%d changes", now-before)
	}
}

// TestPacksOfTheFile: the packs of the file are shown and cannot be changed, and a version of one
// of them cannot be switched on beside it. A document that is applied and lists no packs leaves
// those that were uploaded: what protects does not go away unsaid (E16).
func TestPacksOfTheFile(t *testing.T) {
	a := start(t, "providers: {targets: [{provider: openai}]}\npacks: ["+rulesPack("1.0.0", "")+"]\n")
	packs := base + "/default/packs"
	list := a.send("GET", packs, "").want(200)
	same(t, list["file_owned"], `["house-rules@1.0.0"]`)
	for _, r := range [][3]string{
		{"PATCH", packs + "/house-rules@1.0.0", `{"enabled": false}`},
		{"PUT", packs + "/house-rules@1.0.0", rulesPack("1.0.0", "")},
		{"DELETE", packs + "/house-rules@1.0.0", ""},
	} {
		a.send(r[0], r[1], r[2]).problem(409, "file-owned")
	}
	a.send("POST", packs, rulesPack("1.0.0", "")).problem(409, "exists")
	if got := a.send("POST", packs, rulesPack("1.1.0", "")).problem(422, "invalid"); got["enabled"] == "" {
		t.Errorf("two are enabled: %v", got)
	}
	a.send("POST", packs, rulesPack("1.1.0", `, "enabled": false`)).want(201)
	a.send("POST", packs, strings.Replace(rulesPack("1.0.0", ""), "house", "other", 1)).want(201)

	applied := func(packs, want string) {
		t.Helper()
		a.send("POST", "/api/v1/apply", `{"gateway": {"name": "default"}`+packs+`}`).want(200)
		var names []string
		for _, p := range a.send("GET", base+"/default/packs", "").want(200)["packs"].([]any) {
			names = append(names, p.(map[string]any)["name"].(string)+"@"+p.(map[string]any)["version"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("after apply of %q there are %s, want %s", packs, got, want)
		}
	}
	applied("", "house-rules@1.0.0 house-rules@1.1.0 other-rules@1.0.0")
	applied(`, "packs": [`+rulesPack("1.0.0", "")+`, `+rulesPack("1.2.0", `, "enabled": false`)+`]`, "house-rules@1.0.0 house-rules@1.2.0")
}
