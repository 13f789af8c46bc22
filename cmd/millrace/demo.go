package main

import (
	"fmt"
	"io"
	"time"

	"millrace/internal/fakellm"
)

// demo is the three providers of examples/quickstart.yaml: one of each schema, and one that is always down.
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

// greet prints what to try.
func (d *demo) greet(out io.Writer, port uint32) {
	fmt.Fprintf(out, `
Millrace serves on :%[1]d, with demo providers behind it. Try

  a chat, answered by whoever's turn it is, in your schema:
    curl -s localhost:%[1]d/v1/chat/completions -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Hello!"}]}'

  a stream:
    curl -sN localhost:%[1]d/v1/chat/completions -d '{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Count to five."}]}'

  a target that is down, and the failover to one of another schema that you do not notice:
    curl -si localhost:%[1]d/failover/v1/chat/completions -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Are you there?"}]}'

Ctrl-C drains and stops both.

`, port)
}
