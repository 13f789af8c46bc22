package admin

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	kept  = "Bearer sk-kept-1234567890"
	token = "tok-kept-1234567890"
	probe = "prb-kept-1234567890"
)

const keptUpstream = `{"name": "chat", "targets": [
	{"id": "a", "host": "a.example", "weight": 1, "credentials": {"header_name": "Authorization", "header_value": "` + kept + `"}, "headers": {"X-Team-Token": "` + token + `", "x-team": "blue"}},
	{"id": "b", "provider": {"type": "openai", "base_url": "https://b.example/v1", "secret_key_ref": "` + kept + `-b"}, "weight": 1}],
	"health_checks": {"passive": true, "active": {"path": "/up", "headers": {"x-probe": "` + probe + `"}}}}`

// shown is keptUpstream as it is shown.
var shownUpstream = strings.NewReplacer(kept+"-b", "[redacted]", kept, "[redacted]", token, "[redacted]", probe, "[redacted]").Replace(keptUpstream)

const (
	credentialOfA = "targets[0].credentials.header_value"
	headerOfA     = "targets[0].headers.X-Team-Token"
	keyOfB        = "targets[1].provider.secret_key_ref"
	probeHeader   = "health_checks.active.headers.x-probe"
)

// withUpstream starts a server that stores keptUpstream.
func withUpstream(t *testing.T) (a *api, upstream string) {
	a = start(t, "")
	a.send("POST", base, `{"name": "team", "subdomain": "team"}`).want(201)
	a.send("POST", base+"/team/upstreams", keptUpstream).want(201)
	return a, base + "/team/upstreams/chat"
}

// secrets are the stored ones: of a, its header, of b, the probe's.
func (a *api) secrets() []string {
	_, state := a.plane.latest()
	u := state.Documents[0].Upstreams[0]
	var all []string
	for _, t := range u.Targets {
		all = append(all, t.GetCredentials().GetHeaderValue().GetLiteral()+t.GetProvider().GetSecretKeyRef().GetLiteral())
		for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
			all = append(all, t.Headers[name])
		}
	}
	return append(all, u.HealthChecks.Active.Headers["x-probe"].GetLiteral())
}

// TestKeptSecretsStay: what is written back as it was shown keeps its secrets, in any order, with
// anything else changed.
func TestKeptSecretsStay(t *testing.T) {
	want := []string{kept, token, "blue", kept + "-b", probe}
	slices.Sort(want)
	for name, c := range map[string]struct{ method, path, body string }{
		"replace":                  {"PUT", "", shownUpstream},
		"replace with changes":     {"PUT", "", strings.NewReplacer(`"weight": 1`, `"weight": 9, "path": "/v2/chat"`, `"passive": true`, `"passive": false`, `"/up"`, `"/ok"`).Replace(shownUpstream)},
		"the same, said otherwise": {"PUT", "", strings.NewReplacer(`"host": "a.example"`, `"host": "A.Example", "port": 443, "protocol": "https"`, "X-Team-Token", "x-team-token", `"Authorization"`, `"authorization"`).Replace(shownUpstream)},
		"patch":                    {"PATCH", "", `{"algorithm": "least-connections"}`},
		"patch a target":           {"PATCH", "/targets/a", `{"weight": 5}`},
		"disable a target":         {"POST", "/targets/a/disable", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, upstream := withUpstream(t)
			a.send(c.method, upstream+c.path, c.body).want(200)
			if got := slices.Sorted(slices.Values(a.secrets())); !slices.Equal(got, want) {
				t.Errorf("stored %q, want %q", got, want)
			}
			a.neverSaid()
		})
	}
	t.Run("reordered", func(t *testing.T) {
		a, upstream := withUpstream(t)
		shown := a.send("GET", upstream, "").want(200)
		targets := shown["targets"].([]any)
		slices.Reverse(targets)
		a.send("PUT", upstream, marshal(t, shown)).want(200)
		if got, want := a.secrets(), []string{kept + "-b", kept, token, "blue", probe}; !slices.Equal(got, want) {
			t.Errorf("stored %q, want %q", got, want)
		}
	})
}

