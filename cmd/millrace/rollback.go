package main

import (
	"context"
	"io"
	"strconv"
)

type rollbackCommand struct {
	writeFlags
	Revision uint64 `arg:"" help:"The revision of the version to go back to, as in: millrace get versions."`
}

// Run makes a new version with the content of an old one.
func (c *rollbackCommand) Run(ctx context.Context, out io.Writer) error {
	path := []string{"versions", strconv.FormatUint(c.Revision, 10), "rollback"}
	a, err := c.call(ctx, request{method: "POST", path: path, query: c.query()})
	if err != nil {
		return err
	}
	return c.printChange(out, a)
}
