package extproc

import (
	"encoding/json"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
)

// Readiness is what /health/ready says.
type Readiness struct {
	Reason string // why the gateway is not ready; "" when it is
	// Down are the upstreams that rules lead to and that have no target that can serve, by name.
	// There may be some while the gateway is ready.
	Down []string
}

// health answers the two health paths, nil for every other. Liveness is that this code runs;
// readiness is what the process says (see Options.Ready). They answer on every host of the
// listener, before any rule.
func (s *Server) health(path string) *extprocv3.ProcessingResponse {
	switch path {
	case envoy.PathHealth:
		return respond(200, s.healthBody("ok", Readiness{}))
	case envoy.PathReady:
		ready := s.options.Ready()
		if ready.Reason != "" {
			return respond(503, s.healthBody("not ready", ready))
		}
		return respond(200, s.healthBody("ready", ready))
	}
	return nil
}

func (s *Server) healthBody(status string, r Readiness) []byte {
	body, err := json.Marshal(struct {
		Status   string   `json:"status"`
		Reason   string   `json:"reason,omitempty"`
		Down     []string `json:"upstreams_down,omitempty"`
		Version  string   `json:"version"`
		Uptime   int64    `json:"uptime_seconds"`
		Instance string   `json:"instance_id"`
	}{status, r.Reason, r.Down, s.options.Version, int64(time.Since(s.started).Seconds()), s.options.Instance})
	if err != nil {
		panic("extproc: health: " + err.Error())
	}
	return body
}
