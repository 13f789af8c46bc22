package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// traffic is what has passed between Envoy and the sidecar on ext_proc streams, as Envoy counts it.
type traffic struct{ streams, toSidecar, fromSidecar int }

func (g *gateway) traffic() traffic {
	g.t.Helper()
	page, err := g.envoyAdmin("/stats?filter=ext_proc")
	if err != nil {
		g.t.Fatal(err)
	}
	var v traffic
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, _ := strconv.Atoi(value)
		switch name[strings.LastIndexByte(name, '.')+1:] {
		case "streams_started":
			v.streams += n
		case "stream_msgs_sent":
			v.toSidecar += n
		case "stream_msgs_received":
			v.fromSidecar += n
		}
	}
	return v
}

// TestMessagesOfARequest: each kind of request costs the streams and messages of its plan (docs/request-path.md), and no more.
func TestMessagesOfARequest(t *testing.T) {
	t.Parallel()
	a := anthropicAI("a")
	g := start(t, "", pool("", to("a", a, provider(t, a))))
	for _, c := range []struct {
		name string
		do   func()
		want traffic // an answer's end may come with its body, or in a message of its own
	}{
		{"health", func() { g.get("/health").want(200) }, traffic{1, 1, 1}},
		{"refused by its path", func() { g.post("/v1/nothing", chatHello).want(404) }, traffic{1, 1, 1}},
		{"refused by its body", func() { g.post("/v1/chat/completions", "{").want(400) }, traffic{1, 2, 2}},
		{"same schema", func() { g.post("/v1/messages", claudeHello).want(200) }, traffic{2, 5, 5}},
		{"translated", func() { g.post("/v1/chat/completions", chatHello).want(200) }, traffic{2, 5, 5}},
	} {
		before := g.traffic()
		c.do()
		g.eventually(c.name, func() error {
			now := g.traffic()
			got := traffic{now.streams - before.streams, now.toSidecar - before.toSidecar, now.fromSidecar - before.fromSidecar}
			if c.want.streams > 1 && got.toSidecar == c.want.toSidecar+1 {
				got.toSidecar--
			}
			if got != c.want {
				return fmt.Errorf("%+v, want %+v", got, c.want)
			}
			return nil
		})
	}
}
