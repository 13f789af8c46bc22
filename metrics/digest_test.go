package metrics

import (
	"bytes"
	"encoding/csv"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/config"
)

func digestOf(t *testing.T, states map[string]State) *Digest {
	t.Helper()
	c := resolved(t, document)
	r := NewRequests(func() *config.Config { return c })
	for range 3 {
		r.Record(failedOver())
	}
	left := failedOver()
	left.Status, left.Target, left.Provider = 0, "", ""
	r.Record(left)
	d, err := r.Digest(states)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var upAndOut = map[string]State{
	"house/chat/eu.1":   {Known: true, Ejected: true, Weight: 2},
	"house/chat/claude": {Known: true, Healthy: true, Weight: 1, ActiveRequests: 3, Connections: 5},
}

// TestDigest (C32): the digest adds up what was counted, by gateway, upstream and target.
func TestDigest(t *testing.T) {
	d := digestOf(t, upAndOut)
	if len(d.Gateways) != 1 || len(d.Upstreams) != 1 || len(d.Targets) != 3 {
		t.Fatalf("%+v", d)
	}
	g, u, first := d.Gateways[0], d.Upstreams[0], d.Targets[0]
	for what, pair := range map[string][2]float64{
		"requests":               {g.Total, 4},
		"those that left":        {g.ByClass["none"], 1},
		"retries":                {g.Retries, 4},
		"input tokens":           {g.Tokens["input"], 40},
		"mean latency":           {g.Latency.Mean, 1.5},
		"attempts":               {u.Total, 8},
		"failures":               {u.Errors, 4},
		"healthy targets":        {float64(u.Healthy), 1},
		"under way":              {float64(u.ActiveRequests), 3},
		"connections":            {float64(u.Connections), 5},
		"first token":            {u.FirstToken.Mean, .5},
		"attempts at the first":  {first.Total, 4},
		"its failures":           {first.Reasons["rate-limit"], 4},
		"attempts at the second": {d.Targets[1].Total, 4},
	} {
		if math.Abs(pair[0]-pair[1]) > 1e-9 {
			t.Errorf("%s: %v, not %v", what, pair[0], pair[1])
		}
	}
}

// TestHAProxy (C32): the columns are HAProxy's, and what tools for HAProxy look at is in them.
func TestHAProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		states map[string]State
		want   []string // svname status weight act scur stot econ eresp hrsp_2xx hrsp_4xx cli_abrt rtime ttime
	}{
		"as Envoy says": {upAndOut, []string{
			"FRONTEND OPEN    4   3 0 1  1500",
			"eu.1 DOWN 2 1 0 4 0 4 0 4   100",
			"claude UP 1 1 3 4 0 0 4 0  500 1300",
			"fr no check 0 1 0 0 0 0 0 0   ",
			"BACKEND UP 1 1 3 8 0 4 4 4  500 700",
		}},
		"Envoy is away": {nil, []string{
			"FRONTEND OPEN    4   3 0 1  1500",
			"eu.1 no check 0 1 0 4 0 4 0 4   100",
			"claude no check 0 1 0 4 0 0 4 0  500 1300",
			"fr no check 0 1 0 0 0 0 0 0   ",
			"BACKEND no check 0 0 0 8 0 4 4 4  500 700",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := digestOf(t, tt.states).WriteHAProxy(&out); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(out.String(), "# "))).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			column := map[string]int{}
			for i, name := range rows[0] {
				column[name] = i
			}
			var got []string
			for _, row := range rows[1:] {
				var fields []string
				for _, name := range strings.Fields("svname status weight act scur stot econ eresp hrsp_2xx hrsp_4xx cli_abrt rtime ttime") {
					fields = append(fields, row[column[name]])
				}
				got = append(got, strings.Join(fields, " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s\n%s", diff, out.String())
			}
			if pxname := rows[2][column["pxname"]]; pxname != "house/chat" {
				t.Errorf("pxname %q", pxname)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	bounds := []float64{1, 2, 4}
	for name, tt := range map[string]struct {
		q, count   float64
		cumulative []float64
		want       float64
	}{
		"the middle of the first": {.5, 4, []float64{4, 4, 4}, .5},
		"in the second":           {.5, 4, []float64{1, 3, 4}, 1.5},
		"beyond the last":         {.99, 4, []float64{0, 0, 1}, 4},
		"at a bound":              {.5, 2, []float64{1, 2, 2}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(tt.q, tt.count, bounds, tt.cumulative); got != tt.want {
				t.Errorf("%v, not %v", got, tt.want)
			}
		})
	}
}
