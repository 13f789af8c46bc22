package xds

import (
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/encoding/prototext"
)

func TestProbes(t *testing.T) {
	none := build(t, "upstreams: [{name: a, targets: [{provider: openai}]}]")
	if n := len(none.cache.GetResources(resource.ListenerType)); n != 1 {
		t.Errorf("%d listeners without active health checks, want 1", n)
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
