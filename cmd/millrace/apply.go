package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
)

type applyCommand struct {
	writeFlags
	File string `arg:"" help:"A configuration document, YAML or JSON; - is the standard input."`
}

// Run makes a gateway of a running sidecar what a document says, and shows what that changed.
func (c *applyCommand) Run(ctx context.Context, out io.Writer) error {
	read := os.ReadFile
	if c.File == "-" {
		read = func(string) ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	data, err := read(c.File)
	if err != nil {
		return err
	}
	format := "application/yaml"
	if filepath.Ext(c.File) == ".json" {
		format = "application/json"
	}
	a, err := c.call(ctx, request{method: "POST", path: []string{"apply"}, query: c.query(), format: format, body: data})
	if err != nil {
		return err
	}
	return c.printChange(out, a)
}
