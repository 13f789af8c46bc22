package policy

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
	"millrace/schema"
)

// asking is a request of OpenAI's schema that says this.
func asking(text string) []byte {
	quoted, _ := json.Marshal(text)
	return []byte(`{"model":"m","messages":[{"role":"user","content":` + string(quoted) + `}]}`)
}

// verdicts are those of a session, in one word each, sorted.
func verdicts(s *Session) []string {
	var all []string
	for _, v := range s.Verdicts() {
		word := v.Phase + " " + v.Policy + " " + v.Verdict
		if v.Observed {
			word += " observed"
		}
		all = append(all, word)
	}
	slices.Sort(all)
	return all
}

// TestKindsParameters: what is wrong with the parameters of any kind is said with its path (E19).
func TestKindsParameters(t *testing.T) {
	for policies, want := range map[string]string{
		`{chain: [dlp], policy: {dlp: {detect: [emial]}}}`:                              `policies.policy.dlp.detect: no detector and no category is named "emial"`,
		`{chain: [dlp], policy: {dlp: {style: stars}}}`:                                 "policies.policy.dlp.style: want placeholder, mask, hash",
		`{chain: [dlp], policy: {dlp: {patterns: [{name: Id, pattern: "("}]}}}`:         "policies.policy.dlp.patterns[0].pattern: error parsing regexp",
		`{chain: [dlp], policy: {dlp: {patterns: [{name: id}]}}}`:                       "policies.policy.dlp.patterns[0].pattern: want a text",
		`{chain: [dlp], policy: {dlp: {reversible: true, phase: input}}}`:               "policies.policy.dlp.reversible: wants phase: both",
		`{chain: [dlp], policy: {dlp: {reversible: true, style: hash}}}`:                "policies.policy.dlp.reversible: wants style: placeholder",
		`{chain: [content-filter], policy: {content-filter: {categories: [rude]}}}`:     `policies.policy.content-filter.categories: there is no category "rude"`,
		`{chain: [content-filter], policy: {content-filter: {lists: [{category: a}]}}}`: "policies.policy.content-filter.lists[0].words: want words, patterns, or both",
		`{chain: [content-filter], policy: {content-filter: {lists: [{word: [a]}]}}}`:   "policies.policy.content-filter.lists[0].word: a list has no such parameter",
		`{chain: [prompt-injection], policy: {prompt-injection: {threshold: 101}}}`:     "policies.policy.prompt-injection.threshold: want a whole number from 1 to 100",
		`{chain: [prompt-injection], policy: {prompt-injection: {without: [x]}}}`:       `policies.policy.prompt-injection.without: there is no rule and no category "x"`,
		`{chain: [disclaimer]}`: "policies.policy.disclaimer.after: want a text for before, after, or both",
		`{chain: [model-access], policy: {model-access: {models: ["[a"]}}}`:                "policies.policy.model-access.models[0]:",
		`{chain: [expression], policy: {expression: {expression: "request.modle == ''"}}}`: "policies.policy.expression.expression:",
		`{chain: [expression]}`:                                                             "policies.policy.expression.expression:",
		`{chain: [dlp], policy: {dlp: {when: "1 +"}}}`:                                      "policies.policy.dlp.when:",
		`{chain: [json-schema]}`:                                                            "policies.policy.json-schema.schema: want a JSON Schema",
		`{chain: [json-schema], policy: {json-schema: {schema: {type: thing}}}}`:            "policies.policy.json-schema.schema:",
		`{chain: [webhook]}`:                                                                "policies.policy.webhook.url:",
		`{chain: [webhook], policy: {webhook: {url: "http://169.254.169.254/"}}}`:           "policies.policy.webhook.url: 169.254.169.254 is a link-local address",
		`{chain: [webhook], policy: {webhook: {url: "http://a/", timeout: 1h}}}`:            "policies.policy.webhook.timeout: want a time such as 500ms",
		`{chain: [webhook], policy: {webhook: {url: "http://a/", token_env: NOT_THERE_X}}}`: "policies.policy.webhook.token_env: there is no secret of one line",
		`{chain: [request-limits], policy: {request-limits: {max_tools: many}}}`:            "policies.policy.request-limits.max_tools: want a whole number",
	} {
		if _, err := Compile(configOf(t, policies), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", policies, err, want)
		}
	}
}