// TestKeptSecretsDoNotMove: a secret that is kept goes only where it was sent before. Any other
// write is refused, names the fields and changes nothing.
func TestKeptSecretsDoNotMove(t *testing.T) {
	ofA := []string{credentialOfA, headerOfA, probeHeader}
	for name, c := range map[string]struct {
		method, path, body string
		fields             []string
	}{
		"another host":                  {"PUT", "", replaced("a.example", "evil.example"), ofA},
		"another port":                  {"PUT", "", replaced(`"host": "a.example"`, `"host": "a.example", "port": 8443`), ofA},
		"without TLS":                   {"PUT", "", replaced(`"host": "a.example"`, `"host": "a.example", "port": 443, "protocol": "http"`), ofA},
		"a provider in place of a host": {"PUT", "", replaced(`"host": "a.example"`, `"provider": "openai"`), ofA},
		"a base URL in place of a host": {"PUT", "", replaced(`"host": "a.example"`, `"provider": {"base_url": "https://evil.example/v1"}`), ofA},
		"another base URL":              {"PUT", "", replaced("b.example", "evil.example"), []string{keyOfB, probeHeader}},
		"another scheme":                {"PUT", "", replaced("https://b.example", "http://b.example:443"), []string{keyOfB, probeHeader}},
		"the base URL's port":           {"PUT", "", replaced("b.example", "b.example:444"), []string{keyOfB, probeHeader}},
		"no base URL":                   {"PUT", "", replaced(`"base_url": "https://b.example/v1", `, ""), []string{keyOfB, probeHeader}},
		"another name of the header":    {"PUT", "", replaced(`"Authorization"`, `"X-Debug"`), []string{credentialOfA}},
		"another header":                {"PUT", "", replaced("X-Team-Token", "X-Other-Token"), []string{"targets[0].headers.X-Other-Token"}},
		"another id":                    {"PUT", "", replaced(`"id": "a"`, `"id": "c"`), []string{credentialOfA, headerOfA}},
		"each other's ids":              {"PUT", "", replaced(`"id": "a"`, `"id": "c"`, `"id": "b"`, `"id": "a"`, `"id": "c"`, `"id": "b"`), []string{credentialOfA, headerOfA, keyOfB}},
		"an escape of the base URL":     {"PUT", "", replaced("https://b.example/v1", "https://b.example@evil.example/v1"), []string{keyOfB, probeHeader}},
		"one target more":               {"PUT", "", replaced(`"targets": [`, `"targets": [{"id": "n", "host": "evil.example"}, `), []string{probeHeader}},

		"patch of a list":               {"PATCH", "", `{"targets": [{"id": "a", "host": "evil.example", "credentials": {"header_name": "Authorization", "header_value": "[redacted]"}}]}`, []string{credentialOfA, probeHeader}},
		"patch of a host":               {"PATCH", "/targets/a", `{"host": "evil.example"}`, []string{"credentials.header_value", "headers.X-Team-Token"}},
		"patch of a base URL":           {"PATCH", "/targets/b", `{"provider": {"base_url": "https://evil.example/v1"}}`, []string{"provider.secret_key_ref"}},
		"patch of a header's name":      {"PATCH", "/targets/a", `{"credentials": {"header_name": "X-Debug"}}`, []string{"credentials.header_value"}},
		"patch that leaves the probe's": {"PATCH", "/targets/b", `{"provider": {"base_url": "https://evil.example/v1", "secret_key_ref": "new"}}`, []string{probeHeader}},
		"a new target":                  {"POST", "/targets", `{"id": "n", "host": "evil.example"}`, []string{probeHeader}},
		"a new target's own":            {"POST", "/targets", `{"id": "n", "host": "a.example", "headers": {"x-key": "[redacted]"}}`, []string{"headers.x-key"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, upstream := withUpstream(t)
			before := a.send("GET", upstream, "").Header.Get("ETag")
			found := a.send(c.method, upstream+c.path, c.body).problem(422, "invalid")
			if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, slices.Sorted(slices.Values(c.fields))) {
				t.Errorf("fields %q, want %q", got, c.fields)
			}
			for field, reason := range found {
				if !strings.Contains(reason, "send the secret again") {
					t.Errorf("%s: %s", field, reason)
				}
			}
			if after := a.send("GET", upstream, "").Header.Get("ETag"); after != before {
				t.Error("something changed")
			}
			a.neverSaid()
		})
	}
}

// TestSecretsSentAgain: a write that says every secret anew may lead anywhere.
func TestSecretsSentAgain(t *testing.T) {
	a, upstream := withUpstream(t)
	moved := strings.NewReplacer("a.example", "c.example", "b.example", "d.example", "kept", "sent", "/up", "/ok").Replace(keptUpstream)
	a.send("PUT", upstream, moved).want(200)
	a.send("PATCH", upstream, `{"targets": [{"id": "a", "host": "e.example"}], "health_checks": {"active": {"headers": {"x-probe": "new"}}}}`).want(200)
}

