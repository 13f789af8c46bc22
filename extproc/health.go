package extproc

import (
	"encoding/json"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
)

// health answers the two health paths, nil for every other. Liveness is that this code runs; readiness is what the process
// says (see Options.Ready). They answer on every host of the listener, before any rule.
func (s *Server) health(path string) *extprocv3.ProcessingResponse {
	switch path {
	case envoy.PathHealth:
		return answer(200, s.healthBody("ok"))
	case envoy.PathReady:
		if !s.options.Ready() {
			return answer(503, s.healthBody("not ready"))
		}
		return answer(200, s.healthBody("ready"))
	}
	return nil
}

func (s *Server) healthBody(status string) []byte {
	body, err := json.Marshal(struct {
		Status   string `json:"status"`
		Version  string `json:"version"`
		Uptime   int64  `json:"uptime_seconds"`
		Instance string `json:"instance_id"`
	}{status, s.options.Version, int64(time.Since(s.started).Seconds()), s.options.Instance})
	if err != nil {
		panic("extproc: health: " + err.Error())
	}
	return body
}
