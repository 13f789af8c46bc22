package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/admin"
	"millrace/config"
	"millrace/event"
	"millrace/extproc"
	"millrace/extproc/policy"
	"millrace/metrics"
)

const metricsPage = "../../docs/metrics.md"

// TestMetricsPage: the page of metrics has every one of them, with its labels and what it says of
// itself, and no other. MILLRACE_WRITE_DOCS=1 writes it.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the table is written by TestMetricsPage -->\n", "<!-- its end -->\n"
	before, rest, ok := strings.Cut(string(page), begin)
	written, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", metricsPage)
	}
	table := metricsTable(t)
	if written == table {
		return
	}
	if os.Getenv("MILLRACE_WRITE_DOCS") == "" {
		t.Fatalf("%s is not what the metrics are; write it with MILLRACE_WRITE_DOCS=1. It should have\n%s", metricsPage, table)
	}
	if err := os.WriteFile(metricsPage, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

var ofDesc = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: (".*"), unit: "", constLabels: \{\}, variableLabels: \{([^}]*)\}\}$`)

// metricsTable has a row for each metric of ours. Those of the Go runtime and of the process are
// everybody's.
func metricsTable(t *testing.T) string {
	s := &sidecar{
		recorder: event.NewRecorder("test"), policies: policy.NewMetrics(), data: extproc.NewServer(extproc.Options{}),
		requests: metrics.NewRequests(func() *config.Config { return nil }), audit: &auditLogs{}, traces: &traces{},
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		s.registry(admin.New(admin.Options{}), targetHealth{}).Describe(descs)
		metrics.Envoy{}.Describe(descs)
	}()
	var rows []string
	for d := range descs {
		if strings.HasPrefix(d.String(), `Desc{fqName: "go_`) || strings.HasPrefix(d.String(), `Desc{fqName: "process_`) {
			continue
		}
		m := ofDesc.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("not as descriptions are: %s", d)
		}
		labels := strings.ReplaceAll(m[3], ",", ", ")
		help := strings.ReplaceAll(strings.Trim(m[2], `"`), `\"`, `"`)
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], labels, help))
	}
	slices.Sort(rows)
	return "| metric | labels | what it says |\n|---|---|---|\n" + strings.Join(rows, "")
}
