package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/envoy"
)

const (
	// envoyPatience is how long a scrape waits for Envoy's own metrics: Prometheus itself waits 10
	// s.
	envoyPatience = 2 * time.Second
	// maxEnvoyBytes bounds them. Thousands of targets stay below it.
	maxEnvoyBytes = 32 << 20
)

// Envoy is what Envoy counts, under the names that it has there. What it counts by cluster has the
// gateway, the upstream and the target that the cluster is of as labels, too. It is a
// prometheus.Gatherer; where Envoy does not answer, millrace_envoy_up is all that it gathers.
type Envoy struct {
	// Fetch asks for the metrics as Envoy writes them; the caller closes them.
	Fetch  func(context.Context) (io.ReadCloser, error)
	Config func() *config.Config
}

const (
	upName = "millrace_envoy_up"
	upHelp = "1 where Envoy has told its own metrics (envoy_...) for this scrape."
)

// Describe describes what is there with and without Envoy.
func (e Envoy) Describe(out chan<- *prometheus.Desc) {
	out <- prometheus.NewDesc(upName, upHelp, nil, nil)
}

// Gather implements prometheus.Gatherer.
func (e Envoy) Gather() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), envoyPatience)
	defer cancel()
	families, err := e.read(ctx)
	up := 1.0
	if err != nil { // it has its own row; the others are to be had all the same
		families, up = map[string]*dto.MetricFamily{}, 0
	}
	families[upName] = &dto.MetricFamily{
		Name:   proto.String(upName),
		Help:   proto.String(upHelp),
		Type:   dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &up}}},
	}
	var sorted []*dto.MetricFamily
	for _, name := range slices.Sorted(maps.Keys(families)) {
		sorted = append(sorted, families[name])
	}
	return sorted, nil
}

func (e Envoy) read(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	body, err := e.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	bounded := &io.LimitedReader{R: body, N: maxEnvoyBytes}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bounded)
	if err == nil && bounded.N == 0 {
		err = errors.New("there is more of them than is read")
	}
	if err != nil {
		return nil, fmt.Errorf("envoy's metrics: %w", err)
	}
	clusters := clustersOf(e.Config())
	for name, family := range families {
		if !strings.HasPrefix(name, "envoy_") { // it may count what it likes, but not in our name
			delete(families, name)
			continue
		}
		for _, m := range family.Metric {
			relabel(m, clusters)
		}
	}
	return families, nil
}

var _ prometheus.Gatherer = Envoy{}

// labelCluster is how Envoy labels what it counts by cluster.
const labelCluster = "envoy_cluster_name"

// relabel adds what a cluster is of to a row that is of one. In statistics its name is written with
// escapes (statName in xds/cluster.go).
func relabel(m *dto.Metric, clusters map[string][]*dto.LabelPair) {
	for _, l := range m.Label {
		if l.GetName() != labelCluster {
			continue
		}
		if name, err := url.PathUnescape(l.GetValue()); err == nil {
			l.Value = &name
		}
		m.Label = append(m.Label, clusters[l.GetValue()]...)
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		return
	}
}

// clustersOf has the labels of each cluster that the configuration makes of an upstream or a
// target.
func clustersOf(c *config.Config) map[string][]*dto.LabelPair {
	clusters := map[string][]*dto.LabelPair{}
	if c == nil {
		return clusters
	}
	pair := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	for _, g := range c.Gateways {
		for _, u := range g.Upstreams {
			written := u
			if u.For != nil {
				written = u.For
			}
			pool := []*dto.LabelPair{pair(labelGateway, g.Name), pair(labelUpstream, strings.TrimPrefix(written.Name, g.Name+"/"))}
			clusters[u.Name], clusters[envoy.PoolBare+u.Name] = pool, pool
			for i := range u.Levels() { // a pool for each, where targets are chosen by a hash
				level := fmt.Sprintf("%s/#%d", u.Name, i)
				clusters[level], clusters[envoy.PoolBare+level] = pool, pool
			}
			for _, t := range u.Targets {
				of := append(slices.Clip(pool), pair(labelTarget, t.ID))
				clusters[t.Name], clusters[envoy.PoolBare+t.Name] = of, of
			}
		}
	}
	return clusters
}
