package envoy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The body is what Envoy 1.40.0 answered, shortened to what is read.
func TestParseTargets(t *testing.T) {
	got, err := parseTargets([]byte(`{"cluster_statuses":[
{"name":"default/failover/demo-down@01","host_statuses":[{"address":{"socket_address":{"address":"127.0.0.1","port_value":9103}},"stats":[{"type":"GAUGE","value":"4","name":"cx_active"}]}]},
{"name":"bare:default/failover/demo-down@01","host_statuses":[{"address":{"socket_address":{"address":"127.0.0.1","port_value":9103}},"stats":[{"type":"GAUGE","value":"1","name":"cx_active"}]}]},
{"name":"default/failover","host_statuses":[
 {"address":{"envoy_internal_address":{"server_listener_name":"targets","endpoint_id":"default/failover/demo-down@01"}},
  "stats":[{"value":"1","name":"rq_error"},{"name":"rq_success"},{"value":"3","name":"rq_total"},{"type":"GAUGE","value":"2","name":"rq_active"}],
  "health_status":{"failed_active_health_check":true,"eds_health_status":"HEALTHY"},"weight":1},
 {"address":{"envoy_internal_address":{"server_listener_name":"targets","endpoint_id":"default/failover/b@02"}},
  "health_status":{"eds_health_status":"DRAINING"},"weight":4,"priority":1}]},
{"name":"bare:default/failover","host_statuses":[
 {"address":{"envoy_internal_address":{"server_listener_name":"targets","endpoint_id":"default/failover/b@02"}},"stats":[{"value":"5","name":"rq_total"}],"weight":4}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []TargetHealth{
		{Identity: "default/failover/demo-down@01", ActiveRequests: 2, Connections: 5, Requests: 3, Errors: 1, Weight: 1},
		{Identity: "default/failover/b@02", Draining: true, Requests: 5, Weight: 4, Priority: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := parseTargets([]byte("<html>")); err == nil {
		t.Error("HTML is taken for JSON")
	}
}
