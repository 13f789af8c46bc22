package xds

import (
	"regexp"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"

	"millrace/config"
	"millrace/envoy"
)

func TestProbes(t *testing.T) {
	none := build(t, "upstreams: [{name: a, targets: [{provider: openai}]}]")
	if n := len(none.cache.GetResources(resource.ListenerType)); n != 2 {
		t.Errorf("%d listeners without active health checks, want 2", n)
	}
	s := build(t, `upstreams:
- {name: a, health_checks: {active: {path: "/v1/models?limit=1", interval: 5s, fall: 4, rise: 3}}, targets: [{provider: anthropic, credentials: {header_name: x-api-key, header_value: hunter2}}]}
- {name: b, health_checks: {active: {}}, targets: [{provider: openai}]}
`)
	all := clusters(s)
	c := all["default/a"].HealthChecks[0]
	if c.Interval.Seconds != 5 || c.UnhealthyThreshold.Value != 4 || c.HealthyThreshold.Value != 3 || c.GetHttpHealthCheck().ExpectedStatuses[0].Start != 200 {
		t.Errorf("the pool's check (A18, A23): %v", c)
	}
	if a := all["probe:default/a/anthropic-1"]; a == nil || len(a.HealthChecks) != 0 || a.TransportSocket == nil {
		t.Errorf("probe cluster by HTTP: %v", a)
	}
	if b := all["probe:default/b/openai-1"]; b == nil || b.HealthChecks[0].GetTcpHealthCheck() == nil {
		t.Errorf("probe cluster by TCP: %v", b)
	}
	for _, kind := range served {
		for name, r := range s.cache.GetResources(kind) {
			if strings.Contains(prototext.Format(r), "hunter2") && kind != resource.SecretType {
				t.Errorf("%s %s holds a credential", kind, name)
			}
		}
	}
	if len(s.cache.GetResources(resource.SecretType)) != 1 {
		t.Error("the probe's credential is not a secret resource")
	}
}

// TestNoCredentialIsShown: what Envoy shows of its configuration, which is all but secret
// resources, has no credential, also where Envoy sends them by itself: with health checks, and for
// an open service.
func TestNoCredentialIsShown(t *testing.T) {
	s := build(t, `upstreams:
- name: a
  health_checks: {active: {path: /up, headers: {x-probe: canary-1, x-own-key: canary-2}}}
  targets:
  - {id: a, provider: anthropic, credentials: {header_name: x-api-key, header_value: canary-3}, headers: {x-own-key: canary-4, Cookie: canary-5, x-team: blue}}
  - {id: b, provider: anthropic, credentials: {header_name: x-api-key, header_value: canary-3}, headers: {X-Own-Key: canary-4, cookie: canary-5, x-team: red}}
services: [{name: a, upstream: a, failure: open}]
rules: [{path: /v1, service: a}]
`)
	secrets := map[string]bool{}
	for _, kind := range served {
		for name, r := range s.cache.GetResources(kind) {
			text := prototext.Format(r)
			if kind == resource.SecretType {
				of, header, _ := strings.Cut(name, " ")
				secrets[config.NameOf(of)+" "+header+" "+regexp.MustCompile("canary-.").FindString(text)] = true
			} else if strings.Contains(text, "canary") {
				t.Errorf("%s %s holds a credential", kind, name)
			}
		}
	}
	want := map[string]bool{}
	for _, of := range []string{"probe:default/a/a", "probe:default/a/b"} {
		want[of+" X-Probe canary-1"], want[of+" X-Own-Key canary-2"] = true, true
		want[of+" X-Api-Key canary-3"], want[of+" Cookie canary-5"] = true, true
	}
	open := envoy.PoolBare + "default/a"
	want[open+" X-Api-Key canary-3"], want[open+" X-Own-Key canary-4"], want[open+" Cookie canary-5"] = true, true, true
	if diff := cmp.Diff(want, secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}