// TestSameChain: what takes long to compile is compiled once, and taken over from the configuration
// before.
func TestSameChain(t *testing.T) {
	c := configOf(t, "{chain: [dlp]}")
	first, err := Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	chain := first.Of(c.Gateways[0])
	for _, r := range c.Gateways[0].Rules {
		if first.OfRule(r) != chain {
			t.Error("a rule has a chain of its own")
		}
	}
	again, other := configOf(t, "{chain: [dlp]}"), configOf(t, "{chain: [dlp], policy: {dlp: {style: mask}}}")
	if second, err := Compile(again, first); err != nil || second.Of(again.Gateways[0]) != chain {
		t.Errorf("it is made again: %v", err)
	}
	if third, err := Compile(other, first); err != nil || third.Of(other.Gateways[0]) == chain {
		t.Errorf("a changed one is not: %v", err)
	}
}

// TestWhen: a policy is asked where its condition holds.
func TestWhen(t *testing.T) {
	chain := chainOf(t, `{chain: [dlp], policy: {dlp: {when: 'request.headers["x-team"] == "a" && request.text_bytes > 3'}}}`)
	for team, asked := range map[string]bool{"a": true, "b": false} {
		s := chain.Start(quiet, schema.Usual(), Request{Headers: func() map[string]string { return map[string]string{"x-team": team} }}, nobody)
		body, e := s.Input(t.Context(), asking("a@b.com"))
		if e != nil || strings.Contains(string(body), "[EMAIL_1]") != asked {
			t.Errorf("team %s: %s, %v", team, body, e)
		}
	}
}

// TestWatch: policies that flag or observe change nothing, and nobody waits for them but the event.
func TestWatch(t *testing.T) {
	chain := chainOf(t, `{chain: [flags, observes, acts], policy: {flags: {kind: dlp, action: flag}, observes: {kind: dlp, action: block, mode: observe}, acts: {kind: dlp, detect: [phone]}}, shadow: [dlp]}`)
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		for _, stream := range []bool{true, false} {
			var watching sync.WaitGroup
			s := chain.Start(quiet, schema.Of(name), Request{}, func() func() {
				watching.Add(1)
				return watching.Done
			})
			body := []byte(`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a@b.com"}]}`)
			if got, e := s.Input(t.Context(), body); e != nil || string(got) != string(body) {
				t.Errorf("input: %s, %v", got, e)
			}
			d := said(name, "Mail a@", "b.com.")
			if stream {
				steps, e := d.through(t, s)
				if !strings.Contains(steps[1], "Mail a@") {
					t.Errorf("after the first text: %q", steps[1])
				}
				if text, _ := d.text(t, strings.Join(steps, "")); text != "Mail a@b.com." || e != nil {
					t.Errorf("stream: %q, %v", text, e)
				}
			} else if whole, e := d.whole(t, s); !strings.Contains(whole, "Mail a@b.com.") || e != nil {
				t.Errorf("whole: %s, %v", whole, e)
			}
			watching.Wait()
			want := []string{
				"input acts pass", "input dlp redact observed", "input flags flag", "input observes block observed",
				"output acts pass", "output dlp redact observed", "output flags flag", "output observes block observed",
			}
			if got := verdicts(s); !slices.Equal(got, want) {
				t.Errorf("stream: %v: verdicts %q", stream, got)
			}
		}
	})
}

// broken is a finder that panics when it is to weigh what it has found.
type broken struct{}

func (broken) patterns(Phase) []pattern {
	return []pattern{{Pattern: match.Pattern{Expr: `@`}, category: "at"}}
}

func (broken) reads(*texts.Text) bool { return true }

func (broken) weigh(*texts.Text, []hit) []hit { panic("a bug") }

// TestBrokenInStream: a policy that fails in the middle of a stream ends it, or with on_error:
// allow everything goes on as it came; one verdict says so.
func TestBrokenInStream(t *testing.T) {
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		for _, allows := range []bool{false, true} {
			chain := &Chain{timeout: time.Second, holdBack: 1 << 16, output: sidesOf(Output)}
			chain.output.add(&member{Policy: &config.Policy{Name: "p", Action: config.ActionRedact, Allows: allows}, kind: &kind{}, find: broken{}})
			if err := chain.output.acts.compile(); err != nil {
				t.Fatal(err)
			}
			s := chain.Start(quiet, schema.Of(name), Request{}, nobody)
			d := said(name, "fine, ", "a@", "b.com and more")
			steps, e := d.through(t, s)
			switch got := strings.Join(steps, ""); {
			case allows:
				if text, stop := d.text(t, got); text != "fine, a@b.com and more" || stop != llm.StopEnd || e != nil {
					t.Errorf("allow: %q, %s, %v", text, stop, e)
				}
			case e == nil || e.Type != llm.ErrUnavailable || strings.Contains(got, "@"):
				t.Errorf("block: %v, %s", e, got)
			}
			if got := verdicts(s); !slices.Equal(got, []string{"output p error"}) {
				t.Errorf("verdicts %q", got)
			}
		}
	})
}