// TestKeptSecretsOfADocument: applying a document has the same rule, also for what it moves or
// renames.
func TestKeptSecretsOfADocument(t *testing.T) {
	document := func(name, upstream string) string {
		return `{"gateway": {"name": "team", "subdomain": "team"}, "upstreams": [` + strings.Replace(upstream, `"name": "chat"`, `"name": "`+name+`"`, 1) + `]}`
	}
	for name, c := range map[string]struct {
		document string
		fields   []string
	}{
		"as it was":        {document("chat", shownUpstream), nil},
		"another host":     {document("chat", replaced("a.example", "evil.example")), []string{credentialOfA, headerOfA, probeHeader}},
		"another upstream": {document("other", shownUpstream), []string{credentialOfA, headerOfA, keyOfB, probeHeader}},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := withUpstream(t)
			got := a.send("POST", "/api/v1/apply", c.document)
			if c.fields == nil {
				got.want(200)
			} else {
				for i, field := range c.fields {
					c.fields[i] = "upstreams[0]." + field
				}
				if got := slices.Sorted(maps.Keys(got.problem(422, "invalid"))); !slices.Equal(got, slices.Sorted(slices.Values(c.fields))) {
					t.Errorf("fields %q, want %q", got, c.fields)
				}
			}
			if got, want := a.secrets(), []string{kept, token, "blue", kept + "-b", probe}; !slices.Equal(got, want) {
				t.Errorf("stored %q, want %q", got, want)
			}
			a.neverSaid()
		})
	}
}

// TestSecretsAreNeverShown: nothing that tells of resources, versions and differences shows a
// secret, the credentials among a target's headers included. What is no credential is shown.
func TestSecretsAreNeverShown(t *testing.T) {
	a, upstream := withUpstream(t)
	same(t, a.send("GET", upstream+"/targets/a", "").want(200)["headers"], `{"X-Team-Token": "[redacted]", "x-team": "blue"}`)
	a.send("PATCH", upstream+"/targets/a", `{"headers": {"X-Team-Token": "tok-other-kept-12345", "x-team": "red", "api-key": "ak-kept-12345"}}`).want(200)
	same(t, a.send("GET", "/api/v1/versions/3/diff/4", "").want(200)["differences"], `[
		{"path": "gateways[team].upstreams[chat].targets[a].headers[X-Team-Token]", "from": "[redacted]", "to": "[redacted]"},
		{"path": "gateways[team].upstreams[chat].targets[a].headers[api-key]", "to": "[redacted]"},
		{"path": "gateways[team].upstreams[chat].targets[a].headers[x-team]", "from": "blue", "to": "red"}]`)
	for _, path := range []string{"/api/v1/config", "/api/v1/versions", "/api/v1/versions/3", "/api/v1/versions/4", "/api/v1/versions/4/diff/2", upstream, upstream + "/targets/a", base + "/team/upstreams", base} {
		a.send("GET", path, "").want(200)
	}
	a.send("POST", "/api/v1/versions/3/rollback", "").want(200)
	if got, want := a.secrets(), []string{kept, token, "blue", kept + "-b", probe}; !slices.Equal(got, want) {
		t.Errorf("after the rollback: %q, want %q", got, want)
	}
	a.neverSaid()
}

// TestAdminTokenIsNotKept: the admin's token is the file's. Over REST it can be neither read nor
// given, nor kept for another address.
func TestAdminTokenIsNotKept(t *testing.T) {
	a := start(t, `gateway: {admin: {listen: "127.0.0.1:8080", token: tok-kept-1234567890}}`)
	a.send("GET", base+"/default", "").want(200)
	a.send("PUT", base+"/default", `{"admin": {"listen": "0.0.0.0:8080", "token": "[redacted]"}}`).problem(409, "file-owned")
	for listen, want := range map[string]int{"127.0.0.1:8080": 200, "0.0.0.0:8080": 409} {
		a.send("POST", "/api/v1/apply", `{"gateway": {"admin": {"listen": "`+listen+`", "token": "[redacted]"}}}`).want(want)
	}
	a.send("POST", base, `{"name": "team", "subdomain": "team", "admin": {"token": "[redacted]"}}`).problem(422, "invalid")
	a.neverSaid()
}

// neverSaid checks that no answer had a secret of this file.
func (a *api) neverSaid() {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, secret := range []string{"kept-1", "other-kept"} {
		if strings.Contains(a.said.String(), secret) {
			a.t.Errorf("an answer shows %q", secret)
		}
	}
}

// replaced is shownUpstream with each old text replaced by the new one that follows it.
func replaced(pairs ...string) string {
	text := shownUpstream
	for i := 0; i < len(pairs); i += 2 {
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
