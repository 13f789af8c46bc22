// Command promql checks alert rules and dashboards: every expression is one, and what it asks for
// is a metric of docs/metrics.md, with labels that it has.
//
//	promql docs/metrics.md deploy/observability
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: promql METRICS.md FOLDER")
		os.Exit(2)
	}
	checked, err := check(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("promql: %d expressions ask for metrics that there are\n", checked)
}

func check(page, folder string) (int, error) {
	known, err := metricsOf(page)
	if err != nil {
		return 0, err
	}
	checked := 0
	var wrong []error
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var content any
		switch filepath.Ext(path) {
		case ".json":
			err = json.Unmarshal(data, &content)
		case ".yml", ".yaml":
			err = yaml.Unmarshal(data, &content)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if strings.HasSuffix(path, "alerts.yml") {
			_, problems := rulefmt.Parse(data, false, model.UTF8Validation, parser.NewParser(parser.Options{}), nil)
			for _, problem := range problems {
				wrong = append(wrong, fmt.Errorf("%s: %w", path, problem))
			}
		}
		for _, expr := range expressions(content) {
			checked++
			if err := known.check(expr); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %s: %w", path, expr, err))
			}
		}
		return nil
	})
	if checked == 0 {
		wrong = append(wrong, fmt.Errorf("%s has no expressions", folder))
	}
	return checked, errors.Join(append(wrong, err)...)
}

// metrics are the labels of each by its name.
type metrics map[string][]string

var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z_, ]*) \\|")

func metricsOf(page string) (metrics, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	known := metrics{"up": {"job", "instance"}}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		known[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
	}
	return known, nil
}

// expressions are all that is called expr, wherever it stands.
func expressions(content any) []string {
	var all []string
	switch c := content.(type) {
	case map[string]any:
		for name, value := range c {
			if expr, ok := value.(string); ok && name == "expr" {
				all = append(all, expr)
			} else {
				all = append(all, expressions(value)...)
			}
		}
	case []any:
		for _, value := range c {
			all = append(all, expressions(value)...)
		}
	}
	return all
}

// variables are what Grafana puts something in the place of.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$gateway", ".*")

func (known metrics) check(expr string) error {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(expr))
	if err != nil {
		return err
	}
	var wrong []error
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			wrong = append(wrong, known.selects(n))
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				wrong = append(wrong, known.groups(n, label))
			}
		}
		return nil
	})
	return errors.Join(wrong...)
}

func (known metrics) selects(n *parser.VectorSelector) error {
	has, ok := known.labels(n.Name)
	if !ok {
		return fmt.Errorf("there is no metric %s", n.Name)
	}
	for _, m := range n.LabelMatchers {
		if m.Name != labels.MetricName && has != nil && !slices.Contains(has, m.Name) {
			return fmt.Errorf("%s has no label %s", n.Name, m.Name)
		}
	}
	return nil
}

// groups checks a label that the metrics below an aggregation are grouped by.
func (known metrics) groups(n *parser.AggregateExpr, label string) error {
	var wrong error
	parser.Inspect(n.Expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			has, _ := known.labels(s.Name)
			histogram := label == "le" && strings.HasSuffix(s.Name, "_bucket")
			if has != nil && !histogram && !slices.Contains(has, label) {
				wrong = fmt.Errorf("%s has no label %s", s.Name, label)
			}
		}
		return nil
	})
	return wrong
}

// labels are those of a metric; nil where they are Envoy's to say.
func (known metrics) labels(name string) (has []string, ok bool) {
	if strings.HasPrefix(name, "envoy_") {
		return nil, true
	}
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, suffix); cut {
			if has, ok := known[base]; ok {
				return append([]string{"job", "instance"}, has...), true
			}
		}
	}
	return nil, false
}
