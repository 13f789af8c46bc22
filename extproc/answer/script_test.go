package answer_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/extproc/answer"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/golden"
	"millrace/internal/redact"
	"millrace/schema"
)

// A script plays one answer: a case is who speaks to whom and under which limits (setup), what
// happens (events), and what is said, second by second (want).
//
// setup has a line for each of: "client SCHEMA", "target SCHEMA", "stream" (the client asks for
// one), "police" (by a guard, below), and limits and circumstances by the names of answer.Clock and
// answer.Retry ("silence 30s", "last"). "again" has failures retried elsewhere, "rival UNTIL" has
// another attempt that may answer until then.
//
// events has a line for each thing that happens: "head 200 text/event-stream", "say WORD…" (below),
// "end", "stop", and a time to wait, in which Tick is called whenever Deadline says so.
//
// What a target says is written as what it means, one chunk a line, and put into its schema's
// words: "role", "text hello", "ping", "finish", "usage", "done", "error", "torn" (half an event),
// "whole" (an answer that is not a stream), "refusal" (an error's body), or "raw" and a quoted Go
// string.

// words are what a target says, by its schema.
var words = map[schema.Name]map[string]string{
	schema.OpenAIChat: {
		"role":    `data: {"id":"r","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n",
		"text":    `data: {"id":"r","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"content":"TEXT"}}]}` + "\n\n",
		"ping":    ": waiting\n\n",
		"finish":  `data: {"id":"r","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n",
		"usage":   `data: {"id":"r","object":"chat.completion.chunk","created":3,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}` + "\n\n",
		"done":    "data: [DONE]\n\n",
		"error":   `data: {"error":{"message":"overloaded","type":"server_error"}}` + "\n\n",
		"torn":    `data: {"id":"r","object":"chat.comp`,
		"whole":   `{"id":"r","object":"chat.completion","created":3,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`,
		"refusal": `{"error":{"message":"overloaded","type":"server_error","param":null,"code":null}}`,
	},
	schema.AnthropicMessages: {
		"role":    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"r\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
		"text":    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"TEXT\"}}\n\n",
		"ping":    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
		"finish":  "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n",
		"usage":   "",
		"done":    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		"error":   "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"overloaded\"}}\n\n",
		"torn":    "event: content_block_delta\ndata: {\"type\":\"cont",
		"whole":   `{"id":"r","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":7}}`,
		"refusal": `{"type":"error","error":{"type":"overloaded_error","message":"overloaded"}}`,
	},
}

// happening is a line of events.
type happening struct {
	what string
	args string
}

// script is a case.
type script struct {
	env     answer.Env
	target  schema.Name
	events  []happening
	again   bool
	policed bool
	room    int64 // 0: any
}

// start is when every script begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func parse(t *testing.T, setup, events string) *script {
	t.Helper()
	s := &script{}
	s.env = answer.Env{Target: "t", Comment: ": keep-alive\n\n", MaxBytes: 1 << 20, Secrets: redact.New("sk-secret-of-the-gateway"), Status: (*llm.Error).HTTPStatus}
	s.env.Certain = s.env.Secrets.Certain()
	s.env.Clock.Started = start
	var client schema.Name
	for line := range strings.Lines(setup) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := s.set(name, value, &client); err != nil {
			t.Fatalf("setup: %q: %v", line, err)
		}
	}
	for line := range strings.Lines(events) {
		what, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.events = append(s.events, happening{what, args})
	}
	c, knownClient := provider.Of(client)
	target, knownTarget := provider.Of(s.target)
	if !knownClient || !knownTarget {
		t.Fatalf("setup: client %q, target %q", client, s.target)
	}
	s.env.Client, s.env.Codec, s.env.Native = c.Client, target.Target, client == s.target
	hi := []llm.Message{{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "hi"}}}}
	call, err := target.Target.EncodeRequest(&llm.Request{Messages: hi}, llm.Options{Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	s.env.Reader = call.Answer
	s.env.Asked.IncludeUsage = true
	return s
}

func (s *script) set(name, value string, client *schema.Name) (err error) {
	limits := map[string]*time.Duration{
		"answer": &s.env.Clock.Answer, "silence": &s.env.Clock.Silence, "first-token": &s.env.Clock.FirstToken,
		"inter-chunk": &s.env.Clock.InterChunk, "keep-alive": &s.env.Clock.KeepAlive,
	}
	yes := map[string]*bool{
		"stream": &s.env.Asked.Stream, "at-headers": &s.env.AtHeaders, "again": &s.again,
		"alone": &s.env.Alone, "detach": &s.env.Detach, "police": &s.policed,
	}
	switch {
	case limits[name] != nil:
		*limits[name], err = time.ParseDuration(value)
	case yes[name] != nil && value == "":
		*yes[name] = true
	case name == "leaves":
		var d time.Duration
		d, err = time.ParseDuration(value)
		s.env.Clock.Leaves = start.Add(d)
	case name == "max-bytes":
		s.env.MaxBytes, err = strconv.ParseInt(value, 10, 64)
	case name == "room":
		s.room, err = strconv.ParseInt(value, 10, 64)
	case name == "client":
		*client = schema.Name(value)
	case name == "target":
		s.target = schema.Name(value)
	default:
		err = errors.New("unknown")
	}
	return err
}

// said is what a script's answer said, and when.
type said struct {
	t    *testing.T
	a    *answer.Answer
	now  time.Time
	last answer.State
	text strings.Builder
	body strings.Builder // since the last other thing that was said
	at   time.Time       // of the body
}

// play runs the script, with each chunk cut in pieces.
func (s *script) play(t *testing.T, cut func([]byte) [][]byte) string {
	t.Helper()
	out := &said{t: t, now: start}
	s.env.Fail = func(e *llm.Error, fault bool) answer.Verdict {
		if !fault {
			out.line("without fault:")
		}
		return answer.Verdict{Told: e, Again: s.again && e.HTTPStatus() >= 500}
	}
	s.env.Room = func(bytes int64) bool { return s.room == 0 || bytes <= s.room }
	if s.policed {
		s.env.Police = &guard{client: s.env.Client}
	}
	out.a = answer.New(s.env)
	defer out.a.Close()
	for _, e := range s.events {
		s.happen(out, e, cut)
	}
	out.reports()
	return out.text.String()
}

func (s *script) happen(out *said, e happening, cut func([]byte) [][]byte) {
	out.t.Helper()
	switch e.what {
	case "head":
		status, media, _ := strings.Cut(e.args, " ")
		media, bodiless := strings.CutSuffix(media, " bodiless")
		code, err := strconv.Atoi(status)
		if err != nil {
			out.t.Fatal(err)
		}
		out.says(out.a.Head(answer.Head{Status: code, ContentType: media, Header: func() http.Header { return nil }, Bodiless: bodiless}, out.now))
	case "say":
		for _, piece := range cut(s.word(out.t, e.args)) {
			out.says(out.a.Push(piece, out.now))
		}
	case "end":
		out.says(out.a.End(out.now))
	case "lost":
		out.says(out.a.Lost(llm.Errorf(llm.ErrUnavailable, "no connection"), out.now))
	case "stop":
		out.says(out.a.Stop(llm.Errorf(llm.ErrUnavailable, "the gateway is shutting down"), out.now))
	default:
		d, err := time.ParseDuration(e.what)
		if err != nil {
			out.t.Fatalf("events: %q: %v", e.what, err)
		}
		out.wait(out.now.Add(d))
	}
}

func (s *script) word(t *testing.T, args string) []byte {
	name, text, _ := strings.Cut(args, " ")
	if name == "raw" {
		raw, err := strconv.Unquote(text)
		if err != nil {
			t.Fatalf("events: %q: %v", args, err)
		}
		return []byte(raw)
	}
	word, ok := words[s.target][name]
	if !ok {
		t.Fatalf("events: nobody says %q", name)
	}
	return []byte(strings.Replace(word, "TEXT", text, 1))
}

// wait lets time pass. What is due, and due again at once for ever, is a busy loop.
func (o *said) wait(until time.Time) {
	o.t.Helper()
	for ticks := 0; ; ticks++ {
		due := o.a.Deadline()
		if due.IsZero() || due.After(until) {
			break
		}
		if ticks > 10_000 {
			o.t.Fatalf("at %s Tick is due for ever, in state %d", o.now.Sub(start), o.a.State())
		}
		if due.After(o.now) {
			o.now = due
		}
		o.says(o.a.Tick(o.now))
	}
	o.now = until
}

func (o *said) says(out answer.Out) {
	if out.Failed != nil {
		o.line("failed: %s", out.Failed.Message)
	}
	if out.Instead != nil {
		what := ""
		if out.Instead.Retry {
			what = "retry "
		}
		o.line("instead %d %s%s", out.Instead.Status, what, out.Instead.Body)
	}
	if out.Commit != nil {
		what := "stream"
		if out.Commit.Length >= 0 {
			what = strconv.Itoa(out.Commit.Length) + " bytes"
		}
		if out.Commit.Retry {
			what += ", retry"
		}
		o.line("commit %d %s", out.Commit.Status, what)
	}
	if out.Detach {
		o.line("detach")
	}
	if len(out.Body) > 0 {
		if !o.at.Equal(o.now) {
			o.flush()
		}
		o.at = o.now
		o.body.Write(out.Body)
	}
	if out.End {
		o.line("end")
	}
	if state := o.a.State(); state != o.last {
		o.last = state
		o.line("→ %s", [...]string{"waiting", "streaming", "concluded", "done"}[state])
	}
}

// reports says what is known of the attempt at its end. Input is 0 where the target has not told
// it.
func (o *said) reports() {
	r := o.a.Report()
	if u := r.Usage; u != (answer.Usage{}) {
		what := "told"
		if u.Estimated {
			what = "estimated"
		}
		o.line("used %d %d, %s", u.Input, u.Output, what)
	}
	if !r.FirstToken.IsZero() {
		o.line("first token at %s", r.FirstToken.Sub(start))
	}
	if r.Stop != "" {
		o.line("stopped: %s", r.Stop)
	}
	o.flush()
}

func (o *said) line(format string, args ...any) {
	o.flush()
	fmt.Fprintf(&o.text, "%-6s %s\n", o.now.Sub(start), fmt.Sprintf(format, args...))
}

func (o *said) flush() {
	if o.body.Len() == 0 {
		return
	}
	for line := range strings.Lines(created.ReplaceAllString(o.body.String(), `"created":NOW`)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			fmt.Fprintf(&o.text, "%-6s | %s\n", o.at.Sub(start), line)
		}
	}
	o.body.Reset()
}

// created is the second at which an encoder wrote what has none of its own.
var created = regexp.MustCompile(`"created":\d{10}`)

// TestScripts plays every script, and again with each chunk cut in two, everywhere, and in single
// bytes: nothing changes.
func TestScripts(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		s := parse(c.T, string(c.Input("setup")), string(c.Input("events")))
		want := s.play(c.T, func(chunk []byte) [][]byte { return [][]byte{chunk} })
		c.Output("want", []byte(want))
		single := func(chunk []byte) [][]byte {
			var pieces [][]byte
			for _, b := range chunk {
				pieces = append(pieces, []byte{b})
			}
			return pieces
		}
		if got := s.play(c.T, single); got != want {
			c.T.Errorf("in single bytes:\n%s\nwant\n%s", got, want)
		}
		for i := 1; i < 300; i++ {
			halves := func(chunk []byte) [][]byte { return [][]byte{chunk[:min(i, len(chunk))], chunk[min(i, len(chunk)):]} }
			if got := s.play(c.T, halves); got != want {
				c.T.Fatalf("cut at byte %d:\n%s\nwant\n%s", i, got, want)
			}
		}
	})
}
