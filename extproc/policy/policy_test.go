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
	"millrace/schema"
)

// chainOf is the chain of a configuration with these policies.
func chainOf(t testing.TB, policies string) *Chain {
	t.Helper()
	c := configOf(t, policies)
	chains, err := Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return chains.Of(c.Gateways[0])
}

func configOf(t testing.TB, policies string) *config.Config {
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

// TestKinds: config knows of the same kinds as this table (E19).
func TestKinds(t *testing.T) {
	var here, there []string
	for _, k := range kinds {
		here = append(here, k.name)
	}
	for _, k := range config.PolicyKinds {
		there = append(there, k.Name)
	}
	if !slices.Equal(here, there) {
		t.Errorf("kinds %v, and config has %v", here, there)
	}
}

// TestParameters: what is wrong with parameters is said with its path, all of it at once (E19,
// E20).
func TestParameters(t *testing.T) {
	for name, c := range map[string]struct{ policies, want string }{
		"as seed 004 has it":        {"{chain: [audit-logger], policy: {audit-logger: {immutable: true, retention_days: 365, log_all_access: true}}}", ""},
		"nothing said":              {"{chain: [audit-logger]}", ""},
		"a second one of a kind":    {"{chain: [audit-logger, strict], policy: {strict: {kind: audit-logger, dir: /var/strict, on_error: allow}}}", ""},
		"an unknown parameter":      {"{chain: [audit-logger], policy: {audit-logger: {retention: 3}}}", "policies.policy.audit-logger.retention: audit-logger has no such parameter; it has dir, immutable, log_all_access, retention_days"},
		"two parameters":            {"{chain: [s], policy: {s: {kind: audit-logger, immutable: 1, retention_days: 0}}}", "policies.policy.s.retention_days: want a whole number from 1 to 36500\npolicies.policy.s.immutable: want true or false"},
		"a part of a day":           {"{chain: [audit-logger], policy: {audit-logger: {retention_days: 0.5}}}", "policies.policy.audit-logger.retention_days: want a whole number from 1 to 36500"},
		"a folder without a name":   {`{chain: [audit-logger], policy: {audit-logger: {dir: ""}}}`, "policies.policy.audit-logger.dir: want a text of one line"},
		"two that do not agree":     {"{chain: [audit-logger, s], policy: {s: {kind: audit-logger, retention_days: 1}}}", "with another retention_days or immutable"},
		"two that write to one log": {"{chain: [audit-logger, s], policy: {s: {kind: audit-logger, on_error: allow}}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(configOf(t, c.policies), nil)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// fake is a policy that does what the test wants.
type fake func(context.Context) error

func (f fake) ask(ctx context.Context, _ *question) (finding, error) { return finding{}, f(ctx) }

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
					waits := &kind{waits: true}
					end = make(chan struct{})
					var says bytes.Buffer
					h := Host{Log: slog.New(slog.NewTextHandler(&says, nil))}
					asked := 0
					m := &member{Policy: &config.Policy{Name: "p", Allows: allows}, kind: waits, ask: c.fails}
					next := &member{Policy: &config.Policy{Name: "next", Allows: true}, kind: waits, ask: fake(func(context.Context) error { asked++; return nil })}
					chain := &Chain{timeout: time.Second, input: sides{acts: side{phase: Input, members: []*member{m, next}}}}
					for range 2 {
						began := time.Now()
						_, e := chain.Start(h, nil, Request{}, nobody).Input(t.Context(), nil)
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
					m.ask = fake(func(context.Context) error { return nil })
					if _, e := chain.Start(h, nil, Request{}, nobody).Input(t.Context(), nil); e != nil {
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
	c := chainOf(t, "{}")
	s := c.Start(Host{}, schema.Usual(), Request{}, nobody)
	if s != nil || s.Answer(t.Context(), nil, llm.Asked{}) != nil || s.Verdicts() != nil || s.Timing() != "" {
		t.Errorf("%v, %v", c, s)
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
				chain := chainOf(t, "{chain: [audit-logger], policy: {audit-logger: {log_all_access: "+all+"}}}")
				log := slog.New(slog.DiscardHandler)
				l, err := audit.Open(dir, audit.Settings{}, log)
				if err != nil {
					t.Fatal(err)
				}
				h := Host{Audit: func(string) *audit.Log { return l }, Log: log}
				if _, e := chain.Start(h, schema.Usual(), Request{ID: "1", Key: "team", SHA256: "ab", Bytes: 5}, nobody).Input(t.Context(), nil); e != nil {
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
					if _, e := chain.Start(h, schema.Usual(), Request{}, nobody).Input(t.Context(), nil); e == nil {
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
