package policy

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/schema"
)

// quiet is a host whose log nobody reads.
var quiet = Host{Log: slog.New(slog.DiscardHandler)}

// nobody waits for policies that watch.
func nobody() func() { return func() {} }

// dialogue is an answer as events, and a client that reads it.
type dialogue struct {
	client provider.Codec
	events []llm.Event
}

// said is a client's answer with these texts, each a delta, between a start and a finish.
func said(name schema.Name, deltas ...string) dialogue {
	client, _ := provider.Of(name)
	d := dialogue{client: client, events: []llm.Event{{Kind: llm.Start, ID: "r", Model: "m", Created: 3}}}
	for _, text := range deltas {
		d.events = append(d.events, llm.Event{Kind: llm.TextDelta, Text: text})
	}
	d.events = append(d.events, llm.Event{Kind: llm.Finish, Stop: llm.StopEnd}, llm.Event{Kind: llm.UsageReport, Usage: &llm.Usage{Input: 5, Output: 7}}, llm.Event{Kind: llm.End})
	return d
}

// through is what a client gets of the stream, step by step: what is let out after each event, and
// how it ends.
func (d dialogue) through(t *testing.T, s *Session) (steps []string, blocked *llm.Error) {
	t.Helper()
	asked := llm.Asked{Head: llm.Head{Model: "m", Stream: true, IncludeUsage: true}}
	encoder, answer := d.client.Client.NewStreamEncoder(asked), s.Answer(t.Context(), d.client.Client, asked)
	step := func(out []byte, _ bool, e *llm.Error) bool {
		if e != nil {
			out, blocked = answer.Cut(out), e
		}
		steps = append(steps, string(out))
		return e == nil
	}
	for _, e := range d.events {
		if !step(answer.Stream(nil, encoder.Encode(nil, e), e.Meaningful())) {
			return steps, blocked
		}
	}
	if step(answer.Stream(nil, encoder.Close(nil, nil), false)) {
		step(answer.End(nil))
	}
	return steps, blocked
}

// reading is what the client's own reader makes of a stream.
type reading struct {
	text, arguments string
	stop            llm.Stop
}

