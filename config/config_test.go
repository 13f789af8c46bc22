package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"millrace/internal/golden"
	millracev1 "millrace/proto/millrace/v1"
)

// TestLoad runs testdata/load: a document, and either its effective form or everything that is
// wrong with it.
func TestLoad(t *testing.T) {
	golden.Run(t, "testdata/load/*.txtar", func(c *golden.Case) {
		doc, err := Load("config.yaml", c.Input("config.yaml"))
		if err != nil {
			c.Output("want errors", []byte(err.Error()))
			return
		}
		effective, err := Print(doc)
		if err != nil {
			c.T.Fatal(err)
		}
		c.Output("want effective.yaml", effective)
		if notYet := NotYet(doc); len(notYet) > 0 {
			c.Output("want not yet", []byte(notYet.Error()))
		}
		if doubtful := Doubtful(doc); len(doubtful) > 0 {
			c.Output("want doubtful", []byte(doubtful.Error()))
		}

		if _, err := Merge(doc, nil); err != nil {
			c.T.Errorf("what validate takes, run does not: %v", err)
		}
		again, err := Load("effective.yaml", effective)
		if err != nil {
			c.T.Fatalf("the effective document does not load: %v", err)
		}
		if diff := cmp.Diff(Redact(doc), again, protocmp.Transform()); diff != "" {
			c.T.Errorf("the effective document means something else (-first +again):\n%s", diff)
		}
	})
}

