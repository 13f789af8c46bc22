package anthropic

import (
	stdjson "encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// dump shows a neutral value as indented JSON, each part under the name of its kind, zero fields
// left out.
func dump(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v, json.OmitZeroStructFields(true), json.Deterministic(true), jsontext.Multiline(true), jsontext.WithIndent("  "),
		json.WithMarshalers(json.MarshalToFunc(writePart)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The same structs without the part method, so that writePart does not meet itself again.
type (
	shownText     llm.Text
	shownImage    llm.Image
	shownFile     llm.File
	shownAudio    llm.Audio
	shownCall     llm.ToolCall
	shownThinking llm.Thinking
	shownRefusal  llm.Refusal
	shownResult   struct {
		CallID  string
		Parts   []llm.Part
		IsError bool
		Cache   stdjson.RawMessage
	}
)

func writePart(e *jsontext.Encoder, p llm.Part) error {
	if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer {
		p = v.Elem().Interface().(llm.Part)
	}
	var shown any
	switch p := p.(type) {
	case llm.Text:
		shown = shownText(p)
	case llm.Image:
		shown = shownImage(p)
	case llm.File:
		shown = shownFile(p)
	case llm.Audio:
		shown = shownAudio(p)
	case llm.ToolCall:
		shown = shownCall(p)
	case llm.Thinking:
		shown = shownThinking(p)
	case llm.Refusal:
		shown = shownRefusal(p)
	case llm.ToolResult:
		shown = shownResult(p)
	}
	kind := strings.TrimPrefix(fmt.Sprintf("%T", p), "llm.")
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	if err := e.WriteToken(jsontext.String(kind)); err != nil {
		return err
	}
	if err := json.MarshalEncode(e, shown); err != nil {
		return err
	}
	return e.WriteToken(jsontext.EndObject)
}

// indent shows a body as indented JSON. It changes nothing but white space.
func indent(t *testing.T, body []byte) []byte {
	t.Helper()
	v := jsontext.Value(append([]byte(nil), body...))
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

var kindNames = [...]string{
	llm.Ping: "ping", llm.Start: "start", llm.TextDelta: "text", llm.TextSignature: "text signature", llm.ThinkingDelta: "thinking",
	llm.ThinkingSignature: "signature", llm.ThinkingRedacted: "redacted", llm.RefusalDelta: "refusal",
	llm.ToolStart: "tool start", llm.ToolDelta: "tool delta", llm.ToolEnd: "tool end", llm.Finish: "finish",
	llm.UsageReport: "usage", llm.End: "end", llm.Failure: "failure",
}

// line shows one stream event.
func line(e llm.Event) string {
	var b strings.Builder
	b.WriteString(kindNames[e.Kind])
	switch e.Kind {
	case llm.ToolStart, llm.ToolDelta, llm.ToolEnd:
		fmt.Fprintf(&b, " %d", e.Tool)
	}
	for _, f := range []struct{ name, value string }{
		{"id", e.ID}, {"name", e.Name}, {"model", e.Model}, {"text", e.Text}, {"signature", e.Signature}, {"origin", string(e.Origin)},
		{"stop", string(e.Stop)}, {"sequence", e.StopSequence},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, " %s=%q", f.name, f.value)
		}
	}
	if e.Usage != nil {
		fmt.Fprintf(&b, " %+v", *e.Usage)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, " %s", showError(e.Err))
	}
	return b.String()
}

func showError(err error) string {
	e, ok := err.(*llm.Error)
	if !ok {
		return fmt.Sprintf("not an llm.Error: %v", err)
	}
	out := fmt.Sprintf("%d %s: %s", e.HTTPStatus(), e.Type, e.Message)
	if e.Param != "" {
		out += "\nparam: " + e.Param
	}
	if e.RetryAfter != 0 {
		out += "\nretry after: " + e.RetryAfter.String()
	}
	return out
}