func (d dialogue) read(t *testing.T, stream string) (r reading) {
	t.Helper()
	hi := []byte(`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}],"stream":true}`)
	call, err := d.client.Target.PatchRequest(llm.Head{Model: "m", Stream: true}, hi, llm.Options{Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	decoder, ended := call.Answer.Stream(), false
	read := func(frames []llm.Frame) {
		for _, f := range frames {
			for _, e := range f.Events {
				switch e.Kind {
				case llm.TextDelta:
					r.text += e.Text
				case llm.ToolDelta:
					r.arguments += e.Text
				case llm.Finish:
					r.stop = e.Stop
				case llm.End:
					ended = true
				case llm.Failure:
					t.Errorf("the stream fails: %v", e.Err)
				}
			}
		}
	}
	frames, err := decoder.Push([]byte(stream))
	if err != nil {
		t.Fatal(err)
	}
	read(frames)
	read(decoder.Close())
	if !ended {
		t.Errorf("the stream does not end:\n%s", stream)
	}
	return r
}

// text is what the stream says, and why it stopped.
func (d dialogue) text(t *testing.T, stream string) (string, llm.Stop) {
	t.Helper()
	r := d.read(t, stream)
	return r.text, r.stop
}

// arguments are those of the calls in the stream.
func (d dialogue) arguments(t *testing.T, stream string) string {
	t.Helper()
	return d.read(t, stream).arguments
}

// whole is what a client gets of the answer that is not streamed.
func (d dialogue) whole(t *testing.T, s *Session) (string, *llm.Error) {
	t.Helper()
	var a llm.Assembly
	for _, e := range d.events {
		a.Add(e)
	}
	asked := llm.Asked{Head: llm.Head{Model: "m"}}
	body, err := d.client.Client.EncodeResponse(asked, a.Response())
	if err != nil {
		t.Fatal(err)
	}
	left, blocked := s.Answer(t.Context(), d.client.Client, asked).Whole(body)
	return string(left), blocked
}

// bothSchemas runs f for clients of every schema.
func bothSchemas(t *testing.T, f func(t *testing.T, name schema.Name)) {
	for _, s := range schema.All() {
		t.Run(string(s.Name), func(t *testing.T) { f(t, s.Name) })
	}
}

func sessionOf(t *testing.T, name schema.Name, policies string) *Session {
	t.Helper()
	return chainOf(t, policies).Start(quiet, schema.Of(name), Request{ID: "r", Model: "m", Schema: string(name)}, nobody)
}

// TestDisclaimer: the text comes once, at the beginning or the end of what is said, whole and
// streamed (E05). An answer that calls tools gets none after it.
func TestDisclaimer(t *testing.T) {
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		const policies = `{chain: [disclaimer], policy: {disclaimer: {before: "Note: ", after: "\nNo advice."}}}`
		d := said(name, "Buy", " \"low\".")
		steps, _ := d.through(t, sessionOf(t, name, policies))
		if text, stop := d.text(t, strings.Join(steps, "")); text != "Note: Buy \"low\".\nNo advice." || stop != llm.StopEnd {
			t.Errorf("streamed: %q, %s\n%s", text, stop, strings.Join(steps, ""))
		}
		if whole, _ := d.whole(t, sessionOf(t, name, policies)); !strings.Contains(whole, `"Note: Buy \"low\".\nNo advice."`) {
			t.Errorf("whole: %s", whole)
		}
		calls := d
		calls.events = slices.Insert(slices.Clone(d.events), 3, llm.Event{Kind: llm.ToolStart, ID: "c", Name: "f"},
			llm.Event{Kind: llm.ToolDelta, Text: `{"a":1}`}, llm.Event{Kind: llm.ToolEnd})
		steps, _ = calls.through(t, sessionOf(t, name, policies))
		if text, _ := d.text(t, strings.Join(steps, "")); text != "Note: Buy \"low\"." {
			t.Errorf("with a call: %q\n%s", text, strings.Join(steps, ""))
		}
		if whole, _ := calls.whole(t, sessionOf(t, name, policies)); !strings.Contains(whole, `"Note: Buy \"low\"."`) {
			t.Errorf("whole with a call: %s", whole)
		}
	})
}

// TestAskedAtTheEnd: a policy that is asked about all of an answer keeps a stream back to its end,
// and may end it; where it observes nothing is kept.
func TestAskedAtTheEnd(t *testing.T) {
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		d := said(name, "one", " two")
		for _, c := range []struct {
			more    string
			blocked bool
			kept    bool
		}{
			{"reason: too long, expression: 'answer.text_bytes > 5'", true, true},
			{"expression: 'answer.text_bytes > 50'", false, true},
			{"mode: observe, expression: 'answer.text_bytes > 5'", false, false},
			{"action: flag, expression: 'answer.text_bytes > 5'", false, false},
		} {
			t.Run(c.more, func(t *testing.T) {
				policies := fmt.Sprintf("{chain: [e], policy: {e: {kind: expression, phase: output, %s}}}", c.more)
				steps, e := d.through(t, sessionOf(t, name, policies))
				if (e != nil) != c.blocked {
					t.Errorf("blocked: %v", e)
				}
				if kept := steps[1] == ""; kept != c.kept {
					t.Errorf("after the first text: %q", steps[1])
				}
				text, stop := d.text(t, strings.Join(steps, ""))
				if c.blocked && (text != "" || stop != llm.StopRefusal) || !c.blocked && (text != "one two" || stop != llm.StopEnd) {
					t.Errorf("%q, %s", text, stop)
				}
				if _, e := d.whole(t, sessionOf(t, name, policies)); (e != nil) != c.blocked || e != nil && (e.HTTPStatus() != 409 || !strings.Contains(e.Message, `policy "e": too long`)) {
					t.Errorf("whole: %v", e)
				}
			})
		}
	})
}

// cuts is the text in pieces of n bytes.
func cuts(text string, n int) []string {
	var all []string
	for len(text) > n {
		all, text = append(all, text[:n]), text[n:]
	}
	return append(all, text)
}

