package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

type statusCommand struct {
	adminFlags
}

// Run tells where a running gateway stands.
func (c *statusCommand) Run(ctx context.Context, out io.Writer) error {
	a, err := c.call(ctx, request{method: "GET", path: []string{"status"}})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return c.print(out, a.body)
	}
	var s struct {
		Release, State, Reason, Version, Store, Events string
		Revision                                       uint64
		Ready                                          bool
		Warnings                                       []string
		Envoy                                          struct {
			Connected     bool
			Node, Version string
		}
		File struct{ Path, Error string }
	}
	if err := json.Unmarshal(a.body, &s); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%v\n", name, value)
		}
	}
	row("release", s.Release)
	row("ready", s.Ready)
	row("state", s.State)
	row("reason", s.Reason)
	row("version", s.Version)
	row("revision", s.Revision)
	if s.Envoy.Connected {
		row("envoy", s.Envoy.Version+" ("+s.Envoy.Node+")")
	} else {
		row("envoy", "not connected")
	}
	row("file", s.File.Path)
	row("file error", s.File.Error)
	row("store", s.Store)
	row("events", s.Events)
	for _, warning := range s.Warnings {
		row("warning", warning)
	}
	return w.Flush()
}
