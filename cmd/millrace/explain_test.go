package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/internal/golden"
)

// TestExplain: what `millrace explain` says of a configuration, and of a rule that there is not.
func TestExplain(t *testing.T) {
	golden.Run(t, "testdata/explain/*.txtar", func(c *golden.Case) {
		file := filepath.Join(c.T.TempDir(), "gateway.yaml")
		if err := os.WriteFile(file, c.Input("gateway.yaml"), 0o600); err != nil {
			c.T.Fatal(err)
		}
		command := explainCommand{Config: file, Rule: string(c.Input("rule")), checkFlags: checkFlags{Elsewhere: true}}
		var out bytes.Buffer
		if err := command.Run(&out); err != nil {
			c.Output("want error", []byte(strings.ReplaceAll(err.Error(), file, "gateway.yaml")))
		}
		if out.Len() > 0 {
			c.Output("want", out.Bytes())
		}
	})
}

// TestExplainWithoutConfiguration: what is missing is named.
func TestExplainWithoutConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		command explainCommand
		want    string
	}{
		"neither file nor folder": {explainCommand{}, "--config FILE"},
		"no file":                 {explainCommand{Config: "no-file.yaml"}, "no-file.yaml"},
		"nothing applied":         {explainCommand{checkFlags: checkFlags{DataDir: t.TempDir()}}, "nothing was applied"},
	} {
		var out bytes.Buffer
		if err := c.command.Run(&out); err == nil || !strings.Contains(err.Error(), c.want) || out.Len() > 0 {
			t.Errorf("%s: %v, want %q; said %q", name, err, c.want, out.String())
		}
	}
}