func TestResolve(t *testing.T) {
	t.Setenv("OPENAI_KEY", "sk-1")
	c := resolved(t, `
upstreams:
- name: chat
  targets:
  - {id: a, provider: {base_url: "http://localhost:8080/v1/", secret_key_ref: {env: OPENAI_KEY}}, priority: 7}
  - {id: b, provider: anthropic, credentials: {header_name: x-api-key, header_value: lit}, priority: 3, models: [m], default_model: d, model_map: {x: y}}
  - {id: c, host: api.anthropic.com, priority: 7, weight: 0}
  - {id: d, host: "::1", port: 80, path: /x}
services: [{name: chat, upstream: chat}]
rules:
- {path: /, service: chat}
- {path: /v1/, service: chat}
- {path: /v2, service: chat, active: false}
`)
	type row struct {
		Name, Provider, Schema, Authority, Base, Auth string
		TLS                                           bool
		Priority, Weight                              uint32
	}
	var got []row
	for _, x := range c.Gateways[0].Upstreams[0].Targets {
		got = append(got, row{x.Name, x.Provider, string(x.Schema), x.Authority(), x.BasePath, x.AuthHeader + ": " + x.AuthValue, x.TLS, x.Priority, x.Weight})
	}
	want := []row{
		{"default/chat/a", "openai", "openai.chat", "localhost:8080", "/v1", "Authorization: Bearer sk-1", false, 2, 1},
		{"default/chat/b", "anthropic", "anthropic.messages", "api.anthropic.com", "/v1", "X-Api-Key: lit", true, 1, 1},
		{"default/chat/c", "anthropic", "anthropic.messages", "api.anthropic.com", "/v1", ": ", true, 2, 0},
		{"default/chat/d", "openai", "openai.chat", "[::1]", "/v1", ": ", false, 0, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if rules := c.Gateways[0].Rules; len(rules) != 2 || rules[0].Path != "/v1" || rules[1].Path != "/" {
		t.Errorf("rules: %+v", rules)
	}
	b := c.Gateways[0].Upstreams[0].Targets[1]
	for asked, want := range map[string]string{"m": "m", "x": "y", "d": "d", "other": "d", "": "d"} {
		if got := b.Model(asked); got != want {
			t.Errorf("model %q becomes %q, want %q", asked, got, want)
		}
	}
	if a := c.Gateways[0].Upstreams[0].Targets[0]; a.Model("any") != "any" {
		t.Errorf("a target without models and default must pass the model on, got %q", a.Model("any"))
	}
}

// TestBaseOfAnthropic: who speaks Anthropic's schema writes base URLs without the version, as its
// SDKs take them; both ways mean the same.
func TestBaseOfAnthropic(t *testing.T) {
	for url, want := range map[string]string{
		"https://api.anthropic.com":             "/v1",
		"https://api.anthropic.com/v1/":         "/v1",
		"https://api.deepseek.com/anthropic":    "/anthropic/v1",
		"https://gateway.example/anthropic/v1":  "/anthropic/v1",
		"https://gateway.example/proxy/v1beta1": "/proxy/v1beta1",
	} {
		c := resolved(t, "providers: {targets: [{provider: {type: anthropic, base_url: \""+url+"\"}}]}")
		if got := c.Gateways[0].Upstreams[0].Targets[0].BasePath; got != want {
			t.Errorf("%s: messages are posted below %q, want %q", url, got, want)
		}
	}
}

// TestDialects: what says whose API a target speaks. Of a server that nothing is said of, nothing
// is known.
func TestDialects(t *testing.T) {
	for target, want := range map[string]struct{ provider, dialect string }{
		`provider: openai`: {"openai", "openai"},
		`provider: {type: openai, base_url: "http://localhost/v1"}`: {"openai", "openai"},
		`provider: {base_url: "https://api.openai.com/v1"}`:         {"openai", "openai"},
		`provider: {base_url: "http://localhost/v1"}`:               {"openai", ""},
		`host: localhost`: {"openai", ""},
		`provider: {type: openai-compatible, base_url: "https://localhost/v1"}`: {"openai-compatible", ""},
		`provider: mistral`: {"mistral", "mistral"},
		`provider: {base_url: "https://api.deepseek.com/v1"}`:                              {"deepseek", "deepseek"},
		`provider: {type: deepseek, base_url: "http://localhost/v1"}`:                      {"deepseek", "deepseek"},
		`provider: {name: groq, type: openai-compatible, base_url: "http://localhost/v1"}`: {"groq", ""},
		`provider: {name: groq, type: openai, base_url: "http://localhost/v1"}`:            {"groq", "openai"},
		`provider: {name: mistral, type: openai, base_url: "http://localhost/v1"}`:         {"mistral", "openai"},
		`provider: {name: eu, type: mistral}`:                                              {"eu", "mistral"},
		`provider: {name: claude, type: anthropic}`:                                        {"claude", ""},
		`provider: anthropic, default_max_tokens: 100, max_output_tokens: 200`:             {"anthropic", ""},
		`provider: {type: anthropic, base_url: "http://localhost/v1"}, models: [a, b]`:     {"anthropic", ""},
	} {
		c := resolved(t, "providers: {targets: [{"+target+"}]}")
		got := c.Gateways[0].Upstreams[0].Targets[0]
		if got.Provider != want.provider || got.Dialect != want.dialect {
			t.Errorf("%s: provider %q, dialect %q", target, got.Provider, got.Dialect)
		}
		if limited := strings.Contains(target, "tokens"); limited != (got.DefaultMaxTokens == 100 && got.MaxOutputTokens == 200) {
			t.Errorf("%s: limits %d and %d", target, got.DefaultMaxTokens, got.MaxOutputTokens)
		}
	}
}

func TestResolveNamesTheSecretItCannotRead(t *testing.T) {
	doc, err := Load("x", []byte("providers: {targets: [{provider: {name: openai, secret_key_ref: {env: MILLRACE_NO_SUCH}}}, {provider: {name: openai, secret_key_ref: {file: /no/such}}}]}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Resolve(doc)
	if len(AsErrors(err)) != 2 || !strings.Contains(err.Error(), "MILLRACE_NO_SUCH is not set") || !strings.Contains(err.Error(), "/no/such") {
		t.Fatalf("got %v", err)
	}
}

// TestKeepSecrets: what is written back as it was shown keeps its secrets, those in maps by their
// keys.
func TestKeepSecrets(t *testing.T) {
	header := func(name, value string) *millracev1.ActiveHealthCheck {
		return &millracev1.ActiveHealthCheck{Headers: map[string]*millracev1.Secret{name: {Source: &millracev1.Secret_Literal{Literal: value}}}}
	}
	stored := header("x-probe", "hunter2")
	shown := Redact(stored)
	if err := KeepSecrets(shown, stored); err != nil || !proto.Equal(shown, stored) {
		t.Errorf("kept %v, %v", shown, err)
	}
	if err := KeepSecrets(header("x-other", Redacted), stored); err == nil || !strings.Contains(err.Error(), "headers.x-other") {
		t.Errorf("a secret that was never given: %v", err)
	}
}

// TestPrintShowsNoSecret: what validate prints has no credential, wherever it is written, and loads
// again.
func TestPrintShowsNoSecret(t *testing.T) {
	doc, err := Load("x", []byte(`
gateway: {admin: {listen: "127.0.0.1:1", token: canary-1}}
upstreams:
- name: u
  health_checks: {active: {path: /up, headers: {x-probe: canary-2}}}
  targets:
  - {host: a.example, credentials: {header_name: x-key, header_value: canary-3}, headers: {X-Team-Token: canary-4, Cookie: canary-5, proxy-authorization: canary-6, x-goog-api-key: canary-7, x-team: blue}}
  - {provider: {name: openai, secret_key_ref: canary-8}}
`))
	if err != nil {
		t.Fatal(err)
	}
	printed, err := Print(doc)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(printed), "canary") || strings.Count(string(printed), Redacted) != 8 || !strings.Contains(string(printed), "x-team: blue") {
		t.Errorf("printed:\n%s", printed)
	}
	if doc.Upstreams[0].Targets[0].Headers["Cookie"] != "canary-5" {
		t.Error("the document itself was changed")
	}
	if _, err := Load("printed", printed); err != nil {
		t.Error(err)
	}
}

func TestVersionFollowsContent(t *testing.T) {
	load := func(s string) string {
		doc, err := Load("x", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return Version(doc)
	}
	a := load("providers: {targets: [{provider: openai}]}")
	if b := load("{providers: {targets: [{provider: {name: openai}, weight: 1}]}, gateway: {listen_port: 41002}}"); a != b {
		t.Error("the same meaning has two versions")
	}
	if b := load("providers: {targets: [{provider: openai, weight: 2}]}"); a == b {
		t.Error("another weight has the same version")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("providers: {targets: [{provider: openai}]}"))
	f.Add([]byte("rules: [{path: /v1, service: x}]\ngateway: {max_request_bytes: 9999999999GB}"))
	f.Add([]byte("a: &a [*a]\n? [x]: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Load("fuzz.yaml", data)
		if err != nil {
			return
		}
		if _, err := Resolve(doc); err != nil {
			return
		}
		if _, err := Print(doc); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBasePathStaysEscaped: a base URL's path is sent as it is written: an escaped line end in it
// begins no header of its own.
func TestBasePathStaysEscaped(t *testing.T) {
	c := resolved(t, `
upstreams: [{name: u, targets: [{provider: {base_url: "http://a.example/v1%0D%0Ax-injected:%201/%C3%A4%2Fb/"}}]}]
services: [{name: s, upstream: u}]
rules: [{path: /v1, service: s}]
`)
	if got, want := c.Gateways[0].Upstreams[0].Targets[0].BasePath, "/v1%0D%0Ax-injected:%201/%C3%A4%2Fb"; got != want {
		t.Errorf("base path %q, want %q", got, want)
	}
}

// TestHostsHaveNoCase: two gateways cannot have one host, however it is written. Envoy would refuse
// the routes of all of them.
func TestHostsHaveNoCase(t *testing.T) {
	file, err := Load("x", []byte("gateway: {hosts: [API.example]}\nproviders: {targets: [{provider: openai}]}"))
	if err != nil {
		t.Fatal(err)
	}
	other := &millracev1.Document{Gateway: &millracev1.Gateway{Id: "gw_1", Name: "other", Hosts: []string{"api.example"}}}
	if _, err := Merge(file, &millracev1.State{Documents: []*millracev1.Document{other}}); err == nil || !strings.Contains(err.Error(), `"api.example" selects gateway "default" already`) {
		t.Errorf("got %v", err)
	}
}

// TestRouteNames: rules that differ have route names that differ, for the sidecar knows by them
// which rule Envoy chose.
func TestRouteNames(t *testing.T) {
	seen := map[string]int{}
	for i, r := range []struct {
		gateway string
		rule    Rule
	}{
		{"g", Rule{Path: "/v1"}},
		{"g ", Rule{Path: "/v1"}},
		{"g GET", Rule{Path: "/v1"}},
		{"g", Rule{Path: "/v1", Methods: []string{"GET"}}},
		{"g", Rule{Path: "/v1", Headers: map[string]string{"a": "1 b:2"}}},
		{"g", Rule{Path: "/v1", Headers: map[string]string{"a": "1", "b": "2"}}},
		{"g", Rule{Path: "/v1", Headers: map[string]string{"a": "1] map[b:2"}}},
		{"g", Rule{Path: "/v1", Query: map[string]string{"a": "1 b:2"}}},
		{"g", Rule{Path: "/v1", Query: map[string]string{"a": "1", "b": "2"}}},
		{"g", Rule{Path: "/v1", Models: []string{"a b"}}},
		{"g", Rule{Path: "/v1", Models: []string{"a", "b"}}},
		{"g", Rule{Path: "/v1", Models: []string{`a" "b`}}},
	} {
		name := r.rule.RouteName(&Gateway{Name: r.gateway})
		if first, taken := seen[name]; taken {
			t.Errorf("rules %d and %d are both called %s", first, i, name)
		}
		seen[name] = i
	}
}
