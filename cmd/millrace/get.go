package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
)

type getCommand struct {
	adminFlags
	Kind    string `arg:"" optional:"" enum:"config,gateways,upstreams,services,rules,keys,packs,versions,health" default:"config" help:"config, gateways, upstreams, services, rules, keys, packs, versions, or health of an upstream."`
	Name    string `arg:"" optional:"" help:"Id or name of one; the revision of a version."`
	Gateway string `help:"Id or name of the gateway; of config, all when it is not given." short:"g"`
}

// Run shows what a running gateway is configured with.
func (c *getCommand) Run(ctx context.Context, out io.Writer) error {
	r := request{method: "GET"}
	switch c.Kind {
	case "config":
		r.path = []string{"config"}
		if c.Gateway != "" {
			r.query = url.Values{"gateway": {c.Gateway}}
		}
	case "gateways", "versions":
		r.path = []string{c.Kind}
	case "health":
		if c.Name == "" {
			return fmt.Errorf("health of which upstream?")
		}
		r.path = []string{"gateways", orDefault(c.Gateway), "upstreams"}
	default:
		r.path = []string{"gateways", orDefault(c.Gateway), c.Kind}
	}
	if c.Name != "" && c.Kind != "config" {
		r.path = append(r.path, c.Name)
	}
	if c.Kind == "health" {
		r.path = append(r.path, "health")
	}
	a, err := c.call(ctx, r)
	if err != nil {
		return err
	}
	return c.print(out, a.body)
}

// orDefault is the gateway that a file without a name is for.
func orDefault(gateway string) string {
	if gateway == "" {
		return "default"
	}
	return gateway
}