// TestTooManyTexts: a request with more texts than are looked at is refused, whatever on_error
// says.
func TestTooManyTexts(t *testing.T) {
	chain := chainOf(t, "{chain: [dlp], policy: {dlp: {on_error: allow}}}")
	body := []byte(`{"model":"m","messages":[{"role":"user","content":[` + strings.Repeat(`{"type":"text","text":"a"},`, 100_001) + `{"type":"text","text":"a"}]}]}`)
	if _, e := chain.Start(quiet, schema.Usual(), Request{}, nobody).Input(t.Context(), body); e == nil || e.HTTPStatus() != 413 {
		t.Errorf("%v", e)
	}
}

// TestMetrics: each verdict is counted once, and no text is in a label.
func TestMetrics(t *testing.T) {
	chain := chainOf(t, "{chain: [dlp]}")
	m := NewMetrics()
	h := quiet
	h.Metrics = m
	for range 3 {
		if _, e := chain.Start(h, schema.Usual(), Request{}, nobody).Input(t.Context(), asking("a@b.com")); e != nil {
			t.Fatal(e)
		}
	}
	if n := counted(t, m, "millrace_policy_verdicts_total", `policy="dlp"`, `verdict="redact"`); n != 3 {
		t.Errorf("%v verdicts", n)
	}
}

// FuzzRedactedStream: however what a target says is cut, the client reads what it would read of the
// whole answer, in texts and in the arguments of calls.
func FuzzRedactedStream(f *testing.F) {
	f.Add("Write to anna@example.com, now.", byte(3))
	f.Add("4111 1111 1111 1111 and 4111-1111-1111-1112", byte(1))
	f.Add("key AKIAIOSFODNN7EXAMPLQ\u200b s\u043aunkworks", byte(7))
	chain := chainOf(f, "{chain: [dlp, content-filter], policy: {dlp: {style: mask}, content-filter: {action: redact, words: [skunkworks]}}}")
	f.Fuzz(func(t *testing.T, text string, n byte) {
		if !utf8.ValidString(text) || n == 0 || text == "" || len(text) > 2000 {
			return
		}
		arguments, _ := json.Marshal(map[string]string{"a": text})
		for _, of := range schema.All() {
			d := said(of.Name, runes(text, int(n))...)
			d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolStart, ID: "c", Name: "f"})
			for _, piece := range runes(string(arguments), int(n)) {
				d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolDelta, Text: piece})
			}
			d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolEnd})
			start := func() *Session { return chain.Start(quiet, of, Request{}, nobody) }
			steps, e := d.through(t, start())
			if e != nil {
				t.Fatal(e)
			}
			got := d.read(t, strings.Join(steps, ""))
			whole, e := d.whole(t, start())
			if e != nil {
				t.Fatal(e)
			}
			all, err := texts.Answer(of, []byte(whole))
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range all {
				switch {
				case one.Kind == texts.Said && one.Text != got.text:
					t.Errorf("%s: streamed %q, whole %q", of.Name, got.text, one.Text)
				case one.Kind == texts.Call && !sameJSON(one.Text, got.arguments):
					t.Errorf("%s: streamed %s, whole %s", of.Name, got.arguments, one.Text)
				}
			}
		}
	})
}

// runes is the text in pieces of about n bytes, none of which cuts a character.
func runes(text string, n int) []string {
	var all []string
	for text != "" {
		end := min(n, len(text))
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end++
		}
		all, text = append(all, text[:end]), text[end:]
	}
	return all
}

func sameJSON(a, b string) bool {
	var x, y map[string]string
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && x["a"] == y["a"]
}

// counted is the value of the one row of a metric that has all these labels.
func counted(t *testing.T, c prometheus.Collector, name string, labels ...string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			var said []string
			for _, l := range m.Label {
				said = append(said, l.GetName()+`="`+l.GetValue()+`"`)
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(said, l) }) {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}
