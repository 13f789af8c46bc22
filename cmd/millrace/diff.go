package main

import (
	"context"
	"encoding/json"
	"io"
	"strconv"
)

type diffCommand struct {
	adminFlags
	From uint64 `arg:"" help:"The revision of a version, as in: millrace get versions."`
	To   uint64 `arg:"" optional:"" help:"The revision of another; the present one when it is not given."`
}

// Run shows what changed from one version to another.
func (c *diffCommand) Run(ctx context.Context, out io.Writer) error {
	if c.To == 0 {
		a, err := c.call(ctx, request{method: "GET", path: []string{"status"}})
		if err != nil {
			return err
		}
		var status struct{ Revision uint64 }
		if err := json.Unmarshal(a.body, &status); err != nil {
			return err
		}
		c.To = status.Revision
	}
	path := []string{"versions", strconv.FormatUint(c.From, 10), "diff", strconv.FormatUint(c.To, 10)}
	a, err := c.call(ctx, request{method: "GET", path: path})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return c.print(out, a.body)
	}
	var said struct{ Differences differences }
	if err := json.Unmarshal(a.body, &said); err != nil {
		return err
	}
	said.Differences.print(out)
	return nil
}
