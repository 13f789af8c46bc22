package texts

import (
	"bytes"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/tools/txtar"

	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/sse"
	"millrace/schema"
)

// fixture is a file of a codec's golden cases.
type fixture struct {
	name string
	data []byte
}

// fixtures are all files of the codecs' golden cases, inputs and outputs, of any schema.
func fixtures(t *testing.T) iter.Seq[fixture] {
	t.Helper()
	var paths []string
	for _, glob := range []string{"../provider/testdata/*/*.txtar", "../provider/*/testdata/*/*.txtar"} {
		some, err := filepath.Glob(glob)
		if err != nil || len(some) == 0 {
			t.Fatalf("no fixture matches %s (%v)", glob, err)
		}
		paths = append(paths, some...)
	}
	return func(yield func(fixture) bool) {
		for _, path := range paths {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range archive.Files {
				if !yield(fixture{path + " " + f.Name, f.Data}) {
					return
				}
			}
		}
	}
}

// codecOf is the codec of a schema's conversations.
func codecOf(t *testing.T, s *schema.Schema) provider.Codec {
	t.Helper()
	c, ok := provider.Of(s.Name)
	if !ok {
		t.Fatalf("%s has no codec", s.Name)
	}
	return c
}

// readerOf is the codec's reader of answers.
func readerOf(t *testing.T, s *schema.Schema) llm.AnswerReader {
	t.Helper()
	call, err := codecOf(t, s).Target.PatchRequest(llm.Head{Model: "m"}, []byte(`{"model":"m","messages":[]}`), llm.Options{Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return call.Answer
}

// answering is the schema of an answer, whole or in pieces.
func answering(data []byte) *schema.Schema {
	if bytes.Contains(data, []byte(`"choices"`)) {
		return schema.Of(schema.OpenAIChat)
	}
	return schema.Of(schema.AnthropicMessages)
}

// told is a text as a codec understands it.
type told struct {
	role llm.Role
	kind Kind
	text string
}

// understood are the texts of parts.
func understood(role llm.Role, kind Kind, parts []llm.Part) []told {
	var all []told
	for _, p := range parts {
		switch p := p.(type) {
		case llm.Text:
			all = append(all, told{role, kind, p.Text})
		case llm.Refusal:
			all = append(all, told{role, Refusal, p.Text})
		case llm.Thinking:
			all = append(all, told{role, Thought, p.Text})
		case llm.ToolCall:
			all = append(all, told{role, Call, p.Arguments})
		case llm.ToolResult:
			all = append(all, understood(llm.User, Result, p.Parts)...)
		case llm.File:
			all = append(all, told{role, kind, p.Text}, told{role, kind, p.Name})
		}
	}
	return all
}

// missing are the texts that were not found. One that the codec has put together, or made shorter,
// is in what was found.
func missing(want []told, found []Text) []told {
	var lost []told
	for _, w := range want {
		together := ""
		exact := slices.ContainsFunc(found, func(f Text) bool {
			if f.Role != w.role || f.Kind != w.kind {
				return false
			}
			together += f.Text
			return same(f.Text, w.text)
		})
		if !exact && !strings.Contains(together, w.text) && !empty(w.text) {
			lost = append(lost, w)
		}
	}
	return lost
}

// same tells whether texts are equal; of JSON that has lost its white space, too.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, y := jsontext.Value(a), jsontext.Value(b)
	return x.Compact() == nil && y.Compact() == nil && string(x) == string(y)
}

func empty(text string) bool { return text == "" || same(text, "{}") }

// TestRequestsOfCodecs: what a codec understands of a client's request as text is found, as what
// it is and whose.
func TestRequestsOfCodecs(t *testing.T) {
	seen := map[schema.Name]int{}
	for f := range fixtures(t) {
		for _, s := range schema.All() {
			client := codecOf(t, s).Client
			head, err := client.ReadHead(nil, f.data)
			if err != nil {
				continue
			}
			found, err := Request(s, f.data)
			if err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
			r, err := client.DecodeRequest(head, f.data)
			if err != nil {
				continue
			}
			seen[s.Name]++
			want := understood(llm.System, Said, r.System)
			for _, m := range r.Messages {
				want = append(want, understood(m.Role, Said, m.Parts)...)
			}
			for _, tool := range r.Tools {
				want = append(want, told{llm.System, Spec, tool.Description}, told{llm.System, Spec, string(tool.Parameters)})
			}
			want = append(want, told{llm.System, Spec, r.Format.Description}, told{llm.System, Spec, string(r.Format.Schema)})
			for _, lost := range missing(want, found) {
				t.Errorf("%s in %s: %+v is not found", s.Name, f.name, lost)
			}
		}
	}
	for _, s := range schema.All() {
		if seen[s.Name] < 50 {
			t.Errorf("%s: only %d requests", s.Name, seen[s.Name])
		}
	}
}

// TestAnswersOfCodecs: what a codec understands of a whole answer is found.
func TestAnswersOfCodecs(t *testing.T) {
	seen := map[schema.Name]int{}
	for f := range fixtures(t) {
		s := answering(f.data)
		r, err := readerOf(t, s).Whole(f.data)
		if err != nil {
			continue
		}
		seen[s.Name]++
		found, err := Answer(s, f.data)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		var want []told
		for _, c := range r.Choices {
			want = append(want, understood(llm.Assistant, Said, c.Parts)...)
		}
		for _, lost := range missing(want, found) {
			t.Errorf("%s: %+v is not found in %+v", f.name, lost, found)
		}
	}
	for _, s := range schema.All() {
		if seen[s.Name] < 10 {
			t.Errorf("%s: only %d answers", s.Name, seen[s.Name])
		}
	}
}

// otherwise are the streams of which a decoder tells something else than their events have.
var otherwise = map[string]string{
	"server-tools": "it leaves out server tools and citations",
	"foreign-keys": "of two members with one name it takes the last",
	"reasoning":    "it joins reasoning and reasoning_content",
}

// TestStreamsOfCodecs: what a decoder tells as deltas is what the events have, joined by their
// channels, and both know the end.
func TestStreamsOfCodecs(t *testing.T) {
	seen := map[schema.Name]int{}
	for f := range fixtures(t) {
		if !bytes.Contains(f.data, []byte("data:")) || bytes.HasPrefix(f.data, []byte("{")) {
			continue
		}
		s := answering(f.data)
		stream := append(bytes.Clone(f.data), "\n\n"...)
		decoded, ended, ok := decodedBy(t, s, stream)
		if !ok {
			continue
		}
		own, last := joined(t, s, stream)
		if last != ended && !strings.Contains(f.name, "no-done") && !strings.Contains(f.name, "event-name-only") {
			t.Errorf("%s: last is %t, the decoder's end %t", f.name, last, ended)
		}
		seen[s.Name]++
		base := strings.TrimSuffix(filepath.Base(strings.Fields(f.name)[0]), ".txtar")
		if otherwise[base] == "" && !alike(decoded, own) {
			t.Errorf("%s: the decoder tells %v, the events have %v", f.name, decoded, own)
		}
	}
	for _, s := range schema.All() {
		if seen[s.Name] < 20 {
			t.Errorf("%s: only %d streams", s.Name, seen[s.Name])
		}
	}
}

// place is where a decoder or Event says that a text belongs. The places of all texts of a kind
// have no number.
type place struct {
	kind         Kind
	choice, part int
}

func (p place) all() place { return place{p.kind, -1, -1} }

var deltas = map[llm.EventKind]Kind{
	llm.TextDelta: Said, llm.ThinkingDelta: Thought, llm.RefusalDelta: Refusal, llm.ToolDelta: Call,
}

// decodedBy are the texts of a stream as the codec's decoder tells them. It is not ok where the
// stream has failed.
func decodedBy(t *testing.T, s *schema.Schema, stream []byte) (texts map[place]string, ended, ok bool) {
	frames, err := readerOf(t, s).Stream().Push(stream)
	if err != nil {
		t.Fatal(err)
	}
	texts = map[place]string{}
	for _, frame := range frames {
		for _, e := range frame.Events {
			if kind, ok := deltas[e.Kind]; ok {
				p := place{kind, e.Choice, e.Tool}
				texts[p] += e.Text
				texts[p.all()] += e.Text
			}
			ended = ended || e.Kind == llm.End
			if e.Kind == llm.Failure {
				return nil, false, false
			}
		}
	}
	return texts, ended, true
}

// joined are the texts of a stream as its events have them.
func joined(t *testing.T, s *schema.Schema, stream []byte) (texts map[place]string, last bool) {
	texts = map[place]string{}
	parser := sse.Parser{MaxBytes: 1 << 20}
	err := parser.Push(stream, func(e sse.Event) {
		if last {
			return
		}
		found, err := Event(s, e.Data)
		if err != nil {
			t.Errorf("%s: %v", e.Data, err)
		}
		last = found.Last
		for _, x := range found.Texts {
			p := place{x.Channel.Kind, x.Channel.Choice, x.Channel.Part}
			texts[p] += x.Text
			texts[p.all()] += x.Text
			if !slices.Contains(found.Opens, x.Channel.Choice) {
				t.Errorf("%s: %+v is of no choice that is open", e.Data, x)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, last
}

// alike tells whether the texts are the same. Providers number their calls otherwise than decoders
// do, so that all calls of a kind together are enough.
func alike(a, b map[place]string) bool {
	in := func(a, b map[place]string) bool {
		for p, text := range a {
			found := p == p.all() || b[p.all()] == a[p.all()]
			for q, other := range b {
				found = found || p.kind == q.kind && same(text, other)
			}
			if !found {
				return false
			}
		}
		return true
	}
	return in(a, b) && in(b, a)
}

// TestRowsEnd: what a codec ends a stream with is the end by the rows too, whether the answer is
// complete or cut, and a cut closes what was open.
func TestRowsEnd(t *testing.T) {
	for _, s := range schema.All() {
		client := codecOf(t, s).Client
		ends := 0
		for _, e := range eventsOf(t, s, client.StreamEnd()) {
			if e.Last {
				ends++
			}
		}
		open := []int{0, 2}
		var closed []int
		for _, e := range eventsOf(t, s, client.Cut(nil, []byte(`{}`), open, llm.StopRefusal)) {
			closed = append(closed, e.Closes...)
			if e.Last {
				ends++
			}
			if len(e.Texts) > 0 {
				t.Errorf("%s: a cut says %v", s.Name, lines(e.Texts))
			}
		}
		if ends != 2 || s.Texts.Number != "" && !slices.Equal(closed, open) {
			t.Errorf("%s: %d ends, and a cut closes %v", s.Name, ends, closed)
		}
	}
}

// eventsOf are the events of a stream, of one that is no SSE its lines.
func eventsOf(t *testing.T, s *schema.Schema, stream []byte) (all []InEvent) {
	add := func(data []byte) {
		e, err := Event(s, data)
		if err != nil {
			t.Errorf("%s: %v in %s", s.Name, err, data)
		}
		all = append(all, e)
	}
	if !bytes.Contains(stream, []byte("data:")) {
		for line := range bytes.Lines(stream) {
			add(line)
		}
		return all
	}
	parser := sse.Parser{MaxBytes: 1 << 20}
	if err := parser.Push(stream, func(e sse.Event) { add(e.Data) }); err != nil {
		t.Fatal(err)
	}
	return all
}
