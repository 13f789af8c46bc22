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

// TestMessagesOfARequest: each kind of request costs the streams and messages of its plan
// (docs/request-path.md), and no more: only policies that a request waits for take a stream, and
// those of one service take none of another's requests (E01).
func TestMessagesOfARequest(t *testing.T) {
	t.Parallel()
	a, o := anthropicAI("a"), openAI("o")
	first := to("a", a, provider(t, a), "priority: 1")
	large := strings.Replace(chatHello, `"hello"`, `"`+strings.Repeat("x", 100_000)+`"`, 1)
	for plan, c := range map[string]struct {
		upstream string
		answered traffic
	}{
		"joined":         {pool("", first), traffic{1, 4, 4}},
		"router stream":  {pool("", first, to("o", o, provider(t, o), "priority: 2")), traffic{2, 5, 5}}, // two schemas: the body decides
		"input policies": {pool("", first) + "policies: {chain: [audit-logger], policy: {audit-logger: {dir: " + t.TempDir() + "}}}\n", traffic{2, 5, 5}},
		"policies of another service": {strings.Replace(pool("", first), "services: [", "services: [{name: other, upstream: chat, policies: {chain: [audit-logger]}}, ", 1) +
			"policies: {policy: {audit-logger: {dir: " + t.TempDir() + "}}}\n", traffic{1, 4, 4}},
	} {
		t.Run(plan, func(t *testing.T) {
			g := start(t, "", c.upstream)
			announced := traffic{c.answered.streams + 1, c.answered.toSidecar + 1, c.answered.fromSidecar + 1}
			g.costs("health", traffic{1, 1, 1}, func() { g.get("/health").want(200) })
			g.costs("refused by its path", traffic{1, 1, 1}, func() { g.post("/v1/nothing", chatHello).want(404) })
			g.costs("refused by its body", traffic{1, 2, 2}, func() { g.post("/v1/chat/completions", "{").want(400) })
			g.costs("same schema", c.answered, func() { g.post("/v1/messages", claudeHello).want(200) })
			g.costs("translated", c.answered, func() { g.post("/v1/chat/completions", chatHello).want(200) })
			g.costs("large", announced, func() { g.post("/v1/chat/completions", large).want(200) })
		})
	}
}

// costs checks what a request makes Envoy and the sidecar say to each other. An answer's end may
// come with its body, or in a message of its own.
func (g *gateway) costs(name string, want traffic, do func()) {
	g.t.Helper()
	before := g.traffic()
	do()
	g.eventually(name, func() error {
		now := g.traffic()
		got := traffic{now.streams - before.streams, now.toSidecar - before.toSidecar, now.fromSidecar - before.fromSidecar}
		if want.toSidecar > 2 && got.toSidecar == want.toSidecar+1 {
			got.toSidecar--
		}
		if got != want {
			return fmt.Errorf("%+v, want %+v", got, want)
		}
		return nil
	})
}
