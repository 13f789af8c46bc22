package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/admin"
	"millrace/control"
	"millrace/internal/browser"
	"millrace/metrics"
	millracev1 "millrace/proto/millrace/v1"
)

// gateway is a feed with its page, behind the guard of the admin port, and what it tells of.
type gateway struct {
	recent  *Recent
	feed    *Feed
	digest  atomic.Pointer[metrics.Digest]
	status  atomic.Pointer[control.Status]
	token   string
	digests atomic.Int64 // how often one was made
	handler http.Handler
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{recent: NewRecent()}
	up := metrics.State{Known: true, Healthy: true, Weight: 1}
	g.digest.Store(&metrics.Digest{Envoy: true, Targets: []metrics.TargetCount{
		{Gateway: "default", Upstream: "chat", Target: "eu-1", Provider: "openai", State: up},
		{Gateway: "default", Upstream: "chat", Target: "us-1", Provider: "anthropic", State: up},
	}})
	g.status.Store(&control.Status{
		Result: control.Result{State: control.Applied, Version: "1a2b3c", Revision: 7}, Ready: true, Envoy: control.Envoy{Connected: true, Version: "1.40.0"},
	})
	g.feed = NewFeed(Options{
		Recent: g.recent,
		Digest: func(context.Context) (*metrics.Digest, error) {
			g.digests.Add(1)
			return g.digest.Load(), nil
		},
		Status: func() control.Status { return *g.status.Load() },
		Versions: func(context.Context) ([]control.VersionInfo, error) {
			return []control.VersionInfo{
				{Revision: 7, Time: time.Unix(1795000000, 0), Cause: "back to the version before: no such cluster"},
				{Revision: 6, Time: time.Unix(1794999000, 0), Cause: "PATCH /api/v1/gateways/default", State: control.Rejected},
			}, nil
		},
		Release: "test", Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(g.feed.Close)
	api := admin.New(admin.Options{Token: func() string { return g.token }})
	mux := http.NewServeMux()
	g.feed.Register(mux, func(next http.Handler) http.Handler { return api.Beside(next) })
	g.handler = mux
	return g
}

// serve serves at an address: "" is any free one.
func (g *gateway) serve(t *testing.T) *httptest.Server {
	s := httptest.NewServer(g.handler)
	t.Cleanup(func() {
		g.feed.Close()
		s.Close()
	})
	return s
}

// hostile is a client's text that would do harm as markup.
const hostile = `<img src=x onerror="document.title='harm'">`

// secrets and prompts must not be seen.
const prompt, secret = "my-prompt-text", "my-secret-key"

func (g *gateway) requests(n int) {
	for i := range n {
		e := &millracev1.Event{
			Id: fmt.Sprint("request-", i), Time: timestamppb.Now(), DurationMs: 900, FirstByteMs: 210, Gateway: "default", Method: "POST", Path: "/v1/chat/completions",
			Model: "gpt-4o", Stream: true, Status: 200, Target: "us-1", Provider: "anthropic", Key: "team-a", ClientAddress: "192.0.2.7",
			Usage: &millracev1.Usage{Input: 120, Output: 45}, Cost: &millracev1.Cost{Usd: "0.0021"},
			Attempts: []*millracev1.Attempt{
				{Target: "eu-1", Upstream: "chat", Status: 503, Condition: "server-error", DurationMs: 30, Error: "the provider says: " + prompt + secret},
				{Target: "us-1", Upstream: "chat", Status: 200, BeganMs: 40, FirstTokenMs: 170, DurationMs: 860, Usage: &millracev1.Usage{Input: 120, Output: 45}, Cost: &millracev1.Cost{Usd: "0.0021"}},
			},
			Policies: []*millracev1.PolicyVerdict{{Policy: "names", Kind: "pii-redactor", Phase: "input", Verdict: "redact", Reason: prompt}},
		}
		if i == n-1 {
			e.Model, e.Status, e.Target, e.Usage, e.Error, e.Attempts = hostile, 503, "", nil, prompt+secret, e.Attempts[:1]
		}
		g.recent.Record(e)
	}
}

// TestPage: people see in a browser how the gateway is (issue 13, "what people look at").
func TestPage(t *testing.T) {
	g := newGateway(t)
	g.requests(12)
	server := g.serve(t)
	p := browser.Open(t)
	p.Go(server.URL + "/")
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 12`)

	for what, expression := range map[string]string{
		"requests":         `document.getElementById("t-requests").textContent === "12"`,
		"failed":           `document.getElementById("t-errors").textContent === "1"`,
		"ready":            `document.getElementById("ready").textContent === "ready"`,
		"both targets":     `document.querySelectorAll("#targets tbody tr").length === 2`,
		"share":            `document.querySelector("#targets tbody tr").textContent.includes("52 %")`, // 12 of 23
		"attempts":         `document.querySelector("#requests tbody tr:nth-child(2)").textContent.includes("eu-1 (server-error) → us-1")`,
		"cost":             `document.getElementById("t-cost").textContent === "$0.0252"`,
		"policies":         `document.querySelector("#policies tbody").textContent.includes("pii-redactor")`,
		"version":          `document.getElementById("version").textContent.includes("1a2b3c")`,
		"the present one":  `document.querySelector("#versions tbody tr").textContent.includes("applied")`,
		"one refused":      `document.querySelector("#versions tbody tr:nth-child(2)").textContent.includes("rejected")`,
		"charts":           `document.querySelectorAll("figure path[d^=M]").length >= 4`,
		"text is no HTML":  `document.querySelectorAll("img").length === 0 && document.title === "Millrace"`,
		"and is seen":      `document.querySelector("#requests tbody tr").textContent.includes("<img src=x")`,
		"nothing is kept":  `localStorage.length + sessionStorage.length === 0 && document.cookie === ""`,
		"no prompt":        `!document.documentElement.outerHTML.includes("` + prompt + `")`,
		"no secret":        `!document.documentElement.outerHTML.includes("` + secret + `")`,
		"nothing sideways": `document.scrollingElement.scrollWidth <= innerWidth`,
	} {
		if p.Eval(expression) != true {
			t.Errorf("%s: not so: %s", what, expression)
		}
	}
	t.Run("live", func(t *testing.T) {
		d := *g.digest.Load()
		d.Targets = slices.Clone(d.Targets)
		d.Targets[0].State.Ejected = true
		g.digest.Store(&d)
		g.requests(1)
		p.Await(`document.querySelector("#targets tbody tr .badge").textContent === "ejected"`)
		p.Await(`document.getElementById("announce").textContent.includes("chat / eu-1 is ejected")`)
		p.Await(`document.getElementById("t-requests").textContent === "13"`)
	})
	t.Run("pause", func(t *testing.T) {
		p.Eval(`document.getElementById("pause").focus()`)
		p.Press("Enter")
		p.Await(`document.getElementById("connection").textContent === "Paused"`)
		p.Press("Space")
		p.Await(`document.getElementById("connection").textContent === "Live"`)
	})
	t.Run("phone", func(t *testing.T) {
		p.Size(360, 740)
		if width := p.Eval(`document.scrollingElement.scrollWidth`); width != 360.0 {
			t.Errorf("the page is %v wide on a phone of 360", width)
		}
		if got := p.Text(`getComputedStyle(document.querySelector("#targets tbody td:nth-child(3)"), "::before").content`); got != `"Share"` {
			t.Errorf("a cell is labelled %s", got)
		}
		shoot(t, p, "phone")
		p.Size(1280, 900)
	})
	t.Run("dark", func(t *testing.T) {
		light := p.Text(`getComputedStyle(document.documentElement).backgroundColor`)
		shoot(t, p, "light")
		p.Dark("dark")
		if dark := p.Text(`getComputedStyle(document.documentElement).backgroundColor`); dark == light {
			t.Errorf("dark is as light: %s", dark)
		}
		shoot(t, p, "dark")
		p.Dark("light")
	})
	for _, said := range p.Logged() {
		t.Errorf("the browser says: %s", said)
	}
	for _, url := range p.Asked() {
		if !strings.HasPrefix(url, server.URL+"/") && url != "about:blank" {
			t.Errorf("the page asked for %s", url)
		}
	}
}

// TestPageContrast: text is told from what it stands on, in light and dark, as WCAG 2.2 wants it
// (https://www.w3.org/TR/WCAG22/#contrast-minimum).
func TestPageContrast(t *testing.T) {
	g := newGateway(t)
	g.requests(3)
	d := *g.digest.Load()
	d.Targets = slices.Clone(d.Targets)
	d.Targets[0].State.Ejected = true
	d.Targets[1].State.Cooling = true
	g.digest.Store(&d)
	p := browser.Open(t)
	p.Go(g.serve(t).URL + "/")
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 3`)
	for _, scheme := range []string{"light", "dark"} {
		p.Dark(scheme)
		found := p.Eval(`(() => {
			const numbers = (color) => color.match(/[\d.]+/g).map(Number);
			const light = (color) => { const [r, g, b] = numbers(color).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
			const ground = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return getComputedStyle(e).backgroundColor; } return "rgb(255,255,255)"; };
			const bad = []; let seen = 0;
			for (const e of document.body.querySelectorAll("*")) {
				if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
				seen++;
				const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
				if (ratio < 4.5) bad.push(e.tagName + " " + e.className + " " + ratio.toFixed(2) + ": " + e.textContent.slice(0, 30));
			}
			return seen < 50 ? ["only " + seen + " texts were seen"] : bad;
		})()`)
		if list := found.([]any); len(list) > 0 {
			t.Errorf("%s: %v", scheme, list)
		}
	}
}

// TestPageWithoutAMouse: everything can be reached with the keyboard, in order, and has a name.
func TestPageWithoutAMouse(t *testing.T) {
	g := newGateway(t)
	g.requests(40) // more than there is room for
	p := browser.Open(t)
	p.Go(g.serve(t).URL + "/")
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 40`)
	var order []string
	for range 3 {
		p.Press("Tab")
		order = append(order, p.Text(`document.activeElement.id || document.activeElement.className`))
	}
	if want := []string{"skip", "pause", "scroll"}; !slices.Equal(order, want) {
		t.Errorf("Tab leads to %q, want %q", order, want)
	}
	if p.Eval(`getComputedStyle(document.activeElement).outlineStyle`) == "none" {
		t.Error("where the focus is cannot be seen")
	}
	roles := map[string]int{}
	for _, n := range p.Accessible() {
		roles[n.Role]++
		if n.Name == "" && slices.Contains([]string{"button", "link", "textbox", "table", "image", "region", "columnheader"}, n.Role) {
			t.Errorf("a %s has no name", n.Role)
		}
	}
	for _, role := range []string{"banner", "main", "contentinfo", "heading", "region", "status", "table", "rowheader", "image"} {
		if roles[role] == 0 {
			t.Errorf("the page has no %s: %v", role, roles)
		}
	}
	p.Size(360, 740) // where rows are laid out as cards, they are rows all the same
	narrow := map[string]int{}
	for _, n := range p.Accessible() {
		narrow[n.Role]++
	}
	if narrow["row"] != roles["row"]-40+15 || narrow["cell"] == 0 { // of the requests there are fewer
		t.Errorf("on a phone the tables are none: %v", narrow)
	}
}

// TestPageAsksForTheToken: it is asked for where one is needed, and kept in memory alone.
func TestPageAsksForTheToken(t *testing.T) {
	g := newGateway(t)
	g.token = "right-token"
	g.requests(1)
	server := g.serve(t)
	p := browser.Open(t)
	p.Go(server.URL + "/")
	p.Await(`!document.getElementById("login").hidden && document.activeElement.id === "token"`)
	shoot(t, p, "token")
	if p.Eval(`document.getElementById("shown").checkVisibility()`) != false {
		t.Error("something is shown without the token")
	}
	p.Type("wrong-token")
	p.Press("Enter")
	p.Await(`document.getElementById("login-error").textContent === "That is not the token."`)
	p.Type("right-token")
	p.Press("Enter")
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 1 && document.getElementById("login").hidden`)
	if p.Eval(`localStorage.length + sessionStorage.length === 0 && document.cookie === "" && !document.documentElement.outerHTML.includes("right-token") && !location.href.includes("token")`) != true {
		t.Error("the token is somewhere")
	}
	p.Go(server.URL + "/?again")
	p.Await(`document.getElementById("login")?.hidden === false`)
}

// TestPageComesBack: when the sidecar ends and another one serves, the page goes on by itself.
func TestPageComesBack(t *testing.T) {
	g := newGateway(t)
	g.requests(5)
	server := g.serve(t)
	p := browser.Open(t)
	p.Go(server.URL + "/")
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 5`)
	address := server.Listener.Addr().String()
	g.feed.Close()
	server.Close()
	p.Await(`document.getElementById("connection").textContent.startsWith("No connection")`)
	next := newGateway(t)
	next.requests(1)
	again := &http.Server{Addr: address, Handler: next.handler}
	served := make(chan error, 1)
	go func() { served <- again.ListenAndServe() }()
	p.Await(`document.getElementById("connection").textContent === "Live"`)
	p.Await(`document.querySelectorAll("#requests tbody tr").length === 1`) // the other one's are gone
	again.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// shoot keeps what the page looks like, for people, where they say.
func shoot(t *testing.T, p *browser.Page, name string) {
	t.Helper()
	dir := os.Getenv("MILLRACE_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), p.Screenshot(), 0o644); err != nil {
		t.Error(err)
	}
}