// TestRedactedStream: however a stream is cut, what the client reads is the redacted text, and none
// of what was found is let out before (E05, E22).
func TestRedactedStream(t *testing.T) {
	const text = "Write to anna.smith@example.com or bob@example.org, card 4111 1111 1111 1111; version 1.2.3."
	const want = "Write to [EMAIL_1] or [EMAIL_2], card [CREDIT_CARD_1]; version 1.2.3."
	chain := chainOf(t, "{chain: [dlp]}")
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		start := func() *Session { return chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody) }
		for n := 1; n < 40; n++ {
			d := said(name, cuts(text, n)...)
			s := start()
			steps, e := d.through(t, s)
			if e != nil {
				t.Fatal(e)
			}
			got, stop := d.text(t, strings.Join(steps, ""))
			if got != want || stop != llm.StopEnd {
				t.Fatalf("in pieces of %d: %q, %s", n, got, stop)
			}
			if v := s.Verdicts(); len(v) != 1 || v[0].Verdict != "redact" || v[0].Found["email"] != 2 || v[0].Found["credit-card"] != 1 {
				t.Fatalf("verdicts: %v", v)
			}
			out := ""
			for i, step := range steps {
				out += step
				if strings.Contains(out, "anna") || strings.Contains(out, "4111") {
					t.Fatalf("in pieces of %d: step %d lets out %q", n, i, step)
				}
			}
		}
		d := said(name, text)
		if whole, _ := d.whole(t, start()); !strings.Contains(whole, want) {
			t.Errorf("whole: %s", whole)
		}
	})
}

// TestRestored: what was taken out of a request comes back in the answer, in streams and in the
// arguments of calls too.
func TestRestored(t *testing.T) {
	chain := chainOf(t, "{chain: [dlp], policy: {dlp: {reversible: true, detect: [email]}}}")
	bothSchemas(t, func(t *testing.T, name schema.Name) {
		for n := 1; n < 20; n++ {
			s := chain.Start(quiet, schema.Of(name), Request{ID: "r", Model: "m"}, nobody)
			body, e := s.Input(t.Context(), []byte(`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"I am a\u0040b.com, not c@d.org, a@b.com"}]}`))
			if e != nil || !strings.Contains(string(body), `"I am [EMAIL_1], not [EMAIL_2], [EMAIL_1]"`) {
				t.Fatalf("%s, %v", body, e)
			}
			d := said(name, cuts("Hello [EMAIL_2] and [EMAIL_1], x@y.net, [EMAIL_7]", n)...)
			d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolStart, ID: "c", Name: "f"})
			for _, piece := range cuts(`{"to":"[EMAIL_1]","n":1}`, n) {
				d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolDelta, Text: piece})
			}
			d.events = slices.Insert(d.events, len(d.events)-3, llm.Event{Kind: llm.ToolEnd})
			steps, _ := d.through(t, s)
			const want = "Hello c@d.org and a@b.com, [EMAIL_3], [EMAIL_7]"
			if got, _ := d.text(t, strings.Join(steps, "")); got != want {
				t.Fatalf("in pieces of %d: %q", n, got)
			}
			if got := d.arguments(t, strings.Join(steps, "")); got != `{"to":"a@b.com","n":1}` {
				t.Fatalf("in pieces of %d: %s", n, got)
			}
		}
	})
}

// TestLeft: what policies have found in a stream that its client leaves is recorded.
func TestLeft(t *testing.T) {
	s := sessionOf(t, schema.OpenAIChat, "{chain: [dlp]}")
	d := said(schema.OpenAIChat, "a@b.com, and so on")
	asked := llm.Asked{Head: llm.Head{Model: "m", Stream: true}}
	encoder, answer := d.client.Client.NewStreamEncoder(asked), s.Answer(t.Context(), d.client.Client, asked)
	for _, e := range d.events[:2] {
		answer.Stream(nil, encoder.Encode(nil, e), true)
	}
	answer.Close()
	answer.Close()
	if got := verdicts(s); !slices.Equal(got, []string{"output dlp redact"}) {
		t.Errorf("verdicts %q", got)
	}
}
