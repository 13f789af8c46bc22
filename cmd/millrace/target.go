package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

type targetCommand struct {
	Drain   drainTarget   `cmd:"" help:"Send a target no new requests; answers under way are finished."`
	Disable disableTarget `cmd:"" help:"The same as drain."`
	Enable  enableTarget  `cmd:"" help:"Give a drained target its share again."`
	Weight  weighTarget   `cmd:"" help:"Change a target's share."`
}

// targetFlags name one target.
type targetFlags struct {
	writeFlags
	Target string `arg:"" help:"upstream/target, or gateway/upstream/target."`
}

func (f targetFlags) path() ([]string, error) {
	parts := strings.Split(f.Target, "/")
	if len(parts) == 2 {
		parts = append([]string{orDefault("")}, parts...)
	}
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is not upstream/target or gateway/upstream/target", f.Target)
	}
	return []string{"gateways", parts[0], "upstreams", parts[1], "targets", parts[2]}, nil
}

// send makes the request below the target's path and shows the target as it is then.
func (f targetFlags) send(ctx context.Context, out io.Writer, r request) error {
	path, err := f.path()
	if err != nil {
		return err
	}
	r.path, r.query = append(path, r.path...), f.query()
	a, err := f.call(ctx, r)
	if err != nil {
		return err
	}
	if f.Output == "json" {
		return f.print(out, a.body)
	}
	var t struct {
		Weight   uint32
		Disabled bool
	}
	if err := json.Unmarshal(a.body, &t); err != nil {
		return err
	}
	now := fmt.Sprintf("weight %d", t.Weight)
	if t.Disabled {
		now += ", disabled"
	}
	if f.DryRun {
		a.state = "a dry run"
	}
	_, err = fmt.Fprintf(out, "%s: %s (%s)\n", f.Target, now, a.state)
	return err
}

type drainTarget struct{ targetFlags }

// Run drains a target.
func (c *drainTarget) Run(ctx context.Context, out io.Writer) error {
	return c.send(ctx, out, request{method: "POST", path: []string{"drain"}})
}

type disableTarget struct{ targetFlags }

// Run disables a target.
func (c *disableTarget) Run(ctx context.Context, out io.Writer) error {
	return c.send(ctx, out, request{method: "POST", path: []string{"disable"}})
}

type enableTarget struct{ targetFlags }

// Run enables a target.
func (c *enableTarget) Run(ctx context.Context, out io.Writer) error {
	return c.send(ctx, out, request{method: "POST", path: []string{"enable"}})
}

type weighTarget struct {
	targetFlags
	To uint32 `arg:"" help:"0 to 100, relative to the other targets of its priority."`
}

// Run changes a target's weight.
func (c *weighTarget) Run(ctx context.Context, out io.Writer) error {
	return c.send(ctx, out, request{method: "PATCH", format: "application/merge-patch+json", body: fmt.Appendf(nil, `{"weight": %d}`, c.To)})
}
