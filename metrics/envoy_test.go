package metrics

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"millrace/config"
)

// What Envoy 1.40.0 has told, shortened.
const told = `# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="house/chat"} 2
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="house/chat/eu%2E1"} 3
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="bare%3Ahouse/chat"} 4
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="millrace"} 5
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="house/gone/x"} 6
# TYPE envoy_http_downstream_rq_time histogram
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="ingress",le="0.5"} 1
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="ingress",le="+Inf"} 2
envoy_http_downstream_rq_time_sum{envoy_http_conn_manager_prefix="ingress"} 7
envoy_http_downstream_rq_time_count{envoy_http_conn_manager_prefix="ingress"} 2
# TYPE millrace_ready gauge
millrace_ready{} 1
`

func envoyThatSays(t *testing.T, fetch func(context.Context) (io.ReadCloser, error)) Envoy {
	c := resolved(t, document)
	return Envoy{Fetch: fetch, Config: func() *config.Config { return c }}
}

// TestEnvoy (C32): Envoy's metrics keep their names, and have the labels of ours beside Envoy's.
func TestEnvoy(t *testing.T) {
	got := rows(t, envoyThatSays(t, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(told)), nil }))
	want := []string{
		`envoy_cluster_upstream_rq{envoy_cluster_name="house/chat",envoy_response_code="503",gateway="house",upstream="chat"} 2`,
		`envoy_cluster_upstream_rq{envoy_cluster_name="house/chat/eu.1",envoy_response_code="200",gateway="house",target="eu.1",upstream="chat"} 3`,
		`envoy_cluster_upstream_rq{envoy_cluster_name="bare:house/chat",envoy_response_code="200",gateway="house",upstream="chat"} 4`,
		`envoy_cluster_upstream_rq{envoy_cluster_name="millrace",envoy_response_code="200"} 5`,
		`envoy_cluster_upstream_rq{envoy_cluster_name="house/gone/x",envoy_response_code="200"} 6`,
		`envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="ingress",le="0.5"} 1`,
		`envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="ingress",le="+Inf"} 2`,
		`envoy_http_downstream_rq_time_sum{envoy_http_conn_manager_prefix="ingress"} 7`,
		`envoy_http_downstream_rq_time_count{envoy_http_conn_manager_prefix="ingress"} 2`,
		`millrace_envoy_up 1`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEnvoyDoesNotAnswer: whatever is wrong with Envoy, a scrape has its other rows, and one that
// says so.
func TestEnvoyDoesNotAnswer(t *testing.T) {
	for name, fetch := range map[string]func(context.Context) (io.ReadCloser, error){
		"it is away": func(context.Context) (io.ReadCloser, error) { return nil, errors.New("no such socket") },
		"it hangs": func(ctx context.Context) (io.ReadCloser, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("nothing ends the wait")
			}
			return nil, context.DeadlineExceeded
		},
		"it breaks off": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(told[:300]), brokenReader{})), nil
		},
		"it says something else": func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("<html>")), nil },
		"it does not end":        func(context.Context) (io.ReadCloser, error) { return io.NopCloser(endless{}), nil },
	} {
		t.Run(name, func(t *testing.T) {
			if got := rows(t, envoyThatSays(t, fetch)); !slices.Equal(got, []string{"millrace_envoy_up 0"}) {
				t.Errorf("%s", strings.Join(got, "\n"))
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}
