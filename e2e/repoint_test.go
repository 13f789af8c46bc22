package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/internal/fakellm"
)

// canary is a provider that counts the requests, health checks among them, that bring a credential
// of another one.
type canary struct {
	*fakellm.Provider
	url     string
	foreign atomic.Int64
	probes  atomic.Int64 // with its own key
}

// canaries start one provider for each name and schema. Each has a key, and a header with another
// secret, of its own.
func canaries(t *testing.T, fakes ...*fakellm.Provider) []*canary {
	t.Helper()
	var all []*canary
	for _, p := range fakes {
		c := &canary{Provider: p}
		p.KeepRequests = 1
		s := httptest.NewServer(c)
		t.Cleanup(s.Close)
		c.url = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
		all = append(all, c)
	}
	return all
}

func (c *canary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, values := range r.Header {
		for _, v := range values {
			if i := strings.Index(v, "key-"); i >= 0 && v[i:] != c.Key {
				c.foreign.Add(1)
			}
		}
	}
	if r.Method == http.MethodGet {
		c.probes.Add(1)
	}
	c.Provider.ServeHTTP(w, r)
}

// target is a target of this provider, as JSON, which is YAML too.
func (c *canary) target(id string, more ...string) string {
	kind, _, _ := strings.Cut(c.Schema, ".")
	fields := append([]string{
		fmt.Sprintf(`"id": %q, "provider": {"type": %q, "base_url": "%s/v1", "secret_key_ref": %q}`, id, kind, c.url, c.Key),
		fmt.Sprintf(`"headers": {"x-team": %q}`, c.Key),
	}, more...)
	return "{" + strings.Join(fields, ", ") + "}"
}

// changer makes a document the gateway's, by an edit of its file or by calls of its API, and waits
// until that is applied.
type changer interface {
	// targets sets those of the upstream "chat". algorithm is the upstream's.
	targets(targets ...string)
}

// byFile edits the file. Its settings and rules stay.
type byFile struct {
	g        *gateway
	upstream string // lines of it
	open     bool
}

func (c byFile) document(targets []string) string {
	d := pool(c.upstream, targets...)
	if c.open {
		d = strings.Replace(d, "upstream: chat}", "upstream: chat, failure: open}", 1)
	}
	return d
}

func (c byFile) write(targets ...string) {
	c.g.edit(func(s string) string {
		head, _, _ := strings.Cut(s, "upstreams:\n")
		return head + c.document(targets)
	})
}

func (c byFile) targets(targets ...string) {
	c.g.t.Helper()
	before := len(c.g.log.String())
	c.write(targets...)
	c.g.eventually("the file is applied", func() error {
		if !strings.Contains(c.g.log.String()[before:], `"msg":"configuration file applied"`) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// eventsElsewhere has events written to another folder than the configuration's, before the gateway
// runs: what goes on in that one puts the reading of an edit off.
func (g *gateway) eventsElsewhere() {
	g.t.Helper()
	events := filepath.Join(g.t.TempDir(), "events.jsonl")
	g.edit(func(s string) string { return strings.Replace(s, g.events, events, 1) })
	g.events = events
}

// byREST replaces the upstream's targets.
type byREST struct {
	t    *testing.T
	base string
}

func (c byREST) targets(targets ...string) {
	c.t.Helper()
	must(c.t, "PATCH", c.base+"/upstreams/chat", rawJSON(`{"targets": [`+strings.Join(targets, ",")+`]}`))
}

type rawJSON string

func (j rawJSON) MarshalJSON() ([]byte, error) { return []byte(j), nil }

// repointing is an upstream whose targets are changed between two sets, 0 and 1.
type repointing struct {
	upstream string // its lines, JSON behind each colon
	fakes    func() []*fakellm.Provider
	targets  func(all []*canary, set int) []string
}

// eachWay runs a test for changes of the file and for changes over REST, with providers of its own.
func (r repointing) eachWay(t *testing.T, test func(t *testing.T, g *gateway, all []*canary, change func(set int))) {
	t.Helper()
	run := func(way string, start func(t *testing.T, targets []string) (*gateway, changer)) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			all := canaries(t, r.fakes()...)
			g, c := start(t, r.targets(all, 0))
			test(t, g, all, func(set int) { t.Helper(); c.targets(r.targets(all, set)...) })
			for _, c := range all {
				if n := c.foreign.Load(); n > 0 {
					t.Errorf("%d credentials of others came to %s", n, c.Name)
				}
			}
		})
	}
	run("file", func(t *testing.T, targets []string) (*gateway, changer) {
		c := byFile{upstream: r.upstream}
		c.g = prepare(t, "", c.document(targets))
		c.g.eventsElsewhere()
		c.g.run()
		return c.g, c
	})
	run("REST", func(t *testing.T, targets []string) (*gateway, changer) {
		g, admin := withAdmin(t, "", "")
		c := byREST{t, admin + "/api/v1/gateways/default"}
		fields := []string{`"name": "chat"`, `"targets": [` + strings.Join(targets, ",") + "]"}
		for line := range strings.Lines(r.upstream) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			fields = append(fields, fmt.Sprintf("%q: %s", name, value))
		}
		must(t, "POST", c.base+"/upstreams", rawJSON("{"+strings.Join(fields, ", ")+"}"))
		must(t, "POST", c.base+"/services", map[string]any{"name": "chat", "upstream": "chat"})
		must(t, "POST", c.base+"/rules", map[string]any{"path": "/v1", "service": "chat"})
		return g, c
	})
}

