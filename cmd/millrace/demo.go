package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"millrace/config"
	"millrace/internal/fakellm"
)

// demo is the three providers of examples/quickstart.yaml: one of each schema, and one that is
// always down.
type demo struct{ servers []*fakellm.Server }

func startDemo() (*demo, error) {
	d := &demo{}
	down := &fakellm.Provider{Name: "demo-down", Schema: fakellm.OpenAIChat, Key: "demo-key"}
	down.Always(fakellm.Fail(503, "this demo provider is always down"))
	for addr, p := range map[string]*fakellm.Provider{
		"127.0.0.1:9101": {Name: "demo-openai", Schema: fakellm.OpenAIChat, Key: "demo-key", WordDelay: 40 * time.Millisecond},
		"127.0.0.1:9102": {Name: "demo-anthropic", Schema: fakellm.AnthropicMessages, Key: "demo-key", WordDelay: 40 * time.Millisecond},
		"127.0.0.1:9103": down,
	} {
		s, err := fakellm.Start(p, addr)
		if err != nil {
			d.stop()
			return nil, err
		}
		d.servers = append(d.servers, s)
	}
	return d, nil
}

// stop ends the providers. A nil demo has none.
func (d *demo) stop() {
	if d == nil {
		return
	}
	for _, s := range d.servers {
		s.Close()
	}
}

// greet prints what to try: of the demo's URLs, those that the configuration has, and the page at
// the admin's address, "" for none.
func (d *demo) greet(out io.Writer, c *config.Config, admin string) {
	root := fmt.Sprintf("localhost:%d", c.Listen.Port)
	insecure := ""
	if c.Listen.CertFile != "" {
		root, insecure = "https://"+root, "k"
	}
	fmt.Fprintf(out, "\nMillrace serves on :%d, with demo providers behind it.", c.Listen.Port)
	chats, failover := takesChats(c.Gateways[0], "/v1"), takesChats(c.Gateways[0], "/failover")
	if chats || failover {
		fmt.Fprint(out, " Try\n")
	} else {
		fmt.Fprint(out, " This configuration has none of the URLs that the demo knows.\n")
	}
	if chats {
		fmt.Fprintf(out, `
  a chat, answered by whoever's turn it is, in your schema:
    curl -s%[2]s %[1]s/v1/chat/completions -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Hello!"}]}'

  a stream:
    curl -sN%[2]s %[1]s/v1/chat/completions -d '{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Count to five."}]}'
`, root, insecure)
	}
	if failover {
		fmt.Fprintf(out, `
  a target that is down, and the failover to one of another schema that you do not notice:
    curl -si%[2]s %[1]s/failover/v1/chat/completions -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Are you there?"}]}'
`, root, insecure)
	}
	if admin != "" {
		fmt.Fprintf(out, "\n  http://%s/ shows what goes on; millrace top does so in a terminal.\n", admin)
	}
	fmt.Fprint(out, "\nCtrl-C drains and stops both.\n\n")
}

// takesChats tells whether a rule takes any chat that is posted below the path.
func takesChats(g *config.Gateway, path string) bool {
	return slices.ContainsFunc(g.Rules, func(r *config.Rule) bool {
		return (r.Path == path || r.Path == "/" && path == "/v1") && len(r.Headers)+len(r.Query)+len(r.Models) == 0 &&
			(len(r.Methods) == 0 || slices.Contains(r.Methods, "POST"))
	})
}
