package anthropic

import (
	"bytes"
	"testing"

	"millrace/internal/strictjson"
)

// TestSuspect: a conversation that has always been at Anthropic is not looked into: its members are
// not decoded.
func TestSuspect(t *testing.T) {
	const (
		signed = `{"type":"thinking","thinking":"hm","signature":"sig"}`
		call   = `{"type":"tool_use","id":"toolu_1","name":"f","input":{}}`
		result = `{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1"}]}`
	)
	said := func(blocks string) string { return `{"role":"assistant","content":[` + blocks + `]}` }
	for _, c := range []struct {
		name, messages string
		budget, want   bool
	}{
		{"nothing", ``, true, false},
		{"one turn", `[{"role":"user","content":[{"type":"text","text":"thinking"}]}]`, true, false},
		{"text", `[{"role":"user","content":"thinking"},{"role":"assistant","content":"signature"}]`, true, true}, // the word alone is as a type would be
		{"words in a text", `[{"role":"user","content":"\"thinking\" of \"tool_use_id\": \"a.b\""}]`, true, false},
		{"signed, with a call and its result", `[` + said(signed+","+call) + `,` + result + `]`, true, false},
		{"spaced out", `[ { "role" : "assistant" , "content" : [ { "type" : "thinking" , "thinking" : "}" , "signature" : "s" } , ` + call + ` ] } , ` + result + ` ]`, true, false},
		{"signed, behind another turn of calls", `[` + said(call) + `,{"role":"user","content":"x"},` + said(signed) + `]`, true, false},
		{"redacted", `[` + said(`{"type":"redacted_thinking","data":"d"},`+call) + `,` + result + `]`, true, false},
		{"a call without thinking, which is off", `[` + said(call) + `,` + result + `]`, false, false},

		{"a call without thinking", `[` + said(call) + `,` + result + `]`, true, true},
		{"a call behind text", `[` + said(`{"type":"text","text":"x"},`+call) + `,` + result + `]`, true, true},
		{"no signature", `[` + said(`{"type":"thinking","thinking":"hm"}`) + `]`, false, true},
		{"empty signature", `[` + said(`{"type":"thinking","thinking":"hm","signature":""}`) + `]`, false, true},
		{"no string for a signature", `[` + said(`{"type":"thinking","thinking":"hm","signature":null}`) + `]`, false, true},
		{"behind one that is signed", `[` + said(signed+`,{"type":"thinking","thinking":"hm","signature":""}`) + `]`, false, true},
		{"in front of one that is signed", `[` + said(`{"type":"thinking","thinking":"hm","signature":""},`+signed) + `]`, false, true},
		{"the name of a tool's argument", `[` + said(`{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"a","name":"f","input":{"signature":"s"}}`) + `]`, false, true},
		{"an illegal id", `[` + said(`{"type":"tool_use","id":"f:0","name":"f","input":{}}`) + `,{"role":"user","content":[{"type":"tool_result","tool_use_id":"f:0"}]}]`, false, true},
		{"an id that comes again", `[` + said(call) + `,` + result + `,` + said(call) + `,` + result + `]`, false, true},
	} {
		if _, got := suspect([]byte(c.messages), c.budget); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// FuzzSuspect: what is not suspected has no thinking in it that nobody signed. Names and types that
// are written with escapes are not seen.
func FuzzSuspect(f *testing.F) {
	seed(f, "testdata/patch/*.txtar", "body.json")
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := strictjson.Scan(body)
		if err != nil || bytes.Contains(body, []byte(`\u`)) {
			return
		}
		messages := strictjson.NewPatch(body, members).Get("messages")
		legal, found := suspect(messages, false)
		m := mover{ids: newCallIDs(legal)}
		if _, err := m.move(messages); err != nil {
			t.Fatal(err)
		}
		if m.dropped && !found {
			t.Fatalf("not suspected: %s", messages)
		}
	})
}