// TestRepointedWhileWaiting: while a request waits at one target, the next one is re-pointed to
// another provider, and back. The request then fails over to that one, and is served: nobody gets a
// credential that is not its own.
func TestRepointedWhileWaiting(t *testing.T) {
	t.Parallel()
	repointing{
		upstream: "algorithm: \"round-robin\"\nhealth_checks: {\"passive\": false}",
		fakes:    func() []*fakellm.Provider { return []*fakellm.Provider{openAI("a"), anthropicAI("b"), openAI("wait")} },
		targets: func(all []*canary, set int) []string {
			return []string{all[2].target("wait", `"priority": 1`), all[set].target("next", `"priority": 2`)}
		},
	}.eachWay(t, func(t *testing.T, g *gateway, all []*canary, change func(set int)) {
		wait := all[2]
		for i := range 8 {
			gate := make(chan struct{})
			fail := fakellm.Fail(503, "down")
			fail.Head.Gate = gate
			wait.Script(fail)
			answer := make(chan *answer)
			go func() { answer <- g.post("/v1/chat/completions", []string{chatHello, chatStream}[i/2%2]) }()
			awaitArrival(t, wait.Provider, i+1)
			change((i + 1) % 2)
			close(gate)
			(<-answer).want(200).header("x-millrace-attempts", "wait=503;next=200")
		}
	})
}

func awaitArrival(t *testing.T, p *fakellm.Provider, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := p.WaitArrived(ctx, n); err != nil {
		t.Fatalf("request %d at %s: %v", n, p.Name, err)
	}
}

// load sends requests and streams, one after the other in each worker, until the returned function
// is called. It returns how many there were, and how many were not served.
func (g *gateway) load(workers int, header ...string) func() (sent, failed int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var sent, failed atomic.Int64
	for i := range workers {
		body := []string{chatHello, chatStream}[i%2]
		running.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(body), header...))
				if err != nil {
					failed.Add(1)
					continue
				}
				text, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != 200 || strings.Contains(string(text), `"error"`) {
					if failed.Add(1) < 5 {
						g.t.Logf("%d %s %v", r.StatusCode, text, err)
					}
				}
			}
		})
	}
	return func() (int64, int64) {
		cancel()
		running.Wait()
		return sent.Load(), failed.Load()
	}
}

// TestRepointedUnderLoad: a target is re-pointed to another provider and back, again and again,
// under load. Nobody gets a credential that is not its own, with requests or with health checks,
// and no request fails; not even where the target is the only one.
func TestRepointedUnderLoad(t *testing.T) {
	t.Parallel()
	for name, upstream := range map[string]string{
		"alone":  "algorithm: \"round-robin\"",
		"two":    "algorithm: \"least-connections\"",
		"hashes": "algorithm: \"header-hash\"\nhash_header: \"x-user\"",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repointUnderLoad(t, name, upstream)
		})
	}
}

// TestRepointedWithChecks is the same with active health checks. It has the machine for itself:
// where a check a tenth of a second apart cannot be answered in time, targets are down.
func TestRepointedWithChecks(t *testing.T) {
	repointUnderLoad(t, "checked", "algorithm: \"round-robin\"\nhealth_checks: {\"active\": {\"path\": \"/v1/models\", \"interval\": \"0.1s\"}}")
}

func repointUnderLoad(t *testing.T, name, upstream string) {
	t.Helper()
	changes := 20
	if soak {
		changes = 300
	}
	repointing{
		upstream: upstream,
		fakes: func() []*fakellm.Provider {
			return []*fakellm.Provider{openAI("a"), anthropicAI("b"), openAI("steady")}
		},
		targets: func(all []*canary, set int) []string {
			targets := []string{all[set].target("t")}
			if name != "alone" {
				targets = append(targets, all[2].target("steady", `"priority": 2`))
			}
			return targets
		},
	}.eachWay(t, func(t *testing.T, g *gateway, all []*canary, change func(set int)) {
		g.answers("t")
		stop := g.load(6, "X-User: me")
		for i := range changes {
			change((i + 1) % 2)
		}
		sent, failed := stop()
		if failed > 0 || sent < int64(changes) {
			t.Errorf("%d of %d requests failed", failed, sent)
		}
	})
}
