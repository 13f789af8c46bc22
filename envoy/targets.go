package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// TargetHealth is what Envoy knows of one target.
type TargetHealth struct {
	Identity       string // as in its endpoint's metadata
	Healthy        bool   // it passes its checks and is not draining
	Draining       bool   // it gets no new requests
	ActiveRequests uint64
	Connections    uint64 // open ones to its provider
	Requests       uint64
	Errors         uint64 // 5xx and what counts as one
	Weight         uint64
	Priority       uint64
}

// Targets asks what Envoy knows of every target.
func (a *Admin) Targets(ctx context.Context) ([]TargetHealth, error) {
	body, err := a.do(ctx, http.MethodGet, "/clusters?format=json")
	if err != nil {
		return nil, err
	}
	return parseTargets([]byte(body))
}

// clusters is the part of envoy.admin.v3.Clusters that is read. Numbers come as strings, zero
// values not at all.
type clusters struct {
	Clusters []struct {
		Name  string `json:"name"`
		Hosts []struct {
			Address struct {
				Internal *struct {
					EndpointID string `json:"endpoint_id"`
				} `json:"envoy_internal_address"`
			} `json:"address"`
			Stats []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"stats"`
			Health struct {
				Active bool   `json:"failed_active_health_check"`
				EDS    string `json:"eds_health_status"`
			} `json:"health_status"`
			Weight   uint64 `json:"weight"`
			Priority uint64 `json:"priority"`
		} `json:"host_statuses"`
	} `json:"cluster_statuses"`
}

func parseTargets(body []byte) ([]TargetHealth, error) {
	var all clusters
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("envoy admin: clusters: %w", err)
	}
	var targets []TargetHealth
	var again []TargetHealth // of targets that are in other pools, too
	open := map[string]uint64{}
	for _, c := range all.Clusters {
		for _, h := range c.Hosts {
			if h.Address.Internal == nil { // not a pool's, but a target's own
				for _, s := range h.Stats {
					if s.Name == "cx_active" {
						n, _ := strconv.ParseUint(s.Value, 10, 64)
						open[strings.TrimPrefix(c.Name, PoolBare)] += n
					}
				}
				continue
			}
			t := TargetHealth{
				Identity: h.Address.Internal.EndpointID,
				Draining: h.Health.EDS == "DRAINING",
				Weight:   h.Weight,
				Priority: h.Priority,
			}
			t.Healthy = !t.Draining && !h.Health.Active
			for _, s := range h.Stats {
				n, _ := strconv.ParseUint(s.Value, 10, 64) // "" is 0
				switch s.Name {
				case "rq_active":
					t.ActiveRequests = n
				case "rq_total":
					t.Requests = n
				case "rq_error":
					t.Errors = n
				}
			}
			if strings.HasPrefix(c.Name, PoolPrefer) || strings.HasPrefix(c.Name, PoolBare) {
				again = append(again, t)
			} else {
				targets = append(targets, t)
			}
		}
	}
	for _, other := range again {
		if i := slices.IndexFunc(targets, func(t TargetHealth) bool { return t.Identity == other.Identity }); i >= 0 {
			targets[i].add(other)
		}
	}
	for i, t := range targets {
		targets[i].Connections = open[t.Identity]
	}
	return targets, nil
}

// add takes in what Envoy knows of the same target in another pool.
func (t *TargetHealth) add(other TargetHealth) {
	t.Healthy = t.Healthy && other.Healthy
	t.ActiveRequests += other.ActiveRequests
	t.Requests += other.Requests
	t.Errors += other.Errors
}
