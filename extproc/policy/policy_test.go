package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/audit"
	"millrace/config"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// gatewayOf is the first gateway of a configuration with these policies.
func gatewayOf(t *testing.T, policies string) *config.Gateway {
	t.Helper()
	return configOf(t, policies).Gateways[0]
}

func configOf(t *testing.T, policies string) *config.Config {
	t.Helper()
	doc, err := config.Load("test.yaml", []byte("providers: {targets: [{provider: openai}]}\npolicies: "+policies+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if notYet := config.NotYet(doc); notYet != nil {
		t.Fatal(notYet)
	}
	c, err := config.Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKinds: config knows of the same kinds as this table, but for those that are to come, and of
// the same phases (E19).
func TestKinds(t *testing.T) {
	for _, c := range config.PolicyKinds {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == c.Name })
		if toCome := slices.Contains(config.PolicyKindsToCome, c.Name); toCome != (i < 0) {
			t.Errorf("%s: is it to come: %v", c.Name, toCome)
		}
		if i >= 0 && slices.Contains(kinds[i].phases, Input) != c.Phase.Input() {
			t.Errorf("%s: phases %v, and config has %s", c.Name, kinds[i].phases, c.Phase)
		}
	}
	for _, k := range kinds {
		if !slices.ContainsFunc(config.PolicyKinds, func(c config.PolicyKind) bool { return c.Name == k.name }) {
			t.Errorf("config does not know %s", k.name)
		}
	}
	for _, name := range config.PolicyKindsToCome {
		if !slices.ContainsFunc(config.PolicyKinds, func(c config.PolicyKind) bool { return c.Name == name }) {
			t.Errorf("%s is to come, and is no kind", name)
		}
	}
}

// TestParameters: what is wrong with parameters is said with its path, all of it at once (E19,
// E20).
func TestParameters(t *testing.T) {
	for name, c := range map[string]struct{ policies, want string }{
		"as seed 004 has it":        {"{chain: [audit-logger], policy: {audit-logger: {immutable: true, retention_days: 365, log_all_access: true}}}", ""},
		"nothing said":              {"{chain: [audit-logger]}", ""},
		"a second one of a kind":    {"{chain: [audit-logger, strict], policy: {strict: {kind: audit-logger, dir: /var/strict, on_error: allow}}}", ""},
		"an unknown parameter":      {"{chain: [audit-logger], policy: {audit-logger: {retention: 3}}}", "policies.policy.audit-logger.retention: audit-logger has no such parameter; it has dir, immutable, log_all_access, retention_days, and all policies have kind and on_error"},
		"two parameters":            {"{chain: [s], policy: {s: {kind: audit-logger, immutable: 1, retention_days: 0}}}", "policies.policy.s.retention_days: want a whole number from 1 to 36500\npolicies.policy.s.immutable: want true or false"},
		"a part of a day":           {"{chain: [audit-logger], policy: {audit-logger: {retention_days: 0.5}}}", "policies.policy.audit-logger.retention_days: want a whole number from 1 to 36500"},
		"a folder without a name":   {`{chain: [audit-logger], policy: {audit-logger: {dir: ""}}}`, "policies.policy.audit-logger.dir: want a text of one line"},
		"two that do not agree":     {"{chain: [audit-logger, s], policy: {s: {kind: audit-logger, retention_days: 1}}}", "with another retention_days or immutable"},
		"two that write to one log": {"{chain: [audit-logger, s], policy: {s: {kind: audit-logger, on_error: allow}}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := AuditLogs(configOf(t, c.policies))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// fake is a policy that does what the test wants.
type fake func(context.Context) error

func (f fake) input(ctx context.Context, _ Host, _ Request) error { return f(ctx) }

func (f fake) end(Host, Outcome) error { return f(context.Background()) }

// TestOnError: whatever fails in a policy, on_error says whether the request is sent; that it fails
// is said once. What a policy takes of the chain's time the next one lacks.
func TestOnError(t *testing.T) {
	end := make(chan struct{})
	for name, c := range map[string]struct {
		fails fake
		time  bool // is left for the next one
	}{
		"an error": {func(context.Context) error { return errors.New("no disk") }, true},
		"a panic":  {func(context.Context) error { panic("a bug") }, true},
		"a hang":   {func(context.Context) error { <-end; return nil }, false},
		"a wait":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
	} {
		for _, allows := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allow: %v", name, allows), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					end = make(chan struct{})
					var says bytes.Buffer
					h := Host{Log: slog.New(slog.NewTextHandler(&says, nil))}
					asked := 0
					m := &member{Policy: &config.Policy{Name: "p", Allows: allows}, input: c.fails}
					next := &member{Policy: &config.Policy{Name: "next", Allows: true}, input: fake(func(context.Context) error { asked++; return nil })}
					chain := &Chain{timeout: time.Second, members: []*member{m, next}}
					for range 2 {
						began := time.Now()
						e := chain.Input(t.Context(), h, Request{})
						if (e == nil) != allows || time.Since(began) > time.Second {
							t.Errorf("%v after %s", e, time.Since(began))
						}
						if e != nil && (e.Type != llm.ErrUnavailable || e.HTTPStatus() != 503 || strings.Contains(e.Message, "disk")) {
							t.Errorf("the client is told %d %s", e.HTTPStatus(), e.Message)
						}
					}
					if (asked > 0) != (allows && c.time) {
						t.Errorf("the next policy was asked %d times", asked)
					}
					m.input = fake(func(context.Context) error { return nil })
					if e := chain.Input(t.Context(), h, Request{}); e != nil {
						t.Errorf("it works again: %v", e)
					}
					if s := says.String(); strings.Count(s, "it fails\" policy=p ") != 1 || strings.Count(s, "it works again\" policy=p\n") != 1 {
						t.Errorf("the log says %s", s)
					}
					close(end)
				})
			})
		}
	}
}

