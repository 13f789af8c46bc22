package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/admin"
	"millrace/metrics"
)

// statsPath is where the digest is served; with ;csv behind it in HAProxy's columns.
const statsPath = "/stats"

// digest serves what requests came to, and how the targets are.
func (s *sidecar) digest(health admin.Clusters) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := s.requests.Digest(statesOf(r.Context(), health))
		if err != nil {
			s.log.Error("stats", "error", err)
			http.Error(w, "the metrics cannot be read", http.StatusInternalServerError)
			return
		}
		if strings.Contains(r.URL.Path, ";csv") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			err = d.WriteHAProxy(w)
		} else {
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(d)
		}
		if err != nil { // the reader has left
			s.log.Debug("stats", "error", err)
		}
	})
}

// statesOf is how targets are; nil where Envoy does not say.
func statesOf(ctx context.Context, health admin.Clusters) map[string]metrics.State {
	ctx, cancel := context.WithTimeout(ctx, envoyPatience)
	defer cancel()
	targets, err := health.Clusters(ctx)
	if err != nil {
		return nil
	}
	states := map[string]metrics.State{}
	for _, t := range targets {
		states[t.Name] = metrics.State{
			Known: true, Healthy: t.Healthy, Drained: t.Weight == 0, Ejected: !t.EjectedUntil.IsZero(), Cooling: !t.CoolingUntil.IsZero(),
			Trouble: t.Trouble, Weight: t.Weight, ActiveRequests: t.ActiveRequests, Connections: t.Connections,
		}
	}
	return states
}

type statsCommand struct {
	adminFlags
}

// Run shows the digest of a running gateway.
func (c *statsCommand) Run(ctx context.Context, out io.Writer) error {
	a, err := c.call(ctx, request{method: "GET", path: []string{strings.Trim(statsPath, "/")}, beside: true})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return c.print(out, a.body)
	}
	var d metrics.Digest
	if err := json.Unmarshal(a.body, &d); err != nil {
		return err
	}
	return printDigest(out, &d)
}

func printDigest(out io.Writer, d *metrics.Digest) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GATEWAY\tREQUESTS\tERRORS\tLEFT\tRETRIES\tMEAN\tP99\tFIRST BYTE\tTOKENS IN\tOUT")
	for _, g := range d.Gateways {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%s\t%s\t%s\t%.0f\t%.0f\n", g.Gateway, g.Total, g.Errors, g.ByClass["none"], g.Retries,
			took(g.Latency.Mean), took(g.Latency.P99), took(g.FirstByte.Mean), g.Tokens["input"], g.Tokens["output"])
	}
	fmt.Fprintln(w, "\nTARGET\tSTATE\tWEIGHT\tATTEMPTS\tERRORS\tMEAN\tP99\tFIRST TOKEN\tUNDER WAY\tCONNECTIONS")
	for _, u := range d.Upstreams {
		fmt.Fprintf(w, "%s/%s\t%s\t\t%.0f\t%.0f\t%s\t%s\t%s\t%d\t%d\n", u.Gateway, u.Upstream, livingTargets(d, u), u.Total, u.Errors,
			took(u.Latency.Mean), took(u.Latency.P99), took(u.FirstToken.Mean), u.ActiveRequests, u.Connections)
		for _, t := range d.Targets {
			if t.Gateway == u.Gateway && t.Upstream == u.Upstream {
				fmt.Fprintf(w, "  %s\t%s\t%d\t%.0f\t%.0f\t%s\t%s\t%s\t%d\t%d\n", t.Target, t.State.Word(), t.State.Weight, t.Total, t.Errors,
					took(t.Latency.Mean), took(t.Latency.P99), took(t.FirstToken.Mean), t.State.ActiveRequests, t.State.Connections)
			}
		}
	}
	return w.Flush()
}

// took is a time for people; "-" where nothing was measured.
func took(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond).String()
}

func livingTargets(d *metrics.Digest, u metrics.UpstreamCount) string {
	if !d.Envoy {
		return "unknown"
	}
	return fmt.Sprintf("%d of %d", u.Healthy, u.Targets)
}