// TestEndPanics: a policy that panics at the end of a request harms nobody.
func TestEndPanics(t *testing.T) {
	var says bytes.Buffer
	c := &Chain{members: []*member{{Policy: &config.Policy{Name: "p"}, end: fake(func(context.Context) error { panic("a bug") })}}}
	c.End(Host{Log: slog.New(slog.NewTextHandler(&says, nil))}, Outcome{})
	if !strings.Contains(says.String(), "a bug") {
		t.Errorf("the log says %q", says.String())
	}
}

// TestNoChain: a gateway without policies asks nobody.
func TestNoChain(t *testing.T) {
	c, err := Compile(gatewayOf(t, "{}"))
	if c != nil || err != nil {
		t.Fatal(c, err)
	}
	if e := c.Input(t.Context(), Host{}, Request{}); e != nil {
		t.Error(e)
	}
	c.End(Host{}, Outcome{})
}

// TestAuditLogger: the intent is there when Input returns, the outcome soon after; with
// log_all_access what is not sent, too (E20).
func TestAuditLogger(t *testing.T) {
	for all, want := range map[string][]string{
		"true":  {`"kind":"intent","data":{"id":"1",`, `"kind":"outcome","data":{"id":"1",`, `"kind":"access","data":{"id":"2",`},
		"false": {`"kind":"intent","data":{"id":"1",`, `"kind":"outcome","data":{"id":"1",`},
	} {
		t.Run(all, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			synctest.Test(t, func(t *testing.T) {
				chain, err := Compile(gatewayOf(t, "{chain: [audit-logger], policy: {audit-logger: {log_all_access: "+all+"}}}"))
				if err != nil {
					t.Fatal(err)
				}
				log := slog.New(slog.DiscardHandler)
				l, err := audit.Open(dir, audit.Settings{}, log)
				if err != nil {
					t.Fatal(err)
				}
				h := Host{Audit: func(string) *audit.Log { return l }, Log: log}
				if e := chain.Input(t.Context(), h, Request{ID: "1", Key: "team", SHA256: "ab", Bytes: 5}); e != nil {
					t.Fatal(e)
				}
				if r, err := audit.Verify(dir); err != nil || r.Records != 1 {
					t.Errorf("when Input has returned: %+v, %v", r, err)
				}
				chain.End(h, Outcome{Event: &millracev1.Event{Id: "1", Time: timestamppb.Now(), Status: 200, Usage: &millracev1.Usage{Input: 3}}, Asked: true})
				chain.End(h, Outcome{Event: &millracev1.Event{Id: "2", Status: 401}})
				l.Close()
				closed := Host{Audit: func(string) *audit.Log { return nil }, Log: log}
				for _, h := range []Host{h, closed} {
					if e := chain.Input(t.Context(), h, Request{}); e == nil {
						t.Error("a request is sent without a record")
					}
				}
			})
			data, err := os.ReadFile(filepath.Join(dir, "audit-000000000001.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			if len(lines) != len(want) {
				t.Fatalf("%d records: %s", len(lines), data)
			}
			for i, text := range want {
				if !strings.Contains(lines[i], text) {
					t.Errorf("record %d: %s", i+1, lines[i])
				}
			}
			if !strings.Contains(lines[1], `"status":200,"attempts":0,"usage":{"input":3}`) {
				t.Errorf("the outcome: %s", lines[1])
			}
		})
	}
}
